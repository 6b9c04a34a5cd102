"""Calls LiteLLM in every way with its mock responses. It runs in a process of its own: LiteLLM takes long to import."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import litellm
from llma_recorder.litellm import Logger

HI = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
OUTBOX = Path(os.environ["POSTHOG_LLMA_OUTBOX"])
FAILING = "litellm.RateLimitError"
PATIENCE = 60.0


def calling(name: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": HI, "metadata": {"user_id": name}, "mock_response": "yo yo yo", **more}


def embedding(name: str) -> dict[str, Any]:
    metadata = {"user_id": name}
    return {"model": "text-embedding-3-small", "input": ["a"], "mock_response": [0.25], "metadata": metadata}


def synchronous() -> None:
    litellm.completion(**calling("sync", temperature=0.5, tools=TOOLS, litellm_session_id="conversation"))
    for _ in litellm.completion(**calling("sync stream", stream=True)):
        pass
    with contextlib.suppress(litellm.RateLimitError):
        litellm.completion(**calling("sync failure", mock_response=FAILING, num_retries=0))
    litellm.embedding(**embedding("sync embedding"))


async def asynchronous() -> None:
    metadata = {
        "user_id": "not this one",
        "trace_id": "t",
        "session_id": "s",
        "parent_id": "p",
        "generation_name": "answer",
        "team": "blue",
        "posthog_api_url": "https://eu.example.com",
        "user_api_key_hash": "secret",
        "headers": {"authorization": "secret"},
    }
    await litellm.acompletion(**calling("-", user="async", metadata=metadata, posthog_api_key="phc_other"))
    async for _ in await litellm.acompletion(**calling("async stream", stream=True)):
        pass
    with contextlib.suppress(litellm.RateLimitError):
        await litellm.acompletion(**calling("async failure", mock_response=FAILING, num_retries=0))
    await litellm.aembedding(**embedding("async embedding"))
    await asyncio.to_thread(wait_for, 8)


def wait_for(count: int) -> None:
    """Wait until so many lines are recorded, which LiteLLM does in the background."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if sum(path.read_bytes().count(b"\n") - 1 for path in OUTBOX.iterdir()) >= count:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{count} lines were not recorded")


if __name__ == "__main__":
    litellm.callbacks = [Logger()]
    synchronous()
    asyncio.run(asynchronous())
    # What LiteLLM does in the background ends before the process does.
    os.environ["POSTHOG_MOCK"] = "true"
    litellm.completion(**calling("mock"))
