"""Sends sd_notify messages: ready, stopping, alive. Without systemd, every call does nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

__all__ = ["Notifier", "watchdog_interval"]

# A notification is one datagram in memory. A manager that does not take it at once is not reading at all.
_SEND_TIMEOUT_S = 0.2
_MAX_STATUS_LENGTH = 200
_MICROSECONDS = 1_000_000


class Notifier:
    """Sends service notifications to the socket that the environment names.

    Every method returns whether the message was delivered. A missing or full socket is not an error: the service
    manager has its own timeouts, and the service must not fail because of its manager.

    Args:
        environ: the environment, which may name the socket in NOTIFY_SOCKET.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL that marks a name in Linux's abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self, status: str | None = None) -> bool:
        """Report that the service is up, or up again after reloading()."""
        return self._send("READY=1", *([_status(status)] if status is not None else []))

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send(_status(text))

    def reloading(self) -> bool:
        """Report that the settings are being read again; ready() must follow."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> bool:
        """Report that the service is stopping."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """Report that the service is alive."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for *seconds* more, from now, before the manager considers the start or stop hung."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def _send(self, *assignments: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_SEND_TIMEOUT_S)
                channel.connect(self._address)
                channel.sendall("\n".join(assignments).encode(errors="replace"))
        except (OSError, ValueError):
            # ValueError: an address no socket can have.
            return False
        return True


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds between two watchdog() calls: half of systemd's limit. None if there is no watchdog.

    A watchdog for another process, named by WATCHDOG_PID, does not count.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / _MICROSECONDS / 2


def _status(text: str) -> str:
    # A line end would start another assignment.
    return f"STATUS={' '.join(text.split())[:_MAX_STATUS_LENGTH]}"
