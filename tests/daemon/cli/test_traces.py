from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from daemon.cli.traces import traces
from daemon.delivering.local.events import LocalEvents
from daemon.delivering.local.sink import LocalSink
from daemon.state.layout import events_path
from daemon.state.rows import FrozenRoute
from daemon.state.store import Store
from llma_core.events import CaptureEvent
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.logs import usage as used
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
    names = [line for line in result.stdout.splitlines() if "  The" in line]
    assert names == ["ab-new  The new one", "aa-old  The old one"]
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
    for prefix, words in (("zz", "no trace or session begins with 'zz'"), ("a", "2 traces begin with 'a'")):
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
        "cost_usd": pytest.approx(0.000641),
        "generations": 1,
        "tool_calls": 1,
        "embeddings": 0,
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


def test_without_any_session_it_says_where_it_looked(tmp_path: Path) -> None:
    result = run(tmp_path / "none")
    assert result.exit_code == 1
    assert f"no session logs in {tmp_path}/home/.claude" in " ".join(result.stderr.split())
    assert "set CLAUDE_CONFIG_DIR" in " ".join(result.stderr.split())
    assert "recorded" not in result.stderr


def test_where_programs_record_it_says_that_nothing_recorded_is_left(tmp_path: Path) -> None:
    outbox = tmp_path / "none" / "outbox"
    outbox.parent.mkdir(mode=0o700)
    outbox.mkdir(mode=0o700)
    result = run(tmp_path / "none")
    assert f"No recorded calls wait in {outbox} either" in " ".join(result.stderr.split())


SESSIONS = tuple(f"{number}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b" for number in range(3))


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a machine with three sessions that nothing has read yet."""
    config = tmp_path / "claude"
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(config))
    monkeypatch.setenv("TZ", "UTC")
    for number, session in enumerate(SESSIONS):
        cwd = "/home/ada/meadow" if number == 2 else "/home/ada/orchard"
        log = LogBuilder(session=session, cwd=cwd, start=f"2026-03-0{number + 2}T10:00:00.000Z")
        log.prompt(f"Prune tree {number} behind the house")
        log.answer(
            tool_use("Grep", {"path": "trees", "pattern": f"apple{number}"}, id="toolu_1"),
            tool_use("Bash", {"description": "looks", "command": f"ls {number}"}, id="toolu_2"),
            model="claude-opus-5",
            counts=used(1_000_000, 0, cache_read=0, cache_5m=0, cache_1h=0),
        )
        log.tool_result("toolu_1", "one")
        log.tool_result("toolu_2", "two" if number else "failed", error=not number)
        log.answer(text(f"Done with number{number}."), model="claude-opus-5")
        log.write(config / "projects")
        written = datetime(2026, 3, number + 2, 10, 1, tzinfo=UTC).timestamp()
        os.utime(config / "projects" / log.path, (written, written))
    return tmp_path / "state"


def heads(result: Result) -> list[str]:
    """Return the short ids of the sessions that are shown."""
    assert result.exit_code == 0, result.output
    return [line[:8] for line in result.stdout.splitlines() if "Prune tree" in line]


def test_sessions_are_read_when_they_are_asked_for(logged: Path) -> None:
    result = run(logged, SESSIONS[1][:4])
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == f"{SESSIONS[1][:8]} Prune tree 1 behind the house"
    assert lines[1].startswith("orchard 2026-03-03 10:00:")
    assert " $5.0" in lines[1]
    assert any("Grep 0" in line and line.endswith(" ok apple1") for line in lines)
    assert any("Bash 0" in line and line.endswith(" ok ls 1") for line in lines), (
        "the command says more than its description"
    )
    assert heads(result) == [SESSIONS[1][:8]]
    assert heads(run(logged)) == [each[:8] for each in reversed(SESSIONS)]


def test_the_latest_sessions_are_read_first(logged: Path) -> None:
    assert heads(run(logged, "--limit", "2")) == [SESSIONS[2][:8], SESSIONS[1][:8]]
    known = {each.session_id for each in LocalEvents(events_path(logged)).traces()}
    assert known == {SESSIONS[2], SESSIONS[1]}


def test_traces_are_chosen_by_time_project_failures_and_words(logged: Path) -> None:
    first, second, third = (each[:8] for each in SESSIONS)
    assert heads(run(logged, "--since", "2026-03-03")) == [third, second]
    assert heads(run(logged, "--project", "/home/ada/orchard")) == [second, first]
    assert heads(run(logged, "--project", "meadow")) == [third]
    assert heads(run(logged, "--errors")) == [first]
    assert heads(run(logged, "--search", "number1 done")) == [second]
    assert heads(run(logged, "--search", "behind house", "--project", "orchard", "--limit", "1")) == [second]
    result = run(logged, "--errors", "--project", "meadow")
    assert (result.exit_code, result.stdout, "no trace is like that" in result.stderr) == (0, "", True)
    assert run(logged, "--url", "--errors").exit_code == 2


def test_a_search_that_cannot_index_words_says_why(logged: Path) -> None:
    assert run(logged).exit_code == 0
    with closing(sqlite3.connect(events_path(logged))) as connection, connection:
        connection.execute("UPDATE kept SET indexed = 0")
        connection.execute("CREATE TRIGGER fails BEFORE UPDATE ON kept BEGIN SELECT RAISE(ABORT, 'disk fails'); END")
    result = run(logged, "--search", "number1")
    assert result.exit_code == 1
    assert "cannot index the words in" in result.stderr
    assert "disk fails; fix that and try again" in " ".join(result.stderr.split())


def test_a_session_of_many_traces_is_shown_by_its_own_id(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_LLMA_TRACE_GROUPING", "message")
    [document] = run(logged, SESSIONS[0][:8], "--json").stdout.splitlines()
    turn = json.loads(document)["trace_id"]
    assert turn != SESSIONS[0]
    assert heads(run(logged, turn[:12])) == heads(run(logged, SESSIONS[0])) == [turn[:8]]


def test_a_session_that_goes_on_has_its_prompt_and_title(tmp_path: Path) -> None:
    keep(tmp_path, generation("a", trace_id="aa", title="Count trees", prompt="How many trees are there?"))
    assert run(tmp_path, "aa").stdout.splitlines()[0] == "aa  Count trees  > How many trees are there?"


def test_calls_that_are_not_logged_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    log = LogBuilder()
    log.prompt("Count the trees")
    log.cost_state(added=0, removed=0, models={"claude-haiku-4-5": [3, 7, 0, 0]})
    log.write(tmp_path / "claude" / "projects")
    assert "claude-haiku-4-5  side calls  3 in 7 out" in run(tmp_path).stdout


def test_every_prompt_stands_where_its_turn_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    log = LogBuilder()
    log.prompt("Count the trees")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_1"))
    log.tool_result("toolu_1", "three")
    log.answer(text("Three."))
    for _ in range(2):
        log.prompt("Go on")
        log.answer(text("Four."))
    log.prompt("And \x1b[31mnow?\nSay it.")
    log.api_error(529, "overloaded_error")
    log.answer(text("Five."))
    log.write(tmp_path / "claude" / "projects")
    lines = run(tmp_path).stdout.splitlines()
    assert "Count the trees" in lines[0]
    prompts = [line.partition("> ")[2] for line in lines[1:] if "── > " in line]
    assert prompts == ["Go on", "Go on", "And [31mnow? Say it."]
    assert ["── > " in line for line in lines[-2:]] == [False, False]


def test_long_trees_are_paged_on_a_terminal_only(
    logged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paged: list[str] = []
    monkeypatch.setattr("click.echo_via_pager", lambda drawn, **_: paged.append(drawn))
    for height, times in (("5", 1), ("500", 0)):
        paged.clear()
        terminal = Console(force_terminal=True, width=100, height=int(height), highlight=False)
        monkeypatch.setattr("daemon.cli.traces.stdout", lambda terminal=terminal: terminal)
        traces.main(["--state-dir", str(logged)], standalone_mode=False)
        assert len(paged) == times
        assert ("Prune tree" in capsys.readouterr().out) == (not times)


def test_an_unreadable_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    run(tmp_path)
    path = events_path(tmp_path)
    path.write_bytes(b"not a database at all" * 1000)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "move the file away to start over" in result.stderr


def test_the_state_dir_is_the_configured_one(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(filled))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(filled / "config"))
    monkeypatch.setenv("POSTHOG_LLMA_STATE_DIR", str(filled))
    result = CliRunner().invoke(traces, [], catch_exceptions=False)
    assert "The new one" in result.stdout
    monkeypatch.setenv("POSTHOG_LLMA_STATE_DIR", "")
    monkeypatch.setenv("POSTHOG_HOST", "not a host")
    for options in ([], ["--url"]):
        assert CliRunner().invoke(traces, options, catch_exceptions=False).exit_code == 78


def test_url_prints_the_address_of_each_trace(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_HOST", "https://eu.i.posthog.com")
    result = run(filled, "--url")
    assert result.exit_code == 0
    place = "https://eu.posthog.com/llm-analytics/traces"
    assert result.stdout == f"{place}/ab-new\n{place}/aa-old\n"
    assert "nothing is sent from here" in result.stderr
    assert "`posthog-llma-daemon view` shows sessions on this machine" in " ".join(result.stderr.split())
    assert run(filled, "--url", "aa").stdout == f"{place}/aa-old\n"
    assert run(filled, "--url", "--json").exit_code == 2
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_a_key")
    monkeypatch.setenv("POSTHOG_LLMA_CC_ENABLED", "true")
    assert "only in the local file" in run(filled, "--url").stderr


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
