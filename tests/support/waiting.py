"""How long tests wait for other processes, threads or tasks."""

from __future__ import annotations

__all__ = ["PATIENCE"]

PATIENCE = 120.0
"""Seconds to wait at most, however busy the machine is.

A test goes on as soon as the thing it waits for has happened, so only a hang takes this long. Tests have no shorter
limits of their own for what should happen.
"""
