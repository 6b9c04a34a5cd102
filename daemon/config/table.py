"""The table of settings: declares each one once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from daemon.config import parsers
from daemon.system import disk

__all__ = ["APP_NAME", "OUTBOX_VARIABLE", "SETTINGS", "Setting", "setting_named"]

APP_NAME = "posthog-llma-daemon"
OUTBOX_VARIABLE = "POSTHOG_LLMA_OUTBOX"
"""What tells programs where to record their own calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name: its field of Settings, and its key among the flags.
        variable: its environment variable.
        parse: turns the value of any source into the value of the field. Raises ValueError with what is wrong and what
            to do, without a secret.
        default: the default as documented; None means unset.
        help: one or two sentences for users.
        secret: whether its value must never be shown.
        aliases: additional keys in config.toml.
        compute: computes a default that depends on the machine, given the home folder. Without it, *default* is parsed.
        in_claude_settings: whether Claude Code's settings may set it.
        in_project: whether it can be set for one project alone.
        for_daemon: whether the daemon uses it, so that a service has to find it.
    """

    name: str
    variable: str
    parse: parsers.Parser
    default: str | None
    help: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    compute: Callable[[Path], object] | None = None
    in_claude_settings: bool = True
    in_project: bool = True
    for_daemon: bool = True

    @property
    def key(self) -> str:
        """Its key in config.toml: the variable in lower case without its prefix."""
        return key_of(self.variable)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything it may be called on a command line."""
        return (self.key, self.variable, self.variable.lower(), self.name, *self.aliases)

    @property
    def flag(self) -> str:
        """Its flag on the command lines that have one."""
        return f"--{self.name.replace('_', '-')}"


def _default_state_dir(_: Path) -> Path:
    return platformdirs.user_state_path(APP_NAME)


def _default_config_dirs(home: Path) -> tuple[Path, ...]:
    """Return Claude Code's usual folder, and the one that some versions use instead if that contains logs."""
    other = home / ".config" / "claude"
    return (home / ".claude", *([other] if disk.is_folder(str(other / "projects")) else []))


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="api_key",
        variable="POSTHOG_API_KEY",
        parse=parsers.api_key,
        default=None,
        help="Project API key (phc_…).",
        secret=True,
    ),
    Setting(
        name="enabled",
        variable="POSTHOG_LLMA_CC_ENABLED",
        parse=parsers.enabled,
        default="false",
        help="Send sessions. Nothing is sent unless this is true.",
        aliases=("enabled",),
    ),
    Setting(
        name="host",
        variable="POSTHOG_HOST",
        parse=parsers.host,
        default="https://us.i.posthog.com",
        help="PostHog's ingestion host. The web hosts (us., eu. and app.posthog.com) work, too.",
    ),
    Setting(
        name="allow_custom_host",
        variable="POSTHOG_LLMA_ALLOW_CUSTOM_HOST",
        parse=parsers.boolean,
        default="false",
        help="Allow a host other than posthog.com, its subdomains and loopback. It must use https.",
        in_project=False,
    ),
    Setting(
        name="personal_api_key",
        variable="POSTHOG_PERSONAL_API_KEY",
        parse=parsers.personal_key,
        default=None,
        help="Personal API key (phx_…), with which PostHog is asked what it holds. The daemon does not use it.",
        secret=True,
        # Claude Code passes its `env` block on to every command of a session.
        in_claude_settings=False,
        in_project=False,
        for_daemon=False,
    ),
    Setting(
        name="app_host",
        variable="POSTHOG_APP_HOST",
        parse=parsers.app_host,
        default=None,
        help="The address of PostHog's web app. Needed only where POSTHOG_HOST is a reverse proxy.",
        in_claude_settings=False,
        in_project=False,
        for_daemon=False,
    ),
    Setting(
        name="privacy_mode",
        variable="POSTHOG_LLMA_PRIVACY_MODE",
        parse=parsers.boolean,
        default="false",
        help="Send no content. Overrides POSTHOG_LLMA_CONTENT with metadata.",
    ),
    Setting(
        name="content",
        variable="POSTHOG_LLMA_CONTENT",
        parse=parsers.choice("full", "no_tool_content", "metadata"),
        default="full",
        help="How much content to send: full, no_tool_content or metadata.",
    ),
    Setting(
        name="redact_secrets",
        variable="POSTHOG_LLMA_REDACT_SECRETS",
        parse=parsers.boolean,
        default="true",
        help="Replace keys, tokens and passwords before events are sent.",
        in_project=False,
    ),
    Setting(
        name="distinct_id",
        variable="POSTHOG_LLMA_DISTINCT_ID",
        parse=parsers.distinct_id,
        default=None,
        help="The person that events belong to. Unset: git's user e-mail in the session's repository.",
    ),
    Setting(
        name="trace_grouping",
        variable="POSTHOG_LLMA_TRACE_GROUPING",
        parse=parsers.choice("session", "message"),
        default="session",
        help="What one trace is: a session, or one prompt (message).",
    ),
    Setting(
        name="input",
        variable="POSTHOG_LLMA_INPUT",
        parse=parsers.choice("delta", "prompt", "full"),
        default="delta",
        help="What the input of a generation contains: the messages added since the previous one (delta), the human "
        "prompt only (prompt), or the whole request with its system prompt and tools (full).",
    ),
    Setting(
        name="max_attribute_length",
        variable="POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH",
        parse=parsers.attribute_length,
        default="12000",
        help="How many characters to keep of each string of tool content.",
    ),
    Setting(
        name="custom_properties",
        variable="POSTHOG_LLMA_CUSTOM_PROPERTIES",
        parse=parsers.json_object,
        default="{}",
        help="Properties to add to every event: a JSON object, or a table in config.toml.",
    ),
    Setting(
        name="include",
        variable="POSTHOG_LLMA_INCLUDE",
        parse=parsers.patterns,
        default=None,
        help="Folders to follow: patterns separated by commas or line ends, or a list in config.toml. Unset: all.",
        compute=lambda _: (),
    ),
    Setting(
        name="exclude",
        variable="POSTHOG_LLMA_EXCLUDE",
        parse=parsers.patterns,
        default=None,
        help="Folders whose sessions are never sent. Same syntax as include, which it overrides.",
        compute=lambda _: (),
    ),
    Setting(
        name="purpose",
        variable="POSTHOG_AI_PURPOSE",
        parse=parsers.purpose,
        default=None,
        help="What the sessions are for, such as authoring or review.",
    ),
    Setting(
        name="state_dir",
        variable="POSTHOG_LLMA_STATE_DIR",
        parse=parsers.folder,
        default="the user's state folder",
        help="The folder for the daemon's own files.",
        compute=_default_state_dir,
        in_project=False,
    ),
    Setting(
        name="outbox",
        variable=OUTBOX_VARIABLE,
        parse=parsers.folder,
        default="outbox in the state folder",
        help="The folder in which programs record their own calls. The one in the state folder is followed as well.",
        compute=lambda _: None,
        in_project=False,
    ),
    Setting(
        name="session_timeout",
        variable="POSTHOG_LLMA_SESSION_TIMEOUT",
        parse=parsers.seconds,
        default="3600",
        help="Seconds without activity after which a session with open calls ends, unless it is known to run.",
        in_project=False,
    ),
    Setting(
        name="claude_config_dirs",
        variable="CLAUDE_CONFIG_DIR",
        parse=parsers.config_folders,
        default="~/.claude",
        help="Claude Code's folders, separated like PATH or by commas. Unset: also ~/.config/claude if it has logs.",
        compute=_default_config_dirs,
        # Claude Code's settings file is in this folder, so it cannot say where the folder is.
        in_claude_settings=False,
        in_project=False,
    ),
    Setting(
        name="plugin_status_file",
        variable="POSTHOG_LLMA_PLUGIN_STATUS_FILE",
        parse=parsers.boolean,
        default="false",
        help="Maintain posthog-llma-status.json in Claude Code's folder. PostHog's plugin reads it.",
        in_project=False,
    ),
    Setting(
        name="opt_out",
        variable="OPT_OUT_CAPTURE",
        parse=parsers.boolean,
        default=None,
        help="Send nothing, whatever else is set.",
        compute=lambda _: False,
    ),
)


def setting_named(name: str) -> Setting | None:
    """Return the setting called *name*, in any case and with dashes or underscores; None if there is none."""
    by_name = {each: setting for setting in SETTINGS for each in setting.names}
    return by_name.get(name) or by_name.get(name.lower().replace("-", "_"))


def key_of(variable: str) -> str:
    """Return the key in config.toml of an environment variable."""
    return variable.lower().removeprefix("posthog_").removeprefix("llma_")
