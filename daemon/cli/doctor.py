"""`doctor`: every prerequisite, each with a hint for what is wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from daemon.checks import Finding
from daemon.cli.message import fitted, wants_colour
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(*, as_json: bool) -> None:
    """Check everything the daemon needs; changes nothing and sends no event.

    Exits with 1 when a check fails.
    """
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        document = {"ok": not failed, "checks": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    if failed:
        raise click.exceptions.Exit(1)


def _print(finding: Finding) -> None:
    hint = f" -> {finding.hint}" if finding.hint else ""
    line = f"{finding.level:<8} {finding.name}: {finding.message}{hint}"
    words = fitted(line, sys.stdout, then=" " * 9)
    if wants_colour(sys.stdout):
        words = words.replace(finding.level, click.style(finding.level, fg=_COLOURS[finding.level]), 1)
    click.echo(words)


def _examine() -> Iterator[Finding]:
    from daemon.checks import client, configuration, machine, receiver

    try:
        current = loading.load({}, os.environ)
    except ConfigError as error:
        # Nothing else can be asked about with any certainty.
        yield from configuration.report_problems(error.problems)
        return
    folders = current.claude_config_dirs
    yield from configuration.check_sending(current)
    yield from configuration.check_keys(current)
    yield from receiver.check_receivers(current)
    yield from machine.check_permissions(current.state_dir, folders)
    yield machine.check_state_place(current.state_dir)
    yield machine.check_disk(current.state_dir)
    yield client.check_client(os.environ, _home())
    yield from client.check_logs(folders, time.time())
    yield from machine.check_logs_place(folders)
    yield machine.check_watches(folders)
    yield from configuration.check_patterns(current, client.logged_folders(folders))
    yield from client.check_persistence(folders, os.environ)
    yield client.check_plugin(folders, os.environ)
    yield from _examine_service(current)


def _examine_service(current: Settings) -> Iterator[Finding]:
    from daemon.checks import failure, service, warning
    from daemon.cli.managed import log_file, manager_of
    from daemon.installing.plan import Plan
    from daemon.installing.program import ProgramError, find_program, other_owners
    from daemon.installing.service_environment import EnvironmentFileError, environment_file, read_environment
    from daemon.running.plugin_status import status_files

    for owner in other_owners():
        yield warning(
            "packages",
            f"the package {owner} in this environment also owns the import name 'daemon'",
            f"install {APP_NAME} by itself, with `pipx install {APP_NAME}`",
        )
    if sys.platform not in ("linux", "darwin"):
        yield failure("service", f"{sys.platform} is not supported", "use Linux or macOS")
        return
    manager = manager_of(current.state_dir)
    variables = environment_file(current.config_file)
    try:
        plan = Plan(
            program=find_program(),
            state_dir=current.state_dir,
            environment_file=variables,
            environment=read_environment(variables),
            log_file=log_file(),
            status_files=status_files(current),
        )
    except (ProgramError, EnvironmentFileError, ValueError):
        # Without an executable of its own nothing can be compared; a broken file is told below.
        plan = None
    yield from service.check_service(manager, current.state_dir, plan)
    yield from service.check_environment(manager, os.environ, config_file=current.config_file, home=_home())


def _home() -> Path:
    return Path(os.environ.get("HOME") or Path.home())
