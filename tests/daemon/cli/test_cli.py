"""The command line as a whole: help, version, errors, and exit codes."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from daemon.cli import main
from daemon.cli.verbs import VERBS
from llma_core import __version__
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text, write_files
from tests.support.processes import KEY, ROOT, Ended, environment, following, put_logs, tree, verb
from tests.support.waiting import PATIENCE

GROUPS = ("Look", "Send", "Run as a service", "Configure")
ALL = {name: verb for verbs in VERBS.values() for name, verb in verbs.items()}
CONFIGURATION = 78


def check_one_error(ended: Ended, status: int, *words: str) -> None:
    """Check the exit code, and that it printed one error line, without a traceback or the key."""
    assert ended.status == status, ended.stderr
    assert len(ended.errors) == 1, ended.stderr
    for word in words:
        assert word in ended.errors[0]
    assert "Traceback" not in ended.stderr
    assert KEY not in ended.stderr + ended.stdout


async def test_help_names_every_verb(workspace: Workspace) -> None:
    ended = await verb(workspace, "--help")
    assert ended.status == 0
    named = [line.split()[0] for line in ended.stdout.splitlines() if line.startswith("  ") and line[2] != " "]
    assert [name for verbs in VERBS.values() for name in verbs] == [name for name in named if name in ALL]


async def test_every_verb_has_help_and_needs_no_configuration_for_it(workspace: Workspace) -> None:
    env = environment(workspace, POSTHOG_HOST="not a host", POSTHOG_LLMA_CC_ENABLED="perhaps")
    for ended in await asyncio.gather(*(verb(workspace, name, "--help", env=env) for name in ALL)):
        assert ended.status == 0
        assert "Usage:" in ended.stdout
        assert ended.stderr == ""


async def test_help_has_groups(workspace: Workspace) -> None:
    lines = (await verb(workspace, "--help")).stdout.splitlines()
    assert [line[:-1] for line in lines if line.endswith(":") and line[:-1] in VERBS] == list(GROUPS)


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every verb, and every verb of a verb, with its names."""
    context = click.Context(main)
    for name in ALL:
        command = main.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            for inner, subcommand in command.commands.items():
                yield (name, inner), subcommand


@pytest.mark.parametrize(("names", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands()])
def test_each_verb_has_an_example_that_it_understands(
    names: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".claude").mkdir()
    (tmp_path / "work" / "orchard").mkdir(parents=True)
    said = command.get_help(click.Context(command, info_name=" ".join(names), terminal_width=80))
    [shown] = re.findall(r"^  Example:\n    posthog-llma-daemon (.+)$", said, re.MULTILINE)
    assert all(len(line) <= 80 for line in said.splitlines())
    words = [str(tmp_path) + word[1:] if word.startswith("~") else word for word in shlex.split(shown, comments=True)]
    assert tuple(words[: len(names)]) == names
    given = words[len(names) :]
    if ">" in given:
        given = given[: given.index(">")]
    command.make_context(names[-1], given, parent=click.Context(main))


async def test_version(workspace: Workspace) -> None:
    ended = await verb(workspace, "--version")
    assert (ended.status, ended.stdout.split()[-1]) == (0, __version__)


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-verb",),
        ("run", "--no-such-option"),
        ("run", "superfluous"),
        ("preview",),
        ("preview", "/no/such/path"),
        ("run", "--log-format", "xml"),
        ("run", "--log-level", "loud"),
    ],
    ids=" ".join,
)
async def test_bad_usage_exits_with_2(workspace: Workspace, arguments: tuple[str, ...]) -> None:
    ended = await verb(workspace, *arguments, env=environment(workspace, "http://127.0.0.1:9"))
    assert ended.status == 2, ended.stderr
    assert "rror: " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stauts",), "there is no command 'stauts'; did you mean status?"),
        (("qqqq",), "there is no command 'qqqq'\n"),
        (("run", "--log-level", "loud"), "'debug'"),
    ],
)
async def test_a_mistyped_word_gets_a_suggestion(workspace: Workspace, arguments: tuple[str, ...], words: str) -> None:
    assert words in (await verb(workspace, *arguments)).stderr


# ---------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ("POSTHOG_LLMA_CC_ENABLED=true", "POSTHOG_API_KEY")),
        ({"POSTHOG_LLMA_CC_ENABLED": "true"}, ("POSTHOG_API_KEY",)),
        ({"POSTHOG_API_KEY": KEY}, ("POSTHOG_LLMA_CC_ENABLED=true",)),
        ({"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true", "OPT_OUT_CAPTURE": "1"}, ("OPT_OUT_CAPTURE",)),
        ({"POSTHOG_API_KEY": "phx_personal", "POSTHOG_LLMA_CC_ENABLED": "true"}, ("POSTHOG_API_KEY", "phc_")),
        ({"POSTHOG_API_KEY": "two words", "POSTHOG_LLMA_CC_ENABLED": "true"}, ("POSTHOG_API_KEY", "phc_")),
        (
            {"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_HOST": "https://example.com"},
            ("POSTHOG_HOST", "POSTHOG_LLMA_ALLOW_CUSTOM_HOST"),
        ),
        (
            {"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_HOST": "http://us.i.posthog.com"},
            ("POSTHOG_HOST", "https"),
        ),
        (
            {"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true", "HTTPS_PROXY": "gopher://nowhere:70"},
            ("proxy", "HTTPS_PROXY"),
        ),
        ({"POSTHOG_LLMA_CONTENT": "some"}, ("POSTHOG_LLMA_CONTENT", "metadata")),
    ],
    ids=str,
)
async def test_a_configuration_that_cannot_be_used_exits_with_78(
    workspace: Workspace, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, **variables)
    for ended in await asyncio.gather(verb(workspace, "run", env=env), verb(workspace, "backfill", "--yes", env=env)):
        check_one_error(ended, CONFIGURATION, *words)
    assert not workspace.state.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "not a regular file"), (b'{"env": ', "not valid JSON"), (b"[]", "not a JSON object")],
)
async def test_unreadable_claude_settings_exit_with_78(workspace: Workspace, content: bytes | None, word: str) -> None:
    put_logs(workspace, tree())
    path = workspace.config / "settings.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    env = environment(workspace, "http://127.0.0.1:9")
    commands: list[tuple[str | Path, ...]] = [("run",), ("backfill",), ("status",), ("preview", workspace.config)]
    for ended in await asyncio.gather(*(verb(workspace, *command, env=env) for command in commands)):
        check_one_error(ended, CONFIGURATION, str(path), word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("enabled = maybe", "not valid TOML"),
        ("no_such_setting = 1", "unknown setting"),
        ('cc_enabled = "perhaps"', "neither true nor false"),
    ],
)
async def test_a_config_file_that_cannot_be_used_exits_with_78(workspace: Workspace, content: str, word: str) -> None:
    folder = workspace.home / ".config"
    path = folder / "posthog-llma-daemon" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    env = environment(workspace, XDG_CONFIG_HOME=str(folder))
    check_one_error(await verb(workspace, "run", env=env), CONFIGURATION, str(path), word)


async def test_all_problems_are_reported_at_once(workspace: Workspace) -> None:
    env = environment(workspace, POSTHOG_LLMA_CC_ENABLED="maybe", POSTHOG_LLMA_CONTENT="some")
    ended = await verb(workspace, "run", env=env)
    assert ended.status == CONFIGURATION
    assert len(ended.errors) == 2


# ---------------------------------------------------------------------- the state directory


@pytest.mark.parametrize("command", [("run",), ("backfill", "--yes")], ids=" ".join)
async def test_a_state_directory_that_cannot_be_used_exits_with_1(
    workspace: Workspace, command: tuple[str, ...]
) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, "http://127.0.0.1:9")
    workspace.state.write_text("a file in its place")
    check_one_error(await verb(workspace, *command, env=env), 1, str(workspace.state), "POSTHOG_LLMA_STATE_DIR")
    below = environment(workspace, "http://127.0.0.1:9", POSTHOG_LLMA_STATE_DIR=str(workspace.state / "below"))
    check_one_error(await verb(workspace, *command, env=below), 1, str(workspace.state / "below"))
    assert workspace.state.read_text() == "a file in its place"


async def test_a_state_directory_with_files_of_others_exits_with_1(workspace: Workspace) -> None:
    workspace.state.mkdir(mode=0o755)
    (workspace.state / "notes.txt").write_text("of somebody's")
    check_one_error(await verb(workspace, "run", env=environment(workspace, "http://127.0.0.1:9")), 1, "other files")


async def test_a_second_daemon_does_not_start(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        check_one_error(await verb(workspace, "run", env=env), 1, f"pid {daemon.pid}", str(workspace.state))
        check_one_error(await verb(workspace, "run", "--once", env=env), 1, f"pid {daemon.pid}")
        looked = await verb(workspace, "status", env=env)
        assert looked.status == 0
        assert f"pid {daemon.pid}," in looked.stdout
        daemon.terminate()
        assert await daemon.wait() == 0
    assert posthog.events == []


# ---------------------------------------------------------------------- paths without logs


async def test_a_path_without_logs_exits_with_1(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, "http://127.0.0.1:9")
    (workspace.root / "notes.txt").write_text("no log")
    (workspace.root / "empty").mkdir()
    os.mkfifo(workspace.root / "pipe.jsonl")
    (workspace.root / "folder.jsonl").mkdir()
    for name in ("notes.txt", "empty", "pipe.jsonl", "folder.jsonl"):
        path = workspace.root / name
        for ended in await asyncio.gather(*(verb(workspace, each, path, env=env) for each in ("preview", "backfill"))):
            check_one_error(ended, 1, str(path), "no session log")


async def test_status_without_any_state_exits_with_1(workspace: Workspace) -> None:
    check_one_error(await verb(workspace, "status"), 1, "posthog-llma-daemon run")
    assert not workspace.state.exists()


async def test_it_exits_silently_when_nobody_reads_its_output(workspace: Workspace) -> None:
    log = LogBuilder()
    for turn in range(300):
        log.prompt(f"turn {turn}")
        log.answer(text("a line of some length " * 50), id=f"msg_{turn}")
    projects = put_logs(workspace, log.files())
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon.cli",
        "preview",
        projects,
        cwd=ROOT,
        env=environment(workspace),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    async with asyncio.timeout(PATIENCE):
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert stderr == b""


FULL = Path("/dev/full")


async def run_main(workspace: Workspace, *arguments: str | Path, before: str = "", **variables: str) -> tuple[int, str]:
    """Run the command line in a shell, after the shell code *before*; return its exit code and stderr."""
    script = f'{before} exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script, "sh", sys.executable, "-m", "daemon.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=workspace.work,
        env=environment(workspace) | {"PYTHONPATH": str(ROOT)} | variables,
    )
    _, told = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, told.decode(errors="replace")


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
@pytest.mark.parametrize("words", [["demo"], ["config"], ["config", "schema"], ["preview", "logs"], ["doctor"]])
async def test_output_that_cannot_be_written_is_reported_in_one_line(workspace: Workspace, words: list[str]) -> None:
    log = LogBuilder()
    log.prompt("hello")
    log.answer(text("yes"), id="msg_1")
    write_files(workspace.work / "logs", log.files())
    status, told = await run_main(workspace, *words, before=f"exec > {FULL};")
    assert (status, told) == (1, "error: cannot write the output: no space left on device\n")


async def test_a_deleted_current_folder_is_reported_without_a_traceback(workspace: Workspace) -> None:
    gone = "mkdir gone; cd gone; rmdir ../gone;"
    status, told = await run_main(workspace, "config", "allow", ".", before=gone)
    assert (status, told.count("\n")) in ((1, 1), (2, 4), (78, 1))
    assert "Traceback" not in told


async def test_characters_that_the_terminal_lacks_become_question_marks(workspace: Workspace) -> None:
    log = LogBuilder()
    log.prompt("Zähle die Bäume")
    log.answer(text("Drei."), id="msg_1")
    put_logs(workspace, log.files())
    assert (await verb(workspace, "run", "--local", "--from-start", "--once")).status == 0
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    drawn = workspace.output / "traces.txt"
    assert await run_main(workspace, "traces", before=f"exec > {drawn};", **ascii_only) == (0, "")
    assert "Z?hle die B?ume" in drawn.read_text("ascii")


async def test_a_bug_is_reported_without_values(workspace: Workspace) -> None:
    (workspace.work / "sitecustomize.py").write_text(
        "import daemon.config.schema\n"
        "def config_schema():\n"
        "    raise ValueError('content')\n"
        "daemon.config.schema.config_schema = config_schema\n"
    )
    status, told = await run_main(workspace, "config", "schema", PYTHONPATH=f"{workspace.work}:{ROOT}")
    assert status == 1
    assert told.startswith("error: this is a bug")
    assert "ValueError" in told
    assert "Traceback" not in told
    assert "content')" not in told.replace("raise ValueError('content')", "")
