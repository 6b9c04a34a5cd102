"""Running a command for `exec`: its signals, its processes, and the sessions that are its own.

Only the command line imports from here.
"""

from __future__ import annotations
