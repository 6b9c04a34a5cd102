"""`preview` with workers says what it says in one process, byte for byte and in the same order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.parallel.choice import Choice
from daemon.parallel.crew import Launch
from daemon.parallel.preview import preview
from daemon.parallel.wire import Setup, Slice, Task
from daemon.reading.preview import find_logs
from tests.daemon.parallel.test_parallel import Drawn, apart, several
from tests.support.client import Workspace
from tests.support.guard import guard
from tests.support.logs import write_files
from tests.support.machine import Logged, Machine
from tests.support.processes import ROOT, are_running, environment, running_below, until
from tests.support.waiting import PATIENCE
from tests.support.workers import in_threads


def said(
    machine: Machine,
    jobs: int,
    *,
    launch: Launch = in_threads,
    slice_bytes: int = 1 << 20,
    grouping: str = "session",
    patience: float = PATIENCE,
) -> list[bytes]:
    """Return the bodies of the events, read by *jobs* processes."""
    setup = Setup(
        settings=machine.settings(POSTHOG_LLMA_TRACE_GROUPING=grouping),
        purpose="preview",
        line_bytes=1 << 25,
        slice_bytes=slice_bytes,
    )
    logs = list(find_logs([machine.projects]))
    return [event.body for event in preview(logs, setup, jobs=jobs, launch=launch, patience=patience)]


def only_the_first() -> Launch:
    """Return what starts one worker; all others are lost before they have read anything."""
    return lambda connections: in_threads(connections[:1])


@given(
    drawn=several,
    slice_bytes=st.sampled_from([700, 5_000, 1 << 20]),
    grouping=st.sampled_from(["session", "message"]),
    loses=st.booleans(),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_sessions_are_previewed_as_in_one_process(
    drawn: Drawn, slice_bytes: int, grouping: str, *, loses: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="machine-") as folder, capture_logs():
        machine = Machine(Path(folder))
        write_files(machine.projects, drawn.files)
        launch = only_the_first() if loses else in_threads

        together = said(machine, 3, launch=launch, slice_bytes=slice_bytes, grouping=grouping)

        assert together == said(machine, 1, grouping=grouping)


def test_what_a_worker_that_hangs_should_have_read_is_previewed(machine: Machine, logged: Logged) -> None:
    write_files(machine.projects, apart(3))
    silent: list[socket.socket] = []

    def launch(connections: Sequence[socket.socket]) -> tuple[()]:
        silent.append(connections[0].dup())
        return in_threads(connections[1:])

    together = said(machine, 2, launch=launch, patience=0.1)

    silent[0].close()
    assert together == said(machine, 1)
    assert "worker_lost" in {line["event"] for line in logged}


def test_a_log_that_changes_under_a_worker_is_read_here(machine: Machine, logged: Logged) -> None:
    """What was yielded of it already is not yielded again."""
    write_files(machine.projects, apart(3))
    alone = said(machine, 1)
    refusing = Choice.accept
    asked = count()

    def accept(self: Choice, slices: Sequence[Slice], tasks: Mapping[int, Task]) -> int:
        # The third slice and the fifth are not as they were assumed to be.
        return 0 if next(asked) in (2, 4) else refusing(self, slices, tasks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Choice, "accept", accept)
        assert said(machine, 3, slice_bytes=700) == alone
    assert next(asked) > 5
    del logged


def test_ctrl_c_ends_preview_and_its_workers(machine: Machine, workspace: Workspace) -> None:
    write_files(machine.projects, apart(16))
    command = [sys.executable, "-m", "daemon.cli", "preview", str(machine.config), "--jobs=2"]
    whole = said(machine, 1)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(workspace),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        guard().watch(child.pid)
        assert child.stdout is not None
        first = child.stdout.readline()
        # It waits until somebody reads more of it than a pipe holds.
        started = running_below(child.pid)
        os.killpg(child.pid, signal.SIGINT)
        rest, errors = child.communicate(timeout=PATIENCE)
        guard().release(child.pid)

    assert (child.returncode, errors.split()) == (1, [b"Aborted!"])
    assert len(started) >= 2
    # They are killed; a busy machine takes its time to end them.
    asyncio.run(until(lambda: not are_running(started), "the workers end"))
    assert first == whole[0] + b"\n"
    assert len(rest.splitlines()) < len(whole) - 1
