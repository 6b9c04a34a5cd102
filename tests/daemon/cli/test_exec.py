"""`exec` as a process, with a stand-in that writes the files of a client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture_server import Answer, CaptureServer, is_ended
from tests.support.client import Child, Workspace, start
from tests.support.fork_server import ForkedProcess
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import (
    ROOT,
    Ended,
    append,
    bodies,
    environment,
    following,
    previewed,
    session_id,
    until,
    verb,
)
from tests.support.terminal import start_on_terminal
from tests.support.waiting import PATIENCE

Json = dict[str, Any]


def a_log(workspace: Workspace, name: str = "fixed", **options: Any) -> LogBuilder:
    """A session with a tool call, begun in the client's working folder: two generations, one span, one trace."""
    log = LogBuilder(session_id(name), **{"cwd": str(workspace.work), **options})
    log.prompt("fix it")
    log.answer(text("I look"), tool_use("Bash", {"command": "ls"}, id=f"toolu_{name}"), id=f"msg_{name}_1")
    log.tool_result(f"toolu_{name}", "a b c")
    log.answer(text("fixed"), id=f"msg_{name}_2")
    return log


def client(workspace: Workspace, log: LogBuilder, *arguments: str | Path) -> list[str]:
    lines = workspace.root / f"{log.session}.lines"
    lines.write_bytes(log.files()[log.path])
    command = [sys.executable, "-m", "tests.support.fake_client", "--config", workspace.config]
    given = ["--session", log.session, f"--log={log.path}", "--lines", lines]
    return [str(part) for part in [*command, *given, *arguments]]


async def run_exec(workspace: Workspace, command: Sequence[str | Path], *options: str, env: dict[str, str]) -> Ended:
    return await verb(workspace, "exec", *options, "--", *command, env=in_root(env))


def in_root(env: dict[str, str]) -> dict[str, str]:
    """Let the client's stand-in be imported in any working folder."""
    return env | {"PYTHONPATH": str(ROOT)}


def begun(
    workspace: Workspace, command: Sequence[str | Path], *options: str, env: dict[str, str]
) -> AbstractAsyncContextManager[Child]:
    whole = [sys.executable, "-m", "tests.support.quick", "exec", *options, "--", *command]
    return start(
        whole,
        name="exec",
        environment=in_root(env),
        cwd=workspace.work,
        output=workspace.output,
        forks=workspace.forks,
    )


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def without_metrics(server: CaptureServer) -> list[Json]:
    """Return the received events but for opening traces and metrics."""
    return [event for event in server.without_openings if event["event"] != "$ai_metric"]


def of(server: CaptureServer, session: str) -> list[Json]:
    return [event for event in without_metrics(server) if event["properties"]["$ai_session_id"] == session]


def without(body: str, *names: str) -> Json:
    event: Json = json.loads(body)
    for name in names:
        event["properties"].pop(name, None)
    return event


# ---------------------------------------------------------------------- without a daemon


async def test_the_commands_session_is_sent_with_its_properties_and_verdict(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    log = a_log(workspace)
    command = client(workspace, log, "--verdict", '{"verdict": "approve", "score": 7}', "--exit", "3")
    options = ["--property", "pr=123", "--property", "team=web=x"]
    env = environment(workspace, posthog.url)
    ended = await run_exec(workspace, command, *options, env=env)
    assert (ended.status, ended.stdout, ended.stderr) == (3, "", "")

    assert sorted(event["event"] for event in posthog.events) == [
        "$ai_generation",
        "$ai_generation",
        "$ai_metric",
        "$ai_metric",
        "$ai_span",
        "$ai_trace",
        "$ai_trace",
    ]
    metrics = [event["properties"] for event in posthog.events if event["event"] == "$ai_metric"]
    assert {said["$ai_metric_name"]: said["$ai_metric_value"] for said in metrics} == {"verdict": "approve", "score": 7}
    assert {said["$ai_trace_id"] for said in metrics} == {log.session}
    for event in posthog.events:
        assert (event["properties"]["pr"], event["properties"]["team"]) == ("123", "web=x")
        told = (event["properties"].get("verdict"), event["properties"].get("score"))
        assert told == (("approve", 7) if is_ended(event) else (None, None))
    # Ids and everything else are the same as without `exec`.
    said = previewed((await verb(workspace, "preview", workspace.config, env=env)).stdout)
    added = ("pr", "team", "verdict", "score")
    received = {uuid: without(body, *added) for uuid, body in bodies(posthog).items()}
    assert {uuid: event for uuid, event in received.items() if event["event"] != "$ai_metric"} == {
        uuid: json.loads(body) for uuid, body in said.items()
    }
    assert list((workspace.state / "executions").iterdir()) == []


async def test_sessions_of_other_commands_are_left_to_the_daemon(workspace: Workspace, posthog: CaptureServer) -> None:
    # Both clients of the same folder run at the same time; only one of them is the command's.
    env = environment(workspace, posthog.url)
    assert (
        await verb(workspace, "run", "--once", env=env)
    ).status == 0  # the first start is over, so new sessions are not history
    mine, other = a_log(workspace, "mine"), a_log(workspace, "other")
    release = workspace.root / "release"
    stand_in = client(workspace, other, "--until", release)
    output = workspace.output
    async with (
        begun(workspace, client(workspace, mine, "--until", release), env=env) as child,
        start(stand_in, name="other", environment=in_root(env), cwd=workspace.work, output=output) as second,
    ):
        await until(lambda: len(of(posthog, mine.session)) == 3, "the session's events, while it runs")
        release.touch()
        assert await second.wait() == 0
        assert await child.wait() == 0
    assert len(of(posthog, mine.session)) == 4
    assert of(posthog, other.session) == []
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert len(of(posthog, mine.session)) == len(of(posthog, other.session)) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_the_session_of_an_orphaned_grandchild_is_the_commands(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    log = a_log(workspace)
    done = workspace.root / "done"
    line = " ".join(f"'{part}'" for part in client(workspace, log))
    # The shell that starts the client exits at once.
    script = f"sh -c '({line.replace(chr(39), chr(34))}; touch {done}) &'; while ! test -e {done}; do sleep 0.05; done"
    ended = await run_exec(workspace, ["sh", "-c", script], env=environment(workspace, posthog.url))
    assert (ended.status, ended.stderr) == (0, "")
    assert len(of(posthog, log.session)) == 4


@pytest.mark.parametrize(("below", "events"), [(True, 4), (False, 0)])
async def test_a_client_without_a_registry_is_known_by_its_folder(
    workspace: Workspace, posthog: CaptureServer, below: bool, events: int
) -> None:
    cwd = workspace.work / "deep" if below else workspace.home
    log = a_log(workspace, version="2.0.76", cwd=str(cwd))
    async with begun(
        workspace, client(workspace, log, "--no-registry"), env=environment(workspace, posthog.url)
    ) as child:
        assert await child.wait() == 0
        assert child.stderr == ""
    assert len(of(posthog, log.session)) == events


async def test_a_resumed_session_is_sent_without_its_earlier_turns(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    log = LogBuilder(session_id("old"), cwd=str(workspace.work))
    log.prompt("begin")
    log.answer(text("begun"), id="msg_old")
    before = log.files()[log.path]
    append(workspace.config / "projects" / log.path, before)
    more = a_log(workspace, "old")
    command = client(workspace, more)
    ended = await run_exec(workspace, command, env=environment(workspace, posthog.url))
    assert (ended.status, ended.stderr) == (0, "")
    spans = {event["properties"]["$ai_span_id"] for event in posthog.events if event["event"] == "$ai_generation"}
    assert spans == {"msg_old_1", "msg_old_2"}


async def test_with_a_trace_for_each_prompt_the_last_one_has_the_verdict(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    log = a_log(workspace)
    release = workspace.root / "release"
    command = client(workspace, log, "--until", release, "--verdict", '{"verdict": "no"}')
    env = environment(workspace, posthog.url, POSTHOG_LLMA_TRACE_GROUPING="message")
    async with begun(workspace, command, env=env) as child:
        await until(lambda: len(without_metrics(posthog)) == 3, "what is final while the client runs")
        await asyncio.sleep(2.5)  # longer than a turn takes to end by itself
        assert len(without_metrics(posthog)) == 3
        release.touch()
        assert await child.wait() == 0
    [trace] = filter(is_ended, posthog.events)
    assert trace["properties"]["verdict"] == "no"
    [metric] = [event["properties"] for event in posthog.events if event["event"] == "$ai_metric"]
    assert (metric["$ai_metric_name"], metric["$ai_metric_value"]) == ("verdict", "no")
    assert metric["$ai_trace_id"] == trace["properties"]["$ai_trace_id"]


# ---------------------------------------------------------------------- with a running daemon


async def test_a_running_daemon_delivers_for_the_command(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        log = a_log(workspace)
        # Only the daemon is configured.
        bare = environment(workspace)
        # A service puts a new session off for three seconds: a busy machine may take longer to name it.
        named = ("--named-in", workspace.state / "executions")
        command = client(workspace, log, *named, "--verdict", '{"verdict": "approve"}', "--exit", "4")
        ended = await run_exec(workspace, command, "--property", "pr=5", env=bare)
        assert (ended.status, ended.stderr) == (4, "")
        assert len(without_metrics(posthog)) == 4
        assert {event["properties"]["pr"] for event in posthog.events} == {"5"}
        assert [event["properties"].get("verdict") for event in without_metrics(posthog)] == [
            None,
            None,
            None,
            "approve",
        ]
        assert list((workspace.state / "executions").iterdir()) == []
        daemon.terminate()
        assert await daemon.wait() == 0


async def test_the_daemon_ends_the_sessions_of_a_killed_exec(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url)
    (workspace.config / "projects").mkdir(parents=True)
    async with following(workspace, env=env):
        log = a_log(workspace)
        named = ("--named-in", workspace.state / "executions")
        command = client(workspace, log, *named, "--until", workspace.root / "never")
        async with begun(workspace, command, "--property", "pr=6", env=env) as child:
            await until(lambda: len(without_metrics(posthog)) == 3, "the session's events")
        # Leaving the context has killed the whole process group, as CI does with a job that takes too long.
        assert not child.running
        await until(lambda: len(without_metrics(posthog)) == 4, "the trace")
    assert {event["properties"]["pr"] for event in posthog.events} == {"6"}


# ---------------------------------------------------------------------- events that were not delivered


async def test_the_next_run_sends_undelivered_events_with_their_properties(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    posthog.fault = lambda _: Answer(status=503)
    env = environment(workspace, posthog.url)
    log = a_log(workspace)
    command = client(workspace, log, "--verdict", '{"verdict": "late"}', "--exit", "5")
    began = time.monotonic()
    ended = await run_exec(workspace, command, "--property", "pr=7", "--drain-timeout", "2", env=env)
    assert time.monotonic() - began < 30, "as long as without the option"
    assert ended.status == 5
    [line] = ended.stderr.splitlines()
    assert line.startswith("warning: not all events")
    assert str(workspace.state) in line
    assert posthog.events == []

    posthog.fault = None
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert len(without_metrics(posthog)) == 4
    assert {event["properties"]["pr"] for event in posthog.events} == {"7"}
    assert [event["properties"].get("verdict") for event in without_metrics(posthog)] == [None, None, None, "late"]
    assert list((workspace.state / "executions").iterdir()) == []


async def test_a_refused_key_is_reported_in_one_line_without_waiting(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    posthog.fault = lambda _: Answer(status=401)
    log = a_log(workspace)
    ended = await run_exec(workspace, client(workspace, log), env=environment(workspace, posthog.url))
    assert ended.status == 0
    [line] = ended.stderr.splitlines()
    assert "POSTHOG_API_KEY" in line


async def test_a_state_directory_that_cannot_be_used_does_not_stop_the_command(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    workspace.state.write_text("no folder")
    ended = await run_exec(workspace, ["sh", "-c", "echo done; exit 9"], env=environment(workspace, posthog.url))
    assert (ended.status, ended.stdout) == (9, "done\n")
    [line] = ended.stderr.splitlines()
    assert line.startswith("warning: ")


async def test_damaged_records_of_commands_are_ignored(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url)
    folder = workspace.state / "executions"
    folder.mkdir(parents=True)
    workspace.state.chmod(0o700)
    (folder / "1.json").write_text("{")
    (folder / "2.json").symlink_to(workspace.root / "elsewhere.json")
    (folder / "3.json").write_text('{"sessions": 1}')
    log = a_log(workspace)
    append(workspace.config / "projects" / log.path, log.files()[log.path])
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert len(without_metrics(posthog)) == 4


# ---------------------------------------------------------------------- the command itself


@pytest.mark.parametrize("sending", [True, False])
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 41"], 41),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
)
async def test_the_exit_code_is_the_commands(
    workspace: Workspace, posthog: CaptureServer, command: list[str], status: int, sending: bool
) -> None:
    env = environment(workspace, posthog.url if sending else None)
    assert (await run_exec(workspace, command, env=env)).status == status


async def test_without_configuration_it_warns_and_runs_the_command(workspace: Workspace) -> None:
    ended = await run_exec(workspace, ["sh", "-c", "echo out; echo err >&2; exit 3"], env=environment(workspace))
    assert (ended.status, ended.stdout) == (3, "out\n")
    warning, own = ended.stderr.splitlines()
    assert warning.startswith("warning: ")
    assert "POSTHOG_API_KEY" in warning
    assert own == "err"


async def test_with_a_bad_setting_it_warns_and_runs_the_command(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url, POSTHOG_LLMA_CONTENT="everything")
    ended = await run_exec(workspace, ["sh", "-c", "exit 3"], env=env)
    assert ended.status == 3
    [line] = ended.stderr.splitlines()
    assert "POSTHOG_LLMA_CONTENT" in line


@pytest.mark.parametrize(("word", "events"), [("1", 0), ("true", 0), ("YES", 0), ("0", 4), ("false", 4), ("", 4)])
async def test_after_an_opt_out_it_only_runs_the_command(
    workspace: Workspace, posthog: CaptureServer, word: str, events: int
) -> None:
    log = a_log(workspace)
    env = environment(workspace, posthog.url, OPT_OUT_CAPTURE=word)
    ended = await run_exec(workspace, client(workspace, log, "--exit", "2"), env=env)
    assert (ended.status, ended.stderr) == (2, "")
    assert len(without_metrics(posthog)) == events
    assert workspace.state.exists() is bool(events)


@pytest.mark.parametrize(
    "options",
    [
        ["--property", "pr"],
        ["--property", "=x"],
        ["--property", "a=1", "--property", "a=2"],
        ["--property", "$ai_model=x"],
        ["--property", "claude_code_version=x"],
        ["--property", "a=" + "x" * 20_000],
        ["--drain-timeout", "-1"],
        ["--drain-timeout", "nan"],
        ["--no-such-option"],
    ],
)
async def test_bad_usage_is_reported_before_the_command_runs(
    workspace: Workspace, posthog: CaptureServer, options: list[str]
) -> None:
    ran = workspace.root / "ran"
    ended = await run_exec(workspace, ["touch", ran], *options, env=environment(workspace, posthog.url))
    assert ended.status == 2
    assert not ran.exists()


async def test_the_command_has_its_own_umask_folder_and_private_file(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    script = 'umask; pwd; echo "$POSTHOG_LLMA_PROPERTIES_FILE"; stat -c %a "$(dirname "$POSTHOG_LLMA_PROPERTIES_FILE")"'
    whole = ["sh", "-c", f"umask 027; exec {sys.executable} -m daemon.cli exec -- sh -c '{script}'"]
    env = in_root(environment(workspace, posthog.url))
    async with start(whole, name="exec", environment=env, cwd=workspace.work, output=workspace.output) as child:
        assert await child.wait() == 0
        umask, folder, file, mode = child.stdout.splitlines()
    assert (umask, folder, mode) == ("0027", str(workspace.work), "700")
    assert not Path(file).parent.exists()


@pytest.mark.parametrize(
    "write",
    [
        "echo '[1]' > $F",
        "echo '{' > $F",
        "head -c 70000 /dev/zero > $F",
        "ln -s $HOME/secret.json $F",
        "mkfifo $F",
        "mkdir $F",
        'printf \'{"a": "\\377"}\' > $F',
        "chmod 000 $(dirname $F); echo x > $F",
    ],
)
async def test_the_trace_is_sent_without_an_invalid_properties_file(
    workspace: Workspace, posthog: CaptureServer, write: str
) -> None:
    (workspace.home / "secret.json").write_text('{"secret": "of another"}')
    log = a_log(workspace)
    script = f'F="$POSTHOG_LLMA_PROPERTIES_FILE"; "$@"; {write}; exit 6'
    command = ["sh", "-c", script, "sh", *client(workspace, log)]
    ended = await run_exec(workspace, command, env=environment(workspace, posthog.url))
    assert ended.status == 6
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert "POSTHOG_LLMA_PROPERTIES_FILE" in line
    assert len(without_metrics(posthog)) == 4
    assert not any("secret" in event["properties"] for event in posthog.events)


async def test_reserved_properties_in_the_file_are_left_out(workspace: Workspace, posthog: CaptureServer) -> None:
    log = a_log(workspace)
    command = client(workspace, log, "--verdict", '{"ok": true, "$ai_trace_id": "x", "distinct_id": "eve"}')
    ended = await run_exec(workspace, command, env=environment(workspace, posthog.url))
    assert len(ended.stderr.splitlines()) == 2
    [trace] = filter(is_ended, posthog.events)
    assert trace["properties"]["ok"] is True
    assert trace["properties"]["$ai_trace_id"] == log.session


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_are_passed_on(workspace: Workspace, posthog: CaptureServer, number: signal.Signals) -> None:
    log, signals, release = a_log(workspace), workspace.root / "signals", workspace.root / "release"
    command = client(workspace, log, "--signals", signals, "--until", release, "--exit", "8")
    async with begun(workspace, command, env=environment(workspace, posthog.url)) as child:
        await until(lambda: len(without_metrics(posthog)) == 3, "the session's events")
        os.kill(child.pid, number)
        await until(signals.exists, "the signal")
        release.touch()
        assert await child.wait() == 8
    assert signals.read_text().split() == [number.name]
    assert len(without_metrics(posthog)) == 4


async def test_a_command_that_a_signal_ends_has_its_session_delivered(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    log = a_log(workspace)
    command = client(workspace, log, "--until", workspace.root / "never")
    async with begun(workspace, command, env=environment(workspace, posthog.url)) as child:
        await until(lambda: len(without_metrics(posthog)) == 3, "the session's events")
        child.terminate()
        assert await child.wait() == 143
    assert len(without_metrics(posthog)) == 4


async def test_a_signal_ends_the_wait_for_delivery(workspace: Workspace, posthog: CaptureServer) -> None:
    posthog.fault = lambda _: Answer(status=503)
    log, over = a_log(workspace), workspace.root / "over"
    command = ["sh", "-c", f'"$@"; echo $$ >{over}', "sh", *client(workspace, log)]
    async with begun(workspace, command, env=environment(workspace, posthog.url)) as child:
        await until(lambda: over.exists() and over.read_text().endswith("\n"), "the client's end")
        await until(lambda: len(posthog.requests) > 0, "an attempt")
        await until(lambda: not exists(int(over.read_text())), "the shell's end")
        child.terminate()
        assert await child.wait() == 0
        [line] = child.stderr.splitlines()
        assert "signal" in line


async def on_a_terminal(
    workspace: Workspace, posthog: CaptureServer, *command: str
) -> tuple[asyncio.subprocess.Process | ForkedProcess, int]:
    env = in_root(environment(workspace, posthog.url))
    return await start_on_terminal(
        workspace, "tests.support.quick", "exec", "--", *command, env=env, cwd=workspace.work
    )


async def test_ctrl_c_reaches_a_command_on_a_terminal_once(workspace: Workspace, posthog: CaptureServer) -> None:
    log, signals, release = a_log(workspace), workspace.root / "signals", workspace.root / "release"
    command = client(workspace, log, "--signals", signals, "--until", release, "--exit", "8")
    process, terminal = await on_a_terminal(workspace, posthog, "sh", "-c", 'test -t 0 && "$@"', "sh", *command)
    try:
        await until(lambda: len(without_metrics(posthog)) == 3, "the session's events")
        os.write(terminal, b"\x03")
        await until(signals.exists, "the signal")
        release.touch()
        async with asyncio.timeout(PATIENCE):
            status = await process.wait()
    finally:
        os.close(terminal)
    # The same key may have ended the shell in between, as without `exec`.
    assert status in (8, 130)
    await until(lambda: len(without_metrics(posthog)) == 4, "the trace")
    assert signals.read_text().split() == ["SIGINT"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who sent a signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_exec_alone_is_passed_on_also_on_a_terminal(
    workspace: Workspace, posthog: CaptureServer, number: signal.Signals
) -> None:
    log, signals, release = a_log(workspace), workspace.root / "signals", workspace.root / "release"
    command = client(workspace, log, "--signals", signals, "--until", release, "--exit", "8")
    process, terminal = await on_a_terminal(workspace, posthog, *command)
    try:
        await until(lambda: len(without_metrics(posthog)) == 3, "the session's events")
        process.send_signal(number)
        await until(signals.exists, "the signal")
        os.write(terminal, b"\x03")
        await until(lambda: len(signals.read_text().split()) > 1, "the key")
        release.touch()
        async with asyncio.timeout(PATIENCE):
            status = await process.wait()
    finally:
        os.close(terminal)
    assert status == 8
    assert signals.read_text().split() == [number.name, "SIGINT"]


async def test_a_command_has_the_signals_it_would_have_without_exec(workspace: Workspace) -> None:
    """`exec` leaves no signal blocked or ignored."""
    env = in_root(environment(workspace))
    told = ["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]
    if sys.platform != "linux":
        pytest.skip("there is no /proc")
    alone = await asyncio.create_subprocess_exec(*told, stdout=asyncio.subprocess.PIPE, env=env)
    expected, _ = await alone.communicate()
    ended = await run_exec(workspace, told, env=env)
    assert ended.stdout == expected.decode()


@pytest.mark.parametrize(
    ("command", "status", "line"),
    [
        ("nonesuch", 127, "error: nonesuch: there is no such command on the PATH"),
        ("{work}/nonesuch", 127, "error: {work}/nonesuch: no such file or directory"),
        ("{work}/plain", 126, "error: {work}/plain: permission denied"),
    ],
)
async def test_a_command_that_cannot_be_started_exits_as_in_a_shell(
    workspace: Workspace, posthog: CaptureServer, command: str, status: int, line: str
) -> None:
    (workspace.work / "plain").touch()
    command, line = command.format(work=workspace.work), line.format(work=workspace.work)
    ended = await run_exec(workspace, [command], env=environment(workspace, posthog.url))
    assert (ended.status, ended.stderr) == (status, f"{line}\n")
