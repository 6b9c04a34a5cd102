"""What the README and the pages in `docs/` name exists, and they name every setting."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from daemon.cli import main
from daemon.config.loading import load
from daemon.config.table import SETTINGS
from daemon.executing.properties_file import VARIABLE
from tests.support.client import Workspace, start
from tests.support.documents import DOCS, README, ROOT, Document, documents, spans
from tests.support.managers import Managers

PROGRAM = "posthog-llma-daemon"
CONTEXT = click.Context(main)
VERBS = {name: command for name in main.list_commands(CONTEXT) if (command := main.get_command(CONTEXT, name))}
PAGES = documents()
OTHER_PROGRAMS = {
    "--no-session-persistence": "Claude Code's",
    "--password-stdin": "docker's",
    "--token": "an option that a secret may follow",
    "--user": "systemctl's",
}
OTHER_VARIABLES = {"POSTHOG_MOCK": "LiteLLM's; its logger reads it"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def options(command: click.Command) -> set[str]:
    """Return the options of a verb and of its subcommands."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        for below in command.commands.values():
            names |= options(below)
    return {name for name in names if name.startswith("-")} | {"--help", "-h", "--version"}


def inline_commands(page: Document) -> Iterator[list[str]]:
    """Yield every command within the text of a page: the words after the program's name."""
    for span in spans(page.prose):
        words = span.split()
        if words[0] == PROGRAM and len(words) > 1:
            yield shlex.split(span)[1:]
        elif words[0] in VERBS:
            yield words


@each_page
def test_every_command_in_the_text_exists_with_its_options(page: Document) -> None:
    for verb, *words in inline_commands(page):
        assert verb in VERBS, f"{page.name}: there is no command {verb}"
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        unknown = given - options(VERBS[verb])
        assert not unknown, f"{page.name}: {verb} has no {', '.join(unknown)}"


@each_page
def test_every_option_in_the_text_exists(page: Document) -> None:
    named = {option for span in spans(page.prose) for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    everything = set().union(*(options(command) for command in VERBS.values()))
    unknown = named - everything - OTHER_PROGRAMS.keys()
    assert not unknown, f"{page.name}: no command has {', '.join(unknown)}"


@each_page
def test_every_variable_exists(page: Document) -> None:
    named = set(re.findall(r"\b(?:POSTHOG|CLAUDE|OPT)_[A-Z_]*[A-Z]\b(?!_`)", page.text))
    unknown = named - {setting.variable for setting in SETTINGS} - {VARIABLE} - OTHER_VARIABLES.keys()
    assert not unknown, f"{page.name}: there is no {', '.join(unknown)}"


def test_every_setting_is_in_the_table_of_settings() -> None:
    page = Document(DOCS / "configuration.md")
    named = {row[0].strip("`") for row in page.rows("variable")}
    missing = [
        f"{page.name}: add a row for `{setting.variable}`" for setting in SETTINGS if setting.variable not in named
    ]
    assert not missing, "\n".join(missing)


@each_page
def test_examples_of_config_toml_can_be_loaded(page: Document, tmp_path: Path) -> None:
    for block in page.blocks:
        if block.language == "toml":
            assert tomllib.loads(block.text)
            path = tmp_path / "config.toml"
            path.write_text(block.text)
            path.chmod(0o600)
            assert load({}, {}, config_file=path, home=tmp_path).warnings == ()


def test_every_log_event_that_is_explained_exists() -> None:
    page = Document(DOCS / "troubleshooting.md")
    named = re.findall(r"`([a-z_]+)` in the log", " ".join(row[0] for row in page.rows("what you see")))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "daemon").rglob("*.py"))
    assert len(named) > 3
    assert [name for name in named if f'"{name}"' not in sources] == []


@each_page
def test_links_have_targets(page: Document) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.prose):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file) if file else page.path
        assert path.is_file(), f"{page.name}: {target} does not exist"
        assert not anchor or anchor in Document(path).anchors, f"{page.name}: {target} names no heading"


def test_every_page_is_in_the_navigation_and_the_index() -> None:
    names = {path.name for path in DOCS.glob("*.md")}
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert {page for entry in navigation for page in entry.values()} == names
    assert set(re.findall(r"\]\((\w+\.md)\)", Document(DOCS / "index.md").prose)) == names - {"index.md"}


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    assert len(README.text.split()) <= 1200
    # .ci/run reads them.
    own = [line for line in README.text.splitlines() if line.startswith("python3 -m venv .venv")]
    assert [own[0].split()[-1], own[1].split()[-2:]] == ["demo", ["pytest", "-q"]]


def workflow_steps() -> list[tuple[Document, str]]:
    """Return what the workflows in the documents run with this program."""
    found = []
    for page in PAGES:
        for block in page.blocks:
            # The other example is a job on Kubernetes: see test_fleet.py.
            if block.language == "yaml" and "apiVersion" not in block.text:
                content = yaml.safe_load(block.text)
                jobs = content.get("jobs", {"steps": {"steps": content.get("steps", [])}})
                steps = [step for job in jobs.values() for step in job["steps"]]
                found += [(page, step["run"]) for step in steps if step.get("run", "").startswith(PROGRAM)]
    return found


@pytest.mark.parametrize(("page", "step"), workflow_steps(), ids=lambda each: getattr(each, "name", "step"))
async def test_a_step_of_a_workflow_runs_its_command(tmp_path: Path, page: Document, step: str) -> None:
    workspace = Workspace(tmp_path / "machine")
    managers = Managers(workspace)
    claude = managers.programs / "claude"
    claude.write_text('#!/bin/sh\necho "claude was given: $*"\n')
    claude.chmod(0o755)
    variables = managers.environment(REPOSITORY="ada/orchard", PULL_REQUEST="7", OPT_OUT_CAPTURE="1")
    async with start(
        ["bash", "-e", "-c", step], name="step", environment=variables, cwd=workspace.work, output=workspace.output
    ) as child:
        assert await child.wait() == 0, f"{page.name}: {child.stderr}"
        assert child.stdout.startswith("claude was given: --print Review")


@each_page
def test_a_workflow_uses_nothing_but_its_own_repository(page: Document) -> None:
    for block in page.blocks:
        if block.language == "yaml":
            assert set(re.findall(r"\$\{\{ (\w+)\.", block.text)) <= {"secrets", "github", "vars"}
            assert "./" not in block.text
