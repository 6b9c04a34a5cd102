"""The crew: what a worker dies over is done again, and what one worker is told holds for all."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.archiving.crew import Lost, assemble
from daemon.archiving.pace import FilePace, PacedSink
from daemon.archiving.source import MissingExtraError
from daemon.delivering.sink import AttemptOutcome, Delivered, Retryable, Stopped
from llma_core.events import CaptureEvent
from tests.support.fleet import die_once


def test_a_task_whose_worker_process_is_killed_is_done_by_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without Dask, the workers are a pool of processes.
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    markers = [tmp_path / "kills", tmp_path / "works"]
    markers[1].touch()

    with assemble(2, None) as crew:
        done = dict(crew.run(die_once, markers))

    assert done.keys() == set(markers)
    assert not any(isinstance(result, Lost) for result in done.values())
    assert os.getpid() not in done.values()


def test_a_cluster_without_dask_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(MissingExtraError, match="--scheduler needs Dask"), assemble(2, "tcp://127.0.0.1:1"):
        pass


class _Sink:
    """Gives the outcomes that it was given."""

    event_limit = 1

    def __init__(self, *outcomes: AttemptOutcome) -> None:
        self._outcomes = list(outcomes)

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        del events
        return self._outcomes.pop(0)

    async def aclose(self) -> None:
        pass


async def test_all_workers_wait_when_the_receiver_asks_one_of_them_to(tmp_path: Path) -> None:
    now, slept, stops = [1000.0], [], list[Stopped]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    def paced(*outcomes: AttemptOutcome) -> PacedSink:
        return PacedSink(_Sink(*outcomes), FilePace(tmp_path / "pace"), stops.append, clock=lambda: now[0], sleep=sleep)

    told = paced(Retryable(reason="429", after=30.0), Retryable(reason="429", after=1e9))
    other = paced(Delivered(), Delivered())

    await told.send(())
    now[0] += 10
    assert slept == []
    await other.send(())
    assert (slept, other.waited) == ([20.0], 20.0)
    await other.send(())
    assert slept == [20.0]

    # Nobody waits for longer than a delivery does by itself, and a stop is no wish to wait.
    await told.send(())
    await paced(Stopped(reason="401", hint="check the key")).send(())
    assert slept == [20.0, 300.0]
    assert [stop.reason for stop in stops] == ["401"]
