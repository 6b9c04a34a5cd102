"""What the logger for LiteLLM records of the real package, beside what LiteLLM's own logger for PostHog sends.

One program calls a scripted provider in every way, with both loggers. What is recorded goes through the daemon to a
receiver; LiteLLM's own logger sends to the provider's `/batch/`. docs/litellm.md has a table of both, which
UPDATE_DOCS=1 writes anew.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture_server import Answer, CaptureServer, Event
from tests.support.client import Workspace
from tests.support.documents import DOCS, Document
from tests.support.each import for_each
from tests.support.model_provider import ANSWER, REFUSED, THINKING, ModelProvider
from tests.support.processes import environment, verb
from tests.support.recorded import ROOT, Recorded
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="LiteLLM is not installed: pip install -e '.[litellm-test]'"
)

WAYS = ("sync", "async")
KINDS = ("chat", "stream", "anthropic", "anthropic stream", "failure", "embedding")
ANSWERED = KINDS[:4]
PAGE = DOCS / "litellm.md"


@dataclass(frozen=True)
class Sides:
    """What came of the same calls.

    Attributes:
        lines: what is recorded, by user.
        ours: the daemon's events, by user.
        theirs: the events of LiteLLM's own logger, by user.
        status: what the daemon says of itself afterwards.
        shown: what `traces` shows.
    """

    lines: Mapping[str, dict[str, Any]]
    ours: Mapping[str, Event]
    theirs: Mapping[str, Event]
    status: Mapping[str, Any]
    shown: str


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    workspace = Workspace(tmp_path_factory.mktemp("litellm") / "machine")
    workspace.state.mkdir(mode=0o700)
    outbox = workspace.state / "outbox"
    outbox.mkdir(mode=0o700)
    with ModelProvider() as provider:
        subprocess.run(
            [sys.executable, "-W", "ignore", Path(__file__).with_name("litellm_program.py")],
            env={
                **workspace.environment(),
                "PYTHONPATH": str(ROOT),
                "POSTHOG_LLMA_OUTBOX": str(outbox),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "PROVIDER": provider.url,
                "POSTHOG_API_KEY": "phc_theirs",
                "POSTHOG_API_URL": provider.url,
            },
            cwd=workspace.work,
            capture_output=True,
            timeout=2 * PATIENCE,
            check=True,
        )
        theirs = by_user(event for batch in provider.received for event in batch["batch"])
    found = Recorded(outbox).lines()
    lines = {line["distinct_id"]: line for line in found}
    assert len(lines) == len(found), "each call is recorded once"
    ours, status, shown = asyncio.run(delivered(workspace))
    return Sides(lines, ours, theirs, status, shown)


async def delivered(workspace: Workspace) -> tuple[Mapping[str, Event], Mapping[str, Any], str]:
    """Deliver what is recorded; PostHog is away at first."""
    async with CaptureServer() as server:
        server.script(Answer(status=503))
        env = environment(workspace, server.url)
        await verb(workspace, "run", "--once", env=env)
        events = by_user(server.events)
    status = await verb(workspace, "status", "--json", env=env)
    shown = await verb(workspace, "traces", env=env)
    return events, json.loads(status.stdout), shown.stdout


def by_user(events: Iterable[Event]) -> dict[str, Event]:
    listed = list(events)
    found = {event["distinct_id"]: event for event in listed}
    assert len(found) == len(listed), "each call is sent once"
    return found


def users(*kinds: str) -> list[str]:
    return [f"{way} {kind}" for way in WAYS for kind in kinds]


# ---------------------------------------------------------------------- what is recorded


def test_each_call_is_recorded_once_and_sent_although_posthog_was_away(sides: Sides) -> None:
    wanted = {
        user: "embedding" if "embedding" in user else "generation" for user in (*users(*KINDS), REFUSED, "routed")
    }
    assert {user: line["type"] for user, line in sides.lines.items() if user in wanted} == wanted
    assert {user: event["event"] for user, event in sides.ours.items() if user in wanted} == {
        user: f"$ai_{kind}" for user, kind in wanted.items()
    }


def test_mock_mode_keeps_a_call_on_the_machine(sides: Sides) -> None:
    assert sides.lines["mock"]["local"] is True
    assert [user for user, line in sides.lines.items() if "local" in line] == ["mock"]
    assert "mock" not in sides.ours
    assert sides.status["recordings"]["kept_local"] == 1
    assert sides.lines["mock"]["trace_id"][:8] in sides.shown


def test_a_call_has_content_tokens_cost_and_latency(sides: Sides) -> None:
    for user in users(*ANSWERED):
        line = sides.lines[user]
        is_anthropic = "anthropic" in user
        model = ("claude-sonnet-4-5", "anthropic") if is_anthropic else ("gpt-4o", "openai")
        assert (line["model"], line["provider"], line["stop_reason"]) == (*model, "stop"), user
        assert line["input"] == [{"role": "user", "content": "hi"}]
        [output] = line["output"]
        assert (output["role"], output["content"]) == ("assistant", ANSWER)
        cost = line["cost"]
        assert cost["total_usd"] == pytest.approx(cost["input_usd"] + cost["output_usd"])
        assert cost["total_usd"] == pytest.approx(0.00204 if is_anthropic else 0.00179)
        properties = sides.ours[user]["properties"]
        assert properties["$ai_total_cost_usd"] == cost["total_usd"]
        assert properties["$ai_latency"] == pytest.approx(line["latency_ms"] / 1000, abs=0.001)
        assert "error" not in line
    chat = sides.lines["sync chat"]
    assert chat["model_parameters"] == {"temperature": 0.5}
    assert chat["tools"][0]["function"]["name"] == "f"


def test_cached_tokens_are_counted_as_their_provider_has_counted_them(sides: Sides) -> None:
    for user in users(*ANSWERED):
        line, properties = sides.lines[user], sides.ours[user]["properties"]
        assert line["cache_exclusive"] is False, "LiteLLM counts them in"
        if "anthropic" in user:
            assert line["usage"] == {
                "input_tokens": 1320,
                "output_tokens": 7,
                "reasoning_tokens": 0,
                "cache_read_input_tokens": 1000,
                "cache_creation_input_tokens": 300,
                "cache_creation_5m_input_tokens": 100,
                "cache_creation_1h_input_tokens": 200,
            }, user
            assert properties["$ai_cache_read_input_tokens"] == 1000
            assert properties["$ai_cache_creation_input_tokens"] == 300
        else:
            assert (line["usage"]["input_tokens"], line["usage"]["cache_read_input_tokens"]) == (1200, 1024), user
            assert properties["$ai_cache_read_input_tokens"] == 1024
            assert properties["$ai_reasoning_tokens"] == 2


def test_only_a_stream_has_a_time_to_its_first_token_which_comes_before_its_last(sides: Sides) -> None:
    for user in users(*ANSWERED):
        line = sides.lines[user]
        assert line["stream"] is ("stream" in user)
        assert ("time_to_first_token_ms" in line) is ("stream" in user)
        if "stream" in user:
            assert 0 < line["time_to_first_token_ms"] < line["latency_ms"]
            assert line["latency_ms"] > THINKING * 1000
            assert 0 < sides.ours[user]["properties"]["$ai_time_to_first_token"] < line["latency_ms"] / 1000


@for_each("user", users("failure"))
def test_a_failure_has_class_message_and_status_and_no_tokens_or_cost(sides: Sides, user: str) -> None:
    line = sides.lines[user]
    assert line["error"]["type"] == "RateLimitError"
    assert "too many requests" in line["error"]["message"]
    assert line["http_status"] == 429
    assert not {"usage", "cost", "output"} & set(line)
    assert line["input"] == [{"role": "user", "content": "hi"}]
    properties = sides.ours[user]["properties"]
    assert (properties["$ai_is_error"], properties["$ai_http_status"]) == (True, 429)


@for_each("user", users("embedding"))
def test_an_embedding_has_its_input_its_tokens_and_its_cost(sides: Sides, user: str) -> None:
    line = sides.lines[user]
    assert (line["model"], line["input"]) == ("text-embedding-3-small", ["a"])
    assert line["usage"] == {"input_tokens": 3}
    assert line["cost"]["total_usd"] == pytest.approx(6e-08)


def test_a_request_names_its_user_trace_session_parent_and_project(sides: Sides) -> None:
    line = sides.lines["named"]
    assert (line["trace_id"], line["session_id"], line["parent_id"], line["name"]) == ("t", "s", "p", "answer")
    assert (line["api_key"], line["host"]) == ("phc_other", "http://127.0.0.1:9")
    assert line["properties"] == {"team": "blue"}
    hosted = sides.lines["hosted"]
    assert (hosted["api_key"], hosted["host"]) == ("phc_other", "http://127.0.0.1:9")
    # Nobody has allowed that project yet.
    assert not {"named", "hosted"} & set(sides.ours)
    assert "config allow --host http://127.0.0.1:9 --key-stdin" in json.dumps(sides.status["held"])


def test_without_any_user_a_call_is_its_traces(sides: Sides) -> None:
    [(user, line)] = [(user, line) for user, line in sides.lines.items() if user == line["trace_id"]]
    assert user == line["trace_id"] == sides.ours[user]["properties"]["$ai_trace_id"]


def test_content_that_litellm_is_told_to_keep_out_of_logs_stays_out(sides: Sides) -> None:
    line = sides.lines["redacted"]
    assert line["privacy_mode"] is True
    assert not {"input", "output", "tools"} & set(line)
    assert line["model_parameters"] == {"temperature": 0.5}
    assert line["usage"]["input_tokens"] == 1200
    assert "s3cret" not in json.dumps(sides.lines)
    failure = sides.lines["redacted failure"]
    assert (failure["error"], failure["http_status"]) == ({"type": "RateLimitError"}, 429)


def test_a_model_that_litellm_has_no_price_for_is_not_free(sides: Sides) -> None:
    line = sides.lines["unpriced"]
    assert line["usage"]["input_tokens"] == 1200
    assert "cost" not in line
    assert not {"$ai_total_cost_usd", "$ai_cost_passthrough"} & set(sides.ours["unpriced"]["properties"])


def test_a_call_that_names_a_trace_alone_belongs_to_no_session(sides: Sides) -> None:
    assert sides.lines["unpriced"]["trace_id"] == "a trace"
    assert "session_id" not in sides.lines["unpriced"]


def test_what_calls_no_model_is_a_span(sides: Sides) -> None:
    file, tool = sides.lines["file"], sides.lines["tool"]
    assert (file["type"], file["name"], file["output"]["id"]) == ("span", "create_file", "file-1")
    assert "input" not in file
    assert (tool["type"], tool["kind"], tool["name"], tool["input"]) == ("span", "tool", "add", {"a": 1})
    assert tool["output"] == {"content": [{"type": "text", "text": "2"}]}


def test_a_stream_that_broke_off_is_a_failed_stream(sides: Sides) -> None:
    line = sides.lines["broken"]
    assert (line["stream"], line["http_status"], line["error"]["message"]) == (True, 500, "overloaded")
    assert not {"usage", "cost", "time_to_first_token_ms"} & set(line)


def test_what_litellm_adds_to_the_metadata_stays_out(sides: Sides) -> None:
    assert sides.lines["routed"]["properties"] == {"team": "blue", "agent_id": 7}
    assert sides.lines["routed"]["model"] == "gpt-4o"
    assert sides.lines["routed response"]["properties"] == {"team": "blue"}
    for user in users(*KINDS):
        assert "properties" not in sides.lines[user], user


# ---------------------------------------------------------------------- the flaws of LiteLLM's own logger


def both(sides: Sides, user: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return sides.theirs[user]["properties"], sides.ours[user]["properties"]


def test_flaw_an_async_embedding_is_no_generation(sides: Sides) -> None:
    theirs, ours = sides.theirs["async embedding"], sides.ours["async embedding"]
    assert (theirs["event"], theirs["properties"]["$ai_output_tokens"]) == ("$ai_generation", 0)
    assert ours["event"] == "$ai_embedding"
    assert "$ai_output_tokens" not in ours["properties"]


def test_flaw_a_failure_of_a_sync_call_is_sent(sides: Sides) -> None:
    assert "sync failure" not in sides.theirs
    assert sides.ours["sync failure"]["properties"]["$ai_is_error"] is True


def test_flaw_a_failure_has_no_tokens_and_no_cost(sides: Sides) -> None:
    theirs, ours = both(sides, "async failure")
    counted = ("$ai_input_tokens", "$ai_output_tokens", "$ai_total_cost_usd")
    assert [theirs[name] for name in counted] == [0, 0, 0]
    assert not set(counted) & set(ours)


def test_flaw_a_call_without_a_known_price_is_not_free(sides: Sides) -> None:
    theirs, ours = both(sides, "unpriced")
    assert theirs["$ai_total_cost_usd"] == 0
    assert "$ai_total_cost_usd" not in ours


def test_flaw_the_upload_of_a_file_is_no_generation(sides: Sides) -> None:
    assert sides.theirs["file"]["event"] == "$ai_generation"
    assert sides.ours["file"]["event"] == "$ai_span"


def test_flaw_every_event_has_an_identity_and_a_time(sides: Sides) -> None:
    assert not any({"uuid", "timestamp"} & set(event) for event in sides.theirs.values())
    assert all({"uuid", "timestamp"} <= set(event) for event in sides.ours.values())


def test_flaw_the_user_of_a_call_is_the_person(sides: Sides) -> None:
    assert "named" not in sides.theirs
    assert "not this one" in sides.theirs
    assert "named" in sides.lines


def test_flaw_the_output_is_the_answer_and_not_the_whole_response(sides: Sides) -> None:
    theirs, ours = both(sides, "sync chat")
    assert {"id", "created", "usage", "choices"} <= set(theirs["$ai_output_choices"])
    [choice] = ours["$ai_output_choices"]
    assert choice["role"] == "assistant"


def test_flaw_a_session_is_no_trace(sides: Sides) -> None:
    theirs, ours = both(sides, "sync chat")
    assert theirs["$ai_trace_id"] == "conversation"
    assert "$ai_session_id" not in theirs
    assert ours["$ai_session_id"] == "conversation"
    assert ours["$ai_trace_id"] not in {"conversation", ""}


def test_flaw_a_refused_batch_is_not_lost(sides: Sides) -> None:
    assert REFUSED not in sides.theirs
    assert REFUSED in sides.ours


def test_flaw_the_latency_of_a_stream_is_that_of_the_whole(sides: Sides) -> None:
    theirs, ours = both(sides, "async stream")
    assert theirs["$ai_latency"] < ours["$ai_latency"]
    assert theirs["$ai_latency"] == pytest.approx(ours["$ai_time_to_first_token"], abs=0.001)


def test_flaw_the_host_of_a_call_has_an_effect(sides: Sides) -> None:
    assert "not this one" in sides.theirs, "it came to the host of the environment"
    assert sides.lines["named"]["host"] == "http://127.0.0.1:9"


def test_flaw_what_litellm_adds_to_the_metadata_is_no_property(sides: Sides) -> None:
    theirs, ours = both(sides, "routed")
    assert "llm_api_timing_windows" in theirs
    assert {name for name in ours if not name.startswith(("$", "recorder_"))} & set(theirs) == {"team", "agent_id"}


# ---------------------------------------------------------------------- the table in the documents

SHOWN = {
    "answer": ("chat", "anthropic"),
    "stream": ("stream", "anthropic stream"),
    "failure": ("failure",),
    "embedding": ("embedding",),
}


def has(events: Mapping[str, Event], name: str) -> str:
    """Return which kinds of calls have a property, or a field of the event, as the table says it."""
    having = {user for user, event in events.items() if name in event or name in event["properties"]}
    found = {
        (way, word) for way in WAYS for word, kinds in SHOWN.items() if having & {f"{way} {kind}" for kind in kinds}
    }
    words = []
    for word in SHOWN:
        ways = [way for way in WAYS if (way, word) in found]
        if ways:
            words.append(word if len(ways) == len(WAYS) else f"{word} ({ways[0]})")
    return "all" if words == list(SHOWN) else ", ".join(words) or "no"


def table(sides: Sides) -> str:
    shown = users(*KINDS)
    names = {
        name
        for events in (sides.theirs, sides.ours)
        for user in shown
        if user in events
        for name in (*events[user].keys(), *events[user]["properties"])
    } - {"event", "properties"}
    rows = [f"| `{name}` | {has(sides.theirs, name)} | {has(sides.ours, name)} |" for name in sorted(names)]
    return "\n".join(["| property | LiteLLM's own | this logger |", "|---|---|---|", *rows, ""])


def test_the_page_has_every_property_of_both(sides: Sides) -> None:
    begin, end = "<!-- properties -->\n\n", "\n<!-- end -->"
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    wanted = f"{before}{begin}{table(sides)}{end}{after}"
    if os.environ.get("UPDATE_DOCS") == "1":
        PAGE.write_text(wanted, "utf-8")
    assert Document(PAGE).text == wanted, (
        "run UPDATE_DOCS=1 .venv/bin/python -m pytest -q -n 0 tests/recorder/test_litellm.py"
    )
