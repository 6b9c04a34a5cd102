"""The results of reading a session: emissions, and the progress of one step."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from daemon.delivering.route import LOCAL, Route
from daemon.following.tailer import Identity
from daemon.reading.ledger import LineEnd
from daemon.state.rows import Owed, Settled
from llma_core.events import CaptureEvent
from llma_core.spans import LineRange, Prompt

__all__ = ["Emission", "Progress", "Replaced"]


class Emission(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """Something that happened in a session and has to be settled: usually an event to deliver.

    Attributes:
        settled: the row that is written when it is settled.
        event: the event to deliver. None for a prompt, which only opens a trace, and for an owed trace that will not be
            sent.
        lines: the lines it rests on: their file's offset must not pass them before it is settled. None for a trace.
        also: a second row that is written with the first one.
        owes: the traces that are owed because of it, without those that are owed already.
        pays: the owed trace that it is, or is sent with; None for everything else.
        again: whether its event is on its way already, so that only its lines have to be registered again.
        prompt: the prompt, if it is one.
        route: where its event goes, if that is not its session's route.
        waits: why it has to wait for the user; None if it does not. Its lines stay unsettled, and those behind them are
            sent.
    """

    settled: Settled
    event: CaptureEvent | None
    lines: LineRange | None
    also: Settled | None = None
    owes: tuple[Owed, ...] = ()
    pays: Owed | None = None
    again: bool = False
    prompt: Prompt | None = None
    route: Route | None = None
    waits: str | None = None

    @property
    def leaves(self) -> bool:
        """Whether it has an event that may leave this machine."""
        return self.event is not None and self.route != LOCAL


@dataclass(slots=True, kw_only=True)
class Progress:
    """The result of one step of a pipeline.

    Attributes:
        emissions: in the order in which they became final.
        ends: ends of the lines read, for each file.
        repeats: lines that another file of the session has too, with the end of that file's line.
        copies: lines that are copies of what another session has on its way or is still reading, by its identity.
        hosted: the other sessions whose lines stand in main logs of the session: their ids, with the log's identity.
        called: ids of those of them that have lines there beyond the log's committed offset.
        passed_over: identities that were being read and are not to be sent.
        lines: how many lines of the session were read.
        bad_lines: how many of them were not valid records, and not settled.
        unknown_lines: how many of those that programs recorded have a type that this version does not know.
        ignored_fields: how many fields of those are not known, or cannot be used.
        more: whether there is more to read at once.
        ended: whether the emissions include those that became final because the session ended.
    """

    emissions: list[Emission] = field(default_factory=list)
    ends: dict[str, list[LineEnd]] = field(default_factory=dict)
    repeats: list[tuple[LineRange, str, int]] = field(default_factory=list)
    copies: list[tuple[str, LineRange]] = field(default_factory=list)
    hosted: set[tuple[str, Identity]] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    passed_over: list[str] = field(default_factory=list)
    lines: int = 0
    bad_lines: int = 0
    unknown_lines: int = 0
    ignored_fields: int = 0
    more: bool = False
    ended: bool = False


class Replaced(Exception):  # noqa: N818 - it says what happened to the file; nothing is wrong
    """A file is not the file it was, or another one holds the same lines: the unit's pipeline must be built anew.

    Before that comes `salvage`.
    """
