"""Where batches go: the Sink protocol, and the outcomes of one attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llma_core.events import CaptureEvent

__all__ = ["AttemptOutcome", "Delivered", "Rejected", "Retryable", "Sink", "SinkConfigError", "Stopped"]


class SinkConfigError(Exception):
    """A sink cannot be built from what was configured: a host that is no URL, a proxy that cannot be used.

    Its text is one line for the user: what is wrong and what to do. It never holds a key or a password.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The receiver took the whole batch.

    Attributes:
        quota_limited: resources the receiver named as over quota; it answers 200 and drops the events.
    """

    quota_limited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The receiver refuses this request and would refuse it again (400, 413): halve it, or set its one event aside.

    Attributes:
        reason: status and the receiver's words, bounded; never content.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retryable:
    """The same events may be taken later (network errors, 408, 429, 5xx).

    Attributes:
        reason: what went wrong, for logs and status.
        after: seconds the receiver asked to wait at least (Retry-After), or None.
        timed_out: whether the request ran into a timeout under way; a batch that does so twice is halved.
        immediate: nothing is wrong with the receiver, the sink has only learned to send in another way: send the same
            events again at once, measured against the sink's `event_limit` as it is now.
    """

    reason: str
    after: float | None = None
    timed_out: bool = False
    immediate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Nothing of this route will be taken until a person changes something (401, 403, a redirect, a wrong host).

    Attributes:
        reason: what the receiver said.
        hint: what to do about it.
    """

    reason: str
    hint: str


AttemptOutcome = Delivered | Rejected | Retryable | Stopped


class Sink(Protocol):
    """A receiver of batches. One call of send is one attempt: no retries, no waiting, no exceptions for refusals."""

    @property
    def event_limit(self) -> int:
        """Largest event body this sink takes now, in bytes. It may shrink and grow while the sink is used."""

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Try once to hand *events* over, in order. Several calls may be under way at once."""

    async def aclose(self) -> None:
        """Free what the sink holds. Idempotent."""
