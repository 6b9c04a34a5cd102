"""The examples of the recorder's README run, and record what they say."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.support.recorded import ROOT, Recorded

ANSWER = {
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-5",
    "content": [{"type": "text", "text": "Yes."}],
    "usage": {"input_tokens": 10, "output_tokens": 2},
}
VECTORS = {"object": "list", "data": [{"object": "embedding", "embedding": [0.5]}], "usage": {"prompt_tokens": 2}}


class Sdk(ModuleType):
    """Stands for the Claude Agent SDK."""

    @staticmethod
    async def query(*, prompt: str, options: object) -> AsyncIterator[Any]:
        assert (prompt, options) == ("Review it", None)
        yield SimpleNamespace(subtype="init", data={"session_id": "s"})
        yield SimpleNamespace(subtype="success", session_id="s", num_turns=1)


def test_the_examples_run(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    stream = SimpleNamespace(text_stream=["Yes", "."], get_final_message=lambda: ANSWER)
    create = SimpleNamespace(create=lambda **_: ANSWER, stream=lambda **_: contextlib.nullcontext(stream))
    names: dict[str, Any] = {"client": SimpleNamespace(messages=create), "embed": lambda _: VECTORS, "options": None}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", Sdk("claude_agent_sdk"))
    asyncio.run(names["review"]("Review it"))
    kinds = [line["type"] for line in recorded.lines()]
    assert kinds == [
        *("generation", "trace", "generation", "embedding", "span"),
        *("generation", "embedding", "span", "metric", "feedback", "trace"),
        *("session", "session"),
    ]
    assert recorded.lines("generation")[0]["output"] == [{"role": "assistant", "content": ANSWER["content"]}]
    assert recorded.lines("generation")[1]["stream"] is True
    assert recorded.lines("embedding")[0]["parent_id"] == recorded.lines("span")[0]["span_id"]
    assert recorded.lines("span")[0]["properties"] == {"hits": 2}
    assert recorded.lines("trace")[1]["properties"] == {"verdict": "approve", "tier": "T1"}
