"""`preview` prints exactly the events that would be sent."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text, tool_use, write_files
from tests.support.processes import environment, hosting, previewed, put_logs, session_id, tree, verb


def everything_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


async def test_every_path_to_the_same_logs_gives_the_same_events(workspace: Workspace) -> None:
    projects = put_logs(workspace, tree())
    whole = await verb(workspace, "preview", workspace.config)
    assert whole.status == 0
    events = previewed(whole.stdout)
    assert len(events) > 50
    for paths in (
        [projects],
        sorted(projects.iterdir()),
        sorted(projects.rglob("*.jsonl")),
        [projects, projects, workspace.config],
    ):
        said = await verb(workspace, "preview", *paths)
        assert previewed(said.stdout) == events, paths


async def test_a_session_includes_its_subagents(workspace: Workspace) -> None:
    projects = put_logs(workspace, tree())
    [log] = projects.glob(f"*/{session_id('rich')}.jsonl")
    said = await verb(workspace, "preview", log)
    properties = [json.loads(line)["properties"] for line in said.stdout.splitlines()]
    assert {each["$ai_session_id"] for each in properties} == {session_id("rich")}
    assert "toolu_rich_inner" in {each["$ai_parent_id"] for each in properties if "$ai_parent_id" in each}


async def test_a_session_includes_its_lines_in_the_log_of_another(workspace: Workspace) -> None:
    projects = put_logs(workspace, hosting())
    whole = previewed((await verb(workspace, "preview", projects)).stdout)
    apart = [
        previewed((await verb(workspace, "preview", *projects.glob(f"*/{session_id(name)}.jsonl"))).stdout)
        for name in ("guest", "host")
    ]
    assert ["msg_hosted" in str(events) for events in apart] == [True, False]
    assert apart[0] | apart[1] == whole
    assert len(apart[0]) + len(apart[1]) == len(whole)


async def test_it_needs_no_key_and_writes_nothing(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    before = everything_below(workspace.root)
    first = await verb(workspace, "preview", workspace.config)
    second = await verb(workspace, "preview", workspace.config)
    assert (first.status, first.stderr) == (0, "")
    assert first.stdout == second.stdout
    outputs = str(workspace.output)
    after = {name: seen for name, seen in everything_below(workspace.root).items() if not name.startswith(outputs)}
    assert after == before


async def test_it_follows_the_settings(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    env = environment(
        workspace,
        POSTHOG_LLMA_DISTINCT_ID="bob@example.com",
        POSTHOG_LLMA_CUSTOM_PROPERTIES='{"team": "trees"}',
        POSTHOG_LLMA_PRIVACY_MODE="yes",
    )
    said = await verb(workspace, "preview", workspace.config, env=env)
    events = [json.loads(line) for line in said.stdout.splitlines()]
    assert {event["distinct_id"] for event in events} == {"bob@example.com"}
    assert {event["properties"]["team"] for event in events} == {"trees"}
    assert not any("$ai_input" in event["properties"] for event in events)


async def test_a_session_of_an_unknown_person_gets_no_profile(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    env = environment(workspace) | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    del env["POSTHOG_LLMA_DISTINCT_ID"]
    said = await verb(workspace, "preview", workspace.config, env=env)
    for line in said.stdout.splitlines():
        event = json.loads(line)
        assert event["distinct_id"].startswith("claude-code:")
        assert event["properties"]["$process_person_profile"] is False


async def test_an_incomplete_last_line_is_not_read(workspace: Workspace) -> None:
    log = LogBuilder()
    log.prompt("one")
    log.answer(text("one"), id="msg_one")
    log.answer(text("two"), id="msg_two")
    more = log.files()[log.path]
    whole = more[: more[:-1].rindex(b"\n") + 1]
    projects = put_logs(workspace, {log.path: more[:-2]})
    said = await verb(workspace, "preview", projects)
    assert "msg_one" in said.stdout
    assert "msg_two" not in said.stdout
    write_files(projects, {log.path: whole})
    again = await verb(workspace, "preview", projects)
    assert previewed(said.stdout) == previewed(again.stdout)


async def test_files_that_only_look_like_logs_are_ignored(workspace: Workspace) -> None:
    projects = put_logs(workspace, tree())
    expected = previewed((await verb(workspace, "preview", projects)).stdout)
    folder = next(projects.iterdir())
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to(next(folder.glob("*-*.jsonl")))
    (folder / "dangling.jsonl").symlink_to(folder / "nowhere")
    said = await verb(workspace, "preview", projects)
    assert said.status == 0
    assert previewed(said.stdout) == expected


def with_secrets() -> LogBuilder:
    log = LogBuilder()
    log.prompt("Deploy with PASSWORD=hunter2")
    log.answer(tool_use("Bash", {"command": "deploy --token=abcdef123456\x1b[31m"}, id="toolu_deploy"))
    log.tool_result("toolu_deploy", "x" * 20_000)
    log.answer(text("Done."))
    return log


async def test_explain_prints_one_line_per_event(workspace: Workspace) -> None:
    projects = put_logs(workspace, with_secrets().files())
    plain = await verb(workspace, "preview", projects)
    said = await verb(workspace, "preview", "--explain", projects)

    assert (said.status, said.stderr) == (0, "")
    assert "hunter2" not in plain.stdout + said.stdout
    lines = said.stdout.splitlines()
    assert len(lines) == len(plain.stdout.splitlines())
    [call] = [line for line in lines if " $ai_span Bash: " in line]
    assert "$ai_input_state.command: 1 secret scrubbed (token)" in call
    assert "$ai_output_state: 8,000 characters cut" in call
    prompted, answered = (line for line in lines if " $ai_generation " in line)
    assert "$ai_user_prompt: 1 secret scrubbed (password)" in prompted
    assert "$ai_input[1].content[0].content: 8,000 characters cut" in answered
    assert all(line.isprintable() for line in lines)


async def test_explain_shows_what_the_content_level_leaves_out(workspace: Workspace) -> None:
    projects = put_logs(workspace, with_secrets().files())
    env = environment(workspace, POSTHOG_LLMA_CONTENT="no_tool_content")
    said = await verb(workspace, "preview", "--explain", projects, env=env)

    [call] = [line for line in said.stdout.splitlines() if " $ai_span Bash: " in line]
    assert "$ai_output_state: 20,000 characters left out at content level no_tool_content" in call
    assert "scrubbed" in said.stdout
    env = environment(workspace, POSTHOG_LLMA_PRIVACY_MODE="true")
    said = await verb(workspace, "preview", "--explain", projects, env=env)
    assert "$ai_user_prompt: 28 characters left out at content level metadata" in said.stdout
    assert "scrubbed" not in said.stdout


async def test_explain_says_when_nothing_is_left_out(workspace: Workspace) -> None:
    log = LogBuilder()
    log.prompt("one")
    log.answer(text("one"))
    said = await verb(workspace, "preview", "--explain", put_logs(workspace, log.files()))
    assert [line.rpartition(": ")[2] for line in said.stdout.splitlines()] == ["nothing left out"] * 3


async def test_explain_can_print_json(workspace: Workspace) -> None:
    projects = put_logs(workspace, with_secrets().files())
    plain = await verb(workspace, "preview", projects)
    said = await verb(workspace, "preview", "--explain", "--json", projects)

    explained = [json.loads(line) for line in said.stdout.splitlines()]
    assert [each["uuid"] for each in explained] == [
        event["uuid"] for event in map(json.loads, plain.stdout.splitlines())
    ]
    [call] = [each for each in explained if each["label"] == "Bash"]
    assert {"what": "scrubbed", "where": "$ai_input_state.command", "kind": "token", "count": 1} in call["changes"]
    assert {"what": "cut", "where": "$ai_output_state", "count": 8000} in call["changes"]
    assert call["cut_to_fit"] is False


async def test_json_needs_explain(workspace: Workspace) -> None:
    projects = put_logs(workspace, with_secrets().files())
    said = await verb(workspace, "preview", "--json", projects)
    assert said.status == 2
    assert "--json needs --explain" in said.stderr


async def test_scrubbing_can_be_turned_off(workspace: Workspace) -> None:
    projects = put_logs(workspace, with_secrets().files())
    env = environment(workspace, POSTHOG_LLMA_REDACT_SECRETS="false")
    said = await verb(workspace, "preview", projects, env=env)
    assert "hunter2" in said.stdout
    explained = await verb(workspace, "preview", "--explain", projects, env=env)
    assert "scrubbed" not in explained.stdout


async def test_one_event_is_printed_by_its_uuid(workspace: Workspace) -> None:
    projects = put_logs(workspace, tree())
    events = previewed((await verb(workspace, "preview", projects)).stdout)
    uuid = sorted(events)[7]
    said = await verb(workspace, "preview", "--event", uuid.upper(), projects)
    assert (said.status, previewed(said.stdout)) == (0, {uuid: events[uuid]})
    explained = await verb(workspace, "preview", "--event", uuid, "--explain", "--json", projects)
    assert json.loads(explained.stdout)["uuid"] == uuid


async def test_an_unknown_event_is_reported_in_one_line(workspace: Workspace) -> None:
    projects = put_logs(workspace, tree())
    said = await verb(workspace, "preview", "--event", "00000000-0000-4000-8000-000000000000", projects)
    assert (said.status, said.stdout) == (1, "")
    [line] = said.stderr.splitlines()
    assert line.startswith("error: ")
    assert "no log here yields event" in line


# They change colors, direction and lines: a terminal would act on them.
ACTING = "a\x9b31m b\u202e c\u2028 d\x7f e\u2066 f\ufeff g\U000e0041"


async def test_nothing_reaches_a_terminal_that_it_would_act_on(workspace: Workspace) -> None:
    log = LogBuilder()
    log.prompt(ACTING)
    log.answer(tool_use("Bash", {"command": ACTING, ACTING: "x"}, id="toolu_x"))
    log.tool_result("toolu_x", ACTING)
    log.answer(text(ACTING))
    projects = put_logs(workspace, log.files())

    for options in ([], ["--explain"], ["--explain", "--json"]):
        said = await verb(workspace, "preview", *options, projects)
        assert not [char for char in said.stdout if char != "\n" and not char.isprintable()], options
    said = await verb(workspace, "preview", projects)
    generations = [json.loads(line)["properties"] for line in said.stdout.splitlines() if '"$ai_generation"' in line]
    assert generations[0]["$ai_user_prompt"] == ACTING
    assert generations[-1]["$ai_output_choices"][0]["content"][0]["text"] == ACTING
