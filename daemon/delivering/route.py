"""A route: the host and the project API key that events are sent with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from daemon.system.secret import Secret

__all__ = ["LOCAL", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A host and a project API key. There is one delivery for each route."""

    host: str
    key: Secret

    @property
    def fingerprint(self) -> str:
        """A hash that identifies the key without revealing it."""
        return hashlib.blake2b(self.key.reveal().encode(), digest_size=8).hexdigest()

    @property
    def name(self) -> str:
        """The route's name in logs: the host, and the beginning of the key's fingerprint."""
        return f"{self.host} {self.fingerprint[:4]}"


LOCAL = Route(host="local", key=Secret(""))
"""The route of events that stay on this machine."""
