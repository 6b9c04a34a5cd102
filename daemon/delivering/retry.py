"""Retry: how long to wait after a failed attempt or a stop. Pure: times and random numbers are arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["Backoff", "RetryPolicy", "parse_http_date", "parse_retry_after", "retry_delay"]

# 2.0 ** 62 seconds is above every cap. The bound keeps the power from overflowing after years of failures.
MAX_DOUBLINGS = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How failed attempts are spaced.

    Attributes:
        base: seconds to wait after the first failure, before jitter. Each further failure doubles the wait.
        cap: the maximum wait in seconds, before jitter.
        retry_after_cap: the maximum of a server's Retry-After that is honored, in seconds.
        stop_base: seconds after which a receiver that stopped the delivery is asked again. Each further stop in a row
            doubles them.
        stop_cap: the maximum of these, in seconds.

    Raises:
        ValueError: a number is out of range.
    """

    base: float = 1.0
    cap: float = 60.0
    retry_after_cap: float = 300.0
    stop_base: float = 60.0
    stop_cap: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.base <= self.cap < math.inf:
            raise ValueError(f"a retry policy needs 0 <= base <= cap, not base={self.base}, cap={self.cap}")
        if not 0 <= self.retry_after_cap < math.inf:
            raise ValueError(f"retry_after_cap must be 0 or more seconds, not {self.retry_after_cap}")
        if not 0 <= self.stop_base <= self.stop_cap < math.inf:
            raise ValueError(
                f"a retry policy needs 0 <= stop_base <= stop_cap, not {self.stop_base} and {self.stop_cap} seconds"
            )


def retry_delay(policy: RetryPolicy, attempt: int, *, retry_after: float | None, draw: float) -> float:
    """Return the seconds to wait after the failed attempt number *attempt*.

    The wait is `min(cap, base * 2 ** (attempt - 1))`, and its upper half is jitter. It is never shorter than the server
    asked for, up to `retry_after_cap`.

    Args:
        policy: the numbers to use.
        attempt: number of attempts that failed in a row, including this one. The first is 1.
        retry_after: seconds that the server asked to wait at least, or None.
        draw: a random number in [0, 1).
    """
    doubled = _doubled(policy.base, attempt, policy.cap)
    jittered = doubled * (1 + draw) / 2
    return max(jittered, min(retry_after or 0.0, policy.retry_after_cap))


def _doubled(base: float, number: int, cap: float) -> float:
    return min(cap, base * 2.0 ** min(number - 1, MAX_DOUBLINGS))


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, never negative; None if it cannot be read.

    Args:
        value: the header: whole seconds, or an HTTP date.
        now: seconds since the epoch.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    date = parse_http_date(text)
    return None if date is None else max(0.0, date - now)


def parse_http_date(text: str) -> float | None:
    """Return the time of an HTTP date, in seconds since the epoch; None if it cannot be read."""
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is in UTC, as every HTTP date is.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError):
        # The parser of the standard library fails in each of these ways on some text.
        return None


class Backoff:
    """Counts the failures and stops of one receiver, over all requests that several slots send it.

    Requests overlap. If two are under way when the receiver goes down, both fail, and that counts as one failure. So a
    request remembers the `epoch` in which it started, and its outcome counts only if no failure came in between.

    Attributes:
        attempt: number of failed attempts in a row; 0 while the receiver answers or has stopped the delivery.
        stops: number of stops in a row; 0 once a request was accepted.
        blocked: whether only one request at a time may test the receiver, from `until` on.
        until: the time before which no request should start.
        epoch: grows with each failure that counts.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.attempt = 0
        self.stops = 0
        self.blocked = False
        self.until = -math.inf
        self.epoch = 0

    def failed(self, epoch: int, *, retry_after: float | None, now: float, draw: float) -> bool:
        """Count the failure of a request that started in *epoch*. Return False if it says nothing new."""
        if self.blocked and epoch != self.epoch:
            if self.attempt:
                self.until = max(self.until, now + min(retry_after or 0.0, self._policy.retry_after_cap))
            return False
        self.attempt += 1
        self.until = now + retry_delay(self._policy, self.attempt, retry_after=retry_after, draw=draw)
        self._block()
        return True

    def stopped(self, now: float) -> None:
        """Count a stop: the receiver is asked again after a minute, then more and more rarely."""
        self.attempt = 0
        self.stops += 1
        self.until = now + _doubled(self._policy.stop_base, self.stops, self._policy.stop_cap)
        self._block()

    def answered(self, epoch: int, *, accepted: bool) -> bool:
        """Note that a request that started in *epoch* was answered, and return whether that counts.

        The answer to a request from before the last failure does not: the receiver may have asked to wait since then.

        Args:
            epoch: when the request started.
            accepted: whether its events were accepted. A receiver that refuses events may stop the delivery again.
        """
        if epoch != self.epoch:
            return False
        self.blocked = False
        self.attempt = 0
        if accepted:
            self.stops = 0
        return True

    def _block(self) -> None:
        self.epoch += 1
        self.blocked = True
