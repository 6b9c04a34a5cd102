"""What running sessions do, and which of them wait for a person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.delivering.local.sink import LocalSink
from daemon.following.live_sessions import Status
from daemon.page.changes import Change, Changes
from daemon.page.running import Running, Watch, tell_running
from llma_core.events import CaptureEvent
from tests.support.sample_events import generation, span
from tests.support.waiting import PATIENCE


def calling(event: CaptureEvent, *calls: tuple[str, str, dict[str, str]]) -> CaptureEvent:
    """Return a generation that calls tools, each given as its id, name and arguments."""
    body = json.loads(event.body)
    blocks = [{"type": "tool_use", "id": each, "name": name, "input": given} for each, name, given in calls]
    body["properties"]["$ai_output_choices"] = [{"role": "assistant", "content": blocks}]
    return CaptureEvent(name=event.name, uuid=event.uuid, identity=event.identity, body=json.dumps(body).encode())


def _status(said: str | None) -> Status:
    word, _, waits_for = (said or "").partition(": ")
    return Status(word=word or None, waits_for=waits_for or None)


def look(tmp_path: Path, status: str | None, events: Sequence[CaptureEvent]) -> Running:
    async def write() -> None:
        sink = LocalSink(tmp_path / "events.db")
        await sink.send(events)
        await sink.aclose()

    LocalSink(tmp_path / "events.db").prepare()
    asyncio.run(write())
    [found] = Watch(tmp_path / "events.db", lambda: {"trace-1": _status(status)}).now()
    return found


BASH = calling(generation("a", at=1, stop_reason="tool_use"), ("t", "Bash", {"command": "make\nall"}))


@pytest.mark.parametrize(
    ("status", "waits_for"),
    [
        ("busy", None),
        (None, None),
        ("idle", "permission"),
        ("waiting", "permission"),
        ("waiting: permission prompt", "permission prompt"),
    ],
)
def test_a_tool_without_a_result_runs_unless_the_client_says_that_it_waits(
    tmp_path: Path, status: str | None, waits_for: str | None
) -> None:
    found = look(tmp_path, status, [BASH])
    assert (found.doing, found.waits_for) == ("Bash make all", waits_for)


def test_a_client_that_waits_before_it_logs_the_question_does_not_think(tmp_path: Path) -> None:
    found = look(tmp_path, "waiting: input needed", [BASH, span("t", "Bash", parent="a", at=2)])
    assert (found.doing, found.waits_for) == ("", "input needed")


def test_only_the_calls_without_a_result_are_open(tmp_path: Path) -> None:
    both = calling(
        generation("a", at=1, stop_reason="tool_use"), ("t", "Bash", {"command": "ls"}), ("u", "Read", {"path": "x"})
    )
    found = look(tmp_path, "busy", [both, span("t", "Bash", parent="a", at=2)])
    assert found.doing == "Read x"


@pytest.mark.parametrize("tool", ["AskUserQuestion", "ExitPlanMode"])
def test_a_question_waits_for_a_person_however_busy_the_client_is(tmp_path: Path, tool: str) -> None:
    asking = calling(generation("a", at=1, stop_reason="tool_use"), ("t", tool, {}))
    assert look(tmp_path, "busy", [asking]).waits_for == "answer to a question"


@pytest.mark.parametrize(("status", "waits_for"), [("busy", None), ("idle", "next prompt"), (None, "next prompt")])
def test_after_an_answer_the_next_prompt_is_waited_for(
    tmp_path: Path, status: str | None, waits_for: str | None
) -> None:
    assert look(tmp_path, status, [generation("a", at=1, text="Done.")]).waits_for == waits_for


def test_after_all_results_the_model_works(tmp_path: Path) -> None:
    found = look(tmp_path, None, [BASH, span("t", "Bash", parent="a", at=2)])
    assert (found.doing, found.waits_for) == ("thinking", None)


def test_a_subagent_does_not_hide_what_its_session_does(tmp_path: Path) -> None:
    agent = calling(generation("a", at=1, stop_reason="tool_use"), ("t", "Agent", {"prompt": "look"}))
    inner = generation("b", at=2, parent="t", agent="general-purpose", text="Found it.")
    found = look(tmp_path, "busy", [agent, inner])
    assert (found.doing, found.waits_for) == ("Agent look", None)


def test_a_session_of_which_nothing_is_known_yet_works(tmp_path: Path) -> None:
    assert look(tmp_path, "busy", []) == Running(session="trace-1", doing="", waits_for=None, since=None)


def test_a_failed_attempt_is_told(tmp_path: Path) -> None:
    failed = generation("a", at=1, tokens=None, error=("overloaded_error", "Overloaded"))
    found = look(tmp_path, "busy", [failed])
    assert (found.doing, found.waits_for) == ("overloaded_error", None)


async def test_an_open_page_is_told_when_the_registry_says_something_else() -> None:
    said, looks = {"a": _status("busy")}, asyncio.Queue[None]()
    loop, changes = asyncio.get_running_loop(), Changes()

    def statuses() -> dict[str, Status]:
        loop.call_soon_threadsafe(looks.put_nowait, None)
        return dict(said)

    telling = asyncio.create_task(tell_running(statuses, changes, every=0.001))
    told = changes.stream()

    async def following() -> Change:
        return await asyncio.wait_for(anext(told), PATIENCE)

    assert await following() == Change(None, running=True), "the page may have been drawn before a change"
    waits = asyncio.create_task(following())
    for _ in range(3):
        await asyncio.wait_for(looks.get(), PATIENCE)
    assert not waits.done()
    said["a"] = _status("waiting: permission prompt")
    assert await waits == Change(None, running=True)
    del said["a"]
    assert await following() == Change(None, running=True)
    telling.cancel()
