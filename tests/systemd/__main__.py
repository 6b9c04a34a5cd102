"""The service on a real systemd: what its users and its machine do to it, on a small Debian booted in namespaces.

    python -m tests.systemd

It prints one line for each step. Where the machine cannot be booted it says why and exits with 0; `--must` makes that a
failure. It sends to a receiver of its own, over the loopback of a network that has nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from daemon.config.table import APP_NAME
from daemon.state import layout
from llma_core import __version__
from tests.support.capture_server import Answer, CaptureServer
from tests.support.logs import LogBuilder, text
from tests.support.processes import KEY, append, bodies, previewed, session_id
from tests.systemd.machine import (
    UID,
    Machine,
    Ran,
    Unavailable,
    check_possible,
    isolated,
    loopback_up,
    packaged,
    root_filesystem,
)

UNIT = f"{APP_NAME}.service"
LIMIT = 260.0
"""Seconds for all steps."""
SKIPPED = 77
NEXT_VERSION = "99.0.0"
"""What the daemon on the machine is upgraded to."""


class Story:
    """The machine, the daemon on it, and the receiver.

    Args:
        machine: the machine, running.
        posthog: the receiver.
        site: the daemon and what it needs, for the machine's Python.
    """

    def __init__(self, machine: Machine, posthog: CaptureServer, site: Path) -> None:
        self.machine = machine
        self.posthog = posthog
        self.site = site
        self.config = machine.home / ".config" / APP_NAME
        self.state = machine.home / ".local" / "state" / APP_NAME
        self.unit = machine.home / ".config" / "systemd" / "user" / UNIT
        self.log = LogBuilder(session_id("systemd"), cwd=str(machine.home))
        self.turns = 0
        self.written = 0

    # ------------------------------------------------------------------ what is done

    async def verb(self, *arguments: str, status: int = 0, **variables: str) -> str:
        """Run a verb of the daemon as the machine's user, and return what it says."""
        program = str(self.machine.home / "llma" / "bin" / APP_NAME)
        return check(await asyncio.to_thread(self.machine.user, program, *arguments, **variables), status)

    async def systemctl(self, *arguments: str, status: int = 0) -> str:
        return check(await asyncio.to_thread(self.machine.user, "systemctl", "--user", *arguments), status)

    async def show(self, name: str) -> str:
        return (await self.systemctl("show", "--value", f"--property={name}", UNIT)).strip()

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(self.machine.wait, what, condition)

    async def until_pid_other_than(self, pid: str) -> str:
        """Wait until the service runs with another process, and return its id."""

        def runs() -> bool:
            shown = self.machine.user("systemctl", "--user", "show", "--property=ActiveState,MainPID", UNIT).output
            return "ActiveState=active" in shown and f"MainPID={pid}\n" not in shown

        await self.until("another process", runs)
        return await self.show("MainPID")

    def write(self, path: Path, words: str) -> None:
        """Write a file of the machine's user."""
        outside = self.machine.path(path)
        for folder in reversed((path.parent, *path.parent.parents)):
            if folder.is_relative_to(self.machine.home) and not self.machine.path(folder).is_dir():
                self.machine.path(folder).mkdir(mode=0o700)
                os.chown(self.machine.path(folder), UID, UID)
        outside.write_text(words)
        outside.chmod(0o600)
        os.chown(outside, UID, UID)

    def turn(self) -> str:
        """Let the client log a prompt and its answer; return the answer's text."""
        self.turns += 1
        answer = f"answer {self.turns}"
        self.log.prompt(f"prompt {self.turns}")
        self.log.answer(text(answer), id=f"msg_{self.turns}")
        data = self.log.files()[self.log.path]
        path = self.machine.home / ".claude" / "projects" / self.log.path
        if self.written == 0:
            self.write(path, "")
        append(self.machine.path(path), data[self.written :])
        self.written = len(data)
        return answer

    async def arrives(self, answer: str) -> None:
        await self.until(f"{answer!r}", lambda: answer in json.dumps(self.posthog.events))

    # ------------------------------------------------------------------ the steps

    async def install(self) -> None:
        home = self.machine.path(self.machine.home)
        check(await asyncio.to_thread(self.machine.user, "python3", "-m", "venv", "--without-pip", "llma"))
        [packages] = (home / "llma" / "lib").glob("python3.*/site-packages")
        shutil.copytree(self.site, packages, dirs_exist_ok=True)
        program = self.machine.home / "llma" / "bin" / APP_NAME
        python = self.machine.home / "llma" / "bin" / "python"
        self.write(program, f"#!{python}\nfrom daemon.cli.__main__ import run_main\nrun_main()\n")
        self.machine.path(program).chmod(0o755)
        settings = f'api_key = "{KEY}"\nenabled = true\nhost = "{self.posthog.url}"\ndistinct_id = "ada"\n'
        self.write(self.config / "config.toml", settings)
        said = await self.verb("install", "--linger")
        assert "lingering is already enabled" in said, said
        assert "running: following 0 sessions" in said, said
        assert await self.show("PrivateUsers") == "yes", "the sandbox is there"
        await self.arrives(self.turn())
        assert " ready" in await self.verb("logs")

    async def kill(self) -> None:
        pid = await self.show("MainPID")
        await self.systemctl("kill", "--signal=KILL", UNIT)
        await self.until_pid_other_than(pid)
        await self.arrives(self.turn())

    async def watchdog(self) -> None:
        drop_in = self.unit.with_name(f"{UNIT}.d") / "test.conf"
        self.write(drop_in, "[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n")
        await self.verb("restart")
        pid = await self.show("MainPID")
        await self.systemctl("kill", "--signal=STOP", UNIT)
        await self.until_pid_other_than(pid)
        await self.arrives(self.turn())
        shutil.rmtree(self.machine.path(drop_in.parent))
        await self.verb("restart")

    async def reload(self) -> None:
        pid = await self.show("MainPID")
        await self.systemctl("reload", UNIT)
        assert await self.show("Result") == "success"
        # The journal is written by another process.
        read = (f"_SYSTEMD_USER_UNIT={UNIT}", "--output=cat", "--no-pager")
        await self.until("the settings", lambda: "settings_read" in self.machine.root("journalctl", *read).output)
        await self.arrives(self.turn())
        assert await self.show("MainPID") == pid

    async def refuse(self) -> None:
        """A bad configuration: restart says so at once, and the service goes on."""
        config = self.config / "config.toml"
        good = self.machine.path(config).read_text()
        pid = await self.show("MainPID")
        self.write(config, f"{good}enabled = maybe\n")
        assert "config.toml" in await self.verb("restart", status=78)
        self.write(config, good)
        said = await self.verb("install", "--yes", status=78, CLAUDE_CONFIG_DIR="/tmp/claude")
        assert "would not see /tmp/claude" in said, said
        assert self.machine.path(config).read_text() == good
        assert await self.show("MainPID") == pid
        await self.arrives(self.turn())

    async def stop(self) -> None:
        """PostHog is away: it stops in time, and delivers later."""
        self.posthog.fault = lambda _: Answer(status=503)
        answer = self.turn()
        await asyncio.sleep(0)
        requests = len(self.posthog.requests)
        await self.until("a request", lambda: len(self.posthog.requests) > requests)
        began = time.monotonic()
        await self.verb("stop")
        assert time.monotonic() - began < 20, "systemd would have killed it"
        assert await self.show("Result") == "success"
        later = self.turn()
        self.posthog.fault = None
        await self.verb("start")
        await self.arrives(answer)
        await self.arrives(later)

    async def upgrade(self) -> None:
        [core] = self.machine.path(self.machine.home / "llma" / "lib").glob("python3.*/site-packages/llma_core")
        module = core / "__init__.py"
        module.write_text(module.read_text().replace(f'"{__version__}"', f'"{NEXT_VERSION}"'))
        await self.arrives(self.turn())
        await self.verb("restart")
        health = self.machine.path(self.state / layout.HEALTH)
        await self.until("the new version", lambda: json.loads(health.read_text())["version"] == NEXT_VERSION)
        await self.arrives(self.turn())

    async def reboot(self) -> None:
        await asyncio.to_thread(self.machine.reboot)
        await self.until_pid_other_than("0")
        await self.arrives(self.turn())

    async def compare(self) -> None:
        """Everything came once, as `preview` says."""
        # Only some of them were sent by the upgraded daemon, whose version they name.
        printed = await self.verb("preview", ".claude")
        said = previewed(printed.replace(NEXT_VERSION, __version__))
        sent = {uuid: body.replace(NEXT_VERSION, __version__) for uuid, body in bodies(self.posthog).items()}
        # The session is open, so its trace is still to come.
        assert sent.keys() <= said.keys(), sent.keys() - said.keys()
        assert [uuid for uuid, body in sent.items() if body != said[uuid]] == []
        missing = [json.loads(said[uuid])["event"] for uuid in said.keys() - sent.keys()]
        assert set(missing) <= {"$ai_trace"}, missing
        assert self.posthog.violations == []

    async def mend(self) -> None:
        """A removed state folder: systemd cannot start it, and what the daemon names mends it."""
        await self.verb("stop")
        shutil.rmtree(self.machine.path(self.state))
        await self.systemctl("start", UNIT, status=1)
        assert await self.show("ExecMainStatus") == "226"
        assert f"`{APP_NAME} install` mends both" in await self.verb("doctor", status=1)
        await self.verb("install")
        await self.verb("stop")
        shutil.rmtree(self.machine.path(self.state))
        await self.verb("restart")
        assert await self.show("ActiveState") == "active"

    async def purge(self) -> None:
        await self.verb("uninstall", "--purge", "--yes")
        assert not any(self.machine.path(path).exists() for path in (self.unit, self.config, self.state))
        assert UNIT not in await self.systemctl("list-units", "--all", "--plain", "--no-legend", UNIT)
        said = await asyncio.to_thread(self.machine.root, "pgrep", "--full", f"llma/bin/{APP_NAME}")
        assert said.status == 1, said.output


def check(ran: Ran, status: int = 0) -> str:
    """Return what a program wrote, if it ended with *status*."""
    assert ran.status == status, f"exit status {ran.status} and not {status}: {ran.output}"
    return ran.output


async def play(machine: Machine, site: Path) -> None:
    async with CaptureServer() as posthog:
        story = Story(machine, posthog, site)
        steps = (
            *(story.install, story.reload, story.kill, story.watchdog, story.refuse, story.stop, story.upgrade),
            *(story.reboot, story.compare, story.mend, story.purge),
        )
        try:
            for step in steps:
                began = time.monotonic()
                print(f"systemd: {step.__name__} ...", end=" ", flush=True)
                await step()
                print(f"{time.monotonic() - began:.1f} s", flush=True)
        except BaseException:
            print("failed; the end of the daemon's log:")
            read = ("journalctl", f"_SYSTEMD_USER_UNIT={UNIT}", "--output=cat", "--no-pager", "--lines=30")
            print(machine.root(*read).output)
            raise


def inside(root: Path, folder: Path) -> int:
    """Boot the machine and play all steps; everything ends with this process."""
    loopback_up()
    machine = Machine(root, folder / "disk")
    try:
        try:
            machine.boot()
        except Unavailable as error:
            return skipped(error)
        asyncio.run(play(machine, folder / "site-packages"))
    finally:
        machine.end()
    print("systemd: all steps passed")
    return 0


def skipped(reason: Unavailable) -> int:
    print(f"systemd: skipped: {reason}")
    return SKIPPED


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.systemd", description=__doc__)
    parser.add_argument("--must", action="store_true", help="fail where the machine cannot be booted")
    parser.add_argument("--inside", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # As Ctrl-C does it, so that what was begun is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.inside is not None:
        return inside(*options.inside)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / APP_NAME
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            check_possible()
            # What needs the machine's network comes first.
            root = root_filesystem(cache)
            packaged(root, folder)
            (folder / "disk").mkdir()
            status = isolated("--inside", str(root), scratch, limit=LIMIT)
        except Unavailable as error:
            status = skipped(error)
    return int(options.must) if status == SKIPPED else status


if __name__ == "__main__":
    sys.exit(main())
