"""Everything that talks to PostHog: the sink for events, checks of a host or key (`probe`), links (`web_app`).

Other wings may import these three modules. The sink and the checks share `answer` and `proxy`.
"""

from __future__ import annotations
