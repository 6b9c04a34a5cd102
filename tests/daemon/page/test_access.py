"""Only the browser that was opened with the token may read the page, and only the page itself may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from daemon.page.access import Access, Guard

PORT = 8123


async def content(_request: Request) -> Response:
    return PlainTextResponse("content")


@pytest.fixture
def access() -> Access:
    return Access(PORT)


@pytest.fixture
async def browser(access: Access) -> AsyncIterator[httpx.AsyncClient]:
    application = Starlette(routes=[Route("/{rest:path}", content)], middleware=[Middleware(Guard, access=access)])
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}") as client:
        yield client


async def enter(browser: httpx.AsyncClient, access: Access) -> httpx.Response:
    return await browser.get(access.address)


async def test_the_token_opens_the_page_once(browser: httpx.AsyncClient, access: Access) -> None:
    address = access.address
    entered = await browser.get(address)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "token" not in access.address
    for attribute in ("httponly", "samesite=strict", "path=/"):
        assert attribute in entered.headers["set-cookie"].lower()
    assert (await browser.get("/")).text == "content"
    browser.cookies.clear()
    assert (await browser.get(address)).status_code == 401


@pytest.mark.parametrize("path", ["/", "/?token=guess", "/sessions?token=guess", "/static/page.js", "/live"])
async def test_without_the_cookie_nothing_is_shown(browser: httpx.AsyncClient, path: str) -> None:
    refused = await browser.get(path)
    assert refused.status_code == 401
    assert "content" not in refused.text
    assert "posthog-llma-daemon view" in refused.text


async def test_a_guessed_cookie_shows_nothing(browser: httpx.AsyncClient, access: Access) -> None:
    browser.cookies.set(access.cookie_name, "guess")
    assert (await browser.get("/")).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"[::1]:{PORT}", ""]
)
async def test_a_name_that_an_attacker_points_here_is_refused(
    browser: httpx.AsyncClient, access: Access, host: str
) -> None:
    await enter(browser, access)
    refused = await browser.get("/", headers={"Host": host})
    assert refused.status_code == 421
    assert "content" not in refused.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_page_may_not_read_it(
    browser: httpx.AsyncClient, access: Access, headers: dict[str, str]
) -> None:
    await enter(browser, access)
    refused = await browser.get("/", headers=headers)
    assert refused.status_code == 403
    assert "content" not in refused.text


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}"])
async def test_the_page_itself_may_ask(browser: httpx.AsyncClient, access: Access, host: str) -> None:
    await enter(browser, access)
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert (await browser.get("/", headers=headers)).text == "content"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_can_be_changed(browser: httpx.AsyncClient, access: Access, method: str) -> None:
    await enter(browser, access)
    assert (await browser.request(method, "/")).status_code == 405


async def test_every_answer_binds_the_browser(browser: httpx.AsyncClient, access: Access) -> None:
    answers = [await browser.get("/"), await enter(browser, access), await browser.get("/")]
    assert [answer.status_code for answer in answers] == [401, 303, 200]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
