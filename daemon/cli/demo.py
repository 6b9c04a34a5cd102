"""`demo`: plays a recorded session into a temporary folder, where a whole daemon delivers it to the local sink."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from daemon.cli.render import delivered, stdout, tree
from daemon.cli.startup import build_service, open_state
from daemon.config import loading
from daemon.config.settings import Settings
from daemon.delivering.delivery import EventOutcome
from daemon.delivering.local.events import LocalEvents
from daemon.delivering.local.sink import LocalSink
from daemon.demo.player import steps
from daemon.running import logs
from daemon.state.layout import events_path, local_folder
from daemon.state.lock import StateLock
from llma_core.view import EventView, read

__all__ = ["AFTER", "BEFORE", "demo"]

BEFORE = "A sample session is being written; each event is shown as it is delivered.\n"
AFTER = (
    "\nThat was a sample in a temporary folder. Look at your own sessions, without an account:\n",
    "  posthog-llma-daemon view     shows them in a browser: what runs, what waits for you, and what it cost",
    "  posthog-llma-daemon usage    says what the last days cost",
    "  posthog-llma-daemon tail     shows in the terminal what happens right now",
    "  posthog-llma-daemon traces   shows the latest as trees like the one above",
)
_PATIENCE_SECONDS = 10.0


@click.command("demo")
def demo() -> None:
    """Watch a sample session become a trace, live. Needs no account, and nothing leaves this machine."""
    logs.configure("console", "WARNING")
    with TemporaryDirectory(prefix="posthog-llma-demo-") as temporary:
        folder = Path(temporary)
        settings = _settings(folder)
        click.echo(BEFORE)
        asyncio.run(_play(folder, settings))
        events = LocalEvents(events_path(settings.state_dir))
        console = stdout()
        console.print()
        for trace in events.traces(10):
            console.print(tree(events.tree(trace.trace_id)))
    for words in AFTER:
        click.echo(words)


def _settings(folder: Path) -> Settings:
    """Return the default settings, whatever this machine has configured: the demo shows the same everywhere."""
    environ = {key: os.environ[key] for key in ("PATH", "HOME", "TERM") if key in os.environ}
    flags = {
        "state_dir": folder / "state",
        "claude_config_dirs": str(folder / "claude"),
        "distinct_id": "demo@example.com",
    }
    settings = loading.load(flags, environ, config_file=folder / "none.toml", home=folder)
    return replace(settings, session_timeout=2.0)


async def _play(folder: Path, settings: Settings) -> None:
    console = stdout()
    done = asyncio.Event()

    def show(outcomes: Sequence[EventOutcome]) -> None:
        for outcome in outcomes:
            view: EventView = read(outcome.event.body)
            console.print(delivered(view), no_wrap=True, overflow="ellipsis")
            if view.kind == "trace" and not view.is_open:
                done.set()

    with open_state(StateLock(local_folder(settings.state_dir), verb="demo")) as store:
        events = events_path(settings.state_dir)
        service = build_service(settings, store, lambda _route: LocalSink(events), purpose="local", watch=show)
        projects = folder / "claude" / "projects"
        projects.mkdir(parents=True)
        service.prepare("skip", time.time() - 1)
        following = asyncio.create_task(service.run())
        for step in steps(datetime.now(UTC)):
            await asyncio.sleep(step.delay)
            step.write(projects)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await done.wait()
        finally:
            service.stop()
            await following
