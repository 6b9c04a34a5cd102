from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.claude_code import prompts

LONGEST_NAME = 1000
SLASH = (
    "<command-message>greet is running…</command-message>\n"
    "<command-name>/greet</command-name>\n<command-args>the world</command-args>"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Count the apple trees", "human"),
        ("clear the cache bug", "human"),
        ("/ is the root folder", "human"),
        ("a<b and c>d", "human"),
        ("<div> does not close", "human"),
        ("Why does <bash-input>ls</bash-input> show up?", "human"),
        ("Request interrupted by whom?", "human"),
        ("", "human"),
        (SLASH, "command"),
        ("<command-name>/clear</command-name>", "command"),
        ("\n  <command-name>/clear</command-name>", "command"),
        ("<bash-input>ls</bash-input>", "command"),
        ("<bash-stdout>seed.txt</bash-stdout><bash-stderr></bash-stderr>", "output"),
        ("<bash-stderr>not found</bash-stderr>", "output"),
        ("<local-command-stdout>Total cost: 1</local-command-stdout>", "output"),
        ("<local-command-caveat>Caveat: …</local-command-caveat>", "output"),
        ("Unknown skill: greeet", "output"),
        ("Unknown slash command: greeet\n", "output"),
        ("Unknown skill: greeet. Did you mean /greet?", "output"),
        ("Unknown skill: what does this answer of yours mean?", "human"),
        ("Unknown skill: greeet\nWhy do I get this?", "human"),
        ("<task-notification>\n<task-id>a1</task-id>", "notification"),
        ("[Request interrupted by user]", "interrupt"),
        ("[Request interrupted by user for tool use]", "interrupt"),
    ],
)
def test_texts_are_told_apart_by_how_they_start(text: str, kind: str) -> None:
    assert prompts.classify(text) == kind


@pytest.mark.parametrize("text", ["[Request interrupted by user]", "  [Request interrupted by user for tool use]"])
def test_the_marks_of_an_interrupt(text: str) -> None:
    assert prompts.is_interrupt(text)


def test_words_about_an_interrupt_are_none() -> None:
    assert not prompts.is_interrupt("the log says [Request interrupted by user]")


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        (SLASH, "/greet the world"),
        ("<command-name>/clear</command-name>\n<command-args></command-args>", "/clear"),
        ("<command-name>/clear</command-name>", "/clear"),
        ("<bash-input> git status </bash-input>", "!git status"),
        ("clear the cache bug", "clear the cache bug"),
        ("a<b and c>d", "a<b and c>d"),
        ("", ""),
    ],
)
def test_a_wrapped_command_is_shown_as_it_was_typed(text: str, typed: str) -> None:
    assert prompts.command_line(text) == typed


@pytest.mark.parametrize(
    "text",
    [
        "Why does <bash-input>ls</bash-input> stand in my log?",
        "Grep for <command-name>/clear</command-name> please",
    ],
)
def test_a_prompt_about_commands_stays_a_prompt(text: str) -> None:
    assert prompts.command_line(text) == text
    assert prompts.name(text) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("clear the cache bug", "clear the cache bug"),
        ("a<b and c>d", "a<b and c>d"),
        ("  two\n\nlines\tand a tab ", "two lines and a tab"),
        ("Sort List<String> by <key>", "Sort List<String> by <key>"),
        ('Read this: <pasted_content id="47ff">apple</pasted_content> please', "Read this: apple please"),
        ("<system-reminder>be kind</system-reminder>", "be kind"),
        ("<ide_opened_file>main.py</ide_opened_file> fix it", "main.py fix it"),
        (SLASH, "/greet the world"),
        ("", ""),
        (" \n ", ""),
        ("<pasted_content></pasted_content>", ""),
    ],
)
def test_a_name_is_one_clean_line(text: str, name: str) -> None:
    assert prompts.name(text) == name


def test_a_name_is_no_longer_than_what_is_looked_for_in_it() -> None:
    words = "x" * LONGEST_NAME

    assert prompts.name(words) == words
    assert prompts.name(words + "y") == words
    assert prompts.name("tree " * 1000) == ("tree " * 200).rstrip()


def test_a_name_never_ends_in_half_a_word_because_a_text_is_long() -> None:
    assert prompts.name("tree" + " " * 19_990 + "half-a-word") == "tree"
    assert prompts.name(" " * 19_990 + "half-a-word") == ""
    assert prompts.name("x" * 30_000) == "x" * LONGEST_NAME


@given(st.text() | st.text(alphabet="<>/abcdefgi-n_ \n"))
def test_any_text_has_a_kind_and_a_short_name_of_one_line(text: str) -> None:
    name = prompts.name(text)

    assert prompts.classify(text) in ("human", "command", "output", "notification", "interrupt")
    assert len(name) <= LONGEST_NAME
    assert name == name.strip()
    assert len(name.splitlines()) <= 1


@given(words=st.lists(st.text(alphabet="abc<>", min_size=1), min_size=1).map(" ".join))
def test_a_short_prompt_without_the_clients_own_markup_is_its_name(words: str) -> None:
    assert prompts.name(words[:90].strip()) == " ".join(words[:90].split())


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("<ide_opened_file>The user opened a.py.</ide_opened_file>\nfix it", "fix it"),
        ('<ide_selection path="a.py">x = 1</ide_selection>fix it', "fix it"),
        ("<ide_opened_file>The user opened a.py.</ide_opened_file>", ""),
        ("<system-reminder>The gate is closed.</system-reminder>\nfix it", "fix it"),
        ("fix it\n\n<system-reminder>one</system-reminder>\n<system-reminder>two</system-reminder>\n", "fix it"),
        ("<user-prompt-submit-hook>on main</user-prompt-submit-hook>\nfix it", "fix it"),
        (
            "<system-reminder>The gate is closed.</system-reminder>",
            "<system-reminder>The gate is closed.</system-reminder>",
        ),
        (
            "what is <system-reminder>this</system-reminder> for?",
            "what is <system-reminder>this</system-reminder> for?",
        ),
        ("  fix it\n", "  fix it\n"),
        ("<system-reminder>never closed, fix it", "<system-reminder>never closed, fix it"),
        ("<system-reminder></system-reminder>" * 100_000 + "fix it", "fix it"),
        ("fix it" + "<system-reminder></system-reminder>" * 100_000, "fix it"),
    ],
    ids=map(str, range(12)),
)
def test_what_was_added_around_a_prompt_is_no_part_of_it(text: str, typed: str) -> None:
    assert prompts.without_notes(text) == typed
