"""Every setting, declared once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from daemon.config import parsers

__all__ = ["APP_NAME", "SETTINGS", "Setting"]

APP_NAME = "posthog-llma-daemon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name: the field of Settings and the key of flags.
        variable: the environment variable.
        parse: value of any source -> value of the field; raises ValueError that says what is wrong and what to do,
            without a secret.
        default: what the documentation says of the default; None is unset.
        help: one sentence for users.
        secret: whether the value must never be shown.
        aliases: further keys of config.toml.
        compute: the default where it depends on the machine; else *default* is parsed.
        in_claude_settings: whether Claude Code's settings may give it.
        in_project: whether it can hold for one project alone.
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

    @property
    def key(self) -> str:
        """The key in config.toml: the variable in lower case without its prefix."""
        return key_of(self.variable)

    @property
    def flag(self) -> str:
        """How the command line spells it, where it is a flag."""
        return f"--{self.name.replace('_', '-')}"


def _default_state_dir(_: Path) -> Path:
    return platformdirs.user_state_path(APP_NAME)


def _default_config_dirs(home: Path) -> tuple[Path, ...]:
    """Name the client's own folder, and the one some of its versions use instead where that holds logs."""
    other = home / ".config" / "claude"
    return (home / ".claude", *([other] if (other / "projects").is_dir() else []))


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
        help="Nothing is sent unless true.",
        aliases=("enabled",),
    ),
    Setting(
        name="host",
        variable="POSTHOG_HOST",
        parse=parsers.host,
        default="https://us.i.posthog.com",
        help="PostHog's ingestion host; the us., eu. and app. web hosts become theirs.",
    ),
    Setting(
        name="allow_custom_host",
        variable="POSTHOG_LLMA_ALLOW_CUSTOM_HOST",
        parse=parsers.boolean,
        default="false",
        help="Allow a host other than posthog.com, its subdomains and loopback; always over https.",
        in_project=False,
    ),
    Setting(
        name="privacy_mode",
        variable="POSTHOG_LLMA_PRIVACY_MODE",
        parse=parsers.boolean,
        default="false",
        help="Send no content: the same as POSTHOG_LLMA_CONTENT=metadata, whatever that says.",
    ),
    Setting(
        name="content",
        variable="POSTHOG_LLMA_CONTENT",
        parse=parsers.choice("full", "no_tool_content", "metadata"),
        default="full",
        help="How much content leaves the machine: full, no_tool_content or metadata.",
    ),
    Setting(
        name="redact_secrets",
        variable="POSTHOG_LLMA_REDACT_SECRETS",
        parse=parsers.boolean,
        default="true",
        help="Replace keys, tokens and passwords in what is sent.",
        in_project=False,
    ),
    Setting(
        name="distinct_id",
        variable="POSTHOG_LLMA_DISTINCT_ID",
        parse=parsers.distinct_id,
        default=None,
        help="Person the events belong to; unset: git's user e-mail of the session's repository.",
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
        help="A generation's input: the messages added since the one before (delta), the human prompt only, or the "
        "whole request with its system prompt and tools (full).",
    ),
    Setting(
        name="max_attribute_length",
        variable="POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH",
        parse=parsers.attribute_length,
        default="12000",
        help="Characters kept of each string of tool content.",
    ),
    Setting(
        name="custom_properties",
        variable="POSTHOG_LLMA_CUSTOM_PROPERTIES",
        parse=parsers.json_object,
        default="{}",
        help="JSON object of properties added to every event; a table in config.toml.",
    ),
    Setting(
        name="include",
        variable="POSTHOG_LLMA_INCLUDE",
        parse=parsers.patterns,
        default=None,
        help="Folders to follow, as patterns separated by commas or line ends; a list in config.toml. Unset: all.",
        compute=lambda _: (),
    ),
    Setting(
        name="exclude",
        variable="POSTHOG_LLMA_EXCLUDE",
        parse=parsers.patterns,
        default=None,
        help="Folders never to send from, written like include; wins over it.",
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
        help="Where the daemon keeps its own files.",
        compute=_default_state_dir,
        in_project=False,
    ),
    Setting(
        name="session_timeout",
        variable="POSTHOG_LLMA_SESSION_TIMEOUT",
        parse=parsers.seconds,
        default="3600",
        help="Seconds of quiet after which a session without a live process has ended.",
        in_project=False,
    ),
    Setting(
        name="claude_config_dirs",
        variable="CLAUDE_CONFIG_DIR",
        parse=parsers.folders,
        default="~/.claude",
        help="Claude Code's folders, separated like PATH; unset: also ~/.config/claude where it has projects/.",
        compute=_default_config_dirs,
        # The file to read stands in this folder, so it cannot say where the folder is.
        in_claude_settings=False,
        in_project=False,
    ),
    Setting(
        name="plugin_status_file",
        variable="POSTHOG_LLMA_PLUGIN_STATUS_FILE",
        parse=parsers.boolean,
        default="false",
        help="Keep posthog-llma-status.json in Claude Code's folder, which PostHog's plugin reads.",
        in_project=False,
    ),
    Setting(
        name="opt_out",
        variable="OPT_OUT_CAPTURE",
        parse=parsers.boolean,
        default=None,
        help="true: send nothing, whatever else is set.",
        compute=lambda _: False,
    ),
)


def key_of(variable: str) -> str:
    return variable.lower().removeprefix("posthog_").removeprefix("llma_")
