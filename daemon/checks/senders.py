"""Checks for other senders to PostHog that would count the same sessions a second time."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from daemon.checks import Finding, fine, warning
from daemon.config.claude_settings import ClientSettings, client_settings
from daemon.config.table import APP_NAME

__all__ = ["check_senders"]

_PLUGINS = frozenset({"posthog", "posthog-telemetry"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_MANAGED = (
    Path("/etc/claude-code/managed-settings.json"),
    Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
)
# The package with PostHog's wrapper of the Claude Agent SDK, and the SDK, below a folder of packages.
_WRAPPER = Path("posthog/ai/claude_agent_sdk")
_SDK = Path("claude_agent_sdk")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Sessions with the same settings: those of a project, or all others.

    Attributes:
        name: where they are, for people.
        settings: Claude Code's settings for them.
        variables: their environment, as far as it is known.
    """

    name: str
    settings: ClientSettings
    variables: Mapping[str, str]


def check_senders(
    config_dirs: Sequence[Path], folders: Sequence[str], environ: Mapping[str, str], hosts: Collection[str]
) -> Iterator[Finding]:
    """Check whether something else sends the same sessions to PostHog.

    Args:
        config_dirs: Claude Code's configuration folders.
        folders: the folders that sessions have begun in. Their own settings count, too.
        environ: the environment of this process.
        hosts: the PostHog hosts that the daemon sends to, besides PostHog's own.
    """
    places = list(_places(config_dirs, folders, environ))
    names = {urlsplit(host).hostname or "" for host in hosts}
    yield _plugin(places)
    yield from _first(_telemetry(place, names) for place in places)
    yield from _first(_gateway(place, names) for place in places)
    yield from _wrapper(folders, environ)


def _places(config_dirs: Sequence[Path], folders: Sequence[str], environ: Mapping[str, str]) -> Iterator[_Place]:
    for config_dir in config_dirs:
        user = [config_dir / "settings.json"]
        installed = config_dir / "plugins" / "installed_plugins.json"
        projects = {str(config_dir): user} | {
            folder: [*user, *(Path(folder) / ".claude" / name for name in ("settings.json", "settings.local.json"))]
            for folder in folders
        }
        for name, files in projects.items():
            found = client_settings([*files, *_MANAGED], installed)
            yield _Place(name=name, settings=found, variables={**environ, **found.env})


def _first(findings: Iterator[Finding | None]) -> Iterator[Finding]:
    found = next(filter(None, findings), None)
    if found is not None:
        yield found


def _plugin(places: Sequence[_Place]) -> Finding:
    enabled = ""
    for place in places:
        names = [name for name in place.settings.plugins if name.partition("@")[0] in _PLUGINS]
        # The plugin accepts no other word for true, but ignores case.
        sends = place.variables.get("POSTHOG_LLMA_CC_ENABLED", "").lower() == "true"
        if names and sends and place.variables.get("POSTHOG_API_KEY"):
            return warning(
                "PostHog plugin",
                f"{names[0]} sends the same sessions when they end ({place.name}): both events are uploaded, PostHog "
                "keeps one of two with the same id, and trace views may show both for 30 days",
                f"run `claude plugin disable {names[0]}`; or, to keep its other features, give the key only to the "
                f"daemon: run `{APP_NAME} login --enable` and remove POSTHOG_LLMA_CC_ENABLED from Claude Code's "
                "environment",
            )
        enabled = enabled or (names[0] if names else "")
    if enabled:
        return fine("PostHog plugin", f"{enabled} is installed but not set up to send sessions")
    return fine("PostHog plugin", "not enabled")


def _telemetry(place: _Place, hosts: Collection[str]) -> Finding | None:
    variables = place.variables
    if variables.get("CLAUDE_CODE_ENABLE_TELEMETRY", "").strip().lower() not in _TRUE:
        return None
    for signal in ("TRACES", "LOGS"):
        exporters = variables.get(f"OTEL_{signal}_EXPORTER", "").replace(" ", "").split(",")
        name = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
        if not variables.get(name):
            name = "OTEL_EXPORTER_OTLP_ENDPOINT"
        if "otlp" in exporters and _is_posthog(variables.get(name, ""), hosts):
            return warning(
                "OpenTelemetry",
                f"Claude Code exports its {signal.lower()} to PostHog, too ({name}, {place.name}): model calls are "
                "counted twice",
                f"unset OTEL_{signal}_EXPORTER, or point {name} elsewhere",
            )
    return None


def _gateway(place: _Place, hosts: Collection[str]) -> Finding | None:
    if not _is_posthog(place.variables.get("ANTHROPIC_BASE_URL", ""), hosts):
        return None
    return warning(
        "gateway",
        f"Claude Code's requests go through PostHog ({place.name}), which reports each model call itself: they are "
        "counted twice",
        f"unset ANTHROPIC_BASE_URL, or exclude these folders with `{APP_NAME} config set exclude FOLDER`",
    )


def _wrapper(folders: Sequence[str], environ: Mapping[str, str]) -> Iterator[Finding]:
    prefixes = [environ.get("VIRTUAL_ENV", ""), environ.get("CONDA_PREFIX", ""), sys.prefix]
    prefixes += [f"{folder}/{name}" for folder in folders for name in (".venv", "venv")]
    for prefix in filter(None, prefixes):
        for packages in Path(prefix).glob("lib/python*/site-packages"):
            if (packages / _WRAPPER).is_dir() and (packages / _SDK).is_dir():
                yield warning(
                    "SDK wrapper",
                    f"{prefix} has PostHog's wrapper of the Claude Agent SDK: the sessions of programs that use it are "
                    "counted twice",
                    "let these programs use `llma_recorder.claude_agent_sdk` in place of the wrapper, or exclude their "
                    f"folders with `{APP_NAME} config set exclude FOLDER`",
                )
                return


def _is_posthog(address: str, hosts: Collection[str]) -> bool:
    try:
        name = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return False
    return name == "posthog.com" or name.endswith(".posthog.com") or name in hosts
