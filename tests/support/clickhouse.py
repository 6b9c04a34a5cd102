"""The child process that is PostHog's web app, with a real ClickHouse, and projects in it for the tests.

One process serves all tests of a run's process. It ends with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from daemon.usage.prices import event_dollars
from llma_core import view
from tests.support.client import passed_on
from tests.support.waiting import PATIENCE

__all__ = ["ALL_SCOPES", "ClickHouseProject", "new_project", "priced", "running"]

ALL_SCOPES = ("query:read", "project:read", "dashboard:write", "insight:write")

_ROOT = Path(__file__).parents[2]
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class ClickHouseProject:
    """A project of the web app.

    Attributes:
        url: the web app.
        id: the project's number.
        token: its project key.
        personal: a personal key that may see this project only.
    """

    url: str
    id: int
    token: str
    personal: str

    def hold(self, events: Iterable[dict[str, Any]], *tables: str, dearer: float = 1.0) -> None:
        """Put events into the tables, as PostHog's ingestion does: with what each generation costs.

        Args:
            events: what capture took.
            tables: `events`, `ai_events`; both, unless some are named.
            dearer: by what factor PostHog's prices are higher than the list's.
        """
        chosen = list(tables) or ["events", "ai_events"]
        costly = [priced(event, dearer) for event in events]
        _post(f"{self.url}/test/events", {"project": self.id, "events": costly, "tables": chosen})

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the private API as a person would; *path* is below the project."""
        url = f"{self.url}/api/projects/{self.id}/{path}"
        return _ask(url, body, method, {"Authorization": f"Bearer {self.personal}"})

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The queries that the project was asked."""
        found = _post(f"{self.url}/test/asked/{self.id}", {})
        assert isinstance(found, list)
        return found


@contextmanager
def running() -> Iterator[str]:
    """Run the web app, and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.posthog_app", folder],
            cwd=_ROOT,
            env=passed_on(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            try:
                port = process.stdout.readline().strip()
                assert port, "ClickHouse did not start"
                yield f"http://127.0.0.1:{port}"
            finally:
                process.kill()


def new_project(url: str, scopes: Sequence[str] = ALL_SCOPES) -> ClickHouseProject:
    """Make a project, empty and with keys of its own, so that no test sees another's events."""
    number = next(_numbers)
    token, personal = f"phc_project_{number}_that_no_output_shows", f"phx_personal_{number}_that_no_output_shows"
    made = _post(f"{url}/test/projects", {"token": token, "personal": personal, "scopes": list(scopes)})
    return ClickHouseProject(url=url, id=made["id"], token=token, personal=personal)


def priced(event: dict[str, Any], dearer: float = 1.0) -> dict[str, Any]:
    """Return an event with what it cost, as PostHog's ingestion adds it."""
    dollars = event_dollars(view.read(json.dumps(event).encode())).known
    added = {"$ai_total_cost_usd": dollars * dearer} if dollars else {}
    return {**event, "properties": {**event["properties"], **added}}


def _post(url: str, body: object) -> Any:
    return _ask(url, body, "POST", {})


def _ask(url: str, body: object, method: str, headers: dict[str, str]) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    with urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)
