"""The service: follows files, keeps what was delivered, delivers. Everything that waits, reads, writes or sends."""

from __future__ import annotations
