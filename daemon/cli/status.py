"""`status`: what is delivered, what waits, and what went wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from daemon.cli.startup import fail, load_settings

__all__ = ["status"]


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--rejected", is_flag=True, help="List the events that were set aside.")
@click.option("--local", is_flag=True, help="Of the local sink.")
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="State directory.")
def status(as_json: bool, rejected: bool, local: bool, state_dir: Path | None) -> None:
    """Say whether the daemon runs, and what its store counts."""
    settings = load_settings({"state_dir": state_dir})
    from daemon.sinks.local import events_path

    folder = events_path(settings.state_dir).parent if local else settings.state_dir
    said = _gather(folder)
    if as_json:
        click.echo(json.dumps(said, indent=2))
        return
    if not rejected:
        for key, value in said.items():
            if key not in ("set_aside", "held"):
                click.echo(f"{key.replace('_', ' ')}: {value}")
        for reason, number in Counter(row["reason"] for row in said["held"]).items():
            click.echo(f"  {number} of them: {reason}")
        return
    for row in said["set_aside"]:
        click.echo(f"{row['at']} {row['name']} {row['uuid']} {row['bytes']} bytes: {row['reason']}")
        if row["path"]:
            click.echo(f"  {row['path']} bytes {row['start']} to {row['end']}")


def _gather(folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from daemon.lock import holder, is_held
    from daemon.store import Store, StoreError

    if not (folder / "state.db").exists():
        raise fail(f"{folder}: nothing was delivered from here yet; start it with `posthog-llma-daemon run`")
    try:
        store = Store(folder)
    except StoreError as error:
        raise fail(str(error)) from None
    try:
        counters = store.counters()
        running = is_held(folder)
        held = store.held()
        return {
            "running": running,
            "pid": holder(folder) if running else None,
            "state_dir": str(folder),
            "files": len(store.files()),
            "sent": counters.get("sent", 0),
            "rejected": counters.get("rejected", 0),
            "cut": counters.get("cut", 0),
            "bad_lines": counters.get("bad_lines", 0),
            "traces_owed": len(store.owed()),
            "sessions_held": len(held),
            "held": [asdict(row) for row in held],
            "set_aside": [asdict(row) for row in store.rejected()],
        }
    finally:
        store.close()
