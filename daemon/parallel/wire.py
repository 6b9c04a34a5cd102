"""What goes to a worker and comes back from it, as bytes.

A frame is its length in four bytes, and a body. The first frame to a worker is its `Setup`; then comes one for each
`Task`. What comes back are frames of slices, in the order of the tasks.
"""

from __future__ import annotations

import copyreg
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from daemon.config.restraint import Restraint
from daemon.config.settings import Settings
from daemon.following.tailer import TailState
from daemon.parallel.assumed import Fact
from daemon.reading.emission import Progress
from daemon.routing.repository import Repositories
from daemon.routing.routing import Purpose, Routing
from daemon.state.rows import FileMark, FrozenRoute
from llma_core import __version__

__all__ = [
    "LENGTH",
    "Said",
    "Setup",
    "Slice",
    "Task",
    "decode_setup",
    "decode_slices",
    "decode_task",
    "encode_setup",
    "encode_slices",
    "encode_task",
]

LENGTH = struct.Struct("<I")
"""The length of a frame's body, before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker goes by.

    Attributes:
        settings: the settings in force.
        purpose: what the events are for.
        line_bytes: a line longer than this is skipped and counted.
        slice_bytes: about how many bytes to read for one slice.
        explain: whether events record what was removed from their properties.
        version: the version of this program. An upgrade may have put another one where a worker is started from.
    """

    settings: Settings
    purpose: Purpose
    line_bytes: int
    slice_bytes: int = 512 * 1024
    explain: bool = False
    version: str = __version__

    def routing(self) -> Routing:
        """Return what decides routes by it."""
        return Routing(self.settings, Repositories(), purpose=self.purpose, explain=self.explain)


class Task(Struct, frozen=True, kw_only=True):
    """One session to read from its beginning to its end.

    Attributes:
        number: which of the tasks it is; later ones have higher numbers.
        group: what it shares with the sessions that it may have lines in common with: the name of the first of them.
        alone: whether no other session is of that group.
        name: the session's name.
        folder: like the rest, see `SessionFiles`.
        agent: the agent's name.
        size: bytes of its logs.
        again: whether its settled lines are read once more.
        marks: how its files were last known.
        is_visited: whether another session's subagent works on in its folder.
    """

    number: int
    group: str
    alone: bool
    name: str
    folder: str
    agent: str
    mains: list[str]
    agents: dict[str, str]
    metas: dict[str, str]
    continued: list[str]
    size: int
    again: bool
    marks: list[FileMark]
    is_visited: bool


class Said(Struct, array_like=True, frozen=True):
    """A log line of a worker.

    Attributes:
        level: its level.
        event: what happened.
        fields: the rest of it.
    """

    level: str
    event: str
    fields: dict[str, Any]


class Slice(Struct, array_like=True, kw_only=True):
    """What reading a slice of a session came to.

    Attributes:
        number: the number of its task.
        index: how many slices of the session came before.
        failed: whether the session cannot be read by the worker, and this is its last slice.
        progress: what became final.
        facts: what was assumed and claimed meanwhile.
        tails: how far each file is read, by the name the pipeline gave it.
        files: that name of each path.
        needed: where the oldest line starts that is still needed, for each file that has one.
        originals: the names of the sessions that copied lines are of.
        neighbors: the sessions, by id, that were asked for a main log and were assumed to have none.
        relied_on: the names of the sessions whose restraint, as it was found, holds for this one, too.
        has_repeats: see `Pipeline`.
        frozen: the session's route, as decided with its first event.
        route: its host and key; None before the first event.
        restraint: what the files of its project made stricter.
        warnings: one line for each setting of its project that has no effect.
        first_cwd: its first working directory.
        idle: whether nothing of it is open.
        said: what was logged.
        size: its share of the bytes of its frame, where it is received.
    """

    number: int
    index: int = 0
    failed: bool = False
    progress: Progress = msgspec.field(default_factory=Progress)
    facts: list[Fact] = []
    tails: dict[str, TailState] = {}
    files: dict[str, str] = {}
    needed: dict[str, int] = {}
    originals: list[str] = []
    neighbors: list[str] = []
    relied_on: list[str] = []
    has_repeats: bool = False
    frozen: FrozenRoute | None = None
    route: tuple[str, str] | None = None
    restraint: Restraint | None = None
    warnings: tuple[str, ...] = ()
    first_cwd: str | None = None
    idle: bool = False
    said: list[Said] = []
    size: int = 0


# The decoder builds values by themselves for speed, but not of types it does not know: no slice has such a route.
_slices = msgspec.msgpack.Decoder(list[Slice])
_tasks = msgspec.msgpack.Decoder(Task)
_encoder = msgspec.msgpack.Encoder()


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


class _Pickler(pickle.Pickler):
    """Pickles settings: they have mappings that nobody can change."""

    dispatch_table = copyreg.dispatch_table | {MappingProxyType: lambda proxy: (_read_only, (dict(proxy),))}


def encode_setup(setup: Setup) -> bytes:
    """Return the body of a frame with *setup*, which holds keys: it is for a process of our own alone."""
    body = BytesIO()
    _Pickler(body).dump(setup)
    return body.getvalue()


def decode_setup(body: bytes) -> Setup:
    """Return what `encode_setup` turned into *body*."""
    found = pickle.loads(body)  # noqa: S301 - from the process that started this one
    assert isinstance(found, Setup)
    return found


def encode_task(task: Task) -> bytes:
    """Return the body of a frame with *task*."""
    return _encoder.encode(task)


def decode_task(body: bytes) -> Task:
    """Return what `encode_task` turned into *body*."""
    return _tasks.decode(body)


def encode_slices(slices: Sequence[Slice]) -> bytes:
    """Return the body of a frame with *slices*.

    Raises:
        Exception: a text in them is no Unicode, or a value is of a type that no slice may have.
    """
    return _encoder.encode(slices)


def decode_slices(body: bytes | bytearray) -> list[Slice]:
    """Return what `encode_slices` turned into *body*."""
    return _slices.decode(body)
