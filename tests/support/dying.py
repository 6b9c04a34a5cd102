"""The daemon as a process that kills itself at a chosen step.

    python -m tests.support.dying --step answered --number 2 --history send

It follows the logs as `run` does, with the settings of its environment, until it reaches the step for the given time.
Then it dies as if by SIGKILL. The daemon itself does not know: its sink, its transport and its store are wrapped,
SQLite reports each statement before it is run, and Python each file that is opened, renamed or removed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import httpx

from daemon import cli
from daemon.cli.startup import build_service, load_settings
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.sink import AttemptOutcome
from daemon.history.first_start import HistoryPolicy
from daemon.state.lock import StateLock, prepare_state_dir
from daemon.state.rows import Commit, FileMark, FrozenRoute
from daemon.state.store import Store
from llma_core.events import CaptureEvent
from tests.support.cadence import CADENCE

__all__ = ["COMMIT_STEPS", "DELIVERY_STEPS", "SET_ASIDE_STEPS", "START_STEPS"]

_STATEMENTS = {
    "CREATE TABLE meta": "schema",
    "INSERT OR REPLACE INTO meta": "first start",
    "DELETE FROM held": "release",
    "INSERT INTO routes": "freeze",
    "INSERT OR REPLACE INTO files": "files",
    "INSERT OR IGNORE INTO units": "units",
    "INSERT OR IGNORE INTO settled": "settled",
    "INSERT INTO hosted": "hosted",
    "INSERT OR IGNORE INTO owed": "owed",
    "DELETE FROM owed": "paid",
    "INSERT INTO counters": "counters",
    "COMMIT": "commit",
}
"""Statements, each a step that is reached before it is run."""

START_STEPS = ("open", "schema", "first start", "commit", "marker", "begun", "release")
"""From the opening of a new store to its first transaction, the marker file beside it, and the first look at logs."""
DELIVERY_STEPS = ("freeze", "frozen", "send", "sent", "answered")
"""A route is kept; a request is about to be made, is on the wire, is answered."""
COMMIT_STEPS = ("files", "units", "settled", "hosted", "owed", "paid", "counters", "committed")
"""What one transaction writes, and its end."""
SET_ASIDE_STEPS = ("rename", "remove", "schema", "first start", "begun")
"""A store that is broken is put aside and a new one begun."""


class _Death:
    """Kills the process when *step* is reached for the *number*th time."""

    def __init__(self, step: str, number: int) -> None:
        self._step = step
        self._left = number

    def reach(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Handle an audit event of the interpreter."""
        name = Path(os.fsdecode(arguments[0])).name if arguments and isinstance(arguments[0], str | bytes) else ""
        match event:
            case "sqlite3.connect":
                self.reach("open")
            case "open" if name == "store-exists":
                self.reach("marker")
            case "os.rename" if name == "state.db":
                self.reach("rename")
            case "os.remove" if name.startswith("state.db"):
                self.reach("remove")

    def run(self, statement: str) -> None:
        """Handle a statement that SQLite is about to run."""
        for beginning, step in _STATEMENTS.items():
            if statement.lstrip().startswith(beginning):
                self.reach(step)


class _Transport(httpx.AsyncBaseTransport):
    """A transport that reports when a request is on the wire."""

    def __init__(self, death: _Death) -> None:
        self._death = death
        self._network = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "trace": self._hear}
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()

    async def _hear(self, event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            self._death.reach("sent")


class _Sink(CaptureSink):
    """The real sink; it reports before and after each request."""

    def __init__(self, host: str, key: str, death: _Death) -> None:
        super().__init__(host, key, transport=_Transport(death))
        self._death = death

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        self._death.reach("send")
        outcome = await super().send(events)
        self._death.reach("answered")
        return outcome


class _Store(Store):
    """The real store; it reports after each transaction."""

    def __init__(self, folder: Path, death: _Death) -> None:
        self._death = death
        super().__init__(folder)

    def begin(self, at: int, history: Iterable[FileMark]) -> None:
        super().begin(at, history)
        self._death.reach("begun")

    def freeze(self, routes: Mapping[str, FrozenRoute]) -> None:
        super().freeze(routes)
        self._death.reach("frozen")

    def commit(self, commit: Commit) -> None:
        super().commit(commit)
        self._death.reach("committed")


def _trace_connections(death: _Death) -> None:
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(death.run)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]


async def _follow(history: HistoryPolicy, death: _Death) -> None:
    settings = load_settings({}, log_format="json")
    prepare_state_dir(settings.state_dir)
    with StateLock(settings.state_dir):
        store = _Store(settings.state_dir, death)
        service = build_service(settings, store, lambda route: _Sink(route.host, route.key.reveal(), death))
        service.prepare(history, time.time())
        await service.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Follow the logs until a step is reached, and die.")
    parser.add_argument("--step", required=True)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--history", choices=["send", "skip"], default="skip")
    chosen = parser.parse_args()
    chosen_death = _Death(chosen.step, chosen.number)
    sys.addaudithook(chosen_death.hear)
    _trace_connections(chosen_death)
    with click.Context(click.Command("run")) as context:
        context.meta[cli.CADENCE] = CADENCE
        asyncio.run(_follow(chosen.history, chosen_death))
