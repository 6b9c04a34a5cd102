"""Chains: sources that have to be read together.

A session may be in many archives, each with more of it, and a fork may be in another archive than its original. Sources
that share a session, or the root of one, are one chain. A chain is read at once, in one worker, so that originals come
before their copies and each session is read from its longest log. Different chains have nothing in common and are read
at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from daemon.archiving.source import Source
from daemon.archiving.survey import Survey, SurveyedSession
from daemon.archiving.unpacking import beside

__all__ = ["Chain", "Part", "chains"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The sessions and logs of one source that a chain reads.

    Attributes:
        source: the source.
        units: the names of its sessions.
        wanted: its logs that are read, by place and digest, with the places that they are written to.
    """

    source: Source
    units: frozenset[str]
    wanted: Mapping[tuple[str, bytes], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Sources that are read together.

    Attributes:
        parts: what is read of each.
        sessions: the sessions in them; one session may be in several sources.
        size: bytes of logs that are read, unpacked.
    """

    parts: tuple[Part, ...]
    sessions: tuple[SurveyedSession, ...]
    size: int

    @property
    def units(self) -> frozenset[str]:
        """The names of its sessions."""
        return frozenset(session.unit for session in self.sessions)


@dataclass(slots=True)
class _Sets:
    """Disjoint sets of names."""

    above: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str:
        top = name
        while (higher := self.above.get(top, top)) != top:
            top = higher
        while name != top:
            self.above[name], name = top, self.above.get(name, name)
        return top

    def join(self, names: Iterable[str]) -> None:
        first = None
        for name in names:
            top = self.find(name)
            if first is None:
                first = top
            else:
                self.above[top] = first


def chains(surveys: Sequence[Survey], families: Iterable[Iterable[str]] = ()) -> Iterator[Chain]:
    """Yield the chains of sources that hold sessions, in the order of their first sources.

    Args:
        surveys: what the sources hold.
        families: names of sessions, and roots, that are known to belong together.
    """
    sets = _Sets()
    for family in families:
        sets.join(family)
    for survey in surveys:
        sets.join(
            [f"source:{survey.source.url}", *(name for each in survey.sessions for name in (each.unit, *each.roots))]
        )
    together: dict[str, list[Survey]] = {}
    for survey in surveys:
        if survey.logs:
            together.setdefault(sets.find(f"source:{survey.source.url}"), []).append(survey)
    for members in together.values():
        yield _chain(members)


def _chain(surveys: Sequence[Survey]) -> Chain:
    longest: dict[tuple[str, bytes], tuple[int, int]] = {}
    for number, survey in enumerate(surveys):
        for log in survey.logs:
            key = log.place, log.digest
            if key not in longest or longest[key][0] < log.size:
                longest[key] = log.size, number
    taken: dict[str, bytes] = {}
    wanted: list[dict[tuple[str, bytes], str]] = [{} for _ in surveys]
    for (place, digest), (_, number) in longest.items():
        # Logs of subagents may have the same name on two machines.
        free = taken.setdefault(place, digest) == digest
        wanted[number][place, digest] = place if free else beside(place, digest)
    sessions: dict[SurveyedSession, None] = {}
    for survey in surveys:
        sessions |= dict.fromkeys(survey.sessions)
    return Chain(
        parts=tuple(
            Part(source=survey.source, units=frozenset(session.unit for session in survey.sessions), wanted=logs)
            for survey, logs in zip(surveys, wanted, strict=True)
        ),
        sessions=tuple(sessions),
        size=sum(size for size, _ in longest.values()),
    )
