"""`login`: check the project's API key with PostHog and write it to config.toml."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from uuid import uuid4

import click

from daemon.cli import complete
from daemon.cli.key import read_key
from daemon.cli.message import say, unwritable
from daemon.cli.startup import CONFIGURATION, fail, prepare_outboxes, refuse
from daemon.config import file as config_files
from daemon.config import loading
from daemon.config.parsers import shown
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME, SETTINGS, Setting
from daemon.delivering.posthog.probe import PostHog, ProxyUnusableError
from daemon.delivering.posthog.web_app import key_url
from llma_core.events import connection_test

__all__ = ["login"]

_SETTINGS = {setting.name: setting for setting in SETTINGS}
_ANY_KEY = "phc_not_asked_yet"
_REGIONS = {"us": "https://us.i.posthog.com", "eu": "https://eu.i.posthog.com"}

_Values = dict[Setting, str | bool]


@click.command("login")
@click.option(
    "--host", metavar="URL", shell_complete=complete.hosts, help="PostHog's host, such as https://eu.i.posthog.com."
)
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input instead of asking for it.")
@click.option(
    "--personal-key-stdin",
    is_flag=True,
    help="Read a personal API key (phx_...) from standard input, and write only that.",
)
@click.option("--enable/--no-enable", default=None, help="Turn sending on or off.  [default: ask]")
@click.option("--allow-custom-host", is_flag=True, help="Accept a host that is not PostHog's.")
@click.option("--no-check", is_flag=True, help="Do not check the key with PostHog.")
@click.option(
    "--test-event/--no-test-event", "test", default=None, help="Send one test event.  [default: ask on a terminal]"
)
def login(
    *,
    host: str | None,
    key_stdin: bool,
    personal_key_stdin: bool,
    enable: bool | None,
    allow_custom_host: bool,
    no_check: bool,
    test: bool | None,
) -> None:
    """Connect to a PostHog project: ask for its region and API key, check them, and write them to config.toml.

    Only you can read that file. The key is not an argument, because every user of the machine can see arguments.
    """
    path = loading.default_config_file()
    if personal_key_stdin:
        if key_stdin or enable is not None or test is not None:
            raise click.UsageError("--personal-key-stdin writes the personal key only; run `login` again for the rest")
        _write_personal_key(path, host, allow_custom_host=allow_custom_host, check=not no_check)
        return
    interactive = not key_stdin and sys.stdin.isatty()
    if not interactive and not key_stdin:
        raise fail("cannot ask for the key without a terminal: pipe it in with --key-stdin", 2)
    custom: _Values = {_SETTINGS["allow_custom_host"]: True} if allow_custom_host else {}
    try:
        if interactive:
            values, trial = _ask(path, host, custom, check=not no_check)
        else:
            key = read_key()
            values = {_SETTINGS["api_key"]: key, _SETTINGS["host"]: host or _known_host(path), **custom}
            trial = config_files.tried(path, values)
            if not no_check and (refusal := _judge(trial)) is not None:
                raise fail(f"nothing was written: {refusal}")
        if enable is None and interactive:
            enable = click.confirm("Send this machine's Claude Code sessions to that project?", default=True, err=True)
        if enable is not None:
            values[_SETTINGS["enabled"]] = enable
        config_files.update(path, values)
        trial = config_files.tried(path, values)
    except ConfigError as error:
        refused = refuse(error)
        own = any(_SETTINGS["allow_custom_host"].variable in problem for problem in error.problems)
        say("nothing was written" + ("; add --allow-custom-host if the host is your own" if own else ""), err=True)
        raise refused from None
    except OSError as error:
        raise fail(unwritable(path, error)) from None
    say(f"written: {path} ({', '.join(setting.variable for setting in values)}), readable by you alone")
    prepare_outboxes(trial)
    if test is None and interactive:
        test = click.confirm("Send one test event now, to see it arrive?", default=False, err=True)
    if test:
        _send_test_event(trial)
    _say_what_is_next(trial)


def _write_personal_key(path: Path, host: str | None, *, allow_custom_host: bool, check: bool) -> None:
    """Check the personal API key on standard input with PostHog's web app, and write it to config.toml.

    Raises:
        click.exceptions.Exit: it cannot be used, and nothing was written.
    """
    from daemon.verifying.app import App, AppError

    values: _Values = {_SETTINGS["personal_api_key"]: read_key()}
    if host is not None:
        values[_SETTINGS["host"]] = host
    if allow_custom_host:
        values[_SETTINGS["allow_custom_host"]] = True
    try:
        trial = config_files.tried(path, values)
        key, address = trial.personal_api_key, _app_host(path, trial if host is not None else None)
        assert key is not None
        if check:
            with App(address, key) as app:
                app.check()
            say(f"{address} knows the personal key {key.masked()}")
        config_files.update(path, values)
    except AppError as error:
        raise fail(f"nothing was written: {error}; --no-check writes it unchecked") from None
    except ConfigError as error:
        refused = refuse(error)
        say("nothing was written", err=True)
        raise refused from None
    except OSError as error:
        raise fail(unwritable(path, error)) from None
    say(f"written: {path} ({', '.join(setting.variable for setting in values)}), readable by you alone")
    say(f"next: `{APP_NAME} verify`")


def _app_host(path: Path, trial: Settings | None) -> str:
    """Return the host of PostHog's web app: that of *trial*, or the configured one."""
    from daemon.verifying.app import app_of

    try:
        known = loading.load({}, os.environ, config_file=path)
    except ConfigError:
        # `login` may be about to fix what is wrong.
        return app_of(trial.host if trial is not None else str(_SETTINGS["host"].default), None)
    return app_of(trial.host if trial is not None else known.host, known.app_host)


def _ask(path: Path, host: str | None, custom: _Values, *, check: bool) -> tuple[_Values, Settings]:
    """Ask for the region, then for the key, and ask again after each wrong answer.

    Returns:
        What to write, and the settings that it would give.

    Raises:
        ConfigError: config.toml cannot be used, whatever the answers are.
        OSError: the system refuses to write next to it.
    """
    # Whatever else is wrong in the file, no answer corrects it.
    _host_of(path, _REGIONS["us"], custom)
    while True:
        chosen = host or _ask_host(path, custom)
        values: _Values = {_SETTINGS["host"]: chosen, **custom}
        address = _host_of(path, chosen, custom)
        say(f"the project's API key is at {key_url(address)}", err=True)
        while True:
            key = click.prompt("Project API key (phc_...)", hide_input=True, err=True).strip()
            try:
                trial = config_files.tried(path, {_SETTINGS["api_key"]: key, **values})
            except ConfigError as error:
                _refuse_answer(error, path)
                continue
            refusal = _judge(trial) if check else None
            if refusal is None:
                return {_SETTINGS["api_key"]: key, **values}, trial
            say(f"error: {refusal}", err=True)
            if host is None:
                # Perhaps the region is wrong, not the key.
                break


def _ask_host(path: Path, custom: _Values) -> str:
    """Ask for the region or the host until the answer can be used. May add to *custom* that any host is allowed."""
    known = _known_host(path)
    default = next((region for region, host in _REGIONS.items() if host == known), known)
    while True:
        answer = click.prompt("Region: us, eu, or the address of your own PostHog", default=default, err=True).strip()
        host = _REGIONS.get(answer.lower(), answer)
        if not any(mark in host for mark in (".", ":")):
            example = "https://posthog.example.com"
            say(f"error: {shown(answer)} is neither us, nor eu, nor an address such as {example}", err=True)
            continue
        try:
            return _host_of(path, host, custom)
        except ConfigError as error:
            allowed: _Values = {_SETTINGS["allow_custom_host"]: True}
            try:
                address = _host_of(path, host, allowed)
            except ConfigError:
                _refuse_answer(error, path)
                continue
        if click.confirm(f"{address} is not PostHog's own. Is it yours?", default=False, err=True):
            custom |= allowed
            return host


def _host_of(path: Path, host: str, custom: _Values) -> str:
    """Return *host* as the daemon would use it. A key that is in the file already does not matter: it is replaced.

    Raises:
        ConfigError: it cannot be used, or something else in the file cannot.
        OSError: the system refuses to write next to the file.
    """
    return config_files.tried(path, {_SETTINGS["api_key"]: _ANY_KEY, _SETTINGS["host"]: host, **custom}).host


def _refuse_answer(error: ConfigError, path: Path) -> None:
    """Print what is wrong with an answer. It is in no file yet, so none is named."""
    for problem in error.problems:
        say(f"error: {problem.removeprefix(f'{path}: ')}", err=True)


def _known_host(path: Path) -> str:
    """Return the configured host, as the default answer."""
    try:
        return loading.load({}, os.environ, config_file=path).host
    except ConfigError:
        # `login` may be about to fix what is wrong.
        return str(_SETTINGS["host"].default)


def _judge(trial: Settings) -> str | None:
    """Ask PostHog whether it knows the key, and return why the key cannot be used; None if it can.

    Only warns if the host has no way to tell.

    Raises:
        click.exceptions.Exit: the proxy cannot be used.
    """
    assert trial.api_key is not None
    try:
        with PostHog(trial.host) as posthog:
            verdict, answer = posthog.judge_key(trial.api_key)
    except ProxyUnusableError as error:
        raise fail(f"{error}: fix HTTPS_PROXY or ALL_PROXY", CONFIGURATION) from None
    if verdict == "accepted":
        say(f"{trial.host} knows the key {trial.api_key.masked()}")
        return None
    if verdict == "unknown":
        return (
            f"{trial.host} knows no project with the key {trial.api_key.masked()}; copy the key from "
            f"{key_url(trial.host)}, and check the region ({_REGIONS['us']} or {_REGIONS['eu']})"
        )
    if answer.status is None:
        return (
            f"{trial.host} cannot be reached ({answer.reason}); check the host, the network and HTTPS_PROXY, or add "
            "--no-check to write the key unchecked"
        )
    say(
        f"warning: the key is unchecked, because {trial.host} cannot check keys (it answered {answer.status})",
        err=True,
    )
    return None


def _send_test_event(trial: Settings) -> None:
    """Send one event without content, and say where PostHog shows it.

    Raises:
        click.exceptions.Exit: PostHog did not accept it.
    """
    from daemon.delivering.posthog.sink import CaptureSink
    from daemon.delivering.posthog.web_app import trace_url
    from daemon.delivering.sink import AttemptOutcome, Delivered, SinkConfigError

    assert trial.api_key is not None
    host, key, trace = trial.host, trial.api_key.reveal(), str(uuid4())
    event = connection_test(trace, str(uuid4()), int(time.time() * 1000))

    async def send() -> AttemptOutcome:
        sink = CaptureSink(host, key)
        try:
            return await sink.send([event])
        finally:
            await sink.aclose()

    try:
        outcome = asyncio.run(send())
    except SinkConfigError as error:
        raise fail(str(error), CONFIGURATION) from None
    if not isinstance(outcome, Delivered):
        raise fail(f"{host} did not accept the test event: {outcome.reason}; `{APP_NAME} doctor` checks the connection")
    say(f"sent one test event; within a minute or two it shows at {trace_url(host, trace)}")
    say("note: PostHog opens that address in your current project; switch to the project with this key first", err=True)


def _say_what_is_next(trial: Settings) -> None:
    for name in ("api_key", "host", "enabled", "opt_out"):
        variable = _SETTINGS[name].variable
        if os.environ.get(variable, "").strip() and _differs(name, trial):
            say(f"warning: {variable} in this shell's environment overrides config.toml, and differs", err=True)
    if trial.enabled:
        say(f"next: `{APP_NAME} install`, or `{APP_NAME} restart` if the service is installed")
    else:
        say(f"nothing is sent yet: `{APP_NAME} config set enabled true` turns sending on")


def _differs(name: str, trial: Settings) -> bool:
    """Return whether a variable of the environment overrides the setting *name* of *trial*."""
    try:
        return bool(getattr(loading.load({}, os.environ), name) != getattr(trial, name))
    except ConfigError:
        return True
