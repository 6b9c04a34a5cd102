"""The settings as values. table.py declares each one, and loading.py reads them all and reports all problems at once.

The first source that sets a value wins: flag, environment, config.toml, the `env` block of Claude Code's user settings,
default. An empty or blank string and an empty list count as unset in every source. The `[[project]]` tables of
config.toml and a project's own files change settings for the sessions of one project: see project_settings.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config.parsers import Enabled
from daemon.config.table import APP_NAME, SETTINGS, Setting
from daemon.state.layout import outbox_folder
from daemon.system.messages import one_line
from daemon.system.secret import Secret
from llma_core.privacy import ContentLevel
from llma_core.properties import Grouping, InputMode

__all__ = ["ConfigError", "Enabled", "Entry", "ProjectTable", "Secret", "Settings"]


class ConfigError(Exception):
    """The configuration cannot be used. The command line shows it without a traceback and exits with 78.

    Attributes:
        problems: everything that is wrong, one line each: the setting, its source, what to do. Never a secret value.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One setting with its current value.

    Attributes:
        setting: its declaration.
        value: its field of Settings.
        source: the source of the value: "flag --NAME", "environment", the path of a file, or "default".
    """

    setting: Setting
    value: object
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectTable:
    """One `[[project]]` table of config.toml: settings for the sessions that begin in certain folders.

    Attributes:
        path: patterns of those folders, with the syntax of `include`.
        values: the values it sets, by field name.
        label: the table's name in messages.
    """

    path: tuple[str, ...]
    values: Mapping[str, Any]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, checked. Built by `loading.load`.

    Attributes:
        api_key: project API key, or None.
        enabled: whether sessions may be sent; "projects" (in config.toml only) means the sessions whose own project
            enables itself.
        host: ingestion host as `scheme://name[:port]`, without a slash at the end.
        allow_custom_host: whether *host* may be one that is not PostHog's.
        personal_api_key: personal API key, or None.
        app_host: the address of PostHog's web app as `scheme://name[:port]`; None: it follows from *host*.
        privacy_mode: whether the content level is "metadata", whatever *content* says.
        content: the configured content level; use `content_level`.
        redact_secrets: whether secrets are removed from events.
        distinct_id: the person that all events belong to; None means git's user e-mail of the session's repository.
        trace_grouping: what one trace is: a session, or one prompt ("message").
        input: what the input of a generation contains.
        max_attribute_length: number of characters to keep of one string of tool content.
        custom_properties: JSON values added to each event.
        include: patterns of folders to follow; empty means all folders.
        exclude: patterns of folders whose events are never sent.
        purpose: `POSTHOG_AI_PURPOSE`, or None.
        state_dir: absolute path of the state directory.
        outbox: the configured folder for what programs record; use `outboxes`.
        session_timeout: seconds without activity after which a session ends in which something is open, unless it is
            known to run.
        claude_config_dirs: absolute paths of Claude Code's configuration folders; at least one.
        opt_out: whether the user has opted out of capturing altogether.
        plugin_status_file: whether the daemon maintains the status file of PostHog's plugin.
        projects: the `[[project]]` tables, in their order.
        config_file: path of the config.toml that was read, or would have been if it existed.
        warnings: one line for each thing that could be read but was left out.
        sources: the source of each value, by field name.
    """

    api_key: Secret | None
    enabled: Enabled
    host: str
    allow_custom_host: bool
    personal_api_key: Secret | None
    app_host: str | None
    privacy_mode: bool
    content: ContentLevel
    redact_secrets: bool
    distinct_id: str | None
    trace_grouping: Grouping
    input: InputMode
    max_attribute_length: int
    custom_properties: Mapping[str, Any]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    purpose: str | None
    state_dir: Path
    outbox: Path | None
    session_timeout: float
    claude_config_dirs: tuple[Path, ...]
    opt_out: bool
    plugin_status_file: bool
    projects: tuple[ProjectTable, ...] = ()
    config_file: Path
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str]

    @property
    def outboxes(self) -> tuple[Path, ...]:
        """The folders in which programs record their own calls, the one that they use first."""
        own = outbox_folder(self.state_dir)
        return (own,) if self.outbox is None or self.outbox == own else (self.outbox, own)

    @property
    def content_level(self) -> ContentLevel:
        """The content level in effect: "metadata" in privacy mode, else *content*."""
        return "metadata" if self.privacy_mode else self.content

    def source(self, name: str) -> str:
        """Return the source of the field *name*. Raises KeyError if there is no such setting."""
        return self.sources[name]

    def entries(self) -> Iterator[Entry]:
        """Yield every setting with its value and source, in the order of the table."""
        for setting in SETTINGS:
            yield Entry(setting=setting, value=getattr(self, setting.name), source=self.sources[setting.name])

    def pairs(self) -> Iterator[tuple[str, Secret]]:
        """Yield every host and key in the user's own configuration, the user-wide pair first."""
        for values in ({}, *(table.values for table in self.projects)):
            key = values.get("api_key", self.api_key)
            if key is not None:
                yield values.get("host", self.host), key

    def why_disabled(self) -> str | None:
        """Return in one line what to set before anything can be sent; None if some session can be sent."""
        if self.opt_out:
            return f"OPT_OUT_CAPTURE is set ({self.source('opt_out')}), so nothing is sent; unset it to send"
        if self.enabled == "projects" or any(
            table.values.get("enabled", self.enabled) and table.values.get("api_key", self.api_key)
            for table in self.projects
        ):
            return None
        missing = []
        if not self.enabled:
            missing.append("POSTHOG_LLMA_CC_ENABLED=true")
        if self.api_key is None:
            missing.append("POSTHOG_API_KEY")
        if not missing:
            return None
        return f"sending is not set up: run `{APP_NAME} login`, or set {' and '.join(missing)}"

    def require_enabled(self) -> None:
        """Check that some session may be sent.

        Raises:
            ConfigError: no session may be sent. Its one problem says what to set.
        """
        if (reason := self.why_disabled()) is not None:
            raise ConfigError([reason])
