"""What holds for all tests: how properties are run, and how tests are spread over processes."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# On a busy machine neither the time of an example nor the time to draw one says anything about the code. What
# Hypothesis sets for CI stays.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a verb that runs in this process sets up: its level would hide the log lines of later tests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


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


def pytest_collection_finish() -> None:
    """Spare the tests collections of what was collected: thousands of tests and all modules stay to the end."""
    gc.collect()
    gc.freeze()
