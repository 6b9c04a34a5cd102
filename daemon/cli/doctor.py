"""`doctor`: check everything the daemon needs, with a hint for each problem."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

import click

from daemon.checks import Finding
from daemon.cli.message import document, fitted, wants_color
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.system.messages import escaped

__all__ = ["doctor"]

_COLORS = {"ok": "green", "warning": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def doctor(*, as_json: bool) -> None:
    """Check everything the daemon needs, and say how to fix what is wrong.

    Changes nothing and sends no events. Exits with 1 if a check fails.
    """
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        click.echo(document({"ok": not failed, "checks": [asdict(finding) for finding in findings]}, indent=2))
    if failed:
        raise click.exceptions.Exit(1)


def _print(finding: Finding) -> None:
    hint = f" -> {finding.hint}" if finding.hint else ""
    line = escaped(f"{finding.level:<8} {finding.name}: {finding.message}{hint}")
    words = fitted(line, sys.stdout, then=" " * 9)
    if wants_color(sys.stdout):
        words = words.replace(finding.level, click.style(finding.level, fg=_COLORS[finding.level]), 1)
    click.echo(words)


def _examine() -> Iterator[Finding]:
    from daemon.checks import client, configuration, machine, receiver
    from daemon.cli.managed import home
    from daemon.following.log_roots import config_folder

    try:
        current = loading.load({}, os.environ)
    except ConfigError as error:
        # Without settings no other check means anything.
        yield from configuration.report_problems(error.problems)
        return
    folders = tuple(map(config_folder, current.claude_config_dirs))
    yield from configuration.check_sending(current)
    yield from configuration.check_keys(current)
    yield from receiver.check_receivers(current)
    yield from receiver.check_rejected(current.state_dir)
    yield from machine.check_permissions(current.state_dir, folders)
    yield machine.check_state_place(current.state_dir)
    yield machine.check_disk(current.state_dir)
    yield client.check_client(os.environ, home())
    yield from client.check_logs(folders, time.time())
    yield from machine.check_logs_place(folders)
    yield machine.check_watches(folders)
    yield from configuration.check_patterns(current, client.logged_folders(folders))
    yield from machine.check_answers()
    yield from client.check_persistence(folders, os.environ)
    yield client.check_plugin(folders, os.environ)
    yield from _examine_service(current)


def _examine_service(current: Settings) -> Iterator[Finding]:
    from daemon.checks import failure, service, warning
    from daemon.cli.managed import home, manager_of, plan_of, shared_names
    from daemon.installing.program import ProgramError, find_program
    from daemon.installing.service_environment import EnvironmentFileError

    for problem, fix in shared_names():
        yield warning("packages", problem, fix)
    if sys.platform not in ("linux", "darwin"):
        yield failure("service", f"{sys.platform} is not supported", "use Linux or macOS")
        return
    manager = manager_of(current.state_dir)
    try:
        plan = plan_of(find_program(), current)
    except (ProgramError, EnvironmentFileError, ValueError):
        # Without an installed executable there is nothing to compare. A broken file is reported below.
        plan = None
    yield from service.check_service(manager, current.state_dir, plan)
    yield from service.check_environment(manager, os.environ, config_file=current.config_file, home=home())
