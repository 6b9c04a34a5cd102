from __future__ import annotations

import io
from datetime import UTC, date

from msgspec.structs import replace
from rich.console import Console, RenderableType

from daemon.cli.live import Board, Dates, line, moment
from daemon.reading.follower import Seen
from llma_core.events import CaptureEvent
from llma_core.view import PromptView, read
from tests.support.sample_events import generation, measure, opening, span, trace

SESSION = "5e551011-0000-4000-8000-000000000001"


def seen(event: CaptureEvent, *, words: str = "", session: str = SESSION) -> Seen:
    return Seen(session=session, what=read(event.body), words=words)


def asked(words: str = "count the trees", *, session: str = SESSION, timestamp: str = "2026-11-20T10:00:00Z") -> Seen:
    what = PromptView(timestamp=timestamp, session_id=session, project="orchard", words=words or None)
    return Seen(session=session, what=what, words=words)


def drawn(what: RenderableType, *, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(what, no_wrap=True, overflow="ellipsis")
    return file.getvalue().splitlines()


def test_a_line_shows_time_project_kind_and_text() -> None:
    assert drawn(line(asked(), zone=UTC)) == ["10:00:00 orchard prompt count the trees"]
    assert drawn(line(asked(), zone=UTC, session=True)) == ["10:00:00 5e551011 orchard prompt count the trees"]
    assert drawn(line(asked(), zone=UTC, project_width=9)) == ["10:00:00 orchard   prompt count the trees"]


def test_a_prompt_that_may_not_be_shown_still_gets_a_line() -> None:
    assert drawn(line(asked(""), zone=UTC)) == ["10:00:00 orchard prompt (not shown)"]


def test_a_prompt_without_a_time_still_gets_a_line() -> None:
    timeless = asked(timestamp="")
    assert moment(timeless) is None
    assert drawn(line(timeless, zone=UTC)) == ["--:--:-- orchard prompt count the trees"]


def test_a_time_without_a_zone_is_utc() -> None:
    found = moment(asked(timestamp="2026-11-20T10:00:00"))
    assert found is not None
    assert found.tzinfo is UTC


def test_each_kind_of_event_has_its_word() -> None:
    kinds = [
        drawn(line(seen(event), zone=UTC))[0].split()[2]
        for event in (
            generation("a"),
            generation("b", error=("overloaded_error", "Overloaded")),
            span("c", "Read", parent="a"),
            span("d", "Agent", parent="a"),
            trace("The end"),
            opening("The start"),
            measure("$ai_embedding", model="text-embedding-3-small"),
            measure("$ai_metric", metric_name="tests_added", metric_value="4"),
            measure("$ai_feedback", feedback_text="helpful"),
            measure("$ai_evaluation"),
        )
    ]
    assert kinds == ["answer", "failed", "tool", "agent", "ended", "begun", "embed", "metric", "rated", "step"]


def test_a_step_that_is_no_call_is_shown_as_a_step() -> None:
    step = replace(read(span("c", "compaction", parent="a").body), span_type="compaction")
    row = drawn(line(Seen(session=SESSION, what=step, words=""), zone=UTC))[0]
    assert row.split()[2:4] == ["step", "compaction"]


def test_a_line_is_cut_at_the_edge() -> None:
    [row] = drawn(line(seen(generation("a"), words="many words " * 100), zone=UTC))
    assert len(row) == 80
    assert row.endswith("…")


def test_markup_and_control_sequences_have_no_effect() -> None:
    assert drawn(line(asked("[red]one[/red] \x1b[2J two\nthree"), zone=UTC))[0].endswith("[red]one[/red] [2J two three")


def test_the_board_shows_a_hint_and_then_sums() -> None:
    board = Board("nothing yet")
    assert drawn(board)[1:] == ["nothing yet"]
    for each in (
        asked(),
        seen(generation("a", cache=(1_000, 500))),
        seen(span("c", "Read", parent="a")),
        seen(generation("b", error=("overloaded_error", "Overloaded"))),
    ):
        board.add(each)
    _, head, facts = drawn(board)
    assert head == "sample-project 5e551011  $0.0033  > count the trees"
    assert facts.startswith("  1 answer, 1 tool call  ")
    assert "+ 1.5k cache" in facts
    assert facts.endswith("  1 error")


def test_a_session_is_marked_as_ended_until_it_continues() -> None:
    board = Board("")
    board.add(asked())
    board.add(seen(trace("The end")))
    assert "  ended  The end  > count the trees" in drawn(board)[1]
    board.add(seen(measure("$ai_metric", metric_name="lines_added", metric_value="12")))
    assert "  ended  " in drawn(board)[1]
    board.add(seen(opening("The end")))
    assert "  ended  " not in drawn(board)[1]
    board.add(asked("go on"))
    assert drawn(board)[1] == "orchard 5e551011  The end  > go on"


def test_the_tokens_of_an_embedding_count_and_it_is_no_answer() -> None:
    board = Board("")
    board.add(seen(measure("$ai_embedding", model="text-embedding-3-small", input_tokens=1200)))
    assert drawn(board)[2].startswith("  0 answers, 0 tool calls  1.2k in")


def test_the_board_shows_the_title_a_session_has_by_now() -> None:
    board = Board("")
    board.add(asked())
    for title, shown in (("Prune", "  Prune  > count the trees"), ("Count", "  Count  > count the trees")):
        board.add(seen(generation("a", title=title, model="orchard-model-1")))
        assert drawn(board)[1] == f"sample-project 5e551011  no price{shown}"
    board.add(seen(generation("a", title="count the…", model="orchard-model-1")))
    assert drawn(board)[1] == "sample-project 5e551011  no price  > count the trees"


def test_a_date_is_shown_where_another_day_begins() -> None:
    def days(*times: str, today: date) -> list[str | None]:
        dates = Dates(today, UTC)
        found = (dates.before(asked(timestamp=time)) for time in times)
        return [text.plain if text is not None else None for text in found]

    late, next_day = "2026-11-20T23:59:59Z", "2026-11-21T00:00:01Z"
    assert days(late, next_day, late, "", next_day, today=date(2026, 11, 20)) == [
        None, "── 2026-11-21 ──", None, None, None,
    ]  # fmt: skip
    assert days(late, next_day, today=date(2026, 11, 21)) == ["── 2026-11-20 ──", "── 2026-11-21 ──"]


def test_the_board_shows_the_latest_sessions() -> None:
    board = Board("")
    for number in range(6):
        board.add(asked(f"prompt {number}", session=f"{number}-session"))
        assert board.shares_project == (number > 0)
    board.add(asked("again", session="0-session"))
    rows = drawn(board)
    assert [row.split("> ")[1] for row in rows if "> " in row] == ["again", "prompt 5", "prompt 4", "prompt 3"]
    assert rows[-1] == "and 2 more"


def test_large_numbers_are_short() -> None:
    event = read(generation("a").body)
    for number, words in ((999, "999 out"), (1_000, "1.0k out"), (999_949, "999.9k out"), (999_950, "1.0M out")):
        shown = Seen(session=SESSION, what=replace(event, output_tokens=number), words="")
        assert words in drawn(line(shown, zone=UTC))[0]
