"""Lines of an outbox, as programs write them, and what comes of them without a daemon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

from llma_core.errors import RecordError
from llma_core.lines import LineSplitter
from llma_core.outbox.agent import OUTBOX
from llma_core.spans import LineRange, Span

__all__ = ["EVERYTHING", "START", "Json", "line", "process", "spans", "uuid", "write"]

Json = dict[str, Any]

START = datetime(2026, 3, 2, 9, 0, 0, tzinfo=UTC)
NAME = "4711-1772442000000-1"


def uuid(number: int) -> str:
    """A version 7 UUID."""
    return f"0190a1b2-c3d4-7000-8000-{number:012x}"


def line(sort: str, number: int, /, *, at: datetime | None = None, **fields: Any) -> bytes:
    """A whole line; each number is an identity, and its time is that many seconds after the start."""
    time = (at or START + timedelta(seconds=number)).astimezone(UTC).isoformat(timespec="milliseconds")
    said = {"v": 1, "type": sort, "uuid": uuid(number), "at": time.replace("+00:00", "Z"), **fields}
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def process(cwd: str | None = "/home/ada/orchard", **fields: Any) -> bytes:
    """The first line of a file."""
    said: Json = {
        "pid": 4711,
        "started": 1772442000000,
        "library": "llma-recorder",
        "library_version": "0.1.0",
        **fields,
    }
    return line("process", 0, language="python", **(said if cwd is None else {**said, "cwd": cwd}))


IN_TRACE: dict[str, Any] = {"trace_id": "review-1", "session_id": "pull-52984", "distinct_id": "review-bot"}

EVERYTHING = b"".join([
    process(),
    line("embedding", 1, **IN_TRACE, span_id="embed-1", parent_id="retrieve-1", model="text-embedding-3-small",
         provider="openai", input=["apples", "pears"], usage={"input_tokens": 8}, latency_ms=120.5, http_status=200,
         cost={"total_usd": 0.00000016}, base_url="https://api.openai.com/v1", raw_usage={"prompt_tokens": 8},
         request_id="req_embed"),
    line("span", 2, **IN_TRACE, span_id="retrieve-1", name="retrieve", kind="retriever", latency_ms=300,
         input={"query": "apples"}, output=[{"id": 1, "text": "An apple."}], properties={"index": "fruit"}),
    line("generation", 3, **IN_TRACE, span_id="answer-1", name="answer", model="claude-opus-5-5", provider="anthropic",
         input=[{"role": "system", "content": "You count."}, {"role": "user", "content": "How many apples?"}],
         output=[{"role": "assistant", "content": [
             {"type": "text", "text": "I look."},
             {"type": "tool_use", "id": "toolu_1", "name": "count", "input": {"of": "apples"}}]}],
         usage={"input_tokens": 12, "output_tokens": 34, "cache_read_input_tokens": 1000,
                "cache_creation_input_tokens": 30, "cache_creation_5m_input_tokens": 10,
                "cache_creation_1h_input_tokens": 20, "reasoning_tokens": 5, "web_search_count": 1},
         cache_exclusive=True, raw_usage={"input_tokens": 12, "output_tokens": 34}, latency_ms=2500,
         time_to_first_token_ms=410, stream=True, cost={"total_usd": 0.0421, "input_usd": 0.02, "output_usd": 0.0221},
         http_status=200, stop_reason="tool_use", model_parameters={"max_tokens": 1000, "temperature": 0.5},
         tools=[{"name": "count", "input_schema": {"type": "object"}}], num_turns=3, request_id="req_1",
         base_url="https://api.anthropic.com", service_tier="priority", groups={"company": "orchard"},
         properties={"pull_request": 52984, "$ai_prompt_name": "review"}),
    line("generation", 4, **IN_TRACE, model="gpt-5", provider="openai", input="How many pears?", latency_ms=90,
         error={"type": "RateLimitError", "message": "Too many requests"}, http_status=429,
         usage={"input_tokens": 0, "output_tokens": 0}),
    line("generation", 5, model="gpt-5", provider="openai", input="Once?",
         output=[{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None,
             "tool_calls": [{"id": "call_1", "type": "function",
                             "function": {"name": "count", "arguments": '{"of": "pears"}'}}]}}],
         usage={"input_tokens": 1010, "output_tokens": 6, "cache_read_input_tokens": 1000}, cache_exclusive=False),
    line("span", 6, **IN_TRACE, parent_id="answer-1", name="count", kind="tool", input={"of": "apples"}, latency_ms=4,
         error={"type": "ValueError", "message": "no such tree"}),
    line("metric", 7, **IN_TRACE, metric="tests_added", value=4),
    line("feedback", 8, **IN_TRACE, parent_id="answer-1", feedback="helpful", value=True, text="It counted well."),
    line("trace", 9, **IN_TRACE, name="review", input="Review it", output={"verdict": "approve"}, latency_ms=9000,
         totals={"generations": 2, "spans": 2, "embeddings": 1, "errors": 2, "input_tokens": 1050, "output_tokens": 34,
                 "cost_usd": 0.0421}, outcome="failed", properties={"tier": "T1"}),
])  # fmt: skip
"""A file with a line of each type, and every field that a line may have."""


def spans(data: bytes, *, chunks: Sequence[int] | None = None) -> list[Span]:
    """Return what comes of the lines of one file, read in pieces whose sizes repeat *chunks*."""
    splitter, decode, found = LineSplitter(), OUTBOX.decoder(), list[Span]()
    accumulator = OUTBOX.accumulator(
        NAME, copied=lambda *_: False, opened=lambda *_: None, passed=lambda *_: None
    )  # fmt: skip
    position, sizes = 0, cycle(chunks or [max(1, len(data))])
    while position < len(data):
        size = next(sizes)
        for each in splitter.push(data[position : position + size]):
            try:
                record = decode(each.data or b"")
            except RecordError:
                continue
            place = LineRange(file=NAME, start=each.start, end=each.end)
            found += accumulator.feed(record, place, now=0.0)
        position += size
    return found


def write(folder: Path, *lines: bytes, name: str = NAME) -> Path:
    """Write lines to a file of an outbox, or add them to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    with path.open("ab", buffering=0) as file:
        for each in lines:
            file.write(each)
    path.chmod(0o600)
    return path
