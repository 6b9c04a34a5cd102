"""Prepares the fork server: importing this module builds what each worker would build for itself."""

from __future__ import annotations

from daemon.system.forking import get_ready

__all__: list[str] = []

get_ready()
