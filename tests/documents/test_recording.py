"""The examples of docs/recording.md record what they say, and the daemon delivers it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.documents import DOCS, ROOT, Document
from tests.support.processes import environment, verb
from tests.support.recorded import Recorded
from tests.support.waiting import PATIENCE

PAGE = Document(DOCS / "recording.md")
PLAIN, LITELLM, AGENT = (block.text for block in PAGE.blocks if block.language == "python")
ANSWER = {
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-5",
    "content": [{"type": "text", "text": "Hello"}],
    "usage": {"input_tokens": 2, "output_tokens": 1},
}
WAITING = """
import os, pathlib, time
limit = time.monotonic() + {patience}
outbox = pathlib.Path(os.environ["POSTHOG_LLMA_OUTBOX"])
while not any(path.read_bytes().count(b"\\n") > 1 for path in outbox.iterdir()):
    assert time.monotonic() < limit, "the call was not recorded"
    time.sleep(0.02)
"""
"""LiteLLM calls its loggers in the background."""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    folder = tmp_path / "outbox"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("POSTHOG_LLMA_OUTBOX", str(folder))
    return Recorded(folder)


class Sdk(ModuleType):
    """Stands for the Claude Agent SDK. tests/e2e/test_agent_sdk.py has the real one."""

    @staticmethod
    async def query(*, prompt: str, options: object) -> AsyncIterator[Any]:
        assert (prompt, options) == ("Good morning", None)
        yield SimpleNamespace(subtype="init", data={"session_id": "s"})
        yield SimpleNamespace(subtype="success", session_id="s", num_turns=1)


def test_plain_python_and_the_agent_sdk(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    exec(compile(PLAIN, PAGE.name, "exec"), {"ask": lambda _: ANSWER})
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", Sdk("claude_agent_sdk"))
    names: dict[str, Any] = {"options": None}
    exec(compile(AGENT, PAGE.name, "exec"), names)
    asyncio.run(names["greet"]())

    generation, trace, start, end = recorded.lines()
    assert generation["usage"] == {"input_tokens": 2, "output_tokens": 1}
    assert generation["input"] == "Good morning"
    assert generation["output"] == [{"role": "assistant", "content": ANSWER["content"]}]
    assert (trace["type"], trace["name"], trace["totals"]["generations"]) == ("trace", "greeting", 1)
    assert (start["phase"], start["properties"], end["num_turns"]) == ("start", {"ticket": 7}, 1)
    assert {line["distinct_id"] for line in (generation, trace, start)} == {"ada"}


@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="LiteLLM is not installed")
def test_litellm(recorded: Recorded, tmp_path: Path) -> None:
    mocked = LITELLM.replace('user="ada"', 'user="ada", mock_response="Hello"')
    assert mocked != LITELLM
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", mocked + WAITING.format(patience=PATIENCE)],
        env={
            **Workspace(tmp_path / "machine").environment(),
            "PYTHONPATH": str(ROOT / "recorder"),
            "POSTHOG_LLMA_OUTBOX": str(recorded.folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        timeout=2 * PATIENCE,
        check=True,
    )
    [line] = recorded.lines()
    assert (line["type"], line["model"], line["distinct_id"]) == ("generation", "gpt-4o", "ada")
    assert line["output"] == [{"role": "assistant", "content": "Hello"}]


def test_the_proxys_configuration_names_the_logger() -> None:
    [block] = [block.text for block in PAGE.blocks if block.language == "yaml"]
    module, _, name = yaml.safe_load(block)["litellm_settings"]["callbacks"].rpartition(".")
    path = ROOT.joinpath("recorder", *module.split(".")).with_suffix(".py")
    assert re.search(rf"^{name} = Logger\(\)$", path.read_text("utf-8"), re.MULTILINE)


def run_shell() -> None:
    [block] = [block.text for block in PAGE.blocks if block.language == "bash"]
    subprocess.run(["bash", "-eu", "-c", block], timeout=PATIENCE, check=True)


async def test_a_shell_writes_a_line_that_is_delivered(workspace: Workspace, recorded: Recorded) -> None:
    run_shell()
    [path] = recorded.files
    # Quiet for a while, as it is when nothing comes any more.
    os.utime(path, (time.time() - 60, time.time() - 60))
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url, POSTHOG_LLMA_OUTBOX=os.environ["POSTHOG_LLMA_OUTBOX"])
        ended = await verb(workspace, "run", "--once", env=env)
    assert ended.status == 0, ended.stderr
    [event] = posthog.events
    assert (event["event"], event["distinct_id"]) == ("$ai_generation", "ada")
    properties = event["properties"]
    assert (properties["$ai_model"], properties["$ai_latency"]) == ("gpt-4o", 0.812)
    assert (properties["$ai_input_tokens"], properties["$ai_output_tokens"]) == (2, 1)
    assert not path.exists(), "the file is removed once its events are accepted"
