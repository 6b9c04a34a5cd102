"""What holds for all tests: how properties are run, and how tests are spread over processes."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.client import passed_on
from tests.support.fork_server import ForkServer

# Until the tests are collected: looking through modules and tests again and again takes a quarter of that time.
gc.disable()

# On a busy machine neither the time of an example nor the time to draw one says anything about the code. What
# Hypothesis sets for CI stays.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# What the daemon's own modules import is imported with them. The others are imported late: by what is sent with, and by
# what prints.
_PRELOAD = (
    "llma_core",
    "daemon",
    "tests.support.cadence",
    "tests.support.dying",
    "anyio._backends._asyncio",
    "certifi.core",
    "encodings.idna",
    "genai_prices.data",
    "httpcore._sync.http11",
    "rich.console",
    "rich.tree",
)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a verb that runs in this process sets up: its level would hide the log lines of later tests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer | None]:
    """What the daemon's processes are forked from, where that is possible: one server for each process of tests."""
    if sys.platform != "linux":
        yield None
    else:
        with ForkServer(passed_on(), preload=_PRELOAD) as server:
            yield server


def pytest_sessionstart(session: pytest.Session) -> None:
    """Share among the processes the work of making all tests tell what they compared.

    That takes each of them several seconds, if it does it for itself. Here each begins with another file, so that it
    finds most of the others done. They are kept in `__pycache__`, also where PYTHONDONTWRITEBYTECODE is set.
    """
    worker = getattr(session.config, "workerinput", None)
    folder = Path(__file__).parent
    if worker is None or [Path(arg).resolve() for arg in session.config.args] != [folder]:
        return
    files = sorted(folder.rglob("test_*.py"))
    first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    for file in files[first:] + files[:first]:
        # What fails here fails again when it is collected, and is reported then.
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(file.relative_to(folder.parent).with_suffix("").parts))
    sys.dont_write_bytecode = before


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Hand out units of tests, in their order here, unless another way is asked for."""
    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _unit
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes longest first, so that no process works alone at the end."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    """Return when a test's turn is: first real clients, which often wait, and last the many short units."""
    if nodeid.startswith("tests/e2e/test_client"):
        return 0
    if nodeid.startswith(("tests/daemon/test_machine", "tests/daemon/test_replay")):
        return 1
    return 3 if nodeid.startswith("tests/daemon/") else 2


def _unit(nodeid: str) -> str:
    """Return the name of the unit a test belongs to: the tests of a unit run one after the other in one process.

    A test of `daemon` takes a while and is a unit by itself, so that all processes are busy to the end. What a real
    client did is observed once, so the tests that look at it are a unit. In all other files tests are short and many.
    """
    file = nodeid.partition("::")[0]
    if file.startswith("tests/daemon/"):
        return nodeid
    if file.startswith("tests/e2e/"):
        return f"{file} {'old' if '[old' in nodeid else 'current'}"
    return file


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the tests collections of what was collected: thousands of tests and all modules stay to the end."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
