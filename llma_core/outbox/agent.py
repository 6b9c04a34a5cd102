"""Programs that record their own calls, as the daemon sees them: each file of the outbox is a session of its own.

    <outbox>/<pid>-<started>-<n>.jsonl

*started* is when the process began, in milliseconds since the epoch, or when it began to record. With a higher *n*, the
process has gone on in another file. A file with another name is none of these: nothing would tell when it may go.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from llma_core.agent import Accumulator, Agent, Copied, Decoded, Glance, LogPath, Opened, Origin, Passed, Writer
from llma_core.errors import RecordError
from llma_core.outbox import lines as formats
from llma_core.outbox.framework import FRAMEWORK
from llma_core.outbox.recording import Recording
from llma_core.timestamps import milliseconds

__all__ = ["OUTBOX"]

_NAME = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,15})-([0-9]{1,9})")


class _Outbox(Agent):
    """The lines of `llma-recorder`, and of whatever else writes in its format."""

    name = "recorder"
    framework = FRAMEWORK
    root_folders = ()
    log_suffix = ".jsonl"
    by_project = False
    is_spool = True

    def classify(self, path: str) -> LogPath | None:
        folder, _, name = path.rpartition("/")
        session = name.removesuffix(self.log_suffix)
        if session == name or _NAME.fullmatch(session) is None:
            return None
        return LogPath(kind="session", folder=folder, session=session, agent=None)

    def is_session_id(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None

    def writer(self, session: str) -> Writer | None:
        found = _NAME.fullmatch(session)
        return Writer(pid=int(found[1]), started=int(found[2]), number=int(found[3])) if found else None

    def glance(self, line: bytes) -> Glance:
        said = _decoded(line)
        return Glance(at=milliseconds(said.at)) if isinstance(said, _KNOWN) else Glance()

    def origin(self, line: bytes) -> Origin | None:
        said = _decoded(line)
        return Origin(cwd=said.cwd) if isinstance(said, formats.ProcessLine) and said.cwd else None

    def decoder(self, *, whole_inputs: bool = False) -> Callable[[bytes], Decoded]:
        del whole_inputs
        return formats.decode

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
        del copied, opened, passed, settle, quiet, whole_inputs
        return Recording(session)


_KNOWN = formats.ProcessLine | formats.EventLine | formats.SessionLine


def _decoded(line: bytes) -> Decoded | None:
    try:
        return formats.decode(line)
    except RecordError:
        return None


OUTBOX = _Outbox()
"""The outbox."""
