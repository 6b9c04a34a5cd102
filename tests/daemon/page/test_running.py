"""What running sessions do, and which of them wait for a person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.delivering.local.sink import LocalSink
from daemon.page.running import Running, Watch
from llma_core.events import CaptureEvent
from tests.support.sample_events import generation, span


def calling(event: CaptureEvent, *calls: tuple[str, str, dict[str, str]]) -> CaptureEvent:
    """Return a generation that calls tools, each given as its id, name and arguments."""
    body = json.loads(event.body)
    blocks = [{"type": "tool_use", "id": each, "name": name, "input": given} for each, name, given in calls]
    body["properties"]["$ai_output_choices"] = [{"role": "assistant", "content": blocks}]
    return CaptureEvent(name=event.name, uuid=event.uuid, identity=event.identity, body=json.dumps(body).encode())


def look(tmp_path: Path, status: str | None, events: Sequence[CaptureEvent]) -> Running:
    async def write() -> None:
        sink = LocalSink(tmp_path / "events.db")
        await sink.send(events)
        await sink.aclose()

    LocalSink(tmp_path / "events.db").prepare()
    asyncio.run(write())
    [found] = Watch(tmp_path / "events.db", lambda: {"trace-1": status}).now()
    return found


BASH = calling(generation("a", at=1, stop_reason="tool_use"), ("t", "Bash", {"command": "make\nall"}))


@pytest.mark.parametrize(
    ("status", "waits"),
    [("busy", False), (None, False), ("idle", True), ("waiting", True)],
)
def test_a_tool_without_a_result_runs_unless_the_client_says_that_it_waits(
    tmp_path: Path, status: str | None, waits: bool
) -> None:
    found = look(tmp_path, status, [BASH])
    assert (found.doing, found.waits) == ("Bash make all", waits)


def test_only_the_calls_without_a_result_are_open(tmp_path: Path) -> None:
    both = calling(
        generation("a", at=1, stop_reason="tool_use"), ("t", "Bash", {"command": "ls"}), ("u", "Read", {"path": "x"})
    )
    found = look(tmp_path, "busy", [both, span("t", "Bash", parent="a", at=2)])
    assert found.doing == "Read x"


@pytest.mark.parametrize("tool", ["AskUserQuestion", "ExitPlanMode"])
def test_a_question_waits_for_a_person_however_busy_the_client_is(tmp_path: Path, tool: str) -> None:
    asking = calling(generation("a", at=1, stop_reason="tool_use"), ("t", tool, {}))
    assert look(tmp_path, "busy", [asking]).waits


@pytest.mark.parametrize(("status", "waits"), [("busy", False), ("idle", True), (None, True)])
def test_after_an_answer_the_next_prompt_is_waited_for(tmp_path: Path, status: str | None, waits: bool) -> None:
    assert look(tmp_path, status, [generation("a", at=1, text="Done.")]).waits is waits


def test_after_all_results_the_model_works(tmp_path: Path) -> None:
    found = look(tmp_path, None, [BASH, span("t", "Bash", parent="a", at=2)])
    assert (found.doing, found.waits) == ("thinking", False)


def test_a_subagent_does_not_hide_what_its_session_does(tmp_path: Path) -> None:
    agent = calling(generation("a", at=1, stop_reason="tool_use"), ("t", "Agent", {"prompt": "look"}))
    inner = generation("b", at=2, parent="t", agent="general-purpose", text="Found it.")
    found = look(tmp_path, "busy", [agent, inner])
    assert (found.doing, found.waits) == ("Agent look", False)


def test_a_session_of_which_nothing_is_known_yet_works(tmp_path: Path) -> None:
    assert look(tmp_path, "busy", []) == Running(session="trace-1", doing="", waits=False, since=None)


def test_a_failed_attempt_is_told(tmp_path: Path) -> None:
    failed = generation("a", at=1, tokens=None, error=("overloaded_error", "Overloaded"))
    found = look(tmp_path, "busy", [failed])
    assert (found.doing, found.waits) == ("overloaded_error", False)
