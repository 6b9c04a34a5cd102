"""Small tools over the operating system. They know nothing of logs, sessions or events. Any wing may import them."""

from __future__ import annotations
