"""Everything that the README names exists, and the README names every command, option and setting."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

from daemon.cli import main
from daemon.config.loading import load
from daemon.config.table import SETTINGS
from daemon.executing.properties_file import VARIABLE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = "posthog-llma-daemon"
CONTEXT = click.Context(main)
VERBS = {name: command for name in main.list_commands(CONTEXT) if (command := main.get_command(CONTEXT, name))}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPANS = re.findall(r"`([^`\n]+)`", FENCED.sub("", README))
OTHER_PROGRAMS = {
    "--no-session-persistence": "Claude Code's",
    "--token": "an option that a secret may follow",
}


def options(command: click.Command) -> set[str]:
    """Return the options of a verb and of its subcommands."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        for below in command.commands.values():
            names |= options(below)
    return {name for name in names if name.startswith("-")} | {"--help", "-h"}


def commands() -> Iterator[list[str]]:
    """Yield every command in the README: the words after the program's name."""
    for language, block in FENCED.findall(README):
        if language == "sh":
            for row in block.replace("&&", "\n").splitlines():
                words = shlex.split(row, comments=True)
                if words and Path(words[0]).name == PROGRAM:
                    yield words[1:]
        elif language == "yaml":
            [row] = re.findall(rf"^ +{PROGRAM} (.*\n.*)$", block, re.MULTILINE)
            words = shlex.split(row)
            yield words[: words.index("--")]
    for span in SPANS:
        words = span.split()
        if words[0] == PROGRAM and len(words) > 1:
            yield words[1:]
        elif words[0] in VERBS:
            yield words


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this heading, by row."""
    [found] = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows() -> Iterator[tuple[set[str], str]]:
    """Yield the rows of the table of verbs: the verbs, and the text of the next column."""
    for first, rest in table("command"):
        yield {span.split()[0] for span in spans(first)}, rest


def test_every_verb_is_in_the_table_of_commands() -> None:
    named = [verb for verbs, _ in rows() for verb in verbs]
    assert sorted(named) == sorted(VERBS)


def test_every_command_exists_with_its_options() -> None:
    found = list(commands())
    assert len(found) > 20
    for verb, *words in found:
        assert verb in VERBS, f"there is no {verb}"
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options(VERBS[verb]), f"{verb} {' '.join(words)}"


def test_the_workflow_can_be_pasted() -> None:
    """It uses nothing but the user's own repository and secrets."""
    [block] = [block for language, block in FENCED.findall(README) if language == "yaml"]
    assert f"pipx install {PROGRAM} " in block
    assert "./" not in block
    assert "TODO" not in block
    named = set(re.findall(r"\$\{\{ (\w+)\.", block))
    assert named == {"secrets", "github"}


def test_every_option_in_the_table_belongs_to_its_verbs() -> None:
    for verbs, rest in rows():
        known = set().union(*(options(VERBS[verb]) for verb in verbs))
        words = [span.split() for span in spans(rest)]
        assert {span[0] for span in words if span[0].startswith("-")} <= known, verbs
        # The word after a verb's name is the name of a subcommand.
        below = [span[1] for span in words if len(span) > 1 and span[0] in verbs and not span[1].startswith("-")]
        assert all(any(word in getattr(VERBS[verb], "commands", ()) for verb in verbs) for word in below)


def test_every_option_exists() -> None:
    named = {option for span in SPANS for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    everything = set().union(*(options(command) for command in VERBS.values()))
    assert named - everything - OTHER_PROGRAMS.keys() - {"--rounds", "--seed", "--only"} == set()
    assert OTHER_PROGRAMS.keys() <= named


def test_every_variable_exists() -> None:
    named = set(re.findall(r"\b(?:POSTHOG|LLMA|CLAUDE|OPT)_[A-Z_]*[A-Z]\b(?!_`)", README))
    assert named == {setting.variable for setting in SETTINGS} | {VARIABLE}


def test_every_setting_is_in_the_table_of_settings() -> None:
    named = [span for row in table("variable") for span in spans(row[0])]
    assert sorted(named) == sorted({setting.variable for setting in SETTINGS})


def test_its_examples_of_config_toml_can_be_loaded(tmp_path: Path) -> None:
    blocks = [block for language, block in FENCED.findall(README) if language == "toml"]
    assert blocks
    for block in blocks:
        assert tomllib.loads(block)
        path = tmp_path / "config.toml"
        path.write_text(block)
        path.chmod(0o600)
        assert load({}, {}, config_file=path, home=tmp_path).warnings == ()


def test_every_log_event_that_it_explains_exists() -> None:
    named = re.findall(r"`([a-z_]+)` in the log", " ".join(row[0] for row in table("what you see")))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "daemon").rglob("*.py"))
    assert len(named) > 3
    assert [name for name in named if f'"{name}"' not in sources] == []


def test_its_links_have_targets() -> None:
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", README), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target
