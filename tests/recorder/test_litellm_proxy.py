"""LiteLLM's proxy, as its users run it, with the logger in its configuration: what its clients' calls become."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture_server import CaptureServer, Event
from tests.support.client import Workspace
from tests.support.documents import DOCS, Document
from tests.support.model_provider import ANSWER, ModelProvider
from tests.support.processes import environment, verb
from tests.support.recorded import ROOT, Recorded
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("litellm", "fastapi")),
    reason="LiteLLM's proxy is not installed: pip install -e '.[litellm-test]'",
)

KEY = "sk-a-master-key-for-a-proxy-that-only-this-test-talks-to"
MODELS = """
model_list:
  - model_name: chat
    litellm_params: {{model: openai/gpt-4o, api_base: "{url}/v1", api_key: sk-none}}
  - model_name: mocked
    litellm_params: {{model: openai/gpt-4o, api_key: sk-none, mock_response: "mocked"}}
  - model_name: limited
    litellm_params: {{model: openai/gpt-4o-limited, api_base: "{url}/v1", api_key: sk-none}}
  - model_name: embed
    litellm_params: {{model: openai/text-embedding-3-small, api_base: "{url}/v1", api_key: sk-none}}
  - model_name: claude
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: "{url}", api_key: sk-none}}
router_settings: {{num_retries: 0}}
general_settings: {{allow_client_side_credentials: true}}
"""
HI = [{"role": "user", "content": "hi"}]
METADATA = {
    "trace_id": "t",
    "session_id": "s",
    "parent_id": "p",
    "generation_name": "answer",
    "team": "blue",
    "posthog_api_key": "phc_other",
    "posthog_api_url": "http://127.0.0.1:9",
}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ada": ("chat/completions", {"model": "chat", "messages": HI, "user": "ada", "metadata": {"team": "blue"}}),
    "bea": ("chat/completions", {"model": "chat", "messages": HI, "user": "bea", "stream": True}),
    "cyd": ("chat/completions", {"model": "mocked", "messages": HI, "metadata": {"user_id": "cyd"}}),
    "dan": ("chat/completions", {"model": "limited", "messages": HI, "user": "dan", "num_retries": 0}),
    "eve": ("embeddings", {"model": "embed", "input": ["a"], "user": "eve"}),
    "fay": ("chat/completions", {"model": "chat", "messages": HI, "user": "fay", "metadata": METADATA}),
    "gil": ("responses", {"model": "chat", "input": "hi", "user": "gil", "metadata": {"team": "blue"}}),
    "hal": ("messages", {"model": "claude", "max_tokens": 9, "messages": HI, "metadata": {"user_id": "hal"}}),
    "ida": ("chat/completions", {"model": "mocked", "messages": HI}),
}
"""The calls, by their user: the path and the body."""
HEADERS = {"ida": {"x-litellm-end-user-id": "ida"}}
"""What some of them say in headers, as a gateway does that does not touch bodies."""


def configuration() -> str:
    """Return what the page tells the users of a proxy to write."""
    [block] = [block.text for block in Document(DOCS / "litellm.md").blocks if block.language == "yaml"]
    return block


@contextmanager
def proxy(folder: Path, outbox: Path, url: str) -> Iterator[int]:
    """Run the proxy, with the provider at *url*; yield its port."""
    config = folder / "proxy.yaml"
    config.write_text(configuration() + MODELS.format(url=url))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("litellm"), "--config", config),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "PYTHONPATH": str(ROOT),
                "POSTHOG_LLMA_OUTBOX": str(outbox),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MASTER_KEY": KEY,
            },
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        # It imports for many seconds, and for minutes on a busy machine.
        until(lambda: is_ready(process, port, folder / "proxy.log"), "the proxy", 2 * PATIENCE)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


def is_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text("utf-8", "replace")[-5000:]
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).status == 200)
    except (OSError, http.client.HTTPException):
        return False


def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    limit = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.05)


def call(port: int, path: str, body: dict[str, Any], more: Mapping[str, str]) -> tuple[int, str]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}", **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str]]:
    """What the clients got."""
    return {}


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[str, tuple[int, str]]
) -> tuple[Mapping[str, dict[str, Any]], Mapping[str, Event]]:
    """The line and the event of each call, by its user."""
    workspace = Workspace(tmp_path_factory.mktemp("proxy") / "machine")
    workspace.state.mkdir(mode=0o700)
    outbox = workspace.state / "outbox"
    outbox.mkdir(mode=0o700)
    with ModelProvider() as provider, proxy(workspace.work, outbox, provider.url) as port:
        for user, (path, body) in CALLS.items():
            answers[user] = call(port, path, body, HEADERS.get(user, {}))
        # LiteLLM tells its callbacks in the background.
        until(lambda: len(Recorded(outbox).lines()) >= len(CALLS), "the lines")
    # It has ended, and what it still had to say is written.
    lines = Recorded(outbox).lines()
    assert sorted(line["distinct_id"] for line in lines) == sorted(CALLS), "each call is recorded once"
    events = asyncio.run(delivered(workspace))
    return {line["distinct_id"]: line for line in lines}, {event["distinct_id"]: event for event in events}


async def delivered(workspace: Workspace) -> list[Event]:
    async with CaptureServer() as server:
        await verb(workspace, "run", "--once", env=environment(workspace, server.url))
        return list(server.events)


Outcome = tuple[Mapping[str, dict[str, Any]], Mapping[str, Event]]


def test_the_proxy_answers_as_without_the_logger(outcome: Outcome, answers: dict[str, tuple[int, str]]) -> None:
    assert outcome
    assert {user: status for user, (status, _) in answers.items()} == dict.fromkeys(CALLS, 200) | {"dan": 429}
    assert ANSWER in answers["ada"][1]
    assert answers["bea"][1].endswith("data: [DONE]\n\n")


def test_every_call_of_a_client_is_an_event_but_those_for_a_project_that_nobody_has_allowed(outcome: Outcome) -> None:
    _, events = outcome
    assert {user: (event["event"], event["properties"]["$ai_model"]) for user, event in events.items()} == {
        **dict.fromkeys(("ada", "bea", "cyd", "gil", "ida"), ("$ai_generation", "gpt-4o")),
        "dan": ("$ai_generation", "gpt-4o-limited"),
        "eve": ("$ai_embedding", "text-embedding-3-small"),
        "hal": ("$ai_generation", "claude-sonnet-4-5"),
    }


def test_an_answer_has_its_tokens_cost_and_content(outcome: Outcome) -> None:
    lines, events = outcome
    for user in ("ada", "bea", "gil"):
        said = events[user]["properties"]
        assert (said["$ai_input_tokens"], said["$ai_cache_read_input_tokens"], said["$ai_output_tokens"]) == (
            1200,
            1024,
            7,
        )
        assert said["$ai_total_cost_usd"] == pytest.approx(0.00179)
        assert ANSWER in json.dumps(said["$ai_output_choices"])
        assert ("$ai_time_to_first_token" in said) is (user == "bea")
    claude = events["hal"]["properties"]
    assert (claude["$ai_cache_read_input_tokens"], claude["$ai_cache_creation_input_tokens"]) == (1000, 300)
    assert claude["$ai_total_cost_usd"] == pytest.approx(0.00204)
    assert ANSWER in json.dumps(claude["$ai_output_choices"])
    assert lines["cyd"]["output"] == [{"role": "assistant", "content": "mocked"}]


def test_a_failure_says_what_the_provider_said(outcome: Outcome) -> None:
    said = outcome[1]["dan"]["properties"]
    assert (said["$ai_is_error"], said["$ai_http_status"], said["$ai_error_type"]) == (True, 429, "RateLimitError")
    assert "too many requests" in said["$ai_error"]
    assert not {"$ai_input_tokens", "$ai_output_tokens", "$ai_total_cost_usd"} & set(said)


def test_a_client_names_its_trace_its_session_and_its_project(outcome: Outcome) -> None:
    line = outcome[0]["fay"]
    assert (line["trace_id"], line["session_id"], line["parent_id"], line["name"]) == ("t", "s", "p", "answer")
    assert (line["api_key"], line["host"]) == ("phc_other", "http://127.0.0.1:9")


def test_only_what_a_client_has_sent_becomes_properties_and_no_key_of_it_is_written(outcome: Outcome) -> None:
    lines, events = outcome
    assert {user: line["properties"] for user, line in lines.items() if "properties" in line} == {
        user: {"team": "blue"} for user in ("ada", "fay", "gil")
    }
    assert events["ada"]["properties"]["team"] == "blue"
    assert KEY not in json.dumps([lines, events])
