"""`usage` answers what was used and what it cost, from the logs on this machine."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.delivering.local.sink import LocalSink
from daemon.following.cadence import Cadence
from daemon.state.layout import events_path, local_folder
from daemon.state.lock import StateLock
from tests.support.local_file import age
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.logs import usage as used
from tests.support.reader import counted

SESSIONS = tuple(f"{number}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b" for number in range(3))
SINCE = ("--since", "2026-01-01")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "claude"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(folder))
    monkeypatch.setenv("POSTHOG_LLMA_STATE_DIR", str(tmp_path / "state"))
    return folder


def run(*arguments: str, given: str | None = None, pace: Cadence | None = None) -> Result:
    return CliRunner().invoke(main, ["usage", *arguments], input=given, catch_exceptions=False, obj=pace)


def documents(*arguments: str) -> dict[str, Any]:
    result = run("--json", *SINCE, *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def turn(log: LogBuilder, number: int, *, model: str = "claude-opus-5") -> None:
    log.prompt(f"Prune tree {number}")
    log.answer(tool_use("Bash", {"command": "ls"}, id=f"toolu_{number}"), model=model, counts=used(10, 20))
    log.tool_result(f"toolu_{number}", "ok" if number % 2 else "no", error=not number % 2)
    log.answer(text("Done."), model=model, counts=used(5, 30))


def orchard(config: Path) -> list[LogBuilder]:
    """Write three sessions in two projects, with two models."""
    logs = [
        LogBuilder(session=SESSIONS[0], cwd="/home/ada/orchard"),
        LogBuilder(session=SESSIONS[1], cwd="/home/ada/orchard"),
        LogBuilder(session=SESSIONS[2], cwd="/home/ada/meadow"),
    ]
    for number, log in enumerate(logs):
        for each in range(number + 1):
            turn(log, each, model="claude-opus-5" if number else "claude-haiku-4-5-20251001")
        log.write(config / "projects")
    return logs


def test_it_counts_what_another_reader_of_the_logs_counts(config: Path) -> None:
    logs = orchard(config)
    files: dict[str, bytes] = {}
    for log in logs:
        files |= log.files()
    expected = counted(files)
    found = {each["session"]: each for each in documents("--by", "session")["groups"]}
    assert set(found) == set(SESSIONS)
    for session, counts in expected.items():
        tokens = found[session]["tokens"]
        assert found[session]["calls"] == counts.generations
        assert (tokens["input"], tokens["output"]) == (counts.input, counts.output)
        assert tokens["cache_read"] == counts.cache_read
        assert tokens["cache_write_5m"] + tokens["cache_write_1h"] == counts.cache_creation


def test_dollars_are_those_of_the_price_list(config: Path) -> None:
    log = LogBuilder(session=SESSIONS[0])
    log.prompt("Count")
    million = used(1_000_000, 1_000_000, cache_read=1_000_000, cache_5m=1_000_000, cache_1h=1_000_000)
    log.answer(text("All."), model="claude-opus-5", counts=million)
    log.write(config / "projects")
    assert documents()["total"]["cost_usd"] == pytest.approx(5 + 25 + 0.5 + 6.25 + 10)


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("day", ["2026-03-02"]),
        ("project", ["orchard", "meadow"]),
        ("model", ["claude-opus-5", "claude-haiku-4-5-20251001"]),
        ("agent", ["claude-code"]),
        ("branch", ["main"]),
    ],
)
def test_each_grouping_adds_up_to_the_total(config: Path, by: str, keys: list[str]) -> None:
    orchard(config)
    found = documents("--by", by)
    assert {each[by] for each in found["groups"]} == set(keys)
    for name in ("calls", "cost_usd"):
        assert sum(each[name] for each in found["groups"]) == pytest.approx(found["total"][name])
    assert found["total"]["calls"] == 12


def test_a_day_is_a_day_of_the_machines_time_zone(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    orchard(config)
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    time.tzset()
    try:
        assert [each["day"] for each in documents()["groups"]] == ["2026-03-01"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_tools_are_counted_with_their_failures_and_durations(config: Path) -> None:
    orchard(config)
    result = run("--by", "tool", "--json", *SINCE)
    [bash] = json.loads(result.stdout)
    assert (bash["tool"], bash["calls"], bash["failed"]) == ("Bash", 6, 4)
    assert bash["seconds_p50"] == pytest.approx(0.1)
    assert bash["seconds_total"] == pytest.approx(0.6)


def test_what_a_log_grows_is_read_by_the_next_call(config: Path) -> None:
    [log, *_] = orchard(config)
    assert documents()["total"]["calls"] == 12
    turn(log, 7)
    log.write(config / "projects")
    assert documents()["total"]["calls"] == 14
    assert documents()["total"]["calls"] == 14


def test_it_is_quick_to_say_nothing_while_another_program_keeps_the_file_current(config: Path, tmp_path: Path) -> None:
    [log, *_] = orchard(config)
    documents()
    turn(log, 7)
    log.write(config / "projects")
    with StateLock(local_folder(tmp_path / "state")):
        assert documents()["total"]["calls"] == 12
    assert documents()["total"]["calls"] == 14


def test_a_program_that_makes_the_file_just_now_is_waited_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchard(config)
    documents()
    path = events_path(tmp_path / "state")
    for each in path.parent.glob("events.db*"):
        each.unlink()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        LocalSink(path).prepare()

    monkeypatch.setattr("time.sleep", wait)
    with StateLock(local_folder(tmp_path / "state")):
        assert documents()["total"]["calls"] == 0
    assert len(waits) == 1


def test_a_verb_that_is_reading_is_waited_for_as_it_may_read_less(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [log, *_] = orchard(config)
    documents()
    turn(log, 7)
    log.write(config / "projects")
    other = StateLock(local_folder(tmp_path / "state"), stage="ends", verb="traces")
    other.acquire()
    monkeypatch.setattr("time.sleep", lambda _seconds: other.release())
    assert documents()["total"]["calls"] == 14


def test_a_status_line_waits_only_a_moment_and_says_that_not_all_is_read(config: Path, tmp_path: Path) -> None:
    orchard(config)
    documents()
    with StateLock(local_folder(tmp_path / "state"), stage="ends", verb="traces"):
        result = run("--statusline", pace=Cadence(status_line=0.0))
    assert result.stdout == "$0.00 today · not all read yet\n"
    assert f"`traces` (pid {os.getpid()}) is still reading the logs" in result.stderr


def test_what_a_page_shows_before_it_has_read_the_logs_is_called_incomplete(config: Path, tmp_path: Path) -> None:
    [log, *_] = orchard(config)
    documents()
    turn(log, 7)
    log.write(config / "projects")
    with StateLock(local_folder(tmp_path / "state"), stage="starts", verb="view") as page:
        result = run("--json", *SINCE, pace=Cadence(starting=0.0))
        assert json.loads(result.stdout)["total"]["calls"] == 12
        assert "`view` (pid" in result.stderr
        assert "not complete yet" in result.stderr
        page.note_current()
        assert run("--json", *SINCE).stderr == ""


def test_deleting_the_local_file_costs_only_time(config: Path, tmp_path: Path) -> None:
    orchard(config)
    before = documents()
    for path in events_path(tmp_path / "state").parent.glob("events.db*"):
        path.unlink()
    assert documents() == before


@pytest.mark.parametrize("version", [0, 2, 3, 4, 5, 6])
def test_a_file_of_an_older_version_is_brought_up_to_date(config: Path, tmp_path: Path, version: int) -> None:
    orchard(config)
    path = events_path(tmp_path / "state")
    before = documents()

    def schema() -> list[tuple[str, str]]:
        # The bodies and their index of texts stay as they are.
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(
                """
                SELECT name, sql FROM sqlite_schema
                WHERE name NOT IN ('events', 'sqlite_sequence', 'sqlite_autoindex_events_1')
                AND name NOT LIKE 'text_index%' ORDER BY name
                """
            ).fetchall()

    made = schema()
    age(path, version)
    assert documents() == before
    assert schema() == made
    with closing(sqlite3.connect(path)) as connection:
        # Its texts are indexed already, or now.
        assert connection.execute("SELECT indexed FROM kept").fetchone() == (
            connection.execute("SELECT max(received) FROM events").fetchone()
        )


def test_calls_are_chosen_by_time_and_project(config: Path) -> None:
    orchard(config)
    assert documents("--project", "meadow")["total"]["calls"] == 6
    assert documents("--project", "/home/ada/orchard")["total"]["calls"] == 6
    assert documents("--until", "2026-03-01")["total"]["calls"] == 0


def test_the_overview_fits_80_columns_and_shows_days_sessions_and_models(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchard(config)
    monkeypatch.setenv("COLUMNS", "80")
    result = run(*SINCE)
    assert result.exit_code == 0
    for words in ("2026-03-02", f"{SESSIONS[2][:8]} Prune tree 0", "claude-opus-5", "at API list prices"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_model_without_a_price_is_named_and_in_no_sum(config: Path) -> None:
    log = LogBuilder(session=SESSIONS[0])
    turn(log, 1, model="orchard-model-1")
    log.write(config / "projects")
    result = run(*SINCE)
    assert "no price" in result.stdout
    assert "orchard-model-1 has no list price" in result.stdout
    assert documents()["total"]["cost_usd"] == 0
    assert documents()["total"]["unpriced_tokens"] == {"orchard-model-1": 65 + 2 * 1300}


def cost(session: str, found: dict[str, Any]) -> tuple[float, float | None, float | None]:
    [group] = [each for each in found["groups"] if each["session"] == session]
    return group["cost_usd"], group["client_cost_usd"], group.get("inherited_cost_usd")


def test_what_a_fork_has_inherited_is_no_difference(config: Path) -> None:
    """The client counts what the original had cost until then into the fork's own total, and so on."""
    million = used(1_000_000, 0, cache_read=0, cache_5m=0, cache_1h=0)
    original = LogBuilder(session=SESSIONS[0])
    original.prompt("Count")
    original.answer(text("One."), model="claude-opus-5", counts=million)
    fork = original.fork(SESSIONS[1])
    fork.prompt("Go on")
    fork.answer(text("Two."), model="claude-opus-5", counts=million)
    second = fork.fork(SESSIONS[2])
    second.prompt("Go on")
    second.answer(text("Three."), model="claude-opus-5", counts=million)
    # The original goes on, which no fork counts.
    original.wait(600)
    original.prompt("Go on")
    original.answer(text("Two."), model="claude-opus-5", counts=million)
    for log, dollars in ((original, 10), (fork, 10), (second, 17)):
        log.cost_state(dollars)
        log.write(config / "projects")
    found = documents("--by", "session")
    assert cost(SESSIONS[0], found) == (10, 10, None)
    assert cost(SESSIONS[1], found) == (5, 10, 5)
    assert cost(SESSIONS[2], found) == (5, 17, 10)
    assert found["total"]["cost_usd"] == 20
    told = run("--by", "session", *SINCE).stdout
    assert told.count("note:") == 1
    assert "counted $17.00, $10.00 of it in session 1f4d1c52, of which it is a fork; its calls in the logs" in told
    assert "come to $5.00" in told


def test_a_fork_of_a_session_without_a_price_says_so(config: Path) -> None:
    original = LogBuilder(session=SESSIONS[0])
    original.prompt("Count")
    original.answer(text("One."), model="orchard-model-1")
    fork = original.fork(SESSIONS[1])
    fork.prompt("Go on")
    fork.answer(text("Two."), counts=used(1_000_000, 0, cache_read=0, cache_5m=0, cache_1h=0), model="claude-opus-5")
    fork.cost_state(17)
    # The log of the original is gone; what the fork has copied of it counts for the original.
    fork.write(config / "projects")
    told = run("--by", "session", *SINCE).stdout
    assert "counted $17.00, with what session 0f4d1c52 had cost, of which it is a fork; its calls in the logs" in told


def test_a_session_that_began_before_the_time_asked_for_shows_no_difference(config: Path) -> None:
    log = LogBuilder(session=SESSIONS[0])
    million = used(1_000_000, 0, cache_read=0, cache_5m=0, cache_1h=0)
    log.prompt("Count")
    log.answer(text("One."), model="claude-opus-5", counts=million)
    log.wait(2 * 86_400)
    log.prompt("Go on")
    log.answer(text("Two."), model="claude-opus-5", counts=million)
    log.cost_state(10)
    log.write(config / "projects")
    documents()
    late = run("--by", "session", "--since", "2026-03-03").stdout
    assert "$5.00" in late
    assert "note:" not in late


def test_comma_separated_values_run_no_formula(config: Path) -> None:
    log = LogBuilder(session=SESSIONS[0], branch="=2+5")
    turn(log, 1)
    log.write(config / "projects")
    [row] = csv.DictReader(run("--by", "branch", "--csv", *SINCE).stdout.splitlines())
    assert row["branch"] == "'=2+5"
    assert row["calls"] == "2"


def test_a_budget_decides_the_exit_code(config: Path) -> None:
    # The calls of these logs are older than any period.
    orchard(config)
    assert run("--budget", "50/day").exit_code == 0
    assert "$0.00 of $50.00 today" in run("--budget", "50").stdout
    refused = run("--budget", "much")
    assert refused.exit_code == 2
    assert "write 50/day" in refused.stderr


def test_the_status_line_is_one_line_and_knows_the_session(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orchard(config)
    documents()
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"session_id": SESSIONS[2], "model": {"id": "x"}}))
    with given.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        main.main(["usage", "--statusline"], standalone_mode=False)
    assert capsys.readouterr().out == "$0.02 session · $0.00 today\n"
    assert run("--statusline").stdout == "$0.00 today\n"


def test_without_any_session_it_says_so(config: Path) -> None:
    del config
    result = run()
    assert (result.exit_code, result.stdout) == (0, "no calls in this time; `--since 30d` looks further back\n")
    assert run("--since", "90d").stdout == "no calls in this time\n"
    assert run("--since", "90d", "--by", "tool").stdout == "no tool calls in this time\n"


def test_an_attempt_that_failed_is_no_call_of_an_unknown_model(config: Path) -> None:
    log = LogBuilder(session=SESSIONS[0])
    turn(log, 1)
    log.write(config / "projects")
    refused = LogBuilder(session=SESSIONS[1])
    refused.prompt("Prune all")
    refused.permanent_error()
    refused.write(config / "projects")
    assert "unknown" not in run(*SINCE).stdout
    assert "unknown" not in run(*SINCE, "--by", "model").stdout
    assert SESSIONS[1][:8] not in run(*SINCE, "--by", "session").stdout
    groups = documents("--by", "model")["groups"]
    assert [(each["model"], each["calls"], each["failed_attempts"]) for each in groups][1:] == [(None, 0, 1)]


def test_a_damaged_file_is_an_error_in_one_line(config: Path, tmp_path: Path) -> None:
    orchard(config)
    documents()
    path = events_path(tmp_path / "state")
    path.write_bytes(b"not a database" * 1000)
    result = run()
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "move the file away to start over" in result.stderr


def test_contradictory_flags_are_refused(config: Path) -> None:
    del config
    assert run("--json", "--csv").exit_code == 2
