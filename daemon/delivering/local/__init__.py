"""The sink that keeps events in an SQLite file on this machine.

Other wings import `sink`, which also reads the file.
"""

from __future__ import annotations
