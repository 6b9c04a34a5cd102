"""Which bytes of which logs are new.

`logs` puts the parts together and is what the service and the other readers import; `tailer`, `session_files` and
`opening` are imported by whoever reads a session.
"""

from __future__ import annotations
