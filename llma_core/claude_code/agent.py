"""Claude Code as the daemon sees it: the face of everything else in this package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from llma_core.agent import Accumulator, Agent, Copied, Decoded, Glance, LogPath, Opened, Origin, Passed
from llma_core.claude_code import layout, records
from llma_core.claude_code.framework import FRAMEWORK
from llma_core.claude_code.records import AssistantRecord, AttachmentRecord, SystemRecord, UserRecord
from llma_core.claude_code.session import QUIET_SECONDS, SETTLE_SECONDS, SessionAccumulator
from llma_core.errors import RecordError
from llma_core.timestamps import milliseconds

__all__ = ["CLAUDE_CODE"]

_REGISTRY_SINCE = (2, 1, 100)


class _ClaudeCode(Agent):
    """Claude Code, in all the versions whose logs are known (1.0.128 to 2.1.329)."""

    name = "claude-code"
    framework = FRAMEWORK
    root_folders = ("projects",)
    log_suffix = ".jsonl"
    meta_suffix = ".meta.json"
    session_folders = ("subagents",)
    shares_logs = True
    # Both open a dialog (2.1.329).
    asking_tools = frozenset({"AskUserQuestion", "ExitPlanMode"})
    # Of the tools of 2.1.329. A search is told by its pattern, which may come with a path.
    telling_arguments = (
        "command",
        "file_path",
        "notebook_path",
        "pattern",
        "url",
        "query",
        "skill",
        "description",
        "path",
        "prompt",
    )

    def classify(self, path: str) -> LogPath | None:
        return layout.classify(path)

    def is_session_id(self, name: str) -> bool:
        return layout.is_session_id(name)

    def glance(self, line: bytes) -> Glance:
        said = records.glance(line)
        return Glance(
            at=milliseconds(said.timestamp),
            session=said.session_id,
            is_copy=said.is_copy,
            original=said.original,
            goes_on=said.parent_uuid is not None if said.uuid is not None else None,
            uuid=said.uuid,
        )

    def names_another(self, data: bytes, session: str) -> bool:
        return records.names_another(data, session)

    # Asked of every line: nothing is put around it.
    session_of = staticmethod(records.session_of)

    def origin(self, line: bytes) -> Origin | None:
        try:
            record = records.decode(line)
        except RecordError:
            return None
        if isinstance(record, UserRecord | AssistantRecord | SystemRecord | AttachmentRecord) and record.cwd:
            return Origin(cwd=record.cwd, version=record.version)
        return None

    def decoder(self, *, whole_inputs: bool = False) -> Callable[[bytes], Decoded]:
        # Called for every line: nothing is put around it unless it has to be.
        return partial(records.decode, requests=True) if whole_inputs else records.decode

    def decode_meta(self, data: bytes) -> Decoded | None:
        return records.decode_meta(data)

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
        return SessionAccumulator(
            session,
            copied=copied,
            opened=opened,
            passed=passed,
            settle=SETTLE_SECONDS if settle is None else settle,
            quiet=QUIET_SECONDS if quiet is None else quiet,
            whole_inputs=whole_inputs,
        )

    def keeps_registry(self, version: str | None) -> bool:
        # Clients from about 2.1.100 on do; one whose version is not known does not.
        return tuple(int(part) for part in (version or "").split(".")[:3] if part.isdigit()) >= _REGISTRY_SINCE


CLAUDE_CODE = _ClaudeCode()
"""Claude Code."""
