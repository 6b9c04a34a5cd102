"""Which span is around what: in threads, tasks, generators and context managers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from llma_recorder import TraceRecorder

from tests.support.recorded import Recorded


def parents(recorded: Recorded) -> dict[str, str | None]:
    """Return the name of each span's parent."""
    lines = recorded.lines("span")
    names = {line["span_id"]: line["name"] for line in lines if "span_id" in line}
    return {line["name"]: names.get(line.get("parent_id", "")) for line in lines}


def test_what_runs_inside_a_span_is_its_child(recorded: Recorded) -> None:
    recorder, other = TraceRecorder(), TraceRecorder()
    with recorder.span("outer") as outer:
        with recorder.span("inner"):
            recorder.record_span("leaf")
            other.record_span("of another trace")
        TraceRecorder(trace_id=recorder.trace_id).record_span("of the same trace")
        recorder.record_span("named", parent_id="p")
        with recorder.generation(model="m"):
            recorder.record_metric("m")
        with other.span("other"):
            recorder.record_span("still inside")
    with recorder.span("after", parent_id=outer.id):
        pass
    recorder.record_span("outside")
    assert parents(recorded) == {
        "leaf": "inner",
        "inner": "outer",
        "of another trace": None,
        "of the same trace": "outer",
        "named": None,
        "other": None,
        "still inside": "outer",
        "outer": None,
        "after": "outer",
        "outside": None,
    }
    assert recorded.line("generation")["parent_id"] == outer.id


def test_a_span_may_be_entered_again_inside_itself_and_afterwards(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    span = recorder.span("step", input="i")
    with span, span:
        recorder.record_span("leaf")
        span.finish("first")
    with span:
        pass
    recorder.record_span("outside")
    assert [line["name"] for line in recorded.lines("span")] == ["leaf", "step", "step", "outside"]
    leaf, first, second, outside = recorded.lines("span")
    assert leaf["parent_id"] == first["span_id"] != second["span_id"]
    assert (first["output"], second["input"]) == ("first", "i")
    assert "output" not in second
    assert "parent_id" not in outside


def test_errors_pass_through_and_are_recorded_where_they_passed(recorded: Recorded) -> None:
    recorder = TraceRecorder()

    def run() -> None:
        with recorder.span("outer"):
            with contextlib.suppress(ValueError), recorder.span("inner"), recorder.generation(model="m"):
                raise ValueError("no")
            raise KeyError("k")

    with pytest.raises(KeyError):
        run()
    with recorder.generation(model="m") as call:
        call.fail(TimeoutError("late"), http_status=408)
    inner, outer = recorded.lines("span")
    assert (inner["error"], outer["error"]["type"]) == ({"type": "ValueError", "message": "no"}, "KeyError")
    raised, said = recorded.lines("generation")
    assert (raised["error"]["type"], "usage" in raised) == ("ValueError", False)
    assert (said["error"], said["http_status"]) == ({"type": "TimeoutError", "message": "late"}, 408)


def test_an_error_after_the_answer_is_not_the_calls(recorded: Recorded) -> None:
    recorder = TraceRecorder()

    def run() -> None:
        with recorder.span("s"), recorder.generation(model="m") as call:
            call.finish(usage={"input_tokens": 1}, output_text="{")
            raise ValueError("bad JSON")

    with pytest.raises(ValueError, match="bad JSON"):
        run()
    assert "error" not in recorded.line("generation")
    assert recorded.line("generation")["usage"] == {"input_tokens": 1}
    assert recorded.line("span")["error"]["message"] == "bad JSON"


def test_an_end_without_an_error_is_none(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    for end in (SystemExit(0), SystemExit(), GeneratorExit()):
        with pytest.raises(type(end)), recorder.span("s"):
            raise end
    with pytest.raises(SystemExit), recorder.span("s"):
        raise SystemExit("wrong")
    assert ["error" in line for line in recorded.lines("span")] == [False, False, False, True]


def test_the_input_is_what_it_was_on_entering_and_the_output_what_it_was_on_finishing(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    messages: list[Any] = [{"role": "user", "content": ["one"]}]
    with recorder.generation(input=messages, name="call") as call, recorder.span("s", input=messages) as span:
        call.first_token()
        messages[0]["content"].append("two")
        span.finish(messages, found=1)
        messages.clear()
        call.finish(output_text="x")
    generation, line = recorded.line("generation"), recorded.line("span")
    assert generation["input"] == line["input"] == [{"role": "user", "content": ["one"]}]
    assert (line["output"], line["properties"]) == ([{"role": "user", "content": ["one", "two"]}], {"found": 1})
    assert generation["stream"] is True
    assert 0 <= generation["time_to_first_token_ms"] <= generation["latency_ms"]


async def test_tasks_nest_by_themselves(recorded: Recorded) -> None:
    recorder = TraceRecorder()

    async def work(name: str, turn: asyncio.Event, following: asyncio.Event) -> None:
        async with recorder.span(name):
            following.set()
            await turn.wait()
            recorder.record_span(f"in {name}")

    async with recorder.span("all"):
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(work("a", one, two), work("b", two, one))
        await asyncio.to_thread(recorder.record_span, "thread")
    assert parents(recorded) == {"in a": "a", "a": "all", "in b": "b", "b": "all", "thread": "all", "all": None}


def test_threads_have_their_own_spans(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    with recorder.span("main") as main:
        context = contextvars.copy_context()
        for run in (
            lambda: recorder.record_span("bare"),
            lambda: context.run(recorder.record_span, "with the context"),
            lambda: recorder.record_span("told", parent_id=main.id),
        ):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    assert parents(recorded) == {"bare": None, "with the context": "main", "told": "main", "main": None}


def test_a_generator_keeps_its_span_to_itself(recorded: Recorded) -> None:
    recorder = TraceRecorder()

    def stream(name: str) -> Iterator[int]:
        with recorder.span(name):
            for number in range(2):
                recorder.record_span(f"{name}{number}")
                yield number

    with recorder.span("all"):
        for number in stream("a"):
            recorder.record_span(f"got {number}")
        # Two that take turns, and one that is given up.
        for _ in zip(stream("b"), stream("c"), strict=True):
            pass
        left = stream("d")
        next(left)
        recorder.record_span("beside d")
        del left
        gc.collect()
        recorder.record_span("last")
    found = parents(recorded)
    assert {name: found[name] for name in ("a0", "a1", "b0", "b1", "c0", "c1", "d0")} == {
        name: name[0] for name in ("a0", "a1", "b0", "b1", "c0", "c1", "d0")
    }
    assert {name for name, parent in found.items() if parent == "all"} == {
        *("a", "b", "c", "d", "got 0", "got 1", "beside d", "last")
    }
    assert not any("error" in line for line in recorded.lines())


async def test_an_asynchronous_generator_keeps_its_span_to_itself_and_lends_it_to_its_tasks(recorded: Recorded) -> None:
    recorder = TraceRecorder()

    async def note(name: str) -> None:
        await asyncio.sleep(0)
        recorder.record_span(name)

    async def stream() -> AsyncIterator[int]:
        async with recorder.span("stream"):
            await asyncio.gather(note("task"))
            yield 1

    async with recorder.span("all"):
        async for _ in stream():
            await note("beside")
        async for _ in stream():
            break  # the event loop closes it, in a context of its own
        for _ in range(5):
            await asyncio.sleep(0)
    recorder.record_span("after")
    found = parents(recorded)
    assert (found["task"], found["beside"], found["after"]) == ("stream", "all", None)


async def test_a_context_manager_lends_its_span(recorded: Recorded) -> None:
    recorder = TraceRecorder()

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        with recorder.span(name):
            yield

    @contextlib.asynccontextmanager
    async def late_stage(name: str) -> AsyncIterator[None]:
        async with recorder.span(name):
            yield

    with stage("a"):
        recorder.record_span("in a")
        async with late_stage("b"):
            recorder.record_span("in b")
            with contextlib.ExitStack() as stack:
                stack.enter_context(recorder.span("c"))
                recorder.record_span("in c")
    assert parents(recorded) == {"in a": "a", "in b": "b", "in c": "c", "c": "b", "b": "a", "a": None}


def test_spans_that_overlap_do_not_pile_up(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    older = recorder.span("0")
    older.__enter__()
    for number in range(1, 50):
        newer = recorder.span(str(number))
        newer.__enter__()
        older.__exit__(None, None, None)
        older = newer
    older.__exit__(None, None, None)
    recorder.record_span("after")
    assert len(recorded.lines("span")) == 51
    assert parents(recorded)["after"] is None
    scopes = [thing for thing in gc.get_objects() if type(thing).__module__ == "llma_recorder.scope"]
    assert len(scopes) <= 2
