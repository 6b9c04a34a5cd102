"""A program that records. It runs in an environment of its own, on the oldest Python that the recorder supports."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from typing import Any, AsyncIterator, Iterator  # noqa: UP035 -- as programs for Python 3.9 write it

from llma_recorder import TraceRecorder, claude_agent_sdk

RESPONSE = {
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 10},
}


@dataclasses.dataclass
class Odd:
    again: Any = None
    number: float = float("nan")
    data: bytes = b"\xff"
    text: str = "\ud800"


def stream(recorder: TraceRecorder) -> Iterator[int]:
    with recorder.span("stream"):
        yield 1


class Client:
    """A client of the Claude Agent SDK, which itself needs a newer Python."""

    async def receive_messages(self) -> AsyncIterator[Any]:
        yield {"subtype": "init", "data": {"session_id": "s"}}


async def work(recorder: TraceRecorder) -> None:
    async for _ in claude_agent_sdk.track(Client(), distinct_id="bot").receive_messages():
        pass
    async with recorder.span("task"):
        await asyncio.sleep(0)
        recorder.record_span("in the task")


async def tasks(recorder: TraceRecorder) -> None:
    await asyncio.gather(work(recorder), work(recorder))


def main() -> None:
    with TraceRecorder("review", properties={"pull_request": 1}, groups={"company": "acme"}) as recorder:
        odd = Odd()
        odd.again = odd
        with recorder.span("all", input=odd, kind="agent") as span:
            with recorder.generation(model="opus", input=[{"role": "user", "content": "hi"}], tools=[odd]) as call:
                call.first_token()
                call.finish(RESPONSE)
            for _ in stream(recorder):
                recorder.record_span("beside the stream", output={1, 2})
            thread = threading.Thread(target=recorder.record_span, args=["thread"])
            thread.start()
            thread.join()
            span.finish({"ok": True}, odd=odd)
        asyncio.run(tasks(recorder))
        recorder.record_generation(model_usage={"a": {"inputTokens": 1}, "b": {"inputTokens": 3}}, total_cost_usd=4)
        recorder.record_embedding(input=("a", "b"), input_tokens=2)
        recorder.record_span("failed", error=ValueError("no"), http_status=500)
        recorder.record_metric("score", 0.5)
        recorder.record_feedback("helpful", True, text="thanks")
        child = os.fork()
        recorder.record_span("child" if not child else "parent")
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        assert recorder.flush()


if __name__ == "__main__":
    main()
