"""The Sink protocol: what every receiver of batches promises, and the outcomes of one attempt to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llma_core.events import CaptureEvent

__all__ = ["AttemptOutcome", "Delivered", "Rejected", "Retryable", "Sink", "SinkConfigError", "Stopped"]


class SinkConfigError(Exception):
    """A sink cannot be built from the configuration: the host is not a URL, or a proxy cannot be used.

    The message is one line for the user: what is wrong and what to do. It never contains a key or a password.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The receiver accepted the whole batch and has stored it.

    Attributes:
        quota_limited: names of the resources that the receiver says are over quota. It answers 200 all the same, and
            drops the events.
    """

    quota_limited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The receiver refuses this batch and would refuse it again (400, 413). It kept no event of it.

    The caller halves the batch. If the batch is a single event, the caller sets that event aside.

    Attributes:
        reason: why, in one short line without content or keys. Over HTTP it is the status and the receiver's words.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retryable:
    """The attempt failed, and the same events may be accepted later (network errors, 408, 429, 5xx, a locked file).

    The receiver may have stored the batch all the same, for example when only its answer was lost.

    Attributes:
        reason: what went wrong, in one short line without content or keys.
        after: seconds that the receiver asked to wait at least (Retry-After), or None.
        timed_out: whether a request that was under way timed out. The caller halves a batch that times out twice.
        immediate: whether the caller should send the same events again at once. The receiver is fine; the sink has
            switched to another way of sending, and its `event_limit` may have changed with it.
    """

    reason: str
    after: float | None = None
    timed_out: bool = False
    immediate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The receiver accepts nothing, probably until a person changes something (401, 403, a redirect, a wrong host).

    It may also be a captive portal or a load balancer that answers so for a minute. So `Delivery` asks again later.

    Attributes:
        reason: what the receiver said, in one short line without content or keys.
        hint: what the person should do.
        until: as the state of a delivery, when it asks again, by its clock. A sink leaves it out.
    """

    reason: str
    hint: str
    until: float | None = None


AttemptOutcome = Delivered | Rejected | Retryable | Stopped


class Sink(Protocol):
    """A receiver of batches. It belongs to one event loop.

    Each call of `send` is one attempt. A sink never retries and never waits between attempts; `Delivery` does both.
    Every failure of the receiver or of an event is an outcome, not an exception.
    """

    @property
    def event_limit(self) -> int:
        """The largest event body, in bytes, that the sink accepts now. It may change while the sink is in use.

        Callers cut larger events first. A sink may reject an event that is over the limit.
        """

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Try once to hand *events* over, in their order. An empty batch is delivered without asking the receiver.

        Several calls may run at once. Batches of different calls may arrive in any order, but never mixed.
        An event is known by its uuid: sent again, it counts once, and its latest body counts.
        A cancelled call leaves the sink usable. Its batch may have arrived.
        No outcome is final for the sink: after any of them, a later call may succeed.

        Raises:
            RuntimeError: the sink is closed.
        """

    async def aclose(self) -> None:
        """Free everything the sink holds. Idempotent. No call of `send` may be running."""
