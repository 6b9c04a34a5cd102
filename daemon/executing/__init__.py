"""What `exec` needs to run a command: its signals, its processes, its properties file and which sessions it started.

`reading.command_run` puts these parts together.
"""

from __future__ import annotations
