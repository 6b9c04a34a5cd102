"""A capture server that also answers the endpoint of feature flags, and knows which keys are a project's."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self

from tests.support.capture_server import Accept, Behaviour, CaptureServer, Event, Refusal, Request
from tests.support.clickhouse import priced

__all__ = ["ProjectServer"]

SUMS = (
    "$ai_input_tokens",
    "$ai_output_tokens",
    "$ai_cache_read_input_tokens",
    "$ai_cache_creation_input_tokens",
    "$ai_total_cost_usd",
)
"""What the question of `verify` adds up, in the order of its columns."""


def sum_of(events: list[Event], name: str) -> float:
    """Return the sum of a property over some events, without those that came twice."""
    return sum({each["uuid"]: each.get(name) or 0 for each in events}.values())


class ProjectServer(CaptureServer):
    """See `CaptureServer`. It is the web app, too, and holds all events that it accepted and has not `lost`.

    Args:
        keys: keys that belong to a project.
        ahead: by how much its clock is ahead of this machine's.
        ai_path: whether capture has the AI path.
        tls: with it the server speaks https.
    """

    def __init__(
        self, *keys: str, ahead: timedelta = timedelta(0), ai_path: bool = True, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(ai_path=ai_path)
        self._tls = tls
        self.keys = set(keys)
        self.ahead = ahead
        self.questions: list[dict[str, object]] = []
        self.lost: set[str] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def _treat(self, request: Request, behaviour: Behaviour, writer: asyncio.StreamWriter) -> bool:
        if not request.path.startswith("/api/") or not isinstance(behaviour, Accept):
            return await super()._treat(request, behaviour, writer)
        asked = json.loads(request.body) if request.body else {}
        answer = json.dumps(self._private(request.path.partition("?")[0], asked)).encode()
        await self._answer(request, writer, 200, answer, (("Content-Type", "application/json"),))
        return True

    def _private(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer as the private API does. tests/support/posthog_app.py does so with a real ClickHouse."""
        if not path.endswith("/query/"):
            projects = [
                {"id": number, "name": key, "api_token": key} for number, key in enumerate(sorted(self.keys), 1)
            ]
            return {**projects[0], "results": projects}
        query = asked["query"]
        if "ai_events" in query["query"]:
            return {"results": []}
        groups: dict[tuple[str, ...], list[Event]] = {}
        for event in self.events:
            said = event["properties"]
            session = said["$ai_session_id"]
            if session in query["values"]["owners"] and event["uuid"] not in self.lost:
                place = (session, event["event"], said["$ai_trace_id"], said.get("$ai_model", ""))
                groups.setdefault(place, []).append(priced(event)["properties"] | {"uuid": event["uuid"]})
        rows: dict[str, list[object]] = {}
        for (session, *group), found in groups.items():
            held = [[uuid, 1] for uuid in {each["uuid"] for each in found}]
            rows.setdefault(session, []).append([*group, held, *(sum_of(found, name) for name in SUMS)])
        return {"results": [[session, found] for session, found in rows.items()]}

    def _accept(self, request: Request) -> None:
        if not request.path.startswith("/flags/"):
            super()._accept(request)
            return
        payload = self._payload(request)
        self.questions.append(payload)
        if payload.get("disable_flags") is not True:
            raise Refusal(400, "a question that counts as an evaluation of flags")
        if payload.get("api_key") not in self.keys:
            raise Refusal(401, json.dumps({"code": "invalid_token"}))

    async def _answer(
        self,
        request: Request,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        date = format_datetime(datetime.now(UTC) + self.ahead, usegmt=True)
        await super()._answer(request, writer, status, body, (*headers, ("Date", date)))
