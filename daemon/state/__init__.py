"""What survives a restart: the store, its lock, and the names of all files in the state directory."""

from __future__ import annotations
