"""A folder that does not answer costs one wait, names itself, and stops nothing else."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from daemon.system import disk
from tests.support.processes import until
from tests.support.waiting import PATIENCE


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    """Lets the folders that hang answer; at the latest at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def logs(tmp_path: Path) -> str:
    """A folder that only one test knows: a thread of the test before may still hang in another one."""
    return f"{tmp_path}/logs"


@pytest.fixture
def hang(logs: str, answered: threading.Event) -> Callable[[str], disk.Unanswered]:
    """Ask in the folder of the logs for one that does not answer."""

    def asked(folder: str) -> disk.Unanswered:
        arrived = threading.Event()

        def work() -> None:
            disk.at(folder)
            arrived.set()
            answered.wait(PATIENCE)

        # A busy machine may not even begin the work within the patience: that is the first folder's hanging.
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            with pytest.raises(disk.Unanswered) as raised:
                disk.call(logs, work, patience=0.05)
            if arrived.is_set():
                return raised.value
        pytest.fail("the work was never begun")

    return asked


def test_what_is_asked_is_answered(tmp_path: Path) -> None:
    assert disk.call(str(tmp_path), partial(os.listdir, tmp_path)) == []
    with pytest.raises(FileNotFoundError):
        disk.call(str(tmp_path), partial(os.listdir, tmp_path / "none"))
    assert str(tmp_path) not in disk.hanging()


def test_a_folder_that_hangs_is_named_and_is_not_asked_again(logs: str, hang: Callable[[str], disk.Unanswered]) -> None:
    assert hang(f"{logs}/dead").filename == f"{logs}/dead"
    assert f"{logs}/dead" in disk.hanging()
    with pytest.raises(disk.Unanswered):
        disk.call(f"{logs}/dead/below", partial(pytest.fail, "a folder that hangs was asked again"))


def test_folders_above_and_beside_one_that_hangs_are_asked(logs: str, hang: Callable[[str], disk.Unanswered]) -> None:
    hang(f"{logs}/dead")
    for folder in (logs, f"{logs}/deadline", f"{logs}/well"):
        assert disk.call(folder, lambda: "an answer") == "an answer"


def test_work_leaves_out_a_folder_that_is_known_to_hang(logs: str, hang: Callable[[str], disk.Unanswered]) -> None:
    hang(f"{logs}/dead")
    seen = []

    def look() -> None:
        for folder in (f"{logs}/dead", f"{logs}/well"):
            with suppress(disk.Unanswered):
                disk.at(folder)
                seen.append(folder)

    disk.call(logs, look)
    assert seen == [f"{logs}/well"]


async def test_a_folder_that_answers_again_is_asked_again(
    logs: str, hang: Callable[[str], disk.Unanswered], answered: threading.Event
) -> None:
    hang(f"{logs}/dead")
    answered.set()
    await until(lambda: f"{logs}/dead" not in disk.hanging(), "an answer")
    assert disk.call(f"{logs}/dead", lambda: "an answer") == "an answer"


def test_signals_are_left_to_the_threads_that_wait_for_them(tmp_path: Path) -> None:
    blocked = disk.call(str(tmp_path), lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= blocked
