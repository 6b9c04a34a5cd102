"""`login`: check the project's API key with PostHog and write it to config.toml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from daemon.cli import complete
from daemon.cli.message import say, unwritable
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
@click.option(
    "--host", metavar="URL", shell_complete=complete.hosts, help="PostHog's host, such as https://eu.i.posthog.com."
)
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input instead of asking for it.")
@click.option("--enable/--no-enable", default=None, help="Turn sending on or off.  [default: ask]")
@click.option("--allow-custom-host", is_flag=True, help="Accept a host that is not PostHog's.")
@click.option("--no-check", is_flag=True, help="Do not check the key with PostHog.")
def login(*, host: str | None, key_stdin: bool, enable: bool | None, allow_custom_host: bool, no_check: bool) -> None:
    """Connect to a PostHog project: ask for its API key and host, check them, and write them to config.toml.

    Only you can read that file. The key is not an argument, because every user of the machine can see arguments.
    """
    path = loading.default_config_file()
    interactive = not key_stdin and sys.stdin.isatty()
    if not interactive and not key_stdin:
        raise fail("cannot ask for the key without a terminal: pipe it in with --key-stdin", 2)
    key = _read_key() if key_stdin else click.prompt("Project API key (phc_...)", hide_input=True, err=True)
    if host is None:
        host = click.prompt("Host", default=_known_host(path), err=True) if interactive else _known_host(path)
    if enable is None and interactive:
        enable = click.confirm("Send this machine's Claude Code sessions to that project?", default=True, err=True)
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
        say("nothing was written" + ("; add --allow-custom-host if the host is your own" if custom else ""), err=True)
        raise refused from None
    except OSError as error:
        raise fail(unwritable(path, error)) from None
    say(f"written: {path} ({', '.join(setting.variable for setting in values)}), readable by you alone")
    _say_what_is_next(trial)


def _read_key() -> str:
    key = sys.stdin.buffer.read(_MAX_KEY_BYTES + 1).decode(errors="replace").strip()
    if not key:
        raise fail("standard input holds no key: pipe it in, as in `login --key-stdin < key.txt`", 2)
    return key


def _known_host(path: Path) -> str:
    """Return the configured host, as the default answer."""
    try:
        return loading.load({}, os.environ, config_file=path).host
    except ConfigError:
        # `login` may be about to fix what is wrong.
        return str(_SETTINGS["host"].default)


def _check(trial: Settings) -> None:
    """Check that PostHog knows the key; only warn if the host has no way to tell.

    Raises:
        click.exceptions.Exit: PostHog does not know the key, or cannot be reached.
    """
    assert trial.api_key is not None
    try:
        with PostHog(trial.host) as posthog:
            verdict, answer = posthog.judge_key(trial.api_key)
    except ProxyUnusableError as error:
        raise fail(f"{error}: fix HTTPS_PROXY or ALL_PROXY", CONFIGURATION) from None
    if verdict == "accepted":
        say(f"{trial.host} knows the key {trial.api_key.masked()}")
    elif verdict == "unknown":
        raise fail(
            f"nothing was written: {trial.host} knows no project with the key {trial.api_key.masked()}; copy the key "
            "from the project's settings, and check the region (https://us.i.posthog.com or https://eu.i.posthog.com)"
        )
    elif answer.status is None:
        raise fail(
            f"nothing was written: {trial.host} cannot be reached ({answer.reason}); check the host, the network and "
            "HTTPS_PROXY, or add --no-check to write the key unchecked"
        )
    else:
        say(
            f"warning: the key is unchecked, because {trial.host} cannot check keys (it answered {answer.status})",
            err=True,
        )


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
    """Whether the environment gives the setting *name* a value other than that of *trial*."""
    try:
        return bool(getattr(loading.load({}, os.environ), name) != getattr(trial, name))
    except ConfigError:
        return True
