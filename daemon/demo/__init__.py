"""A sample session, written as Claude Code would write it. Imported by `demo` and by tests."""

from __future__ import annotations
