"""The health report: its content, and that writing it costs little and never fails the daemon."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.delivering.delivery import Closed, Delivery
from daemon.delivering.route import Route
from daemon.delivering.sink import AttemptOutcome, Delivered, Retryable, Stopped
from daemon.running.health import SIGN_SECONDS, Health, HealthReport, LogBehind, read_report, reported_at
from daemon.state import layout
from daemon.system.secret import Secret
from llma_core.events import CaptureEvent
from tests.support.sample_events import generation

ROUTE = Route(host="https://eu.i.posthog.com", key=Secret("phc_a_key_that_no_file_shows"))
START = 1_800_000_000.0


class Sink:
    """Answers as scripted."""

    event_limit = 1_000_000

    def __init__(self, *outcomes: AttemptOutcome) -> None:
        self.outcomes = list(outcomes)

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        del events
        return self.outcomes.pop(0)

    async def aclose(self) -> None:
        pass


class Clock:
    """Both clocks, which advance together."""

    def __init__(self) -> None:
        self.now = 100.0

    def steady(self) -> float:
        return self.now

    def wall(self) -> float:
        return START + self.now


def health_of(folder: Path, clock: Clock) -> Health:
    return Health(folder, wall=clock.wall, clock=clock.steady)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def observed(health: Health, *unread: LogBehind, deliveries: dict[Route, Delivery] | None = None) -> HealthReport:
    return health.observe(sessions=3, followed=1, unread=unread, deliveries=deliveries or {})


async def test_the_report_is_private_and_can_be_read_back(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)
    report = observed(health, LogBehind(path="/logs/a.jsonl", position=10, size=25, modified=clock.wall() - 5))
    await health.tell(report)
    assert stat.S_IMODE((tmp_path / layout.HEALTH).stat().st_mode) == 0o600
    assert names(tmp_path) == [layout.HEALTH]
    said = read_report(tmp_path)
    assert said is not None
    assert (said.pid, said.sessions, said.followed) == (os.getpid(), 3, 1)
    assert (said.unread_bytes, said.unread_logs) == (15, 1)
    assert said.unread_since == "2027-01-15T08:01:35+00:00"
    assert said.written_at == "2027-01-15T08:01:40+00:00"


async def test_an_unchanged_report_is_not_written_again(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)
    delivery = Delivery(Sink(Delivered()), clock=clock.steady)
    async with delivery:
        await delivery.put(generation("msg_1"))
        await delivery.flush()
        await health.tell(observed(health, deliveries={ROUTE: delivery}))
        before = (tmp_path / layout.HEALTH).stat().st_ino
        clock.now += 1000.3
        await health.tell(observed(health, deliveries={ROUTE: delivery}))
        assert (tmp_path / layout.HEALTH).stat().st_ino == before
        await health.tell(health.observe(sessions=4, followed=1, unread=(), deliveries={ROUTE: delivery}))
        assert (tmp_path / layout.HEALTH).stat().st_ino != before


async def test_while_nothing_changes_the_time_of_the_file_shows_that_the_daemon_is_alive(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)
    path = tmp_path / layout.HEALTH
    await health.tell(observed(health))
    os.utime(path, (START, START))
    clock.now += SIGN_SECONDS - 1
    await health.tell(observed(health))
    assert reported_at(tmp_path) == START, "not more often than needed"
    clock.now += 1
    await health.tell(observed(health))
    assert reported_at(tmp_path) == clock.wall()
    path.unlink()
    clock.now += SIGN_SECONDS
    await health.tell(observed(health))
    assert read_report(tmp_path) is not None, "it is written again if somebody removed it"
    assert reported_at(tmp_path / "elsewhere") is None


def test_it_tells_when_a_log_that_is_behind_was_last_read(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)

    def read(*positions: int) -> str | None:
        clock.now += 1
        logs = [LogBehind(path=f"/{number}", position=at, size=9, modified=0) for number, at in enumerate(positions)]
        return observed(health, *logs).read_at

    assert read(0, 0) is None
    assert read(0, 0) is None
    moment = read(0, 5)
    assert moment == "2027-01-15T08:01:43+00:00"
    assert read(0, 5) == moment, "a log that does not get further is not read"
    assert read(0, 9) == "2027-01-15T08:01:45+00:00", "the other one is read to its end"
    assert read(9) is None, "nothing is behind"


async def test_a_route_is_reported_with_its_counts_and_without_its_key(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)
    delivery = Delivery(Sink(Delivered(quota_limited=("llm_events",))), clock=clock.steady)
    async with delivery:
        await delivery.put(generation("msg_1"))
        await delivery.flush()
        clock.now += 7
        await health.tell(observed(health, deliveries={ROUTE: delivery}))
    assert "phc_" not in (tmp_path / layout.HEALTH).read_text()
    said = read_report(tmp_path)
    assert said is not None
    (route,) = said.routes
    assert (route.host, route.key, route.state) == (ROUTE.host, ROUTE.fingerprint[:8], "sending")
    assert (route.sent, route.waiting, route.quota_limited) == (1, 0, 1)
    assert route.last_success_at == "2027-01-15T08:01:40+00:00"
    assert route.oldest_waiting_at is None


async def test_a_stopped_route_keeps_its_reason_after_the_daemon_has_ended(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)
    delivery = Delivery(Sink(Stopped(reason="401: no such key", hint="correct it")), clock=clock.steady)
    async with delivery:
        await delivery.put(generation("msg_1"))
        assert not await delivery.flush()
        for _ in range(2):
            (route,) = observed(health, deliveries={ROUTE: delivery}).routes
            assert (route.state, route.reason, route.hint) == ("stopped", "401: no such key", "correct it")
            assert (route.waiting, route.oldest_waiting_at) == (1, "2027-01-15T08:01:40+00:00")
            # Nobody asks after the end.
            ended = isinstance(delivery.state, Closed)
            assert route.asks_again_at == (None if ended else "2027-01-15T08:02:40+00:00")
            await delivery.aclose()


async def test_a_failing_receiver_is_reported(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)
    delivery = Delivery(Sink(Retryable(reason="503: busy")), clock=clock.steady)
    async with delivery:
        running = delivery.state
        await delivery.put(generation("msg_1"))
        flushing = asyncio.ensure_future(delivery.flush())
        await delivery.next_state(running)
        (route,) = observed(health, deliveries={ROUTE: delivery}).routes
        assert (route.state, route.reason, route.attempt, route.resent) == ("backing_off", "503: busy", 1, 1)
        assert route.last_error == "503: busy"
    assert not await flushing


def test_a_log_is_behind_since_its_oldest_unread_bytes_were_written(tmp_path: Path) -> None:
    clock = Clock()
    health = health_of(tmp_path, clock)

    def since(position: int, size: int) -> float | None:
        log = LogBehind(path="/logs/a.jsonl", position=position, size=size, modified=clock.wall())
        said = observed(health, log).unread_since
        return None if said is None else int(said[17:19])

    assert since(10, 10) is None
    assert since(10, 20) == 40
    clock.now += 5
    assert since(15, 30) == 40, "what was written first is not read yet"
    clock.now += 5
    assert since(25, 40) == 50, "that is read, and something later is not"
    assert since(40, 40) is None


async def test_a_report_that_cannot_be_written_is_logged_once(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    health = health_of(tmp_path / "state", Clock())
    with capture_logs() as logged:
        for _ in range(3):
            await health.tell(observed(health))
    assert [(line["event"], line["log_level"]) for line in logged] == [("status_unwritable", "warning")]
    (tmp_path / "state").unlink()
    await health.tell(observed(health))
    assert read_report(tmp_path / "state") is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "one"}', b"\xff" * 10, b"x" * 2_000_000])
def test_an_unusable_file_counts_as_no_report(tmp_path: Path, content: bytes) -> None:
    assert read_report(tmp_path) is None
    (tmp_path / layout.HEALTH).write_bytes(content)
    assert read_report(tmp_path) is None
