"""Every command in the README and in `docs/` does something, on a small machine with a receiver and a service manager.

A block of the language `console` also has the output. Numbers in it may differ. UPDATE_DOCS=1 writes the output anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from daemon.state.layout import HEALTH
from tests.support.client import Workspace, start
from tests.support.documents import DOCS, README, Block, Document, documents
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.managers import Managers
from tests.support.processes import KEY, ROOT, following, session_id, until, verb
from tests.support.project_server import ProjectServer

PROGRAM = "posthog-llma-daemon"
PERSONAL = "phx_a_personal_key_that_no_output_shows"
HOST = "https://eu.i.posthog.com"
"""The host in the documents. Here, the receiver takes its place."""
VERIFY = f"$ {PROGRAM} verify"

OTHERS = {
    "python3 -m venv": ".ci/run runs the second one as it is; tests/daemon/cli/test_demo.py runs the demo",
    "pip install": "installs from outside of this machine",
    "pipx": "installs from outside of this machine",
    "uv": "installs from outside of this machine",
    "claude plugin": "tests/e2e/test_plugin.py runs those for our own plugin, with a real client",
}
"""How lines of other programs begin, and why they are not run here."""

FAILING = {"status", "doctor"}
"""These say by their exit status that no daemon runs on the small machine."""


def lines(block: Block) -> Iterator[str]:
    """Yield the commands of a block for a shell, without comments."""
    for row in block.text.splitlines():
        line = row if block.language == "sh" else row.removeprefix("$ ") if row.startswith("$ ") else ""
        if line := re.sub(r"\s+# .*", "", line).strip():
            yield line


def commands() -> Mapping[str, str]:
    """Return the page of every command of this program, by its line."""
    found: dict[str, str] = {}
    for document in documents():
        for block in document.blocks:
            if block.language in ("sh", "console"):
                for line in lines(block):
                    if not line.startswith(tuple(OTHERS)):
                        found.setdefault(line, document.name)
    return found


COMMANDS = commands()


class House:
    """A small machine: logs, a project that asks for a host, stand-ins for everything outside.

    Args:
        workspace: its folders.
        server: the receiver.
        configured: whether its settings are set.
    """

    def __init__(self, workspace: Workspace, server: ProjectServer, *, configured: bool = True) -> None:
        self.workspace, self.server = workspace, server
        self.managers = Managers(workspace)
        self.claude = workspace.home / ".claude"
        self.work = workspace.home / "work"
        acme = self.work / "acme"
        (acme / ".claude").mkdir(parents=True)
        asked = {"env": {"POSTHOG_HOST": server.url, "POSTHOG_API_KEY": "phc_acme"}}
        local = acme / ".claude" / "settings.local.json"
        local.write_text(json.dumps(asked))
        local.chmod(0o600)
        subprocess.run(["git", "init", "--quiet", str(acme)], check=True, timeout=60)
        self.write_log("first")
        (workspace.work / "key.txt").write_text(f"{KEY}\n")
        (workspace.work / "personal-key.txt").write_text(f"{PERSONAL}\n")
        stand_in = self.managers.programs / "claude"
        stand_in.write_text("#!/bin/sh\necho done\n")
        stand_in.chmod(0o755)
        self.managers.say("journal", "2026-11-20T09:12:40Z info ready\n")
        self.environment = self.managers.environment(COLUMNS="100")
        # As for most people: all folders are where they are by default.
        del self.environment["CLAUDE_CONFIG_DIR"]
        if configured:
            config = workspace.home / ".config" / PROGRAM / "config.toml"
            config.parent.mkdir(parents=True)
            config.write_text(
                f'api_key = "{KEY}"\npersonal_api_key = "{PERSONAL}"\nhost = "{server.url}"\nenabled = true\n'
            )
            config.chmod(0o600)

    def write_log(self, name: str, *, minutes: float = 5) -> None:
        """Write the log of a session that ran some minutes ago."""
        began = datetime.now(UTC) - timedelta(minutes=minutes)
        log = LogBuilder(session_id(name), cwd=str(self.work / "shop"), start=began.isoformat())
        log.prompt("Find the flaky test")
        log.answer(text("I look."), tool_use("Bash", {"command": "ls"}, id=f"toolu_{name}"), id=f"msg_{name}_1")
        log.tool_result(f"toolu_{name}", "a b c")
        log.answer(text("It is the retry test."), id=f"msg_{name}_2")
        log.write(self.claude / "projects")

    async def loses_an_event(self) -> None:
        """Send two sessions of yesterday, and let the receiver lose an event."""
        for name in ("first", "second"):
            self.write_log(name, minutes=1440)
        ended = await verb(self.workspace, "backfill", "--yes", env=self.environment)
        assert ended.status == 0, ended.stderr
        self.server.lost = {next(each["uuid"] for each in self.server.events if each["event"] == "$ai_generation")}

    def reports_what_it_sent(self) -> bool:
        """Return whether a running daemon has written down that it sent the second session."""
        path = self.workspace.home / ".local" / "state" / PROGRAM / HEALTH
        return path.exists() and any(route["sent"] > 2 for route in json.loads(path.read_text())["routes"])

    async def run(self, line: str) -> tuple[int, str]:
        """Run a command; return its exit status and all of its output, on which only this machine's names differ."""
        line = line.replace(HOST, self.server.url).replace("~", str(self.workspace.home))
        given = b""
        if redirected := re.fullmatch(r"([^<>|;$&]+) < (\S+)", line):
            line, given = redirected[1], (self.workspace.work / redirected[2]).read_bytes()
        if re.search(r"[<>|;$&]", line):
            # It needs a shell, which finds the program on the PATH.
            shell = ["sh", "-c", line]
            async with start(
                shell, name="shell", environment=self.environment, cwd=self.workspace.work, output=self.workspace.output
            ) as child:
                status = await child.wait()
                return status, self.shown(child.stdout + child.stderr)
        program, name, *arguments = shlex.split(line)
        assert program == PROGRAM, f"{program}: say in OTHERS why it is not run"
        if name == "view":
            arguments.append("--no-open")
        if name in ("tail", "view") or (name == "run" and "--once" not in arguments):
            return await self._run_until_it_works(name, *arguments)
        if name == "backfill" and not {"--dry-run", "--yes", "--expiring"} & set(arguments):
            arguments.append("--yes")
        if name == "dashboard" and "--print" not in arguments:
            arguments.append("--yes")
        if name == "install":
            arguments += ["--program", str(self.managers.program)]
        if name in ("start", "stop", "restart", "logs", "uninstall"):
            self.managers.install()
        ended = await verb(self.workspace, name, *arguments, env=self.environment, given=given)
        return ended.status, self.shown(ended.stdout + ended.stderr)

    async def _run_until_it_works(self, name: str, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "daemon.cli", name, *arguments]
        async with start(
            command,
            name=name,
            environment=self.environment,
            cwd=ROOT,
            output=self.workspace.output,
            forks=self.workspace.forks,
        ) as child:
            if "--since" in arguments:
                await child.until(lambda: bool(child.stdout))
            else:
                works = re.compile("watching|ready|http://")
                await child.until(lambda: works.search(child.stdout + child.stderr) is not None)
            os.kill(child.pid, signal.SIGINT)
            status = await child.wait()
            return 0 if status in (0, 130) else status, self.shown(child.stdout + child.stderr)

    def shown(self, output: str) -> str:
        """Return *output* with the documents' names."""
        return output.replace(self.server.url, HOST).replace(str(self.workspace.home), "~")


@asynccontextmanager
async def house(workspace: Workspace, *, configured: bool = True) -> AsyncIterator[House]:
    async with ProjectServer(KEY, "phc_acme") as server:
        yield House(workspace, server, configured=configured)


linux = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for systemd is used")


@linux
@pytest.mark.parametrize("line", COMMANDS)
async def test_every_command_works(workspace: Workspace, line: str) -> None:
    if line == f"{PROGRAM} demo":
        pytest.skip("tests/daemon/cli/test_demo.py runs it")
    async with house(workspace) as machine:
        if " traces" in line and "--url" not in line:
            assert (await machine.run(f"{PROGRAM} run --local --once"))[0] == 0
        status, output = await machine.run(line)
    allowed = {0, 1} if FAILING & set(line.split()) else {0}
    assert status in allowed, f"{COMMANDS[line]}: {line} exits with {status}: {output}"
    assert "Usage:" not in output, f"{COMMANDS[line]}: {line}: {output}"
    assert output or "exec" in line, f"{COMMANDS[line]}: {line} prints nothing"


def consoles() -> list[tuple[Document, Block]]:
    return [(page, block) for page in documents() for block in page.blocks if block.language == "console"]


async def transcript(machine: House, block: Block) -> str:
    """Run the commands of a block one after the other, as on a new machine, and return them with their output."""
    found = []
    if VERIFY in block.text:
        await machine.loses_an_event()
    for line in lines(block):
        if " status" not in line:
            _, output = await machine.run(line)
        else:
            # The stand-in for systemd starts nothing. The daemon is started here, and has sent a session.
            async with following(machine.workspace, env=machine.environment):
                machine.write_log("second")
                await until(machine.reports_what_it_sent, "a session is delivered, and status knows it")
                _, output = await machine.run(line)
        found.append(f"$ {line}\n{output.rstrip()}\n")
    return "".join(found)


def comparable(block: str) -> list[str]:
    """Return a block's lines without what differs each time: numbers and units, and the number of spaces."""
    return [" ".join(re.sub(r"\d[\d.,:]*( (s|ms|min|B|kB|MB|KiB))?", "0", row).split()) for row in block.splitlines()]


@linux
@pytest.mark.parametrize(("page", "block"), consoles(), ids=lambda each: getattr(each, "name", "block"))
async def test_the_output_in_the_documents_is_real(workspace: Workspace, page: Document, block: Block) -> None:
    async with house(workspace, configured=VERIFY in block.text) as machine:
        found = await transcript(machine, block)
    if os.environ.get("UPDATE_DOCS") == "1":
        page.path.write_text(page.path.read_text("utf-8").replace(block.text, found), encoding="utf-8")
    else:
        assert comparable(found) == comparable(block.text), (
            f"{page.name}: run UPDATE_DOCS=1 .venv/bin/python -m pytest -q -n 0 tests/documents"
        )


def test_only_known_programs_are_not_run() -> None:
    beginnings = {
        line for page in documents() for block in page.blocks if block.language == "sh" for line in lines(block)
    }
    used = {start for start in OTHERS if any(line.startswith(start) for line in beginnings)}
    assert used == OTHERS.keys()


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 30
    assert {README.name, f"{DOCS.name}/history.md"} <= set(COMMANDS.values())
