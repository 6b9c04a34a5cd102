from __future__ import annotations

import io
from datetime import UTC
from typing import Literal

import msgspec
from rich.console import Console, RenderableType

from daemon.cli.render import delivered, figure_table, name_cell, tree
from llma_core.events import CaptureEvent
from llma_core.trace_tree import build
from llma_core.view import EventView, read
from tests.support.sample_events import generation, opening, span, trace


def views(*events: CaptureEvent) -> list[EventView]:
    return [read(event.body) for event in events]


def drawn(what: RenderableType, *, color: bool = False) -> str:
    system: Literal["standard"] | None = "standard" if color else None
    console = Console(file=io.StringIO(), width=200, highlight=False, force_terminal=color, color_system=system)
    console.print(what)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_trace_without_any_operation_can_be_drawn() -> None:
    assert "Count the files" in drawn(tree(build("trace-1", views(trace()))))
    assert "not ended" in drawn(tree(build("trace-1", views(opening()))))


def test_only_the_trace_of_a_session_is_told_to_go_on() -> None:
    """Nobody has to end the trace of calls that a program records."""
    call = read(generation("a", at=2).body)
    assert "not ended" not in drawn(tree(build("trace-1", [call])))
    assert "not ended" in drawn(tree(build("trace-1", [msgspec.structs.replace(call, version="2.1.150")])))


def test_the_tree_shows_tokens_durations_and_outcomes() -> None:
    text = drawn(
        tree(
            build(
                "trace-1",
                views(
                    generation(
                        "a",
                        at=2,
                        latency=1.25,
                        tokens=(1234, 56),
                        cache=(9000, 7),
                        stop_reason="tool_use",
                        model="claude-opus-5",
                    ),
                    span("b", "Bash", parent="a", at=3, latency=0.5, status="error", error="Exit code 1\nFAILED"),
                    span("c", "Write", parent="a", at=4, latency=None, status="denied"),
                    span("d", "Agent", parent="a", at=90, latency=80.0),
                    generation("e", parent="d", at=80, agent="Explore", model="orchard-model-1"),
                    trace(),
                ),
            ),
            zone=UTC,
        )
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "trace-1 Count the files",
        (
            "sample-project 2026-11-20 12:00:00 1 min 29 s $0.01 + 110 tokens without a price"
            " 2 generations 3 tool calls 1,334 in 66 out (cache 9,000 read, 7 written) 1 error"
        ),
        "└── claude-opus-5 1,234 in 56 out (cache 9,000 read, 7 written) $0.01 1.25 s tool_use",
        "├── Bash 0.50 s error Exit code 1 FAILED",
        "├── Write denied",
        "└── Agent 1 min 20 s ok",
        "└── orchard-model-1 100 in 10 out no price 1.00 s end_turn Explore",
    ]


def test_a_trace_shows_its_prompt_beside_a_title_that_says_something_else() -> None:
    for name, prompt, shown in (
        ("Count the files", "How many are there?", "trace-1  Count the files  > How many are there?"),
        ("How many a…", "How many are\nthere?", "trace-1  How many are there?"),
        ("Count the files", "", "trace-1  Count the files"),
    ):
        assert drawn(tree(build("trace-1", views(trace(name)), prompt=prompt))).splitlines()[0] == shown


def test_a_narrow_terminal_cuts_names_and_no_figure() -> None:
    output = io.StringIO()
    table = figure_table("session", ("calls", "input", "cost"))
    table.add_row(name_cell("0f4d1c52 Prune all of the trees in the orchard"), "11", "344.2k", "$1,234.97")
    table.add_row(name_cell("total"), "1,011", "344.2k", "$1,234.97")
    Console(file=output, width=44).print(table)
    [heading, _, row, total] = [line.split() for line in output.getvalue().splitlines() if line.strip()]
    assert heading == ["session", "calls", "input", "cost"]
    assert row[-3:] == ["11", "344.2k", "$1,234.97"]
    assert row[-4].endswith("…")
    assert total == ["total", "1,011", "344.2k", "$1,234.97"]
    assert max(map(len, output.getvalue().splitlines())) <= 44


def test_failures_are_red() -> None:
    failed = generation("a", model=None, tokens=None, latency=None, stop_reason=None, error=("overloaded_error", "529"))
    assert drawn(tree(build("trace-1", views(failed))), color=True).count("\x1b[31m") >= 2
    assert "API failed  overloaded_error: 529" in drawn(tree(build("trace-1", views(failed))))
    assert "\x1b[31m" not in drawn(tree(build("trace-1", views(generation("a")))), color=True)


def test_tool_output_cannot_control_the_terminal_or_break_the_line() -> None:
    error = "\x1b[2J\x07[bold]gone[/bold]\r\n" + "x" * 10_000
    text = drawn(tree(build("trace-1", views(span("a", "Bash\x1b[31m", parent="p", error=error, status="error")))))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]gone[/bold]" in text
    assert len(text.splitlines()) == 3


def test_a_delivered_event_is_one_line() -> None:
    lines = [
        " ".join(drawn(delivered(view, zone=UTC)).split())
        for view in views(
            generation("a", at=1.5),
            span("b", "Read", parent="a", at=2),
            opening(),
            trace(),
            generation("c", model=None, tokens=None, latency=None, stop_reason=None, error=("overloaded_error", "")),
        )
    ]
    assert lines == [
        "12:00:01.500 generation claude-opus-5-5 100 in 10 out $0.0006 1.00 s end_turn",
        "12:00:02.000 span Read 0.50 s ok",
        "12:00:00.000 trace Count the files begins",
        "12:00:00.000 trace Count the files",
        "12:00:00.000 generation API failed overloaded_error",
    ]


def test_an_event_without_a_valid_time_is_shown_without_one() -> None:
    odd = CaptureEvent(name="x", uuid="u", identity="i", body=generation("odd").body.replace(b"2026-11-20T", b"never "))
    assert drawn(delivered(views(odd)[0])).startswith("- ")
