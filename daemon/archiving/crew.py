"""The crew: who does the work. This process, processes on this machine, or the workers of a Dask cluster.

All are a `concurrent.futures.Executor`. Only so many tasks are in flight that every worker has its next one: what waits
is not in memory. A task whose worker dies is done again.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar

from daemon.archiving.forkserver import deaf, start_method
from daemon.archiving.scratch import remove_left
from daemon.archiving.sending import PaceSpec
from daemon.archiving.source import MissingExtraError, shown

__all__ = ["Crew", "CrewLostError", "Lost", "assemble", "usable_cores"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_ATTEMPTS = 3
"""How often a task is begun whose worker dies. It may be the task that kills it."""
_LOOK_SECONDS = 1.0
_START_SECONDS = 120
_ENDING_SECONDS = 5.0
_VARIABLE = "posthog-llma-archive-pace"


class CrewLostError(Exception):
    """Nobody is left to do the work. The message says why, in one line."""


class Lost:
    """In place of the result of a task that cannot be done.

    Args:
        reason: why, in one line.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _failed(error: Exception) -> Lost:
    """Return what stands for a task with an error. Its message is left out: it may quote what the logs say."""
    return Lost(f"its worker failed ({type(error).__name__})")


class Crew(Protocol):
    """Does tasks.

    Attributes:
        workers: how many tasks are done at a time.
        foreign: whether they are done in other processes.
        pace: where the common pace is kept.
    """

    workers: int
    foreign: bool
    pace: PaceSpec

    def run(self, work: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> Iterator[tuple[_Task, _Result | Lost]]:
        """Yield each task with its result, in the order in which they are done.

        Raises:
            CrewLostError: nobody is left.
        """


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Here:
    """Does every task in this process, one after the other."""

    workers = 1
    foreign = False

    def __init__(self, pace: PaceSpec) -> None:
        self.pace = pace

    def run(self, work: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> Iterator[tuple[_Task, _Result | Lost]]:
        for task in tasks:
            result: _Result | Lost
            try:
                result = work(task)
            except Exception as error:  # noqa: BLE001 - the error of one task is not that of the others
                result = _failed(error)
            yield task, result


class _Hired:
    """Gives tasks to an executor.

    Args:
        hire: returns the executor; called again when it is broken.
        workers: how many workers it has.
        pace: where the common pace is kept.
        look: raises CrewLostError if nobody is left.
    """

    foreign = True

    def __init__(
        self, hire: Callable[[], Executor], workers: int, pace: PaceSpec, look: Callable[[], None] = lambda: None
    ) -> None:
        self.workers = workers
        self.pace = pace
        self._hire = hire
        self._executor = hire()
        self._look = look

    def run(self, work: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> Iterator[tuple[_Task, _Result | Lost]]:
        left = iter(tasks)
        again: list[tuple[_Task, int]] = []
        flying: dict[Future[_Result], tuple[_Task, int]] = {}
        while True:
            while len(flying) < 2 * self.workers:
                if again:
                    task, attempt = again.pop()
                else:
                    try:
                        task, attempt = next(left), 1
                    except StopIteration:
                        break
                try:
                    flying[self._executor.submit(work, task)] = task, attempt
                except BrokenExecutor:
                    self._executor = self._hire()
                    again.append((task, attempt))
            if not flying:
                return
            done, _ = wait(flying, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            self._look()
            for future in done:
                task, attempt = flying.pop(future)
                result: _Result | Lost
                try:
                    result = future.result()
                except BrokenExecutor:
                    if attempt < _ATTEMPTS:
                        again.append((task, attempt + 1))
                        continue
                    result = Lost(f"its worker was killed {_ATTEMPTS} times")
                except CancelledError:
                    raise CrewLostError("the scheduler has dropped the work; run the same command again") from None
                except Exception as error:  # noqa: BLE001 - as above
                    result = _failed(error)
                yield task, result


@contextmanager
def assemble(jobs: int, scheduler: str | None) -> Iterator[Crew]:
    """Yield a crew, and dismiss it afterwards.

    Args:
        jobs: the number of workers on this machine; 1: this process.
        scheduler: the address of a Dask scheduler, whose workers are taken instead.

    Raises:
        MissingExtraError: *scheduler* is given, and Dask is not installed.
        CrewLostError: the scheduler does not answer, or has no workers.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posthog-llma-pace-")))
        pace = PaceSpec("file", str(folder / "until"))
        has_dask = importlib.util.find_spec("distributed") is not None
        if scheduler is not None:
            if not has_dask:
                raise MissingExtraError("--scheduler needs Dask")
            yield stack.enter_context(_clustered(scheduler))
        elif jobs == 1:
            yield _Here(pace)
        elif has_dask:
            yield stack.enter_context(_local_cluster(jobs, pace, folder))
        else:
            yield stack.enter_context(_pooled(jobs, pace))


@contextmanager
def _pooled(jobs: int, pace: PaceSpec) -> Iterator[Crew]:
    pools: list[ProcessPoolExecutor] = []
    method = start_method()

    def hire() -> Executor:
        context = multiprocessing.get_context(method)
        pools.append(ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin))
        return pools[-1]

    with _ended_at_once():
        try:
            yield _Hired(hire, jobs, pace)
        finally:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """Kill the processes that were started meanwhile, and remove the logs that they had unpacked.

    The next run sends what is not settled again, under the same uuids.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        started = set(multiprocessing.active_children()) - before
        for child in started:
            child.kill()
        for child in started:
            # One that hangs in a system call ends when that returns, and what it leaves is removed by the next run.
            child.join(_ENDING_SECONDS)
        remove_left()


def _begin() -> None:
    """Prepare a worker process: it ends with its parent, and not by the terminal's Ctrl-C before that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _local_cluster(jobs: int, pace: PaceSpec, folder: Path) -> Iterator[Crew]:
    with ExitStack() as stack:
        with deaf():
            # It imports what the workers need while this process starts the scheduler.
            context: Any = multiprocessing.get_context(start_method())
            distributed = _dask()
            stack.enter_context(_lean(folder))
            cluster = distributed.LocalCluster(
                n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL
            )
            stack.enter_context(cluster)
            client = stack.enter_context(distributed.Client(cluster))
        stack.enter_context(_ended_at_once())
        workers: list[BaseProcess] = []

        def staff() -> None:
            """Start workers in place of those that have died."""
            workers[:] = [each for each in workers if each.is_alive()]
            while len(workers) < jobs:
                worker = context.Process(target=_work, args=(cluster.scheduler_address, folder), daemon=True)
                worker.start()
                workers.append(worker)

        def look() -> None:
            _look(client)
            staff()

        staff()
        try:
            client.wait_for_workers(jobs, timeout=_START_SECONDS)
        except TimeoutError:
            raise CrewLostError("the workers do not start; run it with --jobs 1, which needs none") from None
        yield _Hired(lambda: client.get_executor(pure=False), jobs, pace, look)


def _work(address: str, folder: Path) -> None:
    """Work for the scheduler at *address*, as a process of its own, until it is ended."""
    _begin()
    distributed = _dask()

    async def work() -> None:
        async with distributed.Worker(address, host="127.0.0.1", nthreads=1, memory_limit=0, dashboard=False) as worker:
            await worker.finished()

    with _lean(folder):
        asyncio.run(work())


def _lean(folder: Path) -> AbstractContextManager[object]:
    """Let a cluster on this machine keep its files in *folder*, and sleep while there is nothing to do.

    What is switched off wakes up ten or a hundred times a second. In the scheduler and in each worker, that took a
    twentieth of a core.
    """
    dask: Any = importlib.import_module("dask")
    lean: AbstractContextManager[object] = dask.config.set(
        {
            "temporary-directory": str(folder),
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.interval": "60s",
            "distributed.admin.system-monitor.disk": False,
            "distributed.admin.system-monitor.gil.enabled": False,
            "distributed.admin.tick.interval": "1s",
        }
    )
    return lean


@contextmanager
def _clustered(address: str) -> Iterator[Crew]:
    distributed = _dask()
    try:
        client = distributed.Client(address, timeout=10)
    except Exception as error:  # noqa: BLE001 - the address may be anything, and each kind has its own errors
        reason = f"the scheduler does not answer ({type(error).__name__})"
        raise CrewLostError(f"{shown(address)}: {reason}; check --scheduler") from None
    try:
        client.wait_for_workers(1, timeout=60)
        distributed.Variable(_VARIABLE, client=client).set(0.0)
        workers = max(1, sum(client.nthreads().values()))
    except Exception:  # noqa: BLE001 - as above
        client.close(timeout=2)
        raise CrewLostError(f"{shown(address)}: the scheduler has no workers; start some") from None
    try:
        yield _Hired(
            lambda: client.get_executor(pure=False),
            workers,
            PaceSpec("variable", _VARIABLE),
            lambda: _look(client),
        )
    finally:
        with suppress(Exception):
            client.close(timeout=2)


def _look(client: Any) -> None:
    """Raise if *client* has lost its scheduler."""
    if client.status not in ("running", "newly-created"):
        raise CrewLostError("the scheduler is gone; run the same command again: it goes on where this run stopped")


def _dask() -> Any:
    """Return Dask's package. Its own log stays off the terminal: what matters is reported by the command."""
    distributed: Any = importlib.import_module("distributed")
    for name in ["asyncio", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("asyncio", "distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Such as that a task is large: those of a session with many events are.
    warnings.filterwarnings("ignore", module="distributed")
    return distributed
