"""A capture server that also answers the endpoint of feature flags, and knows which keys are a project's."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Self

from tests.support.capture_server import CaptureServer, Refusal, Request

__all__ = ["ProjectServer"]


class ProjectServer(CaptureServer):
    """See `CaptureServer`.

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

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

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
