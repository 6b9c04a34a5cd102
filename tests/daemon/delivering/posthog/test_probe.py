from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from daemon.config.settings import Secret
from daemon.delivering.posthog.probe import PostHog, ProxyUnusableError, proxy_for
from tests.support.capture_server import AI_PATH, BATCH_PATH, Answer, Raw
from tests.support.project_server import ProjectServer

KEY = Secret("phc_a_key_that_no_output_shows")


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def ask(server: ProjectServer, method: str) -> Any:
    def work() -> Any:
        with PostHog(server.url, pause=0) as posthog:
            return getattr(posthog, method)(KEY)

    return await asyncio.to_thread(work)


async def test_a_projects_key_is_accepted_without_evaluating_a_flag() -> None:
    async with ProjectServer(KEY.reveal()) as server:
        verdict, answer = await ask(server, "judge_key")
    assert (verdict, answer.status) == ("accepted", 200)
    assert server.questions == [{"api_key": KEY.reveal(), "distinct_id": "doctor", "disable_flags": True}]
    assert server.events == []


async def test_a_key_of_no_project_is_asked_about_twice() -> None:
    async with ProjectServer() as server:
        verdict, answer = await ask(server, "judge_key")
    assert (verdict, answer.status, len(server.questions)) == ("unknown", 401, 2)


async def test_a_lookup_that_fails_once_is_no_verdict() -> None:
    async with ProjectServer(KEY.reveal()) as server:
        server.script(Answer(status=401))
        assert (await ask(server, "judge_key"))[0] == "accepted"


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(status=503), Answer(status=200, body=b"<html>")])
async def test_a_host_that_cannot_say_is_no_verdict(answer: Answer) -> None:
    async with ProjectServer() as server:
        server.fault = lambda _request: answer
        assert (await ask(server, "judge_key"))[0] == "unchecked"


async def test_a_host_that_does_not_answer_is_no_verdict() -> None:
    async with ProjectServer() as server:
        pass
    verdict, answer = await ask(server, "judge_key")
    assert (verdict, answer.status) == ("unchecked", None)
    assert "ConnectError" in answer.reason


@pytest.mark.parametrize(("ai_path", "path"), [(True, AI_PATH), (False, BATCH_PATH)])
async def test_capture_is_asked_without_an_event(ai_path: bool, path: str) -> None:
    async with ProjectServer(ai_path=ai_path) as server:
        asked, answer = await ask(server, "ask_capture")
    assert (asked, answer.status, answer.body) == (path, 400, "request holds no event")
    assert (server.events, server.violations) == ([], [])


@pytest.mark.parametrize("hours", [-5, 0, 5])
async def test_the_servers_clock_is_compared(hours: int) -> None:
    async with ProjectServer(ahead=timedelta(hours=hours)) as server:
        _, answer = await ask(server, "ask_capture")
    assert abs(answer.ahead + hours * 3600) < 60


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async with ProjectServer() as server:
        server.script(Answer(status=400, body=b"x" * 1_000_000))
        _, answer = await ask(server, "ask_capture")
    assert len(answer.body) == 65_536


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 No\r\nX: x", b"HTTP/1.1 400 No\r\nContent-Length: 99999\r\n\r\nx"])
async def test_an_answer_that_drips_is_bounded_as_a_whole(data: bytes) -> None:
    def work(url: str) -> Any:
        with PostHog(url, pause=0, limit=0.2) as posthog:
            return posthog.judge_key(KEY)

    async with ProjectServer(KEY.reveal()) as server:
        server.fault = lambda _request: Raw(data=data, drip=0.001)
        verdict, answer = await asyncio.to_thread(work, server.url)
    assert (verdict, answer.status, answer.reason) == ("unchecked", None, "no whole answer within 0.2 seconds")


def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("https://us.i.posthog.com") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    assert proxy_for("https://us.i.posthog.com") == "http://proxy.example:3128"
    monkeypatch.setenv("NO_PROXY", "posthog.com")
    assert proxy_for("https://us.i.posthog.com") is None


def test_a_proxy_that_cannot_be_used_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@proxy.example:70")
    with pytest.raises(ProxyUnusableError) as caught:
        PostHog("https://us.i.posthog.com")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("location", ["host:8080/login", "about:blank", "http://xn--a/", "http://portal:99999/"])
async def test_wherever_a_redirect_leads_it_is_an_answer(location: str) -> None:
    async with ProjectServer() as server:
        server.fault = lambda _request: Answer(status=302, headers=(("Location", location),))
        verdict, answer = await ask(server, "judge_key")
    assert (verdict, answer.status) == ("unchecked", 302)


@pytest.mark.parametrize("date", ["Tue, 06 Jan 99999 08:00:00 GMT", "soon", "\xff", "9" * 9_000])
async def test_a_date_that_cannot_be_read_says_nothing_of_the_clock(date: str) -> None:
    async with ProjectServer() as server:
        server.fault = lambda _request: Raw(
            data=f"HTTP/1.1 400 No\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
        )
        _, answer = await ask(server, "ask_capture")
    assert (answer.status, answer.ahead) == (400, None)
