"""The account of a crash run: events lost, extra, different or sent again, by the receiver's journal. Pure.

Each time an event is accepted again needs a reason: the answer to the previous time was lost, or the daemon was killed
or stopped with requests under way before it could note that answer. The end of one life of the daemon may be the reason
for no more events than can be on their way at one time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from tests.support.processes import canonical

__all__ = ["Account", "Arrival", "End", "arrivals", "balance", "refusals"]

End = Literal["killed", "cut short", "clean"]
"""How a life of the daemon ended: killed; stopped, perhaps with requests under way; stopped with all answers noted."""

BARRIER = "/barrier"
"""A request to this path marks the end of a life; connections opened before belong to that life or an earlier one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One acceptance of one event.

    Attributes:
        uuid: the event's uuid.
        body: the event in its canonical form.
        life: number of the daemon's life that sent it, from 0.
        answer_lost: whether the answer was kept from the daemon.
    """

    uuid: str
    body: str
    life: int
    answer_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the events.

    Attributes:
        expected: how many events there should be.
        accepted: how many acceptances there were, including repeated ones.
        lost: uuids that never arrived.
        extra: uuids that arrived although they were not expected.
        different: uuids that arrived with an unexpected body at least once.
        again_after_life: events sent again because a life ended before it noted them, by life.
        again_after_lost_answer: events sent again because an answer was lost.
        again_without_reason: uuids sent again although their acceptance was, or had to be, noted.
    """

    expected: int
    accepted: int
    lost: Sequence[str] = ()
    extra: Sequence[str] = ()
    different: Sequence[str] = ()
    again_after_life: Mapping[int, int] = field(default_factory=dict)
    again_after_lost_answer: int = 0
    again_without_reason: Sequence[str] = ()

    @property
    def largest_after_life(self) -> int:
        """The largest number of events that were sent again because one life ended."""
        return max(self.again_after_life.values(), default=0)

    def faults(self, window: int) -> list[str]:
        """Return the violated promises, one line each; empty if every promise was kept.

        Args:
            window: how many events can be on their way at one time.
        """
        named = {
            "lost": self.lost,
            "extra": self.extra,
            "different": self.different,
            "sent again without a reason": self.again_without_reason,
        }
        faults = [f"{what}: {len(uuids)}, such as {uuids[0]}" for what, uuids in named.items() if uuids]
        if self.largest_after_life > window:
            faults.append(f"sent again after one life: {self.largest_after_life}, with a window of {window}")
        return faults


def arrivals(journal: Iterable[Mapping[str, Any]]) -> list[Arrival]:
    """Return every acceptance in a journal of the capture server, sorted by life and, within a life, in order."""
    requests = list(journal)
    # A connection belongs to the life after the last barrier that was opened before it.
    barriers = sorted(request["connection"] for request in requests if request["path"].startswith(BARRIER))
    found = [
        Arrival(
            uuid=event["uuid"],
            body=canonical(event),
            life=sum(barrier < request["connection"] for barrier in barriers),
            answer_lost=request["lost"],
        )
        for request in requests
        if request["status"] == 200
        for event in request["events"]
    ]
    # A delayed request may outlive its sender, and be judged after the first request of the next life.
    return sorted(found, key=lambda arrival: arrival.life)


def refusals(journal: Iterable[Mapping[str, Any]]) -> int:
    """Return how many requests of the daemon were refused. None may ever be."""
    return sum(request["status"] != 200 for request in journal if not request["path"].startswith(BARRIER))


def balance(expected: Mapping[str, str], arrived: Iterable[Arrival], ends: Sequence[End]) -> Account:
    """Compare the events that arrived with the expected ones.

    Args:
        expected: the canonical form of every event, by uuid.
        arrived: every acceptance, sorted by life.
        ends: how each life ended.
    """
    times: dict[str, list[Arrival]] = {}
    for arrival in arrived:
        times.setdefault(arrival.uuid, []).append(arrival)
    after_life: Counter[int] = Counter()
    after_lost_answer = 0
    without_reason = []
    for uuid, each in times.items():
        for earlier, later in pairwise(each):
            if earlier.answer_lost:
                after_lost_answer += 1
            elif earlier.life != later.life and ends[earlier.life] != "clean":
                after_life[earlier.life] += 1
            else:
                without_reason.append(uuid)
    return Account(
        expected=len(expected),
        accepted=sum(map(len, times.values())),
        lost=sorted(expected.keys() - times.keys()),
        extra=sorted(times.keys() - expected.keys()),
        different=sorted(
            uuid
            for uuid, each in times.items()
            if uuid in expected and {arrival.body for arrival in each} != {expected[uuid]}
        ),
        again_after_life=after_life,
        again_after_lost_answer=after_lost_answer,
        again_without_reason=without_reason,
    )
