"""What the logger for LiteLLM records of the real package, with its mock responses."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.each import for_each
from tests.support.recorded import ROOT, Recorded
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="LiteLLM is not installed: pip install './recorder[litellm]'"
)
Lines = Mapping[str, dict[str, Any]]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """The line of each call, by its user."""
    folder = tmp_path_factory.mktemp("litellm")
    outbox = folder / "outbox"
    outbox.mkdir()
    subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("litellm_program.py")],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "POSTHOG_LLMA_OUTBOX": str(outbox),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        capture_output=True,
        timeout=2 * PATIENCE,
        check=True,
    )
    found = Recorded(outbox).lines()
    by_user = {line["distinct_id"]: line for line in found}
    assert len(by_user) == len(found), "each call is recorded once"
    return by_user


def test_each_call_is_recorded_once_and_none_in_mock_mode(lines: Lines) -> None:
    kinds = {user: line["type"] for user, line in lines.items()}
    ways = ("sync", "async")
    assert kinds == {
        **{f"{way}{case}": "generation" for way in ways for case in ("", " stream", " failure")},
        **{f"{way} embedding": "embedding" for way in ways},
    }


def test_a_call_has_content_tokens_cost_and_latency(lines: Lines) -> None:
    for user in ("sync", "async", "sync stream", "async stream"):
        line = lines[user]
        assert (line["model"], line["provider"], line["stop_reason"]) == ("gpt-4o", "openai", "stop")
        assert line["input"] == [{"role": "user", "content": "hi"}]
        assert line["output"] == [{"role": "assistant", "content": "yo yo yo"}]
        assert line["usage"]["input_tokens"] > 0
        assert line["usage"]["output_tokens"] > 0
        cost = line["cost"]
        assert cost["total_usd"] == pytest.approx(cost["input_usd"] + cost["output_usd"])
        assert cost["total_usd"] > 0
        assert line["stream"] is ("stream" in user)
        assert ("time_to_first_token_ms" in line) is ("stream" in user)
        assert 0 <= line.get("time_to_first_token_ms", 0) <= line["latency_ms"]
        assert "error" not in line
        assert line["span_id"].startswith("chatcmpl-")


@for_each("user", ["sync failure", "async failure"])
def test_a_failure_has_class_message_and_status_and_no_tokens_or_cost(lines: Lines, user: str) -> None:
    line = lines[user]
    assert line["error"]["type"] == "RateLimitError"
    assert "this is a mock rate limit error" in line["error"]["message"]
    assert line["http_status"] == 429
    assert not {"usage", "cost", "output"} & set(line)
    assert line["input"] == [{"role": "user", "content": "hi"}]


@for_each("user", ["sync embedding", "async embedding"])
def test_an_embedding_has_its_input_its_tokens_and_its_cost(lines: Lines, user: str) -> None:
    line = lines[user]
    assert (line["model"], line["input"]) == ("text-embedding-3-small", ["a"])
    assert set(line["usage"]) == {"input_tokens"}
    assert line["cost"]["total_usd"] > 0


def test_a_request_names_its_user_trace_session_parent_and_project(lines: Lines) -> None:
    line = lines["async"]
    assert (line["trace_id"], line["session_id"], line["parent_id"], line["name"]) == ("t", "s", "p", "answer")
    assert (line["api_key"], line["host"]) == ("phc_other", "https://eu.example.com")
    # What LiteLLM adds to the metadata stays out.
    assert line["properties"] == {"team": "blue"}
    assert "secret" not in str(line)


def test_a_session_is_no_trace(lines: Lines) -> None:
    line = lines["sync"]
    assert line["session_id"] == "conversation"
    assert line["trace_id"] not in {"conversation", ""}
    assert line["model_parameters"] == {"temperature": 0.5}
    assert line["tools"][0]["function"]["name"] == "f"
