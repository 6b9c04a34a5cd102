"""The table of verbs: the group in which `--help` lists each, what it does in a line, and an example."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb", "example"]


class Verb(NamedTuple):
    """A verb, or a verb of a verb.

    Attributes:
        summary: what it does, in a line.
        example: arguments of the program that show its use.
    """

    summary: str
    example: str


# By group, in the order of --help.
VERBS: dict[str, dict[str, Verb]] = {
    "Look": {
        "demo": Verb("Watch a sample session become a trace, all locally.", "demo"),
        "tail": Verb("Watch sessions live in the terminal.", "tail --since 1h"),
        "traces": Verb("Show sessions as trees of calls.", "traces --limit 3"),
        "usage": Verb("Show what sessions used, and what it cost.", "usage --since 30d --by project"),
        "view": Verb("Show sessions in a browser, live.", "view --no-open"),
        "preview": Verb("Print the events that would be sent for a log.", "preview --explain ~/.claude"),
        "status": Verb("Show what was delivered, what waits, and problems.", "status"),
        "verify": Verb("Compare what PostHog holds with what was sent.", "verify --since 30d"),
        "dashboard": Verb("Create a dashboard in PostHog, or update it.", "dashboard --print"),
        "doctor": Verb("Find problems, and show how to fix them.", "doctor"),
    },
    "Send": {
        "login": Verb("Connect to a PostHog project.", "login"),
        "run": Verb("Follow sessions and deliver them, in the foreground.", "run --local --from-start"),
        "backfill": Verb("Send existing sessions: files, folders, or all.", "backfill --since 7d --dry-run"),
        "archive": Verb("Send sessions from archives and object storage.", "archive s3://ci-logs/claude --jobs 4"),
        "exec": Verb(
            "Run a command and deliver its sessions, as in CI.",
            "exec --property job=review -- claude -p 'review it'",
        ),
    },
    "Run as a service": {
        "install": Verb("Run the daemon in the background, as a service.", "install"),
        "start": Verb("Start the service.", "start"),
        "stop": Verb("Stop the service.", "stop"),
        "restart": Verb("Restart the service.", "restart"),
        "logs": Verb("Show the service's log.", "logs --follow"),
        "uninstall": Verb("Stop and remove the service.", "uninstall"),
    },
    "Configure": {
        "config": Verb("Show, check, and change the settings.", "config"),
        "completion": Verb("Print a completion script for your shell.", "completion bash"),
    },
}


def example(arguments: str) -> str:
    """Return the end of a command's help, with the example *arguments*."""
    # Imported here, so that the list of verbs stays quick.
    from daemon.config.table import APP_NAME

    # The first line makes click keep the others as they are.
    return f"\b\nExample:\n  {APP_NAME} {arguments}"
