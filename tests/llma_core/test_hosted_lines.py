"""Which lines of a log belong to another session."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from llma_core.claude_code.agent import CLAUDE_CODE
from llma_core.hosted_lines import HostedLines
from tests.support.logs import LogBuilder, text, tool_use

FORK = "1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"


def owners(log: LogBuilder) -> list[str | None]:
    """Return whom each conversation line of a log belongs to, if it is another session."""
    tracker, decode = HostedLines(CLAUDE_CODE, log.session), CLAUDE_CODE.decoder()
    found = []
    for line in log.files()[log.path].splitlines():
        owner = tracker.owner_of(decode(line), line)
        if json.loads(line).get("type") in ("user", "assistant"):
            assert owner == tracker.owner(line)
            found.append(owner)
    return found


def owners_in_folder(folder: str, lines: Sequence[Mapping[str, object]]) -> set[str | None]:
    """Return whom the lines of a subagent's log belong to that is in a session's folder, if it is another session."""
    tracker = HostedLines(CLAUDE_CODE, folder, is_main=False)
    return {tracker.owner(json.dumps(line, separators=(",", ":")).encode()) for line in lines}


def a_log(session: str | None = None, version: str = "2.1.329") -> LogBuilder:
    log = LogBuilder(*([session] if session else []), version=version)
    log.prompt("Count the trees")
    log.answer(text("One."))
    return log


def test_lines_that_go_on_with_another_session_are_that_sessions() -> None:
    log, other = a_log(), a_log(FORK)
    with other.in_the_log_of(log):
        other.prompt("And the pears")
        other.answer(text("Two."))
        other.title("Pears")
    log.prompt("And the elms")
    assert owners(log) == [None, None, FORK, FORK, None]


def test_a_log_may_hold_nothing_but_lines_that_go_on_with_another_session() -> None:
    log, other = LogBuilder(), a_log(FORK)
    with other.in_the_log_of(log):
        other.prompt("And the pears")
    assert owners(log) == [FORK]


@pytest.mark.parametrize("branch", [True, False])
@pytest.mark.parametrize("version", ["2.0.1", "2.0.76", "2.1.25", "2.1.72", "2.1.200", "2.1.329"])
def test_what_a_fork_copied_is_its_own_and_what_it_hosts_is_not(version: str, *, branch: bool) -> None:
    """Lines that 2.1.72 copies name the session that they were copied from."""
    log = a_log(version=version)
    fork = log.fork(FORK, branch=branch)
    fork.prompt("And the pears")
    assert owners(fork) == [None, None, None]
    with log.in_the_log_of(fork):
        log.prompt("And the elms")
    assert owners(fork) == [None, None, None, log.session]


def test_a_resumed_log_that_begins_with_the_lines_of_another_has_copies() -> None:
    """As some clients before 2.1.25 resumed a session."""
    log = a_log(version="2.1.1")
    resumed = log.continued(FORK)
    resumed.prompt("And the pears")
    assert owners(resumed) == [None, None, None]


def test_a_subagents_log_is_the_sessions_that_its_first_line_names() -> None:
    log = a_log()
    log.answer(tool_use("Agent", {"prompt": "count"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "count")
    agent.answer(text("One."))
    lines = [line for line in agent.lines if isinstance(line, dict)]
    assert owners_in_folder(FORK, lines) == {log.session}
    assert owners_in_folder(log.session, lines) == {None}
    renamed = [lines[0], *({**line, "sessionId": FORK} for line in lines[1:])]
    assert owners_in_folder(log.session, renamed) == {None}, "it began here, and worked on after /clear"
    assert owners_in_folder(log.session, renamed[1:]) == {None}, "that is all there is of it in this folder"
