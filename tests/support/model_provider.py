"""A scripted provider of models on loopback: OpenAI's and Anthropic's calls, as far as a client of both needs them.

It also takes batches of events at `/batch/`, as PostHog does, and keeps them as they come. The model's name chooses the
answer: one with `limited` is refused with the status 429, a stream of one with `broken` ends with an error. The last
piece of a stream takes a while, as a model does, so that the time to the first token and the whole time differ.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import PATIENCE

__all__ = ["ANSWER", "REFUSED", "THINKING", "ModelProvider"]

Json = dict[str, Any]

ANSWER = "yo yo ho"
REFUSED = "refused"
"""A user whose events are answered with the status 500."""

THINKING = 0.1
"""Seconds before the last piece of a stream."""
_PIECES = ("yo ", "yo", " ho")
_OPENAI_USAGE: Json = {
    "prompt_tokens": 1200,
    "completion_tokens": 7,
    "total_tokens": 1207,
    "prompt_tokens_details": {"cached_tokens": 1024},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
_ANTHROPIC_USAGE: Json = {
    "input_tokens": 20,
    "output_tokens": 7,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
}
_FILE: Json = {
    "id": "file-1",
    "object": "file",
    "bytes": 2,
    "created_at": 1_790_000_000,
    "filename": "a.jsonl",
    "purpose": "batch",
    "status": "processed",
}
_LIMITED: Json = {"error": {"message": "too many requests", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}


class ModelProvider:
    """The provider, from entering it until leaving it.

    Attributes:
        received: the batches of events that were accepted, in order.
    """

    def __init__(self) -> None:
        self.received: list[Json] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.provider = self  # type: ignore[attr-defined]  # how a handler gets at it
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE

    @property
    def _provider(self) -> ModelProvider:
        provider: ModelProvider = self.server.provider  # type: ignore[attr-defined]  # set by `ModelProvider`
        return provider

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/files"):
            self._answer(_FILE)
            return
        body = json.loads(data)
        if self.path == "/batch/":
            is_refused = any(event["distinct_id"] == REFUSED for event in body["batch"])
            if not is_refused:
                self._provider.received.append(body)
            self._answer({"status": 1}, 500 if is_refused else 200)
        elif "limited" in body["model"]:
            self._answer(_LIMITED, 429)
        elif self.path.endswith("/embeddings"):
            self._answer(_vectors(body))
        elif self.path.endswith("/responses"):
            self._answer(_response(body))
        elif body.get("stream"):
            self._stream(_message_events(body) if self.path.endswith("/messages") else _chunks(body))
        else:
            self._answer(_message(body) if self.path.endswith("/messages") else _completion(body))

    def _answer(self, body: Json, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            if _PIECES[-1].encode() in event:
                time.sleep(THINKING)
            self.wfile.write(event)
            self.wfile.flush()


def _vectors(body: Json) -> Json:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def _response(body: Json) -> Json:
    part = {"type": "output_text", "text": ANSWER, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 1200,
        "input_tokens_details": {"cached_tokens": 1024},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 1207,
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1_790_000_000, "status": "completed"}
    rest: Json = {
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
    }
    choice = {"tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0}
    return {**head, **rest, **choice, "model": body["model"], "output": [item], "usage": usage}


def _completion(body: Json) -> Json:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": _OPENAI_USAGE}


def _chunks(body: Json) -> Iterator[bytes]:
    head = _head(body, "chat.completion.chunk")

    def data(chunk: Json) -> bytes:
        return b"data: " + json.dumps({**head, **chunk}).encode() + b"\n\n"

    for piece in _PIECES:
        yield data({"choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}]})
    if "broken" in body["model"]:
        yield data({"error": {"message": "overloaded", "type": "server_error", "code": 500}})
        return
    yield data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield data({"choices": [], "usage": _OPENAI_USAGE})
    yield b"data: [DONE]\n\n"


def _head(body: Json, kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_790_000_000, "model": body["model"]}


def _message(body: Json) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _ANTHROPIC_USAGE,
    }


def _message_events(body: Json) -> Iterator[bytes]:
    begun = {**_message(body), "content": [], "stop_reason": None, "usage": {**_ANTHROPIC_USAGE, "output_tokens": 1}}
    pieces = [{"type": "text_delta", "text": piece} for piece in _PIECES]
    ended = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 7}}
    events: tuple[Json, ...] = (
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", **ended},
        {"type": "message_stop"},
    )
    for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
