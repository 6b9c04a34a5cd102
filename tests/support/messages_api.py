"""A scripted Messages API on loopback: it drives the real client without a model.

A prompt names its script with a marker, `[[name]]`. A script is a sequence of steps. The API counts the assistant
messages that a request holds after its last marker, and answers with the step of that number. So the API stores no
conversation, all threads of a session can use it at once, and a resumed session can continue with another script. For a
subagent, the marker is in the prompt of the call that starts it.

`MessagesApi.answers` holds every answer. Tests compare logs and events with it.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE

__all__ = [
    "Answer",
    "Block",
    "Failure",
    "Kind",
    "MessagesApi",
    "Step",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolUse",
    "Usage",
    "agent",
    "bash",
]

Json: TypeAlias = dict[str, Any]

Kind = Literal["main", "subagent", "warm-up", "side"]
"""Who asked: the main thread, a subagent, a subagent that an old client starts only to warm the cache, or a request
outside of any thread, such as one for a summary."""

_AGENT = "agent"
_AGENT_TOOL_NAMES = ("Agent", "Task")
_MARKER = re.compile(r"\[\[([a-z0-9-]+)\]\]")
# How the client asks for a summary when it compacts a conversation, in versions from 2.0.76 to 2.1.329 at least.
_SUMMARY_WANTED = "create a detailed summary of "
_SUMMARY = "<analysis>A few words</analysis>\n<summary>Something was done.</summary>"
_WARM_UP = "Warmup"
# Seconds. Longer than any pause of a healthy client or test, and short enough that a hanging run ends.
_HOLD_LIMIT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text block."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """A thinking block, signed with a made-up signature."""

    thinking: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """A tool call. It gets its id when it is sent."""

    name: str
    input: Mapping[str, object]


Block: TypeAlias = Text | Thinking | ToolUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that is an error."""

    status: int
    error_type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer of a script.

    Attributes:
        blocks: the content of the message.
        stop_reason: by default `tool_use` if there is a tool call among the blocks, otherwise `end_turn`.
        failures: errors that answer the first attempts, one each, before the message itself.
        hold: the message starts only after `MessagesApi.release` was called with this name.
        pause: the end of the message, with the final usage, is sent only after a release of this name.
    """

    blocks: tuple[Block, ...]
    stop_reason: str | None = None
    failures: tuple[Failure, ...] = ()
    hold: str | None = None
    pause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The final token counts of a message. Each message has different ones, so that tests notice a mix-up."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_5m_input_tokens: int
    cache_creation_1h_input_tokens: int

    @property
    def cache_creation_input_tokens(self) -> int:
        return self.cache_creation_5m_input_tokens + self.cache_creation_1h_input_tokens

    def as_json(self, *, output_tokens: int) -> Json:
        """Return the API's usage object with the output count that is known so far."""
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_creation_input_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_creation_5m_input_tokens,
                "ephemeral_1h_input_tokens": self.cache_creation_1h_input_tokens,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """The id and the tool's name of a tool call that was sent."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that was sent.

    Attributes:
        kind: Who was answered.
        script: The script's name; ``None`` where no script says what to answer.
        step: The step's number in the script.
        received_at: When the request was there, in milliseconds since the epoch.
        status: The HTTP status.
        error_type: The error's type; ``None`` for a message, as for ``error_message``.
        error_message: What the error says.
        request_id: The answer's ``request-id`` header.
        model: The model that was asked for.
        message_id: ``None`` for a failure, as for ``usage`` and ``stop_reason``.
        usage: The message's final usage.
        stop_reason: The message's.
        texts: The message's texts in order.
        tool_calls: The message's tool calls in order.
        parent_tool_use_id: For a subagent, the call that started it.
    """

    kind: Kind
    script: str | None
    step: int | None
    received_at: int
    status: int
    request_id: str
    model: str
    error_type: str | None = None
    error_message: str | None = None
    message_id: str | None = None
    usage: Usage | None = None
    stop_reason: str | None = None
    texts: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    parent_tool_use_id: str | None = None


def bash(command: str) -> ToolUse:
    """Return a call of the client's shell tool."""
    return ToolUse(name="Bash", input={"command": command, "description": "Run a command"})


def agent(prompt: str, *, background: bool) -> ToolUse:
    """Return a call that starts a subagent. It uses the name that the client has for this tool.

    The call always says whether it runs in the background, because the default differs between client versions.
    """
    return ToolUse(
        name=_AGENT,
        input={
            "description": "Do a part of it",
            "prompt": prompt,
            "subagent_type": "general-purpose",
            "run_in_background": background,
        },
    )


class MessagesApi:
    """The API's server: a context manager on a free loopback port, with one thread for each connection.

    It answers a request for a summary with a summary. It answers a few words to a request without tools or a marker,
    and after the last step of a script. Other paths than `/v1/messages` get harmless answers.

    Args:
        scripts: the scripts by name.
        name: part of all ids, so that several servers can run beside one daemon.

    Raises:
        ExceptionGroup: when the context is left, if a request could not be answered as planned.
    """

    def __init__(self, scripts: Mapping[str, Sequence[Step]], *, name: str = "scripted") -> None:
        self._scripts = scripts
        self._name = name
        self._lock = threading.Lock()
        self._answers: list[Answer] = []
        self._requests: dict[str, Json] = {}
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._parents: dict[str, str] = {}
        self._serial = 0
        held = {name for steps in scripts.values() for step in steps for name in (step.hold, step.pause) if name}
        self._holds = {name: threading.Event() for name in held}
        self._faults: list[Exception] = []
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="messages-api", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers so far, in the order in which they began."""
        with self._lock:
            return tuple(self._answers)

    @property
    def requests(self) -> dict[str, Json]:
        """The body of each request that got a message, by the message's id."""
        with self._lock:
            return dict(self._requests)

    def release(self, hold: str) -> None:
        """Let the steps continue that wait for this name."""
        self._holds[hold].set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for event in self._holds.values():
            event.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._faults and exc is None:
            raise ExceptionGroup("the scripted API could not answer", self._faults)

    def note_fault(self, fault: Exception) -> None:
        """Keep an error of a connection's thread for the thread that runs the test."""
        with self._lock:
            self._faults.append(fault)

    def await_release(self, hold: str) -> None:
        """Wait until `release` is called with this name.

        Raises:
            RuntimeError: it took too long.
        """
        if not self._holds[hold].wait(_HOLD_LIMIT):
            raise RuntimeError(f"{hold!r} was not released within {_HOLD_LIMIT:.0f} s")

    def answer(self, request: Json) -> tuple[Answer, Failure | Json, str | None]:
        """Choose and record the answer to a request for a message. Wait while the step is held.

        Returns:
            The record; a failure or the message's JSON to send; and the release to wait for before the end is sent.
        """
        received_at = time.time_ns() // 1_000_000
        record = partial(self._record, request, received_at)
        if _last_text(request) == _WARM_UP:
            return record("warm-up", Step(blocks=(Text(text="A few words"),)))
        place = _place(request)
        if place is None:
            return record("side", Step(blocks=(Text(text="A few words"),)))
        if _SUMMARY_WANTED in _last_text(request):
            return record("side", Step(blocks=(Text(text=_SUMMARY),)))
        script, number = place
        steps = self._scripts[script]
        step = steps[number] if number < len(steps) else Step(blocks=(Text(text="Nothing more to do."),))
        with self._lock:
            attempt = self._attempts[place]
            self._attempts[place] += 1
            parent = self._parents.get(script)
        kind: Kind = "main" if parent is None else "subagent"
        if attempt < len(step.failures):
            return record(kind, step.failures[attempt], place, parent)
        if step.hold is not None:
            self.await_release(step.hold)
        return record(kind, step, place, parent)

    def _record(
        self,
        request: Json,
        received_at: int,
        kind: Kind,
        reply: Step | Failure,
        place: tuple[str, int] | None = None,
        parent: str | None = None,
    ) -> tuple[Answer, Failure | Json, str | None]:
        with self._lock:
            self._serial += 1
            serial = f"{self._name}{self._serial:06d}"
            answer = Answer(
                kind=kind,
                script=place[0] if place else None,
                step=place[1] if place else None,
                received_at=received_at,
                status=200,
                request_id=f"req_{serial}",
                model=request["model"],
                parent_tool_use_id=parent,
            )
            if isinstance(reply, Failure):
                answer = replace(answer, status=reply.status, error_type=reply.error_type, error_message=reply.message)
                self._answers.append(answer)
                return answer, reply, None
            content = [_block_json(block, request, f"{serial}{index:02d}") for index, block in enumerate(reply.blocks)]
            uses = [block for block in content if block["type"] == "tool_use"]
            for use in uses:
                self._parents.update(dict.fromkeys(_MARKER.findall(use["input"].get("prompt", "")), use["id"]))
            answer = replace(
                answer,
                message_id=f"msg_{serial}",
                usage=Usage(
                    input_tokens=10 + self._serial,
                    output_tokens=200 + self._serial,
                    cache_read_input_tokens=3000 + self._serial,
                    cache_creation_5m_input_tokens=400 + self._serial,
                    cache_creation_1h_input_tokens=50 + self._serial,
                ),
                stop_reason=reply.stop_reason or ("tool_use" if uses else "end_turn"),
                texts=tuple(block.text for block in reply.blocks if isinstance(block, Text)),
                tool_calls=tuple(ToolCall(id=use["id"], name=use["name"]) for use in uses),
            )
            self._answers.append(answer)
            self._requests[f"msg_{serial}"] = request
            return answer, _message_json(answer, content), reply.pause


class _Server(ThreadingHTTPServer):
    # server_close joins the threads, so that none outlives the test with an open socket.
    daemon_threads = False

    def __init__(self, api: MessagesApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's signature
        fault = sys.exception()
        # A test may end a client in the middle of an answer. That is no error of the script.
        if isinstance(fault, Exception) and not isinstance(fault, ConnectionError):
            self.api.note_fault(fault)


class _Handler(BaseHTTPRequestHandler):
    # Every answer closes its connection. So a stream ends with its bytes, and no thread waits for more.
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    server: _Server

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        self._send(200, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        path = urlsplit(self.path).path
        if path == "/v1/messages/count_tokens":
            self._send(200, b'{"input_tokens":1}')
        elif path == "/v1/messages":
            self._answer(json.loads(body))
        else:
            self._send(200, b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Print nothing. The base class would write every request to stderr."""

    def _answer(self, request: Json) -> None:
        answer, reply, pause = self.server.api.answer(request)
        if isinstance(reply, Failure):
            error = {"type": reply.error_type, "message": reply.message}
            body = {"type": "error", "error": error, "request_id": answer.request_id}
            self._send(reply.status, json.dumps(body).encode(), request_id=answer.request_id)
        elif request.get("stream"):
            self._begin(200, "text/event-stream", answer.request_id)
            for event in _stream(reply):
                if event["type"] == "message_delta" and pause is not None:
                    self.server.api.await_release(pause)
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
        else:
            self._send(200, json.dumps(reply).encode(), request_id=answer.request_id)

    def _send(self, status: int, body: bytes, *, request_id: str | None = None) -> None:
        self._begin(status, "application/json", request_id, length=len(body))
        self.wfile.write(body)

    def _begin(self, status: int, content_type: str, request_id: str | None, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("connection", "close")
        if length is not None:
            self.send_header("content-length", str(length))
        if request_id is not None:
            self.send_header("request-id", request_id)
        self.end_headers()


def _texts(message: Json) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [block.get("text", "") for block in content]


def _last_text(request: Json) -> str:
    """Return the last text of the last message that the user or the client wrote; empty if it has no text."""
    texts = [_texts(message)[-1:] for message in request["messages"] if message["role"] == "user"]
    return "".join(texts[-1]) if texts else ""


def _place(request: Json) -> tuple[str, int] | None:
    """Return the script that a user's text named last, and the number of its step.

    Returns:
        None for a request that is not part of a conversation.
    """
    if not request.get("tools"):
        return None
    number = 0
    for message in reversed(request["messages"]):
        number += message["role"] == "assistant"
        if message["role"] == "user":
            markers = [marker for text in _texts(message) for marker in _MARKER.findall(text)]
            if markers:
                return markers[-1], number
    return None


def _block_json(block: Block, request: Json, number: str) -> Json:
    match block:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Thinking(thinking=thinking):
            return {"type": "thinking", "thinking": thinking, "signature": f"c2lnbmF0dXJl{number}"}
        case ToolUse(name=name, input=tool_input):
            if name == _AGENT:
                offered = {tool["name"] for tool in request["tools"]}
                name = next(candidate for candidate in _AGENT_TOOL_NAMES if candidate in offered)
            return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": dict(tool_input)}


def _message_json(answer: Answer, content: Sequence[Json]) -> Json:
    assert answer.usage is not None
    return {
        "id": answer.message_id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": list(content),
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "usage": answer.usage.as_json(output_tokens=answer.usage.output_tokens),
    }


def _stream(message: Json) -> Iterator[Json]:
    """Yield the events of a streamed message. The output count is 1 at first, and final only in `message_delta`."""
    started = message | {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 1}}
    yield {"type": "message_start", "message": started}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        empty, deltas = _deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
        "usage": message["usage"],
    }
    yield {"type": "message_stop"}


def _deltas(block: Json) -> tuple[Json, list[Json]]:
    """Return an empty block and the deltas that fill it. Each kind of content comes in two pieces."""
    match block["type"]:
        case "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": part} for part in _halves(block["text"])]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _halves(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*deltas, signed]
        case _:
            parts = _halves(json.dumps(block["input"]))
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _halves(text: str) -> tuple[str, str]:
    middle = len(text) // 2
    return text[:middle], text[middle:]
