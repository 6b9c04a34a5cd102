"""What every worker of the fork server begins with. Importing this module makes it."""

from __future__ import annotations

from daemon.system.forking import get_ready

__all__: list[str] = []

get_ready()
