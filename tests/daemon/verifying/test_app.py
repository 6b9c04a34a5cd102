"""The private API: how fast and how often it is asked, and what is said when it does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from daemon.system.secret import Secret
from daemon.verifying.app import (
    App,
    AppError,
    BadQueryError,
    ForbiddenError,
    NoProjectError,
    NotThereError,
    Pace,
    Project,
    Question,
    app_of,
)
from tests.support.capture_server import Accept, Answer, Behaviour, CaptureServer, Drop, Request
from tests.support.each import for_each

PERSONAL = "phx_a_personal_key_that_no_output_shows"
PROJECT_KEY = "phc_of_the_project"
QUESTION = Question(text="SELECT {n}", values={"n": "a"})
T = TypeVar("T")


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.told: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)

    def pace(self, *, gap: float = 0.0, hourly: int = 1000) -> Pace:
        tell = lambda seconds, reason: self.told.append(f"{seconds:g} {reason}")  # noqa: E731 - it is one
        return Pace(sleep=self.sleep, clock=lambda: self.now, tell=tell, gap=gap, hourly=hourly)


def said(value: object, status: int = 200, **headers: str) -> Answer:
    named = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return Answer(status=status, body=json.dumps(value).encode(), headers=named)


async def ask(server: CaptureServer, what: Callable[[App], T], pace: Pace | None = None) -> T:
    """Ask in another thread, because the server needs this one."""

    def work() -> T:
        with App(server.url, Secret(PERSONAL), pace=pace or Time().pace()) as app:
            return what(app)

    return await asyncio.to_thread(work)


def rows(app: App) -> Sequence[object]:
    return app.query(Project(id="7"), QUESTION)


async def test_a_query_goes_to_the_project_with_its_values_apart_and_is_computed_anew() -> None:
    async with CaptureServer() as server:
        server.script(said({"results": [["a", 1]], "columns": ["x", "y"]}))
        assert await ask(server, rows) == [["a", 1]]
        [request] = server.requests
    assert (request.method, request.path) == ("POST", "/api/projects/7/query/")
    assert request.headers["authorization"] == f"Bearer {PERSONAL}"
    assert json.loads(request.body) == {
        "query": {"kind": "HogQLQuery", "query": "SELECT {n}", "values": {"n": "a"}},
        "refresh": "force_blocking",
    }


async def test_too_many_questions_are_waited_for_as_long_as_posthog_says() -> None:
    time = Time()
    async with CaptureServer() as server:
        server.script(said({}, 429, Retry_After="37"), said({}, 503), Drop(), said({"results": []}))
        assert await ask(server, rows, time.pace()) == []
    assert time.slept[0] == 37
    assert time.slept[1:] == [1.5, 3.0]
    assert time.told[0] == f"37 {server.url} answers 429"


async def test_what_does_not_end_is_an_error_and_a_creation_is_not_repeated() -> None:
    async with CaptureServer() as server:
        server.fault = lambda _: said({}, 503)
        with pytest.raises(AppError, match="answers 503; try again later"):
            await ask(server, rows)
        assert len(server.requests) == 6
        server.requests.clear()
        with pytest.raises(AppError, match="503"):
            await ask(server, lambda app: app.write("POST", "/api/projects/7/insights/", {}, scope="insight:write"))
        assert len(server.requests) == 1
        server.fault = lambda _: said({}, 429, Retry_After="4000")
        with pytest.raises(AppError, match="try again in 4,000 s"):
            await ask(server, rows)
    with pytest.raises(AppError, match="cannot be reached"):
        await ask(server, rows)


async def test_no_more_is_asked_in_an_hour_than_posthog_allows() -> None:
    time = Time()
    pace = time.pace(gap=0.5, hourly=3)
    async with CaptureServer() as server:
        server.fault = lambda _: said({"results": []})
        for _ in range(4):
            await ask(server, rows, pace)
    assert time.slept == [0.5, 0.5, 3599.0]
    assert time.told == ["3599 PostHog allows 3 queries an hour"]


@pytest.mark.parametrize(
    ("scripted", "kind", "words"),
    [
        (said({"detail": "Invalid"}, 401), AppError, "login --personal-key-stdin"),
        (said({"detail": "API key missing required scope 'query:read'"}, 403), ForbiddenError, "the scope query:read "),
        (said({"detail": f"no: {PERSONAL}"}, 403), ForbiddenError, "no: [key]"),
        (said({"detail": "Unknown table `ai_events`"}, 400), BadQueryError, "Unknown table"),
        (said({"results": None, "error": "too slow"}), BadQueryError, "too slow"),
        (Answer(status=404, body=b"<html>"), NotThereError, "POSTHOG_APP_HOST"),
        (Answer(status=200, body=b"<html>"), NotThereError, "POSTHOG_APP_HOST"),
        (said({}, 302, Location="https://elsewhere.example.com/login"), AppError, "redirects to elsewhere.example.com"),
    ],
)
async def test_a_refusal_is_one_line_with_what_to_do_and_without_the_key(
    scripted: Answer, kind: type[AppError], words: str
) -> None:
    async with CaptureServer() as server:
        server.script(scripted)
        with pytest.raises(AppError) as caught:
            await ask(server, rows)
        assert len(server.requests) == 1
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert PERSONAL not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_the_key_does_not_follow_a_redirect() -> None:
    async with CaptureServer() as server, CaptureServer() as other:
        server.fault = lambda _: said({}, 307, Location=f"{other.url}/api/")
        with pytest.raises(AppError, match="where no key is sent"):
            await ask(server, rows)
        assert other.requests == []


def projects(*known: dict[str, object], current: Answer | None = None) -> Callable[[Request], Behaviour]:
    def answer(request: Request) -> Behaviour:
        if request.path == "/api/projects/@current/":
            return current or said(known[0])
        if request.path.startswith("/api/projects/?"):
            return said({"results": known})
        return Accept()

    return answer


async def test_the_project_is_the_one_with_the_project_key() -> None:
    here = {"id": 1, "name": "Here", "api_token": PROJECT_KEY}
    there = {"id": 2, "name": "There", "api_token": "phc_other"}
    async with CaptureServer() as server:
        server.fault = projects(there, here)
        found = await ask(server, lambda app: app.project(Secret(PROJECT_KEY)))
        assert found == Project(id="1", name="Here", is_certain=True)
        # A wrong project key is accepted by capture, and nobody ever sees its events.
        server.fault = projects(there)
        with pytest.raises(AppError, match=r"no project .* has the project key phc_of\*+, so its events go"):
            await ask(server, lambda app: app.project(Secret(PROJECT_KEY)))
        # A key that may only ask queries knows its project by another name.
        server.fault = projects(there, current=said({"detail": "missing project:read"}, 403))
        assert await ask(server, lambda app: app.project(Secret(PROJECT_KEY))) == Project(id="@current")


async def test_a_key_that_is_limited_to_some_projects_finds_its_own_whatever_project_its_owner_has_open() -> None:
    here, there = {"id": 7, "api_token": PROJECT_KEY}, {"id": 8, "api_token": "phc_other"}
    refused = said({"detail": "API keys with scoped projects are only supported on project-based endpoints."}, 403)
    elsewhere = said({"detail": "API key does not have access to the requested project: ID 12."}, 403)
    answers: dict[str, Answer] = {}

    def answer(request: Request) -> Behaviour:
        path = request.path.partition("?")[0]
        return answers.get(path) or (refused if path == "/api/projects/" else elsewhere)

    async def found(*limits: int) -> Project:
        answers["/api/personal_api_keys/@current/"] = said({"scoped_teams": limits})
        return await ask(server, lambda app: app.project(Secret(PROJECT_KEY)))

    async with CaptureServer() as server:
        server.fault = answer
        # Without the scope project:read there is no doubt about the only one.
        assert await found(7) == Project(id="7")
        assert await found(7, 8) == Project(id="@current")
        answers |= {"/api/projects/8/": said(there), "/api/projects/7/": said(here)}
        assert await found(8, 7) == Project(id="7", is_certain=True)
        with pytest.raises(NoProjectError, match="no project that your personal key can see"):
            await found(8)
        # An older PostHog does not tell. The project that is open is another one.
        answers["/api/projects/@current/"] = said(there)
        answers["/api/personal_api_keys/@current/"] = said({"detail": "Not found."}, 404)
        with pytest.raises(NoProjectError):
            await ask(server, lambda app: app.project(Secret(PROJECT_KEY)))


async def test_a_list_is_read_to_its_end_however_long_its_pages_are() -> None:
    async with CaptureServer() as server:
        there: list[dict[str, object]] = [{"id": number} for number in range(5)]

        def answer(request: Request) -> Behaviour:
            place = int(request.path.rpartition("=")[2])
            return said({"results": there[place : place + 2], "next": "x" if place + 2 < len(there) else None})

        server.fault = answer
        assert await ask(server, lambda app: [*app.list("/api/projects/7/dashboards/", scope="s")]) == there
        assert [request.path.rpartition("offset=")[2] for request in server.requests] == ["0", "2", "4"]


@for_each(
    "ingestion, web",
    [
        ("https://us.i.posthog.com", "https://us.posthog.com"),
        ("https://eu.i.posthog.com", "https://eu.posthog.com"),
        ("https://posthog.example.com:8443", "https://posthog.example.com:8443"),
    ],
)
def test_the_web_app_follows_from_the_ingestion_host(ingestion: str, web: str) -> None:
    assert app_of(ingestion, None) == web
    assert app_of(ingestion, "https://app.example.com") == "https://app.example.com"
