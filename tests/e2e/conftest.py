"""Fixtures of the end-to-end tests: real clients at work, followed by a real daemon, once for each client."""

from __future__ import annotations

import asyncio
import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from tests.support.client import Client, Workspace
from tests.support.fork_server import ForkServer
from tests.support.scenarios import Observation, Run, observe

_KNOWN_SINCE = (2, 1, 329)
"""The minimum version of a client on PATH. A client that a variable names may have any version."""


def pytest_runtest_setup(item: pytest.Function) -> None:
    # Not in the fixture: this way, pytest reports all tests of a missing client in one line.
    if "observation" in item.fixturenames and isinstance(found := _client(item.callspec.params["observation"]), str):
        pytest.skip(found)


@pytest.fixture(scope="session", params=["current", "old"])
def observation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forks: ForkServer | None
) -> Observation:
    client = _client(request.param)
    assert isinstance(client, Client)
    return asyncio.run(observe(client, Workspace(tmp_path_factory.mktemp(request.param) / "machine", forks)))


@pytest.fixture
def workspace(tmp_path: Path, forks: ForkServer | None) -> Workspace:
    return Workspace(tmp_path / "machine", forks)


@pytest.fixture(params=["current", "old"])
def client(request: pytest.FixtureRequest) -> Client:
    found = _client(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
def run(observation: Observation, scenario: str) -> Run:
    return observation.runs[scenario]


@cache
def _client(age: str) -> Client | str:
    """Return the client to test with, or why there is none."""
    variable = {"current": "LLMA_CLAUDE_BIN", "old": "LLMA_CLAUDE_OLD_BIN"}[age]
    if named := os.environ.get(variable):
        return Client.at(Path(named))
    found = shutil.which("claude") if age == "current" else None
    if found is None:
        return f"no {age} client: {variable} is not set" + (" and no claude is on PATH" if age == "current" else "")
    client = Client.at(Path(found))
    if not client.since(*_KNOWN_SINCE):
        return (
            f"the claude on PATH has version {client.version}, too old for these tests: set {variable} to another one"
        )
    return client
