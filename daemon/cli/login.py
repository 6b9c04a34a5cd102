"""`login`: put the project's key where the daemon finds it, after asking PostHog about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from daemon.cli.message import say
from daemon.cli.startup import CONFIGURATION, fail, refuse
from daemon.config import file as config_files
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME, SETTINGS, Setting
from daemon.delivering.posthog.probe import PostHog, ProxyUnusableError

__all__ = ["login"]

_SETTINGS = {setting.name: setting for setting in SETTINGS}
_MAX_KEY_BYTES = 4096


@click.command("login")
@click.option("--host", help="PostHog's host, such as https://eu.i.posthog.com.")
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input instead of asking for it.")
@click.option("--enable/--no-enable", default=None, help="Whether sessions may be sent.  [default: ask]")
@click.option("--allow-custom-host", is_flag=True, help="The host is not PostHog's but yours.")
@click.option("--no-check", is_flag=True, help="Do not ask PostHog whether it knows the key.")
def login(*, host: str | None, key_stdin: bool, enable: bool | None, allow_custom_host: bool, no_check: bool) -> None:
    """Ask for the project's API key and host, check them, and write them to config.toml.

    The file can then be read by nobody but you. The key is never an argument: every user of a machine can see those.
    """
    path = loading.default_config_file()
    interactive = not key_stdin and sys.stdin.isatty()
    if not interactive and not key_stdin:
        raise fail("there is no terminal to ask for the key: pipe it in with --key-stdin", 2)
    key = _read_key() if key_stdin else click.prompt("Project API key (phc_...)", hide_input=True, err=True)
    if host is None:
        host = click.prompt("Host", default=_known_host(path), err=True) if interactive else _known_host(path)
    if enable is None and interactive:
        enable = click.confirm("Send Claude Code sessions of this machine to that project?", default=True, err=True)
    values: dict[Setting, str | bool] = {_SETTINGS["api_key"]: key, _SETTINGS["host"]: host}
    if allow_custom_host:
        values[_SETTINGS["allow_custom_host"]] = True
    if enable is not None:
        values[_SETTINGS["enabled"]] = enable
    try:
        trial = config_files.tried(path, values)
        if not no_check:
            _check(trial)
        config_files.update(path, values)
    except ConfigError as error:
        refused = refuse(error)
        custom = any(_SETTINGS["allow_custom_host"].variable in problem for problem in error.problems)
        say("nothing is written" + ("; --allow-custom-host is for a host of your own" if custom else ""), err=True)
        raise refused from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise fail(f"{path} cannot be written ({why}); put that right and try again") from None
    say(f"written: {path} ({', '.join(setting.variable for setting in values)}), for your eyes only")
    _say_what_is_next(trial)


def _read_key() -> str:
    key = sys.stdin.buffer.read(_MAX_KEY_BYTES + 1).decode(errors="replace").strip()
    if not key:
        raise fail("there is no key on standard input", 2)
    return key


def _known_host(path: Path) -> str:
    """Return the host that holds now, as what to offer."""
    try:
        return loading.load({}, os.environ, config_file=path).host
    except ConfigError:
        # What is wrong may be what this is to put right.
        return str(_SETTINGS["host"].default)


def _check(trial: Settings) -> None:
    """Raise, with one line, unless PostHog knows the key; only warn where it cannot be asked."""
    assert trial.api_key is not None
    try:
        with PostHog(trial.host) as posthog:
            verdict, answer = posthog.judge_key(trial.api_key)
    except ProxyUnusableError as error:
        raise fail(f"{error}: correct HTTPS_PROXY or ALL_PROXY", CONFIGURATION) from None
    if verdict == "accepted":
        say(f"{trial.host} knows the key {trial.api_key.masked()}")
    elif verdict == "unknown":
        raise fail(
            f"{trial.host} knows no project with the key {trial.api_key.masked()}: copy it from the project's "
            "settings, and mind the region (https://us.i.posthog.com, https://eu.i.posthog.com); nothing is written"
        )
    elif answer.status is None:
        raise fail(
            f"{trial.host} cannot be reached ({answer.reason}): check the host, the network and HTTPS_PROXY, or write "
            "the key unchecked with --no-check; nothing is written"
        )
    else:
        say(f"warning: {trial.host} cannot say whether it knows the key (it answered {answer.status})", err=True)


def _say_what_is_next(trial: Settings) -> None:
    for name in ("api_key", "host", "enabled", "opt_out"):
        variable = _SETTINGS[name].variable
        if os.environ.get(variable, "").strip() and _differs(name, trial):
            say(f"warning: {variable} of this shell's environment comes before config.toml, and differs", err=True)
    if trial.enabled:
        say(f"next: `{APP_NAME} install`, or `{APP_NAME} restart` where the service is installed")
    else:
        say(f"nothing is sent yet: `{APP_NAME} config set enabled true` allows it")


def _differs(name: str, trial: Settings) -> bool:
    """Whether the environment gives the setting *name* another value than *trial* has."""
    try:
        return bool(getattr(loading.load({}, os.environ), name) != getattr(trial, name))
    except ConfigError:
        return True
