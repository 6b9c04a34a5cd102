"""The sink that keeps events on this machine, in an SQLite file that `traces` reads."""

from __future__ import annotations
