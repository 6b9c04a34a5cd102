"""The face of an agent: what the daemon may ask of a kind of session log.

An agent is a program that writes session logs, such as Claude Code. Its `Agent` says where the logs are, what a path
is, and what a line tells of its session; its accumulator turns a session's lines into spans. The daemon knows nothing
else of any agent, so that another one is a package beside `claude_code` and an entry in `agents`.

What a decoded line holds is between the decoder and the accumulator of one agent. The daemon only carries it from one
to the other, and counts the lines of unknown types among them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from llma_core.spans import Framework, LineRange, Span

__all__ = [
    "Accumulator",
    "Agent",
    "Copied",
    "Decoded",
    "Glance",
    "LogPath",
    "Opened",
    "Origin",
    "Passed",
    "UnknownRecord",
    "Writer",
]

Decoded = Any
"""What an agent's decoder makes of a line or a meta file; only its accumulator looks into it."""

Copied = Callable[[str, bytes | None, int | None], bool]
"""Tells whether another session wrote something first.

The arguments are its name in the settled table, its checksum (for a message, else None), and its time in milliseconds
since the epoch.
"""
Opened = Callable[[str, bytes, LineRange], None]
"""Called for each message that begins, with its name in the settled table, its checksum and its first line."""


Passed = Callable[[str, LineRange], None]
"""Called for each copy that is not given out, with its name in the settled table and its lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPath:
    """A path of a log or a meta file.

    Attributes:
        kind: `session` (a main log), `agent` (a subagent's log) or `meta` (a subagent's meta file).
        folder: the project folder, which the sessions of one project share.
        session: the session's id from the path; None for a subagent's file whose path does not name its session.
        agent: the subagent's id; None for a session.
        runs: the subagent's folders, the nearest first; one may be named by the run of a workflow that started it.
    """

    kind: Literal["session", "agent", "meta"]
    folder: str
    session: str | None
    agent: str | None
    runs: tuple[str, ...] = ()


class Glance(Struct, frozen=True, kw_only=True, gc=False):
    """The little of a line that tells whose file it is and when it begins.

    Attributes:
        at: the line's time, in milliseconds since the epoch; None where it has none.
        session: the session it names.
        is_copy: whether it says that it is a copy of another session's line.
        original: the session it was copied from, where it says that.
        goes_on: whether it goes on with a conversation, and is not the first line of one; None if it is in none.
        uuid: the id of the line, if it is in a conversation; a copy of the line has it, too.
    """

    at: int | None = None
    session: str | None = None
    is_copy: bool = False
    original: str | None = None
    goes_on: bool | None = None
    uuid: str | None = None


class Origin(Struct, frozen=True, kw_only=True):
    """Where a line was written.

    Attributes:
        cwd: the session's working directory at that line.
        version: the version of the client that wrote it; None where the line does not say.
    """

    cwd: str
    version: str | None = None


class UnknownRecord(Struct, gc=False):
    """A line of a type this version does not know; type is "" where the line has none."""

    type: str


class Writer(Struct, frozen=True, kw_only=True):
    """The process that writes a log, as the log's name tells it.

    Attributes:
        pid: its number.
        started: when it started, or a little later, in milliseconds since the epoch.
        number: the log's place among those that the process writes, one after the other.
    """

    pid: int
    started: int
    number: int


class Accumulator(ABC):
    """One session's state. Every method that returns spans returns those that became final, in the order they did.

    What need not be overridden is right for a log in which every line is final at once.

    Attributes:
        first_cwd: the session's first working directory, as far as it was read.
    """

    first_cwd: str | None = None

    @abstractmethod
    def feed(self, record: Decoded, lines: LineRange, *, agent: str | None = None, now: float) -> list[Span]:
        """Take one decoded line.

        Args:
            record: what the line was decoded to.
            lines: where the line is.
            agent: the subagent whose file it is in; None for the main file.
            now: seconds on any steady clock.
        """

    @abstractmethod
    def end(self, now: float) -> list[Span]:
        """Finish everything: the session has ended, or there will be no further line."""

    def link(self, agent: str, meta: Decoded, *, now: float) -> list[Span]:
        """Take what the meta file of the subagent *agent* says."""
        del agent, meta, now
        return []

    def poll(self, now: float) -> list[Span]:
        """Finish what the time has finished."""
        del now
        return []

    def due(self) -> float | None:
        """Return when `poll` may have something to finish, on the clock of `now`; None if only lines can."""
        return None

    def needed_from(self) -> dict[str, int]:
        """Return, for each file, the start of the oldest line that something not yet given out is made from."""
        return {}

    @property
    def idle(self) -> bool:
        """Whether nothing waits for lines or time."""
        return True

    @property
    def at_rest(self) -> bool:
        """Whether `end` would give out nothing now but what can be given out again if the session goes on."""
        return self.idle

    def ignored_fields(self) -> int:
        """Return how many fields of the lines that were fed since the last call are not known, or cannot be used."""
        return 0

    def forget_turns(self) -> None:
        """Keep no sums of turns from here on: nobody wants their traces."""
        return

    def hide_copies(self) -> None:
        """Let nothing that was copied from another session, or sums it up, be part of a span from here on.

        `copied` may call this before it returns.
        """
        return


class Agent(ABC):
    """A kind of session log. It has no state: one object serves all sessions.

    Attributes:
        name: what the agent is called.
        framework: how its events are named.
        root_folders: the folders below a configuration folder that its logs are in; more than one level is separated
            by `/`. Empty: the daemon is told of the roots in another way.
        log_suffix: how the names of its logs end, such as `.jsonl`.
        meta_suffix: how the names of its meta files end. A log's meta file is beside it and is called like it, with
            this in place of *log_suffix*. None: there are none.
        by_project: whether a root holds one folder for each project, with the project's logs in it. Otherwise the logs
            are in the root itself.
        session_folders: the folders that may hold more logs in a session's own folder. A session's own folder is
            beside its log and is called like it, without the suffix. Empty: sessions have no folders.
        shares_logs: whether a session's log may hold lines of another session; see `hosted_lines`.
        asking_tools: names of tools that do nothing but ask a person: while one runs, the session waits.
        is_spool: whether its logs are written for the daemon alone. Nothing in them is history, each belongs to one
            process, and each is removed once that process is gone and everything in it is settled.
        telling_arguments: names of the arguments that tell best what a call of a tool does, the best first.
    """

    name: str
    framework: Framework
    root_folders: tuple[str, ...]
    log_suffix: str
    meta_suffix: str | None = None
    by_project: bool = True
    session_folders: tuple[str, ...] = ()
    shares_logs: bool = False
    asking_tools: frozenset[str] = frozenset()
    telling_arguments: tuple[str, ...] = ()
    is_spool: bool = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of its files end, logs and meta files alike."""
        return (self.log_suffix,) if self.meta_suffix is None else (self.log_suffix, self.meta_suffix)

    @abstractmethod
    def classify(self, path: str) -> LogPath | None:
        """Say what *path* (with `/` between its parts) is; None for anything that is no log or meta file."""

    def is_session_id(self, name: str) -> bool:
        """Whether *name* can be a session's id; a log that is called otherwise belongs to the session it names."""
        del name
        return True

    @abstractmethod
    def glance(self, line: bytes) -> Glance:
        """Return what a line says of its file; an empty glance for a line that holds no record."""

    def names_another(self, data: bytes, session: str) -> bool:
        """Whether some lines may name another session than *session*. It is asked of whole logs, and has to be quick.

        It is asked only if sessions share logs, as is `session_of`.

        Args:
            data: whole lines.
            session: the id of the session whose log they are in.
        """
        del data, session
        return False

    def session_of(self, record: Decoded) -> str | None:
        """Return the session that a decoded line names; None if it names none."""
        del record
        return None

    @abstractmethod
    def origin(self, line: bytes) -> Origin | None:
        """Return where a line was written; None for a line that does not say, or holds no record."""

    @abstractmethod
    def decoder(self, *, whole_inputs: bool = False) -> Callable[[bytes], Decoded]:
        """Return what decodes one line, without its end.

        It raises RecordError for a line that holds no record, and returns an UnknownRecord for one of a type that this
        version does not know.

        Args:
            whole_inputs: whether the accumulator was asked for whole inputs, and needs the lines that they are in.
        """

    def decode_meta(self, data: bytes) -> Decoded | None:
        """Return what a meta file says; None while it says nothing, as when it is half written."""
        del data
        return None

    @abstractmethod
    def accumulator(
        self,
        session: str,
        *,
        copied: Copied,
        opened: Opened,
        passed: Passed,
        settle: float | None = None,
        quiet: float | None = None,
        whole_inputs: bool = False,
    ) -> Accumulator:
        """Return the state of a session of which nothing was read yet.

        Args:
            session: the session's id.
            copied: tells what another session wrote first.
            opened: is told what this one begins to write.
            passed: is told what is not given out because another session wrote it first.
            settle: seconds of quiet after which what looks complete is final; None: the agent's own.
            quiet: seconds of quiet after which anything is final; None: the agent's own.
            whole_inputs: whether generations say their whole inputs.
        """

    def writer(self, session: str) -> Writer | None:
        """Return the process that writes the log of *session*; None if the name does not tell."""
        del session
        return None

    def keeps_registry(self, version: str | None) -> bool:
        """Whether a client of this version has a registry of live processes, so that `exec` finds its sessions there.

        Args:
            version: the client's version; None where it is not known.
        """
        del version
        return False
