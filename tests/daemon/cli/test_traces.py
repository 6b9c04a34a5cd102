from __future__ import annotations

import asyncio
import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli.traces import traces
from daemon.delivering.local.sink import LocalSink
from daemon.state.layout import events_path
from daemon.state.rows import FrozenRoute
from daemon.state.store import Store
from llma_core.events import CaptureEvent
from tests.support.sample_events import generation, span, trace


def keep(state_dir: Path, *events: CaptureEvent) -> None:
    async def write() -> None:
        sink = LocalSink(events_path(state_dir))
        await sink.send(events)
        await sink.aclose()

    asyncio.run(write())


def run(state_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(traces, ["--state-dir", str(state_dir), *arguments], catch_exceptions=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of the user who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in ("POSTHOG_HOST", "POSTHOG_LLMA_STATE_DIR", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    keep(
        tmp_path,
        generation("a", trace_id="aa-old", at=1),
        trace("The old one", trace_id="aa-old"),
        generation("b", trace_id="ab-new", at=5, cache=(7, 8), text="secret"),
        span("c", "Read", parent="b", trace_id="ab-new", at=6),
        trace("The new one", trace_id="ab-new", at=4),
    )
    return tmp_path


def test_shows_every_trace_as_a_tree_the_newest_first(filled: Path) -> None:
    result = run(filled)
    assert result.exit_code == 0
    names = [line.split("  ")[0] for line in result.stdout.splitlines() if line.startswith("The")]
    assert names == ["The new one", "The old one"]
    assert "    └── Read  0.50 s  ok" in result.stdout


def test_shows_no_more_than_the_limit(filled: Path) -> None:
    result = run(filled, "--limit", "1")
    assert "The new one" in result.stdout
    assert "The old one" not in result.stdout
    assert run(filled, "--limit", "0").exit_code == 2


def test_shows_the_one_trace_that_is_asked_for(filled: Path) -> None:
    result = run(filled, "aa")
    assert "The old one" in result.stdout
    assert "The new one" not in result.stdout


def test_an_unknown_or_ambiguous_id_is_an_error_in_one_line(filled: Path) -> None:
    for prefix, words in (("zz", "no local trace begins with 'zz'"), ("a", "2 local traces begin with 'a'")):
        result = run(filled, prefix)
        assert result.exit_code == 1
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_whole_id_is_found_even_if_another_begins_with_it(tmp_path: Path) -> None:
    keep(tmp_path, generation("a", trace_id="one"), generation("b", trace_id="one-more"))
    assert run(tmp_path, "one").exit_code == 0


def test_json_is_one_object_per_line_with_events_but_not_their_content(filled: Path) -> None:
    result = run(filled, "--json")
    new, old = (json.loads(line) for line in result.stdout.splitlines())
    events = new.pop("events")
    assert new == {
        "trace_id": "ab-new",
        "name": "The new one",
        "project": "sample-project",
        "ended": True,
        "started": "2026-11-20T12:00:04.000Z",
        "seconds": 2.0,
        "generations": 1,
        "tool_calls": 1,
        "errors": 0,
        "input_tokens": 100,
        "output_tokens": 10,
        "cache_read_tokens": 7,
        "cache_write_tokens": 8,
    }
    assert [(event["kind"], event["label"]) for event in events] == [
        ("generation", "claude-opus-5-5"),
        ("span", "Read"),
        ("trace", "The new one"),
    ]
    assert events[1]["parent_id"] == "b"
    assert "cache_read_tokens" not in old
    assert "secret" not in result.stdout


def test_without_local_events_it_says_what_to_run(tmp_path: Path) -> None:
    keep(tmp_path / "empty")
    for state_dir in (tmp_path / "none", tmp_path / "empty"):
        result = run(state_dir)
        assert result.exit_code == 1
        assert "posthog-llma-daemon run --local" in result.stderr
        assert "--from-start" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_an_unreadable_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    path = events_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database at all" * 100)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "cannot read" in result.stderr
    assert "move it away" in result.stderr


def test_the_state_dir_is_the_configured_one(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(filled))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(filled / "config"))
    monkeypatch.setenv("POSTHOG_LLMA_STATE_DIR", str(filled))
    result = CliRunner().invoke(traces, [], catch_exceptions=False)
    assert "The new one" in result.stdout
    monkeypatch.setenv("POSTHOG_LLMA_STATE_DIR", "")
    monkeypatch.setenv("POSTHOG_HOST", "not a host")
    result = CliRunner().invoke(traces, [], catch_exceptions=False)
    assert result.exit_code == 78
    assert "--state-dir" in result.stderr


def test_url_prints_the_address_of_each_trace(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_HOST", "https://eu.i.posthog.com")
    result = run(filled, "--url")
    assert result.exit_code == 0
    place = "https://eu.posthog.com/llm-analytics/traces"
    assert result.stdout == f"{place}/ab-new\n{place}/aa-old\n"
    assert "only in the local file" in result.stderr
    assert run(filled, "--url", "aa").stdout == f"{place}/aa-old\n"
    assert run(filled, "--url", "--json").exit_code == 2


def test_url_works_for_a_trace_that_is_not_stored_locally(tmp_path: Path) -> None:
    assert run(tmp_path, "--url", "some-id").stdout == "https://us.posthog.com/llm-analytics/traces/some-id\n"


def test_url_without_anything_sent_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, "--url")
    assert result.exit_code == 1
    assert "posthog-llma-daemon login" in result.stderr
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_a_key")
    monkeypatch.setenv("POSTHOG_LLMA_CC_ENABLED", "true")
    result = run(tmp_path, "--url")
    assert (result.exit_code, "no session was sent yet" in result.stderr) == (1, True)


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a daemon that has sent three of four sessions, and keeps no local file."""
    logs = tmp_path / "claude" / "projects" / "-home-ada-orchard"
    logs.mkdir(parents=True)
    sessions = [f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd"]
    for age, session in enumerate(sessions):
        (logs / f"{session}.jsonl").write_text("{}\n")
        os.utime(logs / f"{session}.jsonl", (1_800_000_000 - age,) * 2)
    state = tmp_path / "state"
    state.mkdir()
    with closing(Store(state)) as store:
        store.begin(5, [])
        whose = {"distinct_id": "ada", "identified": True, "host": "https://eu.i.posthog.com", "key": "k"}
        store.freeze(
            {
                f"claude-code/{session}": FrozenRoute(**(whose | {"grouping": grouping, "host": host}))  # type: ignore[arg-type]
                for session, grouping, host in (
                    (sessions[0], "session", "https://eu.i.posthog.com"),
                    (sessions[2], "message", "https://us.i.posthog.com"),
                    (sessions[3], "session", None),
                )
            }
        )
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("POSTHOG_HOST", "https://eu.i.posthog.com")
    return state


def test_url_prints_where_the_sessions_that_were_sent_are(sending: Path) -> None:
    result = run(sending, "--url")
    assert result.exit_code == 0
    rest = "-0000-4000-8000-000000000000"
    assert result.stdout.splitlines() == [
        f"https://eu.posthog.com/llm-analytics/traces/aaaaaaaa{rest}",
        f"https://us.posthog.com/llm-analytics/sessions/cccccccc{rest}",
        f"https://eu.posthog.com/llm-analytics/traces/dddddddd{rest}",
    ]
    assert (
        run(sending, "--url", "--limit", "1").stdout == f"https://eu.posthog.com/llm-analytics/traces/aaaaaaaa{rest}\n"
    )
    assert "current" in result.stderr
    assert run(sending, "--url", "cc").stdout == f"https://us.posthog.com/llm-analytics/sessions/cccccccc{rest}\n"
    assert run(sending, "--url", "elsewhere").stdout == "https://eu.posthog.com/llm-analytics/traces/elsewhere\n"
    assert run(sending, "--url", "").exit_code == 1, "it fits several"


@pytest.mark.parametrize("options", [[], ["--json"], ["--url"]])
def test_nothing_reaches_a_terminal_that_it_would_act_on(tmp_path: Path, options: list[str]) -> None:
    acting = "a\x9b31m b\u202e c\u2028 d\x7f e\u2066 f\x1b[2J g\U000e0041"
    keep(tmp_path, generation("a", error=(acting, acting)), trace(acting))

    result = run(tmp_path, *options)
    assert result.exit_code == 0
    assert not [char for char in result.stdout if char != "\n" and not char.isprintable()]
    if options == ["--json"]:
        assert json.loads(result.stdout)["name"] == acting
