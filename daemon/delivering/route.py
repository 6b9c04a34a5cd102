"""A route: the host and the project API key that events are sent with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from daemon.system.secret import Secret

__all__ = ["LOCAL", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A host, and the project API key events go there with. There is one delivery for each."""

    host: str
    key: Secret

    @property
    def fingerprint(self) -> str:
        """Names the key without telling it."""
        return hashlib.blake2b(self.key.reveal().encode(), digest_size=8).hexdigest()

    @property
    def name(self) -> str:
        """Names the route in logs."""
        return f"{self.host} {self.fingerprint[:4]}"


LOCAL = Route(host="local", key=Secret(""))
"""The route of what stays on this machine."""
