"""The whole circle: logs, the daemon, capture, a real ClickHouse, and `verify`, which finds what was lost."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.capture_server import Accept, CaptureServer, Event, is_ended
from tests.support.clickhouse import ClickHouseProject, new_project
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.outbox import line, process, uuid, write
from tests.support.processes import Ended, environment, following, log_lines, put_logs, session_id, until, verb

Json = dict[str, Any]

HOSTILE = "s') OR 1=1 -- \\' ; DROP TABLE all_events"
"""A session's id is a file's name, and may be anything."""


def a_session(
    name: str, *, days: float = 3, turns: int = 2, identity: str | None = None, cwd: str = "/home/ada/orchard"
) -> LogBuilder:
    """Return a session of some days ago: generations, tool calls and a trace."""
    began = datetime.now(UTC) - timedelta(days=days)
    log = LogBuilder(identity or session_id(name), cwd=cwd, start=began.isoformat())
    log.prompt(f"plant {name}")
    for turn in range(turns):
        log.answer(tool_use("Bash", {"command": "dig"}, id=f"toolu_{name}_{turn}"), id=f"msg_{name}_{turn}")
        log.tool_result(f"toolu_{name}_{turn}", "a hole")
    log.answer(text("Planted."), id=f"msg_{name}_end")
    return log


def logs(*sessions: LogBuilder) -> dict[str, bytes]:
    return {path: data for session in sessions for path, data in session.files().items()}


def keys(workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject, **more: str) -> dict[str, str]:
    return environment(
        workspace,
        posthog.url,
        POSTHOG_API_KEY=project.token,
        POSTHOG_PERSONAL_API_KEY=project.personal,
        POSTHOG_APP_HOST=project.url,
        **more,
    )


async def verified(workspace: Workspace, env: Mapping[str, str], *arguments: str) -> tuple[Ended, Json]:
    ended = await verb(workspace, "verify", "--json", *arguments, env=env)
    for key in ("POSTHOG_API_KEY", "POSTHOG_PERSONAL_API_KEY"):
        assert env[key] not in ended.stdout + ended.stderr
    assert ended.stdout, ended.stderr
    return ended, json.loads(ended.stdout)


async def held(project: ClickHouseProject, events: list[Event], *tables: str, dearer: float = 1.0) -> None:
    await asyncio.to_thread(project.hold, events, *tables, dearer=dearer)


def of(found: Json, name: str) -> Json:
    [session] = [each for each in found["by_session"] if each["session"] == session_id(name)]
    assert isinstance(session, dict)
    return session


async def planted(project: ClickHouseProject, sent: Callable[[str], list[Event]]) -> list[Event]:
    """Let PostHog hold the sessions of the first test, with what went wrong; return what `lossy` has lost."""
    lost = [next(each for each in sent("lossy") if each["event"] == kind) for kind in ("$ai_generation", "$ai_span")]
    stranger = {**sent("whole")[0], "uuid": "00000000-0000-4000-8000-000000000000"}
    await held(project, [*sent("whole"), stranger, *sent("fork")])
    await held(project, [each for each in sent("lossy") if each not in lost])
    await held(project, sent("doubled"))
    await held(project, sent("doubled")[:2], "ai_events")
    await held(project, sent("doubled")[1:3], "events")
    await held(project, sent("dear"), dearer=200.0)
    await held(project, [each for each in sent("traceless") if each["event"] != "$ai_trace"])
    await held(project, [each for each in sent("eventless") if each["event"] == "$ai_trace"])
    return lost


async def test_losses_doubles_and_prices_are_found_and_what_is_missing_is_sent_again(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject
) -> None:
    first = a_session("whole")
    fork = first.fork(session_id("fork"))
    fork.prompt("and water it")
    fork.answer(text("Watered."), id="msg_fork_own")
    names = ("lossy", "doubled", "dear", "traceless", "eventless", "gone")
    hostile = a_session("hostile", identity=HOSTILE.replace("/", ""))
    put_logs(workspace, logs(first, fork, *map(a_session, names), hostile))
    env = keys(workspace, posthog, project)
    assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
    by_session: dict[str, list[Event]] = {}
    for event in posthog.events:
        by_session.setdefault(event["properties"]["$ai_session_id"], []).append(event)

    def sent(name: str) -> list[Event]:
        return by_session[session_id(name)]

    await held(project, by_session[hostile.session])
    lost = await planted(project, sent)

    ended, found = await verified(workspace, env)
    assert ended.status == 1, ended.stderr
    assert [name for name in ("whole", "fork", *names) if of(found, name)["equal"]] == ["fork"]
    assert of(found, "whole")["extra"] == 1
    assert sorted(of(found, "lossy")["missing"]) == sorted(each["uuid"] for each in lost)
    assert of(found, "lossy")["missing_kinds"] == {"$ai_generation": 1, "$ai_span": 1}
    assert of(found, "doubled")["doubled"] == 3
    assert (of(found, "doubled")["missing"], of(found, "doubled")["tokens_differ"]) == ([], {})
    assert of(found, "dear")["cost_differs"] > 0
    assert (of(found, "traceless")["events_without_trace"], of(found, "traceless")["extra"]) == (1, 0)
    assert of(found, "eventless")["traces_without_events"] == 1
    assert len(of(found, "gone")["missing"]) == of(found, "gone")["events"] == len(sent("gone"))
    [odd] = [each for each in found["by_session"] if each["session"] == hostile.session]
    assert (odd["equal"], odd["held"]) == (True, len(by_session[hostile.session]))
    [[model, totals]] = found["by_model"].items()
    tokens = sum(each["properties"].get("$ai_output_tokens", 0) for each in posthog.events)
    assert (model.startswith("claude"), totals["sent"]["output"]) == (True, tokens)
    assert found["missing"] == sum(len(each["missing"]) for each in found["by_session"])
    # Nine sessions are two questions, and no text of a log is in one: PostHog puts the values in.
    assert len(project.asked) == 2
    assert all(HOSTILE not in each["query"] and hostile.session in each["values"]["owners"] for each in project.asked)

    missing = {uuid for each in found["by_session"] for uuid in each["missing"]}
    before = len(posthog.events)
    again = await verb(workspace, "verify", "--send-missing", env=env)
    assert again.status == 1, again.stderr
    assert f"{len(missing)} events sent" in again.stderr
    resent = posthog.events[before:]
    assert {each["uuid"] for each in resent} == missing
    assert len(resent) == len(missing)
    bodies = {each["uuid"]: each for each in posthog.events[:before]}
    assert all(each == bodies[each["uuid"]] for each in resent)

    # They are on their way, and are not sent a third time.
    ended, found = await verified(workspace, env, "--send-missing")
    assert (ended.status, found["missing"], found["not_yet"]) == (0, 0, len(missing))
    assert len(posthog.events) == before + len(resent)
    await held(project, resent)
    ended, found = await verified(workspace, env, "--session", session_id("lossy"))
    assert [each["equal"] for each in found["by_session"]] == [True]

    said = await verb(workspace, "verify", env=env)
    assert f"{session_id('fork')} /home/ada/orchard: equal, " in said.stdout
    assert f"{session_id('doubled')} /home/ada/orchard: held twice 3" in said.stdout
    status = await verb(workspace, "status", env=env)
    assert re.search(r"^verified: +\d+ s ago, 9 sessions: nothing missing$", status.stdout, re.MULTILINE)


async def test_a_running_daemon_sends_what_is_missing_and_young_events_are_not_judged(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject
) -> None:
    env = keys(workspace, posthog, project, POSTHOG_LLMA_SESSION_TIMEOUT="1")
    old = a_session("old", days=2)
    put_logs(workspace, logs(old))
    async with following(workspace, "--from-start", env=env) as daemon:
        await daemon.until(lambda: any(is_ended(event) for event in posthog.events))
        young = a_session("young", days=0)
        young.write(workspace.config / "projects")
        await daemon.until(lambda: sum(is_ended(event) for event in posthog.events) == 2)
        lost = posthog.events[0]
        await held(
            project, [event for event in posthog.events[1:] if event["properties"]["$ai_session_id"] == old.session]
        )
        count = len(posthog.events)
        sending = await verb(workspace, "verify", "--send-missing", env=env)
        assert sending.status == 1, sending.stderr
        assert "the daemon (pid" in sending.stderr
        assert "missing 1 of" in sending.stdout
        assert f"{session_id('young')} /home/ada/orchard: " in sending.stdout
        assert " not yet" in sending.stdout
        assert [event["uuid"] for event in posthog.events[count:]] == [lost["uuid"]]
        assert not [line for line in log_lines(daemon.stderr) if line["level"] == "error"]


async def test_a_wrong_key_quota_and_missing_scopes_are_said_in_one_line(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject, web_app: str
) -> None:
    put_logs(workspace, logs(a_session("one"), a_session("old", days=400)))
    env = keys(workspace, posthog, project)
    # What was never sent is not lost.
    ended, found = await verified(workspace, env, "--since", "500d")
    assert (ended.status, found["missing"], len(posthog.events)) == (0, 0, 0)
    assert of(found, "one")["unsent"] > 0
    # Over a quota capture answers 200 and drops everything.
    posthog.fault = lambda _: Accept(body=b'{"status":1,"quota_limited":["llm_events"]}')
    assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
    ended, found = await verified(workspace, env, "--since", "500d")
    assert (ended.status, found["missing"]) == (1, len(posthog.events) - of(found, "old")["expired"])
    assert of(found, "old")["expired"] == of(found, "one")["events"]
    assert any("less than ten minutes ago" in note for note in found["notes"])

    # Capture takes any key. The web app knows that no project has it.
    wrong = await verb(workspace, "verify", env={**env, "POSTHOG_API_KEY": "phc_nobody_has_this_key"})
    assert wrong.status == 1
    assert "has the project key phc_no**********, so its events go to another project or nowhere" in wrong.errors[0]
    unknown = await verb(workspace, "verify", env={**env, "POSTHOG_PERSONAL_API_KEY": "phx_unknown_key"})
    assert (unknown.status, "login --personal-key-stdin" in unknown.errors[0]) == (1, True)
    without = await verb(workspace, "verify", env={**env, "POSTHOG_PERSONAL_API_KEY": ""})
    assert (without.status, "query:read" in without.errors[0]) == (78, True)

    # Both keys belong to another project now, so what was sent with the old one is nobody's loss here.
    narrow = await asyncio.to_thread(new_project, web_app, ["query:read"])
    ended, found = await verified(workspace, keys(workspace, posthog, narrow), "--session", session_id("one"))
    assert (ended.status, any("scope project:read" in note for note in found["notes"])) == (0, True)
    assert "with a key of another project" in of(found, "one")["unknown"]
    blind = replace(await asyncio.to_thread(new_project, web_app, ["project:read"]), token=project.token)
    refused = await verb(workspace, "verify", env=keys(workspace, posthog, blind))
    assert (refused.status, len(refused.errors)) == (1, 1)


async def test_a_wrong_key_of_one_project_hides_no_other_and_is_no_success(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject
) -> None:
    put_logs(workspace, logs(a_session("right"), a_session("wrong", cwd="/home/ada/field"), a_session("unsent")))
    config = workspace.home / ".config" / "posthog-llma-daemon" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f'api_key = "{project.token}"\n[[project]]\npath = "/home/ada/field"\napi_key = "phc_nobody_has"\n'
    )
    config.chmod(0o600)
    env = keys(workspace, posthog, project)
    del env["POSTHOG_API_KEY"]
    assert (await verb(workspace, "backfill", "--yes", "--session", session_id("right"), env=env)).status == 0
    assert (await verb(workspace, "backfill", "--yes", "--session", session_id("wrong"), env=env)).status == 0
    mine = [each for each in posthog.events if each["properties"]["$ai_session_id"] == session_id("right")]
    await held(project, mine)
    ended = await verb(workspace, "verify", env=env)
    assert ended.status == 1, ended.stdout
    assert f"{session_id('right')} /home/ada/orchard: equal, {len(mine)} events" in ended.stdout
    assert (
        f"{session_id('wrong')} /home/ada/field: not compared: no project that your personal key can see"
        in ended.stdout
    )
    assert "has the project key phc_no" in ended.stderr
    assert "1 session: 1 equal, 0 not; 2 not compared" in ended.stdout
    status = " ".join((await verb(workspace, "status", env=env)).stdout.split())
    assert "1 session: nothing missing; 1 session went to no project that can be seen; `" in status
    doctor = " ".join((await verb(workspace, "doctor", env=env)).stdout.split())
    assert "1 session went to no project that the personal key can see (" in doctor
    # Nothing is known of a session that was sent before its folder was excluded; of one that was not, nothing is asked.
    exclude = {"POSTHOG_LLMA_EXCLUDE": "/home/ada/orchard"}
    excluded = await verb(workspace, "verify", "--session", session_id("right"), env={**env, **exclude})
    assert (excluded.status, excluded.stdout.splitlines()[0]) == (
        0,
        f"{session_id('right')} /home/ada/orchard: not compared: was sent, and now its folder is excluded or off",
    )
    unasked = await verb(workspace, "verify", "--explain", "--session", session_id("unsent"), env={**env, **exclude})
    assert "nothing is asked" in unasked.stderr
    # A session of which nothing was sent is not equal.
    unsent = await verb(workspace, "verify", "--session", session_id("unsent")[:8], env=env)
    assert (unsent.status, "/home/ada/orchard: 7 not sent\n" in unsent.stdout) == (0, True), unsent.stdout
    assert "0 sessions: 0 equal, 0 not; 1 not compared\n0 events, 0 missing" in unsent.stdout


async def test_a_fork_is_compared_by_what_was_settled_and_a_trace_that_went_on_may_be_there_twice(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject
) -> None:
    env = keys(workspace, posthog, project)
    log = a_session("resumed")
    projects = put_logs(workspace, logs(log))
    assert (await verb(workspace, "run", "--once", "--from-start", env=env)).status == 0
    log.prompt("go on")
    log.answer(text("I go on."), id="msg_resumed_later")
    log.write(projects)
    put_logs(workspace, log.files())
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    await until(lambda: sum(is_ended(event) for event in posthog.events) == 2, "the session has ended twice")
    for event in posthog.events:
        await held(project, [event])
    ended, found = await verified(workspace, env)
    assert (ended.status, of(found, "resumed")["equal"], of(found, "resumed")["doubled"]) == (0, True, 0), found


async def test_what_programs_recorded_is_compared_although_its_files_are_gone(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject
) -> None:
    env = keys(workspace, posthog, project)
    log, at = a_session("host"), datetime.now(UTC) - timedelta(days=3)
    put_logs(workspace, logs(log))
    workspace.state.mkdir(mode=0o700)
    called: Json = {"model": "gpt-5", "provider": "openai", "cost": {"total_usd": 0.5}, "cache_exclusive": False,
                    "usage": {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 80}}  # fmt: skip
    lines = [
        *(line("generation", number, at=at, session_id="pull-7", trace_id="review", **called) for number in (1, 2)),
        line("trace", 3, at=at, session_id="pull-7", trace_id="review"),
        line("feedback", 4, at=at, session_id="pull-7", trace_id="review", feedback="helpful", value=True),
        line("embedding", 5, at=at, model="small", usage={"input_tokens": 8}),
        line("span", 6, at=at, trace_id='a "quoted" \\ one'),
        line("generation", 7, at=at, session_id=log.session, trace_id=log.session, **called),
        line("span", 8, at=at, session_id=log.session, trace_id=log.session),
    ]
    path = write(workspace.state / "outbox", process("/home/ada/orchard"), *lines, name="4711-1772442000000-1")
    os.utime(path, (0, 0))
    assert (await verb(workspace, "run", "--once", "--from-start", env=env)).status == 0
    assert not path.exists()
    lost = [uuid(number) for number in (2, 5, 8)]
    stranger = next(each for each in posthog.events if each["uuid"] == uuid(1))
    stranger = {**stranger, "uuid": uuid(50)}  # another machine has recorded it
    await held(project, [*(each for each in posthog.events if each["uuid"] not in lost), stranger])
    ended, found = await verified(workspace, env)
    by_session = {each["session"]: each for each in found["by_session"]}
    assert {name: each["missing"] for name, each in by_session.items()} == {
        log.session: [uuid(8)],
        "pull-7": [uuid(2)],
        uuid(5): [uuid(5)],
        'a "quoted" \\ one': [],
    }
    assert (ended.status, found["extra"], found["doubled"]) == (1, 0, 0)
    pull = by_session["pull-7"]
    assert (pull["project"], pull["events"], pull["gone"]) == ("/home/ada/orchard", 4, [uuid(2)])
    assert (pull["tokens_differ"], pull["cost_differs"]) == ({}, 0.0)
    sent, there = (found["by_model"]["gpt-5"][name] for name in ("sent", "held"))
    assert (sent["input"], sent["cache_read"], sent["dollars"]) == (300, 240, 1.5)
    assert (there["input"], there["dollars"]) == (200, 1.0)
    # Two questions for the sessions, and two for the traces without one.
    assert len(project.asked) == 4
    # A row is a session or a trace, whatever is in it: older versions of PostHog give 10,000 rows and say nothing.
    assert all(each["rows"] <= len(each["values"]["owners"]) for each in project.asked)

    before = len(posthog.events)
    said = await verb(workspace, "verify", "--send-missing", "--session", "pull", env=env)
    assert (said.status, len(posthog.events)) == (1, before)
    assert "1 missing event cannot be sent again: recorded by a program" in said.stderr
    assert "sends the missing events again" not in said.stderr
    # The client removes its logs after a month, and people do before. Then nothing tells what was in them.
    (workspace.config / "projects" / log.path).unlink()
    _, found = await verified(workspace, env)
    assert "1 session that the daemon has sent in this time cannot be compared: the logs are gone" in found["notes"]
    assert {each["session"] for each in found["by_session"] if each["missing"]} == {"pull-7", uuid(5), log.session}
    there = await verb(workspace, "verify", "--project", "/home/ada/elsewhere", env=env)
    assert (there.status, "no session of these has an event" in there.stdout) == (0, True)


async def test_explain_shows_the_queries_and_asks_nothing(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, logs(*(a_session(f"many-{number}", turns=0) for number in range(8))))
    said = await verb(workspace, "verify", "--explain", env=environment(workspace, posthog.url))
    assert said.status == 0, said.stderr
    assert said.stdout.count("FROM events") == 1
    assert said.stdout.count("FROM posthog.ai_events") == 1
    assert said.stdout.count(", and 2 more]") == 2
    assert posthog.requests == []
