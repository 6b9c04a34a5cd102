"""Which files lines go to, and what happens to them whatever the program does."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from llma_recorder import TraceRecorder, outbox

from tests.support.each import for_each
from tests.support.recorded import ROOT, Recorded

LIMIT = 60
"""Seconds for a child process."""


def run(code: str, recorded: Recorded | None = None, **environment: str) -> str:
    """Run a program that has `recorder` and `outbox`; return what it prints."""
    variables = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **environment}
    if recorded is not None:
        variables["POSTHOG_LLMA_OUTBOX"] = str(recorded.folder)
    start = "import os, sys, threading\nfrom llma_recorder import TraceRecorder\nrecorder = TraceRecorder()\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], env=variables, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def names(recorded: Recorded) -> list[str]:
    return [line["name"] for line in recorded.lines("span")]


def test_files_are_private_and_flushed_when_asked_for(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    before = os.umask(0)
    try:
        recorder.record_span("a")
    finally:
        os.umask(before)
    assert recorder.flush()
    assert recorder.enabled
    (path,) = recorded.files
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    assert recorder.flush()


@for_each(
    "word, is_out",
    [(word, True) for word in ("1", "true", "YES", "on", "t")]
    + [(word, False) for word in ("", "0", "false", "No", "off", " 0 ")],
)
def test_opting_out_takes_a_word_for_yes(recorded: Recorded, word: str, is_out: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPT_OUT_CAPTURE", word)
        recorder = TraceRecorder()
        recorder.record_span(f"word {word}")
        with recorder.span("s") as span:
            assert (span.id is None) is is_out
        assert recorder.enabled is not is_out
        assert recorder.flush()
    assert (f"word {word}" in (names(recorded) if recorded.files else [])) is not is_out
    for path in recorded.files:
        path.unlink()


def test_nothing_is_made_where_there_is_no_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, environment in enumerate(({"POSTHOG_LLMA_OUTBOX": "{}"}, {"XDG_STATE_HOME": "{}"}, {"HOME": "{}"})):
        missing = tmp_path / str(number)
        for name in ("POSTHOG_LLMA_OUTBOX", "POSTHOG_LLMA_STATE_DIR", "XDG_STATE_HOME", "HOME", "OPT_OUT_CAPTURE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(missing))
        recorder = TraceRecorder()
        with recorder.span("a"), recorder.generation() as call:
            call.finish(output_text="x")
        recorder.record_trace()
        assert not recorder.enabled
        assert not recorder.flush()
        assert not missing.exists()


@for_each(
    "environment, folder",
    [
        ({"HOME": "{}"}, ".local/state/posthog-llma-daemon/outbox"),
        ({"HOME": "{}", "XDG_STATE_HOME": "not/absolute"}, ".local/state/posthog-llma-daemon/outbox"),
        ({"HOME": "/nowhere", "XDG_STATE_HOME": "{}"}, "posthog-llma-daemon/outbox"),
        ({"HOME": "/nowhere", "POSTHOG_LLMA_STATE_DIR": "{}"}, "outbox"),
        ({"HOME": "{}", "POSTHOG_LLMA_STATE_DIR": "~/state"}, "state/outbox"),
        ({"HOME": "{}", "POSTHOG_LLMA_OUTBOX": "~/lines"}, "lines"),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="the state directory is elsewhere on macOS")
def test_the_folder_is_the_one_that_the_daemon_looks_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str
) -> None:
    monkeypatch.delenv("OPT_OUT_CAPTURE", raising=False)
    for name in ("POSTHOG_LLMA_OUTBOX", "POSTHOG_LLMA_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    recorded = Recorded(tmp_path / folder)
    recorded.folder.mkdir(parents=True, exist_ok=True)
    before = len(recorded.lines())
    TraceRecorder().record_span("a")
    assert len(recorded.lines()) == before + 1


def test_a_recorder_finds_an_outbox_that_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(tmp_path / "outbox")
    monkeypatch.setenv("POSTHOG_LLMA_OUTBOX", str(recorded.folder))
    monkeypatch.delenv("OPT_OUT_CAPTURE", raising=False)
    monkeypatch.setattr("llma_recorder.recorder._LOOK_AGAIN", 0)
    recorder = TraceRecorder()
    recorder.record_span("too early")
    recorded.folder.mkdir()
    recorder.record_span("in time")
    assert names(recorded) == ["in time"]


def test_a_file_is_followed_by_another_when_it_is_full_or_gone(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LARGEST_FILE", 2000)
    recorder = TraceRecorder()
    for number in range(20):
        recorder.record_span(str(number), output="x" * 300)
    assert names(recorded) == [str(number) for number in range(20)]
    sizes = [path.stat().st_size for path in recorded.files]
    assert len(sizes) > 3
    assert max(sizes) <= 2000
    for path in recorded.files:
        path.unlink()
    recorder.record_span("after")
    assert names(recorded) == ["after"]
    assert recorder.flush()


def test_the_file_that_is_written_to_is_the_last_one(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon removes those before, although a thread was slow to open one, and another one got no first line."""
    recorder = TraceRecorder()
    opened, others_are_done = threading.Event(), threading.Event()
    slow = threading.Thread(target=recorder.record_span, args=("slow",))
    real = os.open

    def slowly(*given: Any) -> int:
        descriptor = real(*given)
        if threading.current_thread() is slow:
            opened.set()
            others_are_done.wait(LIMIT)
        return descriptor

    monkeypatch.setattr(os, "open", slowly)
    slow.start()
    assert opened.wait(LIMIT)
    recorder.record_span("quick")
    others_are_done.set()
    slow.join(LIMIT)
    recorder.record_span("after")
    assert names(recorded) == ["slow", "quick", "after"]

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(outbox, "LARGEST_FILE", 2000)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        recorder.record_span("lost", output="x" * 1900)
    recorder.record_span("last")
    assert [path.stem.rpartition("-")[2] for path in recorded.files] == ["0", "1"]
    assert names(recorded) == ["slow", "quick", "after", "last"]


def test_lines_of_a_removed_outbox_are_not_asked_for(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_LOOK_AGAIN", 0)
    recorder = TraceRecorder()
    recorder.record_span("before")
    recorded.files[0].unlink()
    recorded.folder.rmdir()
    recorder.record_span("while")
    assert not recorded.folder.exists()
    recorded.folder.mkdir()
    recorder.record_span("after")
    assert names(recorded) == ["after"]


def test_a_full_outbox_takes_nothing_until_there_is_room_and_counts(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LARGEST_OUTBOX", 5000)
    monkeypatch.setattr(outbox, "_LOOK_AGAIN", 0)
    monkeypatch.setattr(outbox, "_PAUSE", 0)
    other = recorded.folder / "1-1-0.jsonl"
    other.write_bytes(b"x" * 5000)
    recorder = TraceRecorder()
    for _ in range(3):
        recorder.record_span("too much")
    assert not recorder.flush()
    assert recorded.dropped == {"too_full": 3, "disk": 0, "encode": 0}
    assert recorded.files == [other]
    other.unlink()
    recorder.record_span("enough")
    assert names(recorded) == ["enough"]
    assert not recorder.flush(), "three of its lines are lost"
    assert TraceRecorder().flush()


def test_the_size_of_the_outbox_is_asked_for_now_and_then(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    listdir = os.listdir

    def look(path: str) -> list[str]:
        if path == str(recorded.folder):
            looks.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", look)
    monkeypatch.setattr(outbox, "_LOOK_AGAIN", 1000)
    monkeypatch.setattr(outbox, "_BYTES_BETWEEN", 10_000)
    recorder = TraceRecorder()
    for _ in range(10):
        recorder.record_span("s", output="x" * 3000)
    assert 2 <= len(looks) <= 4
    assert len(names(recorded)) == 10


def test_threads_and_processes_write_whole_lines(recorded: Recorded) -> None:
    code = """
def write(thread):
    for number in range(25):
        recorder.record_span(f"{mark}-{thread}-{number}", output="é" * 3000)

mark = "parent"
recorder.record_span("first")
child = os.fork()
if not child:
    mark = "child"
threads = [threading.Thread(target=write, args=[thread]) for thread in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""
    run(code, recorded)
    expected = {f"{mark}-{thread}-{n}" for mark in ("parent", "child") for thread in range(4) for n in range(25)}
    found = names(recorded)
    assert len(found) == len(set(found))
    assert set(found) == expected | {"first"}
    pids = {line["pid"] for line in recorded.lines("process")}
    assert pids == {int(path.name.split("-")[0]) for path in recorded.files}
    assert len(pids) == 2


def test_a_killed_process_loses_nothing_that_it_has_recorded(recorded: Recorded) -> None:
    code = """
import sys
from llma_recorder import TraceRecorder
recorder = TraceRecorder()
for number in range(2000):
    recorder.record_span(f"{sys.argv[1]}-{number}", output="x" * 2000)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "POSTHOG_LLMA_OUTBOX": str(recorded.folder)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(writer)], env=environment, stdout=subprocess.PIPE, text=True)
        for writer in range(3)
    ]
    known: set[str] = set()
    for number, writer in enumerate(writers):
        with writer:
            assert writer.stdout is not None
            rows = [writer.stdout.readline() for _ in range(5)]
            writer.kill()
            rows += writer.stdout
            known |= {f"{number}-{row.strip()}" for row in rows if row.endswith("\n")}
    assert len(known) >= 15
    whole = []
    for path in recorded.files:
        # Only what was being written when the signal came may lack its end.
        *complete, _ = path.read_bytes().split(b"\n")
        whole += [json.loads(row).get("name") for row in complete]
    assert known <= set(whole)


def test_the_ends_of_a_trace_before_and_after_a_fork_are_one_event(recorded: Recorded) -> None:
    run("child = os.fork()\nrecorder.record_trace()\nif child: os.waitpid(child, 0)", recorded)
    first, second = recorded.lines("trace")
    assert first["uuid"] == second["uuid"]


def test_exec_keeps_the_pid_and_gets_a_file_of_its_own(recorded: Recorded) -> None:
    """It comes behind all others: the daemon removes those before the last."""
    code = """
recorder.record_span("first")
folder = os.environ["POSTHOG_LLMA_OUTBOX"]
[made] = os.listdir(folder)
os.rename(os.path.join(folder, made), os.path.join(folder, made.replace("-0.jsonl", "-12.jsonl")))
again = "from llma_recorder import TraceRecorder; TraceRecorder().record_span('second')"
os.execv(sys.executable, [sys.executable, "-c", again])
"""
    run(code, recorded)
    assert names(recorded) == ["first", "second"]
    first, second = (path.stem.rpartition("-") for path in recorded.files)
    assert (first[0], first[2], second[2]) == (second[0], "12", "13")


def test_what_happens_at_the_end_of_the_interpreter_is_recorded(recorded: Recorded) -> None:
    code = """
import atexit
atexit.register(recorder.record_span, "at exit")
class Late:
    def __del__(self):
        recorder.record_span("late")
late = Late()
def forever():
    while True:
        recorder.record_span("daemon thread")
threading.Thread(target=forever, daemon=True).start()
recorder.record_span("last")
"""
    run(code, recorded)
    assert {"last", "at exit"} <= set(names(recorded))


def test_a_signal_handler_may_record_in_the_middle_of_a_record(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = TraceRecorder()
    # However long a look took, the next record looks again.
    monkeypatch.setattr(outbox, "_LOOK_AGAIN", 0)
    monkeypatch.setattr(outbox, "_PAUSE", 0)
    # Python runs the handler between any two steps of the main thread, so also in front of these.
    for number, (module, name) in enumerate(
        [(os, "open"), (os, "write"), (os, "fstat"), (os, "listdir"), (time, "time_ns")]
    ):
        real = getattr(module, name)

        def interrupted(*given: Any, module: Any = module, name: str = name, real: Any = real) -> Any:
            # Threads that other tests have left behind have no signal handlers.
            if threading.current_thread() is threading.main_thread():
                monkeypatch.setattr(module, name, real)
                recorder.record_span(f"in {name}")
            return real(*given)

        monkeypatch.setattr(module, name, interrupted)
        recorder.record_span(str(number))
        assert {str(number), f"in {name}"} <= set(names(recorded))
        for path in recorded.files:
            path.unlink()


def test_descriptors_that_the_program_closed_are_not_written_to(recorded: Recorded, tmp_path: Path) -> None:
    own = tmp_path / "own"
    code = f"""
recorder.record_span("first")
os.closerange(3, 100)
others = [os.open({str(own)!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND) for _ in range(20)]
recorder.record_span("second")
for other in others:
    assert os.write(other, b"x") == 1
"""
    run(code, recorded)
    assert sorted(names(recorded)) == ["first", "second"]
    assert own.read_bytes() == b"x" * 20


def test_a_program_without_standard_streams_prints_nothing_into_the_outbox(recorded: Recorded) -> None:
    code = """
for stream in (0, 1, 2):
    os.close(stream)
recorder.record_span("a")
for stream in (0, 1, 2):
    try:
        os.write(stream, b"hello")
    except OSError:
        pass
os._exit(0)
"""
    run(code, recorded)
    assert names(recorded) == ["a"]


def test_a_line_that_does_not_fit_on_the_disk_is_counted_and_spoils_no_other(recorded: Recorded) -> None:
    code = """
import resource
recorder.record_span("before")
folder = os.environ["POSTHOG_LLMA_OUTBOX"]
size = os.stat(os.path.join(folder, os.listdir(folder)[0])).st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
recorder.record_span("lost", output="x" * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
recorder.record_span("after")
print(recorder.flush())
"""
    assert run(code, recorded).strip() == "False"
    rows = [row for path in recorded.files for row in path.read_bytes().splitlines()]
    whole = []
    for row in rows:
        try:
            whole.append(json.loads(row))
        except ValueError:
            assert b'"lost"' in row or len(row) <= 100
    assert [line["name"] for line in whole if line["type"] == "span"] == ["before", "after"]
    assert recorded.dropped["disk"] == 1


def test_a_write_that_is_cut_short_is_continued(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = TraceRecorder()
    recorder.record_span("before")
    write, cuts = os.write, [10, 20]

    def short(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: cuts.pop()] if cuts and len(data) > 20 else data)

    monkeypatch.setattr(os, "write", short)
    recorder.record_span("cut twice")
    recorder.record_span("after")
    monkeypatch.undo()
    rows = [row for path in recorded.files for row in path.read_bytes().splitlines()]
    found = []
    for row in rows:
        try:
            found.append(json.loads(row).get("name"))
        except ValueError:
            found.append("damaged")
    assert found == [None, "before", "damaged", None, "cut twice", "after"]


def test_a_folder_that_may_not_be_written_to_costs_lines_and_nothing_else(recorded: Recorded) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "no")

    recorder = TraceRecorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with recorder.span("a"):
            recorder.record_metric("m")
        assert not recorder.flush()
    recorder.record_span("b")
    TraceRecorder().flush()
    assert recorded.dropped == {"too_full": 0, "disk": 2, "encode": 0}


def test_threads_that_start_at_once_share_a_file(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        recorder.record_span(str(number))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert sorted(names(recorded)) == [str(number) for number in range(8)]
    assert len(recorded.lines("process")) == len(recorded.files)
