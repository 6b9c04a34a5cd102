"""The memory that answers needed goes back to the system, once for all requests of some seconds."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from daemon.page.memory import Thrift
from tests.support.waiting import PATIENCE


async def test_memory_is_given_back_once_after_several_requests() -> None:
    loop, given = asyncio.get_running_loop(), asyncio.Queue[int]()
    answered = 0

    async def content(_request: Request) -> Response:
        nonlocal answered
        answered += 1
        return PlainTextResponse("content")

    def give_back() -> None:
        loop.call_soon_threadsafe(given.put_nowait, answered)

    app = Starlette(routes=[Route("/", content)], middleware=[Middleware(Thrift, give_back=give_back, after=0.5)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as browser:
        for asked in (3, 6):
            for _ in range(3):
                assert (await browser.get("/")).text == "content"
            assert await asyncio.wait_for(given.get(), PATIENCE) == asked
    assert given.empty()
