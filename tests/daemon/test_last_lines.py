"""A last line without a line end counts once nobody writes any more. If somebody does, nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.capture_server import CaptureServer
from tests.support.logs import LogBuilder, text
from tests.support.machine import Machine, a_session, span_ids, times_each_came
from tests.support.processes import until


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def unfinished(log: LogBuilder) -> bytes:
    """The lines of a session that ends with an answer, without the last line end."""
    log.answer(text("Three."), id="msg_last")
    return log.files()[log.path].removesuffix(b"\n")


@pytest.mark.parametrize("nuls", [b"", bytes(100)], ids=["nothing", "NULs"])
async def test_it_is_read_by_run_once_and_by_preview(machine: Machine, posthog: CaptureServer, nuls: bytes) -> None:
    machine.moves_in({"-orchard/" + (log := a_session("one")).path.rpartition("/")[2]: unfinished(log) + nuls}, age=0)
    assert await machine.once(posthog.url)
    assert "msg_last" in span_ids(posthog)
    assert {event["uuid"] for event in posthog.events} == set(machine.preview())
    assert await machine.once(posthog.url)
    assert times_each_came(posthog) == {1}


@pytest.mark.parametrize("more", [b"\n", b"\n{}\n", b""])
async def test_its_line_end_and_more_may_come_later(machine: Machine, posthog: CaptureServer, more: bytes) -> None:
    log = a_session("one")
    machine.moves_in({log.path: unfinished(log)}, age=0)
    assert await machine.once(posthog.url)
    before = len(log.lines)
    log.prompt("And now?")
    log.answer(text("Four."), id="msg_later")
    added = b"".join(log.files()[log.path].splitlines(keepends=True)[before:])
    with (machine.projects / log.path).open("ab") as file:
        file.write(more + added)
    assert await machine.once(posthog.url)
    assert span_ids(posthog, "generation").count("msg_last") == 1
    assert "msg_later" in span_ids(posthog)
    assert machine.offsets() == {Path(log.path).name: (machine.projects / log.path).stat().st_size}


async def test_live_it_is_read_after_a_long_quiet(machine: Machine, posthog: CaptureServer) -> None:
    log = a_session("one")
    async with machine.following(posthog.url, history="send", quiet=0.5):
        machine.moves_in({log.path: unfinished(log)}, age=0)
        await until(lambda: "msg_last" in span_ids(posthog), "the last answer")
        await until(lambda: any(event["event"] == "$ai_trace" for event in posthog.events), "the trace")
    assert times_each_came(posthog) == {1}


async def test_half_a_line_waits_for_its_other_half(machine: Machine, posthog: CaptureServer) -> None:
    log = a_session("one")
    data = unfinished(log)
    machine.moves_in({log.path: data[:-20]}, age=0)
    assert await machine.once(posthog.url)
    assert "msg_last" not in span_ids(posthog)
    (machine.projects / log.path).write_bytes(data + b"\n")
    assert await machine.once(posthog.url)
    assert "msg_last" in span_ids(posthog)


async def test_it_is_history_if_it_was_there_at_the_first_start(machine: Machine, posthog: CaptureServer) -> None:
    log = a_session("one")
    machine.moves_in({log.path: unfinished(log)}, age=0)
    assert await machine.once(posthog.url, history="skip")
    with (machine.projects / log.path).open("ab") as file:
        file.write(b"\n")
    assert await machine.once(posthog.url, history="skip")
    assert posthog.events == []
