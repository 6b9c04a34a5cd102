"""docs/commands.md has the help of every command, as it is printed. UPDATE_DOCS=1 writes it anew."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import click
import pytest

from daemon.cli import main
from tests.support.documents import DOCS, Document

PAGE = DOCS / "commands.md"
PROGRAM = "posthog-llma-daemon"
WIDTH = 80


def helps() -> dict[str, str]:
    """Return the help of every verb and of its subcommands, by name."""
    context = click.Context(main, info_name=PROGRAM, terminal_width=WIDTH, **main.context_settings)
    found: dict[str, str] = {}
    for verb in main.list_commands(context):
        command = main.get_command(context, verb)
        assert command is not None
        found |= dict(_helps(command, verb, context))
    return found


def _helps(command: click.Command, name: str, parent: click.Context) -> Iterator[tuple[str, str]]:
    verb = name.rpartition(" ")[2]
    context = click.Context(command, parent, info_name=verb, terminal_width=WIDTH)
    yield name, command.get_help(context).strip() + "\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _helps(found, f"{name} {below}", context)


HELPS = helps()


def update() -> None:
    """Write every help below the heading of its verb. A verb without a heading gets one at the end."""
    page = re.sub(
        rf"^```text\nUsage: {PROGRAM} .*?^```\n+", "", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    verbs = [name for name in HELPS if " " not in name]
    for verb in verbs:
        heading = f"### {verb}\n"
        if heading not in page:
            page = f"{page.rstrip()}\n\n{heading}"
        parts = "".join(f"\n```text\n{text}```\n" for name, text in HELPS.items() if name.split()[0] == verb)
        page = page.replace(heading, f"{heading}{parts}")
    PAGE.write_text(f"{page.rstrip()}\n", encoding="utf-8")


if os.environ.get("UPDATE_DOCS") == "1":
    update()


def words(text: str) -> list[str]:
    """Return the words of a help. Versions of click break lines in different places."""
    return text.split()


def shown() -> list[list[str]]:
    return [words(block.text) for block in Document(PAGE).blocks if block.language == "text"]


@pytest.mark.parametrize("name", HELPS)
def test_the_page_has_the_help_of_every_command(name: str) -> None:
    what_to_do = "run UPDATE_DOCS=1 .venv/bin/python -m pytest -q -n 0 tests/documents"
    assert words(HELPS[name]) in shown(), f"docs/commands.md: `{name} --help` says something else: {what_to_do}"


def test_the_page_has_no_other_help() -> None:
    assert len(shown()) == len(HELPS)
