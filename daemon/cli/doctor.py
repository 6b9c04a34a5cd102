"""`doctor`: check everything the daemon needs, with a hint for each problem."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import click

from daemon.checks import Finding
from daemon.cli.message import document, fitted, wants_color
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.system.figures import count
from daemon.system.messages import escaped

__all__ = ["doctor"]

_COLORS = {"ok": "green", "warning": "yellow", "fail": "red"}
_TITLES = {"sending": "Sending", "machine": "This machine", "client": "Claude Code", "service": "Service"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def doctor(*, as_json: bool) -> None:
    """Check everything the daemon needs, and say how to fix what is wrong.

    Changes nothing and sends no events. The last line is the verdict. Exits with 0 if nothing fails, even if there are
    warnings, and with 1 if a check fails.
    """
    findings: list[Finding] = []
    for finding in _examine():
        if not as_json and (not findings or findings[-1].group != finding.group):
            click.echo(("\n" if findings else "") + _styled(_TITLES[finding.group], bold=True))
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = any(finding.level == "fail" for finding in findings)
    verdict = _verdict(findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        click.echo(document({"ok": not failed, "verdict": verdict, "checks": checks}, indent=2))
    else:
        color = "red" if failed else "green" if all(each.level == "ok" for each in findings) else "yellow"
        click.echo("\n" + _styled(fitted(escaped(verdict), sys.stdout), fg=color))
    if failed:
        raise click.exceptions.Exit(1)


def _styled(words: str, *, fg: str | None = None, bold: bool | None = None) -> str:
    return click.style(words, fg=fg, bold=bold) if wants_color(sys.stdout) else words


def _print(finding: Finding) -> None:
    hint = f" -> {finding.hint}" if finding.hint else ""
    line = escaped(f"{finding.level:<8} {finding.name}: {finding.message}{hint}")
    words = fitted(line, sys.stdout, then=" " * 9)
    click.echo(words.replace(finding.level, _styled(finding.level, fg=_COLORS[finding.level]), 1))


def _verdict(findings: Sequence[Finding]) -> str:
    """Return the result of all checks in one line."""
    failed = [each for each in findings if each.level == "fail"]
    warned = list(dict.fromkeys(each.name for each in findings if each.level == "warning"))
    also = f"{count(len(warned), 'warning')} ({', '.join(warned)})"
    if failed:
        rest = f", and {also}" if warned else ""
        return f"{count(len(failed), 'problem')} to fix{rest}. Start with {failed[0].name}: {failed[0].hint}"
    return f"Everything works, with {also}." if warned else "Everything works."


def _examine() -> Iterator[Finding]:
    """Check everything, group by group."""
    from daemon.checks import configuration

    try:
        current = loading.load({}, os.environ)
    except ConfigError as error:
        # Without settings no other check means anything.
        yield from _grouped("sending", configuration.report_problems(error.problems))
        return
    only_local = _is_only_local(current)
    away = []
    for finding in _grouped("sending", _examine_sending(current, only_local=only_local)):
        if finding.name == "capture" and finding.level == "fail":
            away.append(finding.message)
        yield finding
    yield from _grouped("machine", _examine_machine(current))
    yield from _grouped("client", _examine_client(current))
    yield from _grouped("service", _examine_service(current, only_local=only_local))
    yield from _grouped("service", _examine_daemon(current, away))


def _grouped(group: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    return (replace(finding, group=group) for finding in findings)


def _is_only_local(current: Settings) -> bool:
    """Whether the user collects sessions on this machine and sends none, on purpose.

    That is so if `run --local` has been used and sending was never set up, or was turned off.
    """
    from daemon.state import layout, lock

    if current.why_disabled() is None:
        return False
    turned_off = current.opt_out or (current.source("enabled") != "default" and not current.enabled)
    try:
        if not (layout.local_folder(current.state_dir) / layout.STORE).exists():
            return False
        return turned_off or not ((current.state_dir / layout.STORE).exists() or lock.is_locked(current.state_dir))
    except OSError:
        # The checks of the machine report a folder that cannot be read.
        return False


def _examine_sending(current: Settings, *, only_local: bool) -> Iterator[Finding]:
    from daemon.checks import configuration, receiver

    yield from configuration.check_sending(current, only_local=only_local)
    yield from configuration.check_keys(current)
    yield from receiver.check_receivers(current)
    yield from receiver.check_rejected(current.state_dir)
    yield from receiver.check_arrival(current)


def _examine_machine(current: Settings) -> Iterator[Finding]:
    from daemon.checks import machine
    from daemon.following.log_roots import config_folder

    folders = tuple(map(config_folder, current.claude_config_dirs))
    yield from machine.check_permissions(current.state_dir, folders)
    yield machine.check_state_place(current.state_dir)
    yield machine.check_disk(current.state_dir)
    yield from machine.check_logs_place(folders)
    yield machine.check_watches(folders)


def _examine_client(current: Settings) -> Iterator[Finding]:
    from daemon.checks import client, configuration, machine, senders
    from daemon.cli.managed import home
    from daemon.config.patterns import Folders
    from daemon.following.log_roots import config_folder
    from daemon.system import disk

    folders = tuple(map(config_folder, current.claude_config_dirs))
    logged = client.logged_folders(folders)
    yield client.check_client(os.environ, home())
    yield from client.check_logs(folders, time.time())
    yield from configuration.check_patterns(current, logged)
    yield from client.check_persistence(folders, os.environ)
    followed = Folders(current.include, current.exclude)
    hosts = [host for host, _ in current.pairs()]
    there = [each for each in logged if followed.allow(each) and disk.is_folder(each)]
    yield from senders.check_senders(folders, there, os.environ, hosts)
    yield from machine.check_answers()


def _examine_service(current: Settings, *, only_local: bool) -> Iterator[Finding]:
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
    yield from service.check_service(manager, current.state_dir, plan, only_local=only_local)
    yield from service.check_environment(manager, os.environ, config_file=current.config_file, home=home())


def _examine_daemon(current: Settings, away: Sequence[str]) -> Iterator[Finding]:
    """Report the problems of the daemon that runs, or ran, as `status` does.

    Args:
        current: the settings in force.
        away: what was found about hosts that do not answer. The daemon fails there for the same reason.
    """
    from daemon.cli.condition import UnreadableStateError, read_condition

    now = time.time()
    try:
        condition = read_condition(current.state_dir, current.claude_config_dirs, now, outboxes=current.outboxes)
    except UnreadableStateError as error:
        problems = [error.problem]
    else:
        # Whether it should run, and whether the disk is full, was checked before.
        routes = tuple(route for route in condition.routes if not any(f"{route.host} " in words for words in away))
        known = replace(condition, room=None, hanging=(), routes=routes)
        problems = list(known.problems(now, expected=False)) if condition.started else []
    for problem in problems:
        yield Finding(name="daemon", level=problem.level, message=problem.message, hint=problem.hint)
