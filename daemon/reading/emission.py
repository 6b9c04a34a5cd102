"""What reading a session comes to."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from daemon.reading.ledger import LineEnd
from daemon.state.rows import Owed, Settled
from llma_core.events import CaptureEvent
from llma_core.spans import (
    LineRange,
    Prompt,
)

__all__ = ["Emission", "Progress", "Replaced"]


class Emission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something of a session that is ours to settle.

    Attributes:
        settled: what will be noted as settled with it.
        event: the event to deliver; None for a prompt, which only opens a trace, and for a trace that is not to come.
        lines: the lines it rests on; None for a trace.
        owes: the trace that has to follow because of it.
        pays: the owed trace that it is.
        again: whether its event is on its way already, and only its lines are to be held.
        prompt: the prompt it is, if it is one.
    """

    settled: Settled
    event: CaptureEvent | None
    lines: LineRange | None
    owes: Owed | None = None
    pays: Owed | None = None
    again: bool = False
    prompt: Prompt | None = None


@dataclass(slots=True, kw_only=True)
class Progress:
    """What one step of a pipeline came to.

    Attributes:
        emissions: in the order in which they became final.
        ends: ends of the lines read, for each file.
        lines: how many lines were read.
        bad_lines: how many of them held no record.
        more: whether there is more to read at once.
        ended: whether what is final because nothing more comes is among the emissions.
    """

    emissions: list[Emission] = field(default_factory=list)
    ends: dict[str, list[LineEnd]] = field(default_factory=dict)
    lines: int = 0
    bad_lines: int = 0
    more: bool = False
    ended: bool = False


class Replaced(Exception):  # noqa: N818 - it says what happened to the file; nothing is wrong
    """A file is not the file it was; the unit's pipeline must be built anew, after `salvage`."""
