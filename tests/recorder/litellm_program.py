"""Calls LiteLLM in every way, with a scripted provider. It runs in a process of its own: LiteLLM takes long to import.

It records with this project's logger, and sends with LiteLLM's own at the same time, so that both can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import litellm
from litellm.integrations.posthog import PostHogLogger
from llma_recorder.litellm import Logger

PROVIDER = os.environ["PROVIDER"]
OUTBOX = Path(os.environ["POSTHOG_LLMA_OUTBOX"])
PATIENCE = 120.0
SECRET = "s3cret"
HI = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
OPENAI = {"model": "openai/gpt-4o", "api_base": f"{PROVIDER}/v1", "api_key": "sk-none", "messages": HI}
ANTHROPIC = {"model": "anthropic/claude-sonnet-4-5", "api_base": PROVIDER, "api_key": "sk-none", "messages": HI}
LIMITED = {**OPENAI, "model": "openai/gpt-4o-limited", "num_retries": 0, "max_retries": 0}
EMBED = {key: value for key, value in OPENAI.items() if key != "messages"} | {
    "model": "openai/text-embedding-3-small",
    "input": ["a"],
}
CALLS = {
    "chat": {**OPENAI, "temperature": 0.5, "tools": TOOLS, "litellm_session_id": "conversation"},
    "stream": {**OPENAI, "stream": True, "stream_options": {"include_usage": True}},
    "anthropic": {**ANTHROPIC, "max_tokens": 100},
    "anthropic stream": {**ANTHROPIC, "stream": True, "max_tokens": 100},
}


def synchronous() -> None:
    for kind, call in CALLS.items():
        answer = litellm.completion(**call, metadata={"user_id": f"sync {kind}"})
        for _ in answer if "stream" in kind else ():
            pass
    with contextlib.suppress(litellm.RateLimitError):
        litellm.completion(**LIMITED, metadata={"user_id": "sync failure"})
    litellm.embedding(**EMBED, metadata={"user_id": "sync embedding"})
    litellm.completion(
        **OPENAI,
        user="redacted",
        turn_off_message_logging=True,
        tools=[{"type": "function", "function": {"name": "f", "description": SECRET}}],
        stop=[SECRET],
        temperature=0.5,
    )
    with contextlib.suppress(litellm.RateLimitError):
        litellm.completion(**LIMITED, user="redacted failure", turn_off_message_logging=True)
    unpriced = {**OPENAI, "model": "openai/gpt-unpriced"}
    litellm.completion(**unpriced, metadata={"user_id": "unpriced", "trace_id": "a trace"})
    litellm.create_file(
        file=("a.jsonl", b"{}"),
        purpose="batch",
        custom_llm_provider="openai",
        api_base=f"{PROVIDER}/v1",
        api_key="sk-none",
        metadata={"user_id": "file"},
    )
    # What a proxy logs of a tool that it calls.
    Logger().log_success_event(
        {
            "litellm_params": {"metadata": {"user_id": "tool"}},
            "standard_logging_object": {
                "call_type": "call_mcp_tool",
                "model": "MCP: add",
                "status": "success",
                "metadata": {"mcp_tool_call_metadata": {"name": "add", "arguments": {"a": 1}}},
                "response": {"content": [{"type": "text", "text": "2"}]},
                "response_cost": 0.0,
            },
        },
        None,
        None,
        None,
    )
    # What PostHog does not take.
    litellm.completion(**OPENAI, metadata={"user_id": "refused"})


async def asynchronous() -> None:
    for kind, call in CALLS.items():
        answer = await litellm.acompletion(**call, metadata={"user_id": f"async {kind}"})
        if "stream" in kind:
            async for _ in answer:
                pass
    with contextlib.suppress(litellm.RateLimitError):
        await litellm.acompletion(**LIMITED, metadata={"user_id": "async failure"})
    await litellm.aembedding(**EMBED, metadata={"user_id": "async embedding"})
    await litellm.acompletion(**OPENAI)
    metadata = {
        "user_id": "not this one",
        "trace_id": "t",
        "session_id": "s",
        "parent_id": "p",
        "generation_name": "answer",
        "team": "blue",
        "posthog_api_url": "http://127.0.0.1:9",
    }
    await litellm.acompletion(**OPENAI, metadata=metadata, user="named", posthog_api_key="phc_other")
    await litellm.acompletion(**OPENAI, user="hosted", posthog_api_key="phc_other", posthog_host="http://127.0.0.1:9")
    router = litellm.Router(model_list=[{"model_name": "any", "litellm_params": {**OPENAI, "messages": None}}])
    await router.acompletion(model="any", messages=HI, metadata={"user_id": "routed", "team": "blue", "agent_id": 7})
    await router.aresponses(model="any", input="hi", metadata={"user_id": "routed response", "team": "blue"})
    with contextlib.suppress(Exception):
        broken = {**OPENAI, "model": "openai/gpt-4o-broken", "stream": True}
        async for _ in await litellm.acompletion(**broken, num_retries=0, metadata={"user_id": "broken"}):
            pass
    await asyncio.to_thread(wait_for, 24)


def wait_for(count: int) -> None:
    """Wait until so many lines are recorded, which LiteLLM does in the background."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if sum(path.read_bytes().count(b"\n") - 1 for path in OUTBOX.iterdir()) >= count:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{count} lines were not recorded")


if __name__ == "__main__":
    litellm.callbacks = [Logger(), PostHogLogger()]
    synchronous()
    asyncio.run(asynchronous())
    # What LiteLLM does in the background ends before the process does.
    os.environ["POSTHOG_MOCK"] = "true"
    litellm.completion(**OPENAI, metadata={"user_id": "mock"})
