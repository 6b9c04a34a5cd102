"""A folder that does not answer costs one wait, names itself, and stops nothing else."""

from __future__ import annotations

import os
import signal
import threading
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
def hang(answered: threading.Event) -> Callable[[str], disk.Unanswered]:
    """Ask a folder that does not answer."""

    def asked(folder: str) -> disk.Unanswered:
        def work() -> None:
            disk.at(folder)
            answered.wait(PATIENCE)

        with pytest.raises(disk.Unanswered) as raised:
            disk.call("/logs", work, patience=0.05)
        return raised.value

    return asked


def test_what_is_asked_is_answered(tmp_path: Path) -> None:
    assert disk.call(str(tmp_path), partial(os.listdir, tmp_path)) == []
    with pytest.raises(FileNotFoundError):
        disk.call(str(tmp_path), partial(os.listdir, tmp_path / "none"))
    assert disk.hanging() == []


def test_a_folder_that_hangs_is_named_and_is_not_asked_again(hang: Callable[[str], disk.Unanswered]) -> None:
    assert hang("/logs/dead").filename == "/logs/dead"
    assert disk.hanging() == ["/logs/dead"]
    with pytest.raises(disk.Unanswered):
        disk.call("/logs/dead/below", partial(pytest.fail, "a folder that hangs was asked again"))


def test_folders_above_and_beside_one_that_hangs_are_asked(hang: Callable[[str], disk.Unanswered]) -> None:
    hang("/logs/dead")
    for folder in ("/logs", "/logs/deadline", "/logs/well"):
        assert disk.call(folder, lambda: "an answer") == "an answer"


def test_work_leaves_out_a_folder_that_is_known_to_hang(hang: Callable[[str], disk.Unanswered]) -> None:
    hang("/logs/dead")
    seen = []

    def look() -> None:
        for folder in ("/logs/dead", "/logs/well"):
            with suppress(disk.Unanswered):
                disk.at(folder)
                seen.append(folder)

    disk.call("/logs", look)
    assert seen == ["/logs/well"]


async def test_a_folder_that_answers_again_is_asked_again(
    hang: Callable[[str], disk.Unanswered], answered: threading.Event
) -> None:
    hang("/logs/dead")
    answered.set()
    await until(lambda: not disk.hanging(), "an answer")
    assert disk.call("/logs/dead", lambda: "an answer") == "an answer"


def test_signals_are_left_to_the_threads_that_wait_for_them(tmp_path: Path) -> None:
    blocked = disk.call(str(tmp_path), lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= blocked
