"""A key on standard input: as an argument, every user of the machine could see it."""

from __future__ import annotations

import sys

from daemon.cli.startup import fail

__all__ = ["read_key"]

_MAX_KEY_BYTES = 4096


def read_key() -> str:
    """Return the key that standard input holds.

    Raises:
        click.exceptions.Exit: with 2: it holds none.
    """
    key = sys.stdin.buffer.read(_MAX_KEY_BYTES + 1).decode(errors="replace").strip()
    if not key:
        raise fail("standard input holds no key: pipe it in, as in `--key-stdin < key.txt`", 2)
    return key
