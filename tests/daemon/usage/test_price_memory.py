"""What the list of prices has answered is taken from a file, as long as it is of the same list."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import StartDateConstraint

from daemon.usage import list_process, prices
from daemon.usage.price_memory import PriceMemory, identity_of_list
from daemon.usage.prices import memory, rates, thresholds
from tests.support.waiting import PATIENCE

QUESTIONS = (
    ("claude-opus-5", "anthropic", None, "2026-11-20", 0),
    ("claude-sonnet-4-5", "anthropic", "priority", "2026-11-20", 200_001),
    ("a-model-without-a-price", None, None, "2026-11-20", 0),
)


def forget() -> None:
    """Know as little as a new program does."""
    rates.cache_clear()
    thresholds.cache_clear()


@pytest.fixture(autouse=True)
def _new_program() -> Iterator[None]:
    forget()
    yield
    forget()


def test_a_program_takes_the_answers_that_another_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prices.json"

    def answers() -> list[object]:
        forget()
        with memory.kept_in(path):
            return [*(rates(*question) for question in QUESTIONS), thresholds("claude-sonnet-4-5", "anthropic")]

    first = answers()
    assert first == [*(rates(*question) for question in QUESTIONS), (200_000,)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def refuse(*_: object) -> None:
        raise AssertionError("the list was asked")

    monkeypatch.setattr(prices, "_model", refuse)
    prices._listed.cache_clear()
    assert answers() == first
    # A price of the user's own is no answer of the list.
    with memory.kept_in(path):
        own = rates(*QUESTIONS[0], own='{"input": 1.5}')
    assert own is not None
    assert own.input == 1.5


def test_a_program_that_runs_for_long_asks_a_list_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> list[object]:
        forget()
        return [*(rates(*question) for question in QUESTIONS), thresholds("claude-sonnet-4-5", "anthropic")]

    def refuse(*_: object) -> None:
        raise AssertionError("the list was asked here")

    expected = answers()
    with monkeypatch.context() as patched, list_process.ListProcess() as lists:
        patched.setattr(prices, "answer", refuse)
        with memory.kept_in(tmp_path / "prices.json", lists.ask):
            assert answers() == expected
        assert lists.runs
    # It ends when it is not asked for a while, and the next question starts another one.
    with list_process.ListProcess(idle=0.0) as lists:
        assert lists.ask('["thresholds", "a-model-without-a-price", null]') == b"[]\n"
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(PATIENCE)
        assert not lists.runs
        assert lists.ask('["thresholds", "a-model-without-a-price", null]') == b"[]\n"
    # Where no process can be started, the list is asked here.
    monkeypatch.setattr(list_process, "same_python", lambda _code: [str(tmp_path / "missing")])
    with list_process.ListProcess() as lists, memory.kept_in(tmp_path / "others.json", lists.ask):
        assert answers() == expected


def test_a_process_of_the_list_that_is_killed_is_started_again() -> None:
    question = '["thresholds", "a-model-without-a-price", null]'
    with list_process.ListProcess() as lists:
        assert lists.ask(question) == b"[]\n"
        process = lists._process
        assert process is not None
        process.kill()
        process.wait(PATIENCE)
        assert lists.ask(question) == b"[]\n"
        assert lists.runs


@pytest.mark.parametrize("does", ["read question; exec sleep 600", "read question; printf '['", "exit 1"])
def test_a_process_of_the_list_that_gives_no_answer_is_ended(monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    monkeypatch.setattr(list_process, "same_python", lambda _code: ["/bin/sh", "-c", does])
    with list_process.ListProcess(limit=0.05 if "sleep" in does else PATIENCE) as lists:
        assert lists.ask("[]") is None
        assert not lists.runs


def test_one_answer_is_for_all_days_with_the_same_prices(tmp_path: Path) -> None:
    providers = {each.id: each for each in get_snapshot().providers}
    dated = [
        (model.id, who, starts)
        for who in ("anthropic", "openai")
        for model in providers[who].models
        if isinstance(model.prices, list)
        and (
            starts := [
                each.constraint.start_date for each in model.prices if isinstance(each.constraint, StartDateConstraint)
            ]
        )
    ]
    assert len(dated) >= 3
    days = {name: [start + timedelta(days=by) for start in starts for by in (-1, 0, 1, 2)] for name, _, starts in dated}
    questions = [(name, who, None, f"{day}") for name, who, _ in dated for day in days[name]]
    expected = [rates(*question) for question in questions]
    forget()
    with memory.kept_in(tmp_path / "prices.json"):
        assert [rates(*question) for question in questions] == expected
    answers = json.loads((tmp_path / "prices.json").read_bytes())["answers"]
    assert sum(json.loads(question)[0] == "rates" for question in answers) <= len(questions) / 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"list": "1", "answers": {"[\\"a\\"]": "no number"}}'])
def test_a_file_that_cannot_be_used_costs_only_time(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(content)
    kept = PriceMemory(lambda: "1")
    for expected in (7, 7):
        with kept.kept_in(path):
            assert kept.answer(int, ["a"], lambda: 7) == expected
    with kept.kept_in(tmp_path / "missing" / "prices.json"):
        assert kept.answer(int, ["a"], lambda: 8) == 8
    assert not (tmp_path / "missing").exists()


def test_answers_of_another_list_are_not_taken(tmp_path: Path) -> None:
    found = []
    for identity, answer in (("1", 7), ("1", 8), ("2", 9), (None, 10), ("2", 11)):
        kept = PriceMemory(lambda identity=identity: identity)  # type: ignore[misc] # the value of this round
        with kept.kept_in(tmp_path / "prices.json"):
            found.append(kept.answer(int, ["a"], lambda answer=answer: answer))  # type: ignore[misc] # the same
    assert found == [7, 7, 9, 10, 9]


def test_the_list_is_told_by_its_files_and_by_who_asks(tmp_path: Path) -> None:
    asking = tmp_path / "asking.py"
    asking.write_text("one")
    before = identity_of_list(str(asking))
    assert before == identity_of_list(str(asking))
    asking.write_text("another")
    assert identity_of_list(str(asking)) not in (before, None)
    assert identity_of_list(str(tmp_path / "missing.py")) is None
