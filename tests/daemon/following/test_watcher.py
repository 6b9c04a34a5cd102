from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog.testing

from daemon.following.log_roots import LogRoot
from daemon.following.watcher import _MOVE_GROUPERS, Watcher
from llma_core.claude_code.agent import CLAUDE_CODE
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="tests inotify")


class Callbacks:
    """Records the callbacks of a watcher."""

    def __init__(self) -> None:
        self.hints: queue.Queue[str] = queue.Queue()
        self.overflowed = threading.Event()

    def until(self, path: Path) -> list[str]:
        """Wait for the first hint at *path*; return it and all hints before it."""
        taken: list[str] = []
        while str(path) not in taken:
            taken.append(self.hints.get(timeout=PATIENCE))
        return taken


@contextmanager
def watching(*roots: Path) -> Iterator[tuple[Watcher, Callbacks]]:
    callbacks = Callbacks()
    watcher = Watcher([LogRoot(CLAUDE_CODE, root) for root in roots], callbacks.hints.put, callbacks.overflowed.set)
    watcher.start()
    try:
        yield watcher, callbacks
    finally:
        watcher.stop()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds; another thread is about to make it so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


def append(path: Path, data: str = "{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(data)
    return path


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "projects"
    folder.mkdir()
    return folder


def test_changes_in_a_registry_are_told_and_are_no_hints(projects: Path) -> None:
    callbacks, told = Callbacks(), threading.Semaphore(0)
    registry = projects.parent / "sessions"
    registry.mkdir()
    watcher = Watcher(
        [LogRoot(CLAUDE_CODE, projects)],
        callbacks.hints.put,
        callbacks.overflowed.set,
        registries=[registry, projects.parent / "missing"],
        registered=told.release,
    )
    watcher.start()
    try:
        record = append(registry / "77.json")
        assert told.acquire(timeout=PATIENCE)
        log = append(projects / "-home-ada" / "a.jsonl")
        assert str(record) not in callbacks.until(log)
        while told.acquire(blocking=False):
            pass
        record.unlink()
        assert told.acquire(timeout=PATIENCE)
        assert watcher.healthy()
    finally:
        watcher.stop()
    assert str(record) not in callbacks.hints.queue


def test_a_log_that_is_created_or_grows_causes_a_hint(projects: Path) -> None:
    log = projects / "p" / "s.jsonl"
    log.parent.mkdir()
    with watching(projects) as (watcher, callbacks):
        append(log)
        callbacks.until(log)
        append(log)
        callbacks.until(log)
        assert watcher.healthy()
        assert not watcher.polling


def test_a_log_in_folders_made_after_the_start_causes_a_hint(projects: Path) -> None:
    with watching(projects) as (_, callbacks):
        agent = append(projects / "p" / "s" / "subagents" / "agent-1.jsonl")
        callbacks.until(agent)
        append(agent)
        callbacks.until(agent)


def test_a_meta_file_replaced_by_a_rename_causes_a_hint(projects: Path) -> None:
    meta = append(projects / "p" / "agent-1.meta.json")
    with watching(projects) as (_, callbacks):
        append(meta.with_suffix(".tmp")).replace(meta)
        callbacks.until(meta)


def test_a_folder_moved_in_causes_hints_at_it_and_its_logs(projects: Path, tmp_path: Path) -> None:
    append(tmp_path / "elsewhere" / "s.jsonl")
    with watching(projects) as (_, callbacks):
        (tmp_path / "elsewhere").rename(projects / "p")
        hints = callbacks.until(projects / "p" / "s.jsonl")
        assert str(projects / "p") in hints


def test_other_files_and_reading_cause_no_hint(projects: Path) -> None:
    log = append(projects / "p" / "s.jsonl")
    with watching(projects) as (_, callbacks):
        append(projects / "p" / "notes.txt")
        append(projects / "p" / "custom-title.json")
        log.read_bytes()
        # Events come in order, so any hint at the files above would come before the marker's.
        marker = append(projects / "p" / "marker.jsonl")
        assert set(callbacks.until(marker)) == {str(marker)}


@linux_only
def test_a_move_out_of_the_tree_does_not_delay_later_events(projects: Path) -> None:
    with watching(projects):
        delays = [getattr(sys.modules[module], name).delay for module, name in _MOVE_GROUPERS if module in sys.modules]
    assert delays == [0.0]


def test_both_ends_of_a_move_cause_a_hint(projects: Path, tmp_path: Path) -> None:
    log = append(projects / "p" / "s.jsonl")
    with watching(projects) as (_, callbacks):
        log.rename(projects / "p" / "t.jsonl")
        assert str(log) in callbacks.until(projects / "p" / "t.jsonl")
        (projects / "p" / "t.jsonl").rename(tmp_path / "gone.jsonl")
        callbacks.until(projects / "p" / "t.jsonl")


@linux_only
def test_lost_events_are_reported_as_an_overflow_without_a_path_in_the_log(
    projects: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inotify_c = pytest.importorskip("watchdog.observers.inotify_c")
    with watching(projects) as (watcher, callbacks), structlog.testing.capture_logs() as logs:
        reader = getattr(watcher._observer, "_inotify_fd", None)
        if reader is None:
            pytest.skip("this watchdog does not notice lost events")
        overflow = inotify_c.InotifyConstants.IN_Q_OVERFLOW
        # The event that the reader makes from the kernel's record: only root could make the queue overflow.
        reader.handle_event(inotify_c.InotifyEvent(-1, overflow, 0, b""))
        assert callbacks.overflowed.is_set()
        log = append(projects / "p" / "s.jsonl")
        callbacks.until(log)
    assert {entry["event"] for entry in logs} == {"watch_events_lost"}
    assert str(projects) not in str(logs) + caplog.text


def test_watches_that_could_not_be_rebuilt_restart_the_watcher(projects: Path) -> None:
    with watching(projects) as (watcher, callbacks):
        logging.getLogger("watchdog.observers.inotify").error("Unable to rebuild watches below %r", str(projects))
        assert not watcher.healthy()
        assert watcher.ensure()
        assert watcher.healthy()
        callbacks.until(append(projects / "s.jsonl"))


def test_a_root_that_appears_is_watched(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "projects"
    with watching(root) as (watcher, callbacks):
        assert watcher.healthy()
        assert not watcher.ensure()
        root.mkdir()
        assert not watcher.healthy()
        assert watcher.ensure()
        assert not watcher.ensure()
        callbacks.until(append(root / "s.jsonl"))


def test_a_root_that_was_deleted_and_came_back_is_watched(projects: Path) -> None:
    with watching(projects) as (watcher, callbacks):
        shutil.rmtree(projects)
        callbacks.until(projects)
        assert not watcher.ensure()
        projects.mkdir()
        eventually(watcher.ensure)
        assert watcher.healthy()
        callbacks.until(append(projects / "s.jsonl"))


def test_a_root_that_was_moved_away_and_made_anew_is_watched(projects: Path) -> None:
    with watching(projects) as (watcher, callbacks):
        projects.rename(projects.with_name("old"))
        projects.mkdir()
        assert not watcher.healthy()
        assert watcher.ensure()
        callbacks.until(append(projects / "s.jsonl"))


@linux_only
def test_the_watcher_restarts_when_one_of_watchdogs_threads_dies(projects: Path) -> None:
    with watching(projects) as (watcher, callbacks):
        assert watcher._observer is not None
        # The thread belongs to the observer in watchdog 7, to each emitter in 6.
        reader = getattr(watcher._observer, "_inotify_fd", None)
        if reader is None:
            (emitter,) = watcher._observer.emitters
            reader = vars(emitter)["_inotify"]
        reader.stop()
        reader.join(PATIENCE)
        assert not watcher.healthy()
        assert watcher.ensure()
        assert watcher.healthy()
        callbacks.until(append(projects / "s.jsonl"))


def test_the_watcher_restarts_when_the_observer_dies(projects: Path) -> None:
    with watching(projects) as (watcher, callbacks):
        assert watcher._observer is not None
        watcher._observer.stop()
        watcher._observer.join(PATIENCE)
        assert not watcher.healthy()
        assert watcher.ensure()
        callbacks.until(append(projects / "s.jsonl"))


def test_a_linked_root_is_watched_by_its_real_path(projects: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(projects)
    with watching(link, projects) as (watcher, callbacks):
        assert watcher.healthy()
        log = append(link / "s.jsonl")
        assert set(callbacks.until(projects / "s.jsonl")) == {str(projects / "s.jsonl")}
        assert log.exists()


def test_a_linked_project_is_watched_by_its_real_path(projects: Path, tmp_path: Path) -> None:
    real = tmp_path.resolve() / "moved"
    real.mkdir()
    (projects / "p").symlink_to(real)
    with watching(projects) as (watcher, callbacks):
        append(projects / "p" / "s.jsonl")
        callbacks.until(real / "s.jsonl")
        # A folder that has not changed for long is not asked for its links again.
        os.utime(projects, (1e9, 1e9))
        assert not watcher.ensure()
        later = tmp_path.resolve() / "later"
        later.mkdir()
        (projects / "q").symlink_to(later)
        assert watcher.ensure()
        append(projects / "q" / "s.jsonl")
        callbacks.until(later / "s.jsonl")
        (projects / "q").unlink()
        assert not watcher.ensure()
        callbacks.until(append(projects / "start.jsonl"))
        append(later / "s.jsonl")
        assert set(callbacks.until(append(projects / "end.jsonl"))) <= {
            str(projects / "start.jsonl"),
            str(projects / "end.jsonl"),
        }


def test_links_deeper_down_and_links_to_folders_that_hold_a_root_are_not_followed(
    projects: Path, tmp_path: Path
) -> None:
    deep = tmp_path.resolve() / "deep"
    deep.mkdir()
    (projects / "p").mkdir()
    (projects / "p" / "link").symlink_to(deep)
    (projects / "everything").symlink_to(tmp_path.resolve())
    (projects / "loop").symlink_to("loop")
    with watching(projects) as (watcher, callbacks):
        assert watcher.healthy()
        append(deep / "s.jsonl")
        append(tmp_path / "s.jsonl")
        assert set(callbacks.until(append(projects / "end.jsonl"))) == {str(projects / "end.jsonl")}


def test_a_root_inside_another_is_watched_once(projects: Path) -> None:
    inner = projects / "p"
    inner.mkdir()
    with watching(inner, projects) as (watcher, _):
        assert list(watcher._scheduled) == [projects]
        assert watcher.healthy()


def test_stop_ends_every_thread_and_can_be_repeated(projects: Path) -> None:
    before = set(threading.enumerate())
    with watching(projects) as (watcher, callbacks):
        assert set(threading.enumerate()) > before
        watcher.stop()
        assert set(threading.enumerate()) == before
        assert not watcher.ensure()
        assert not watcher.healthy()
        append(projects / "s.jsonl")
        assert callbacks.hints.empty()


# The limits belong to the kernel, so each of these tests lowers them in a child process of its own.
_CHILD = """
import json, os, pathlib, resource, sys
import structlog.testing
from daemon.following.log_roots import roots_at
from daemon.following.watcher import Watcher

root, case = pathlib.Path(sys.argv[1]), sys.argv[2]
knob = pathlib.Path("/proc/sys/user/max_inotify_watches")
states = []
with structlog.testing.capture_logs() as logs:
    watcher = Watcher(roots_at(root), lambda path: None, lambda: None)
    if case == "descriptors":
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        for descriptor in spare:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(spare), hard))
        watcher.start()
        states.append(watcher.polling)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    elif case == "later":
        knob.write_text("10")
        watcher.start()
        states.append(watcher.polling)
        for number in range(20):
            (root / f"new{number}").mkdir()
        while not watcher._grew.is_set():
            pass
        states.append(watcher.ensure())
        states.append(watcher.polling)
        watcher.ensure()
        states.append(watcher.polling)
    else:
        knob.write_text({"root": "0", "below": "3"}[case])
        watcher.start()
        states.append(watcher.polling)
        knob.write_text("1000")
    states.append(watcher.healthy())
    states.append([watcher.ensure() for _ in range(60)].index(True) if case != "later" else None)
    states.append(watcher.polling)
    watcher.stop()
print(json.dumps([states, [[entry["event"], entry.get("reason"), entry.get("hint")] for entry in logs]]))
"""


def in_child(projects: Path, case: str) -> tuple[list[object], list[list[str | None]]]:
    command = [sys.executable, "-c", _CHILD, str(projects), case]
    if case != "descriptors":
        # A user namespace has its own limits.
        unshare = shutil.which("unshare")
        probe = "echo 100 > /proc/sys/user/max_inotify_watches"
        if (
            unshare is None
            or subprocess.run([unshare, "-Ur", "sh", "-c", probe], check=False, capture_output=True).returncode
        ):
            pytest.skip("needs user namespaces")
        command = [unshare, "-Ur", *command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    states, logs = json.loads(done.stdout)
    return states, logs


@linux_only
def test_without_a_watch_for_a_root_the_watcher_polls_until_it_gets_one(projects: Path) -> None:
    states, logs = in_child(projects, "root")
    assert states == [True, False, 59, False]
    assert [entry[:2] for entry in logs] == [["watch_limit_reached", "ENOSPC"], ["watching_again", None]]
    assert "fs.inotify.max_user_watches" in (logs[0][2] or "")


@linux_only
def test_without_a_watch_for_a_folder_below_a_root_the_watcher_polls(projects: Path) -> None:
    for number in range(5):
        (projects / str(number)).mkdir()
    states, logs = in_child(projects, "below")
    assert states == [True, False, 59, False]
    assert [entry[0] for entry in logs] == ["watch_limit_reached", "watching_again"]


@linux_only
def test_without_watches_for_new_folders_the_watcher_polls_after_a_tick(projects: Path) -> None:
    states, logs = in_child(projects, "later")
    assert states == [False, False, False, True, False, None, True]
    assert [entry[0] for entry in logs] == ["watch_limit_reached"]


@linux_only
def test_without_a_free_descriptor_the_watcher_polls_until_it_gets_one(projects: Path) -> None:
    states, logs = in_child(projects, "descriptors")
    assert states == [True, False, 59, False]
    assert [entry[:2] for entry in logs] == [["watch_limit_reached", "EMFILE"], ["watching_again", None]]
    assert "fs.inotify.max_user_instances" in (logs[0][2] or "")
