"""What `exec` needs to run a command: its signals, its processes, its properties file and which sessions it started.

Only the command line imports from here, and it may import every module.
"""

from __future__ import annotations
