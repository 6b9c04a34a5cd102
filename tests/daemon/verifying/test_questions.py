"""How much is asked at a time, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from daemon.config import loading
from daemon.config.settings import Settings
from daemon.history.history import Selection
from daemon.system.secret import Secret
from daemon.verifying.app import App, AppError, Pace, Project
from daemon.verifying.expectation import Amounts, ExpectedEvent, ExpectedSession
from daemon.verifying.holding import HeldSession, Holding, questions
from daemon.verifying.verification import Verifier
from llma_core.properties import Attribution
from tests.support.capture_server import Answer, CaptureServer
from tests.support.logs import LogBuilder, text, write_files
from tests.support.outbox import EVERYTHING, spans
from tests.support.processes import session_id
from tests.support.sessions import built

ROW = ["s", [["$ai_generation", "t", "m", [["AAAA", 1]], 1, 2, None, None, None]]]


def settings_of(folder: Path, **variables: str) -> Settings:
    environ = {
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
        "POSTHOG_API_KEY": "phc_mine",
        "POSTHOG_LLMA_STATE_DIR": str(folder / "state"),
        "POSTHOG_LLMA_DISTINCT_ID": "ada@example.com",
        **variables,
    }
    return loading.load({}, environ, config_file=folder / "config.toml", home=folder)


def write_sessions(folder: Path, number: int) -> None:
    for place in range(number):
        began = datetime.now(UTC) - timedelta(days=2)
        log = LogBuilder(session_id(f"asked-{place}"), cwd=f"/home/ada/field-{place}", start=began.isoformat())
        log.prompt("plant")
        log.answer(text("Planted."), id=f"msg_asked_{place}")
        write_files(folder / "config" / "projects", log.files())


def test_every_kind_of_event_that_programs_record_is_asked_for(tmp_path: Path) -> None:
    write_sessions(tmp_path, 1)
    questions = [*Verifier(settings_of(tmp_path), Selection(), time.time()).explain(lambda _read: None)]
    assert len(questions) == 2
    sent = {event.name for event in built(spans(EVERYTHING), Attribution(distinct_id="ada@example.com"))}
    assert {"$ai_embedding", "$ai_feedback", "$ai_metric"} <= sent
    assert all(sent <= set(cast("list[str]", question.values["kinds"])) for question in questions)


def test_a_time_that_no_query_can_have_asks_for_what_is_nearest_to_it() -> None:
    event = ExpectedEvent(
        kind="$ai_span", session="", trace="t", model="", at=None, amounts=Amounts(), is_priced=True, state="settled"
    )
    times = (-62_135_596_800.0, 253_402_300_799.0)
    events = {str(at): replace(event, at=at) for at in times}
    for question in questions([ExpectedSession(id="t", folder=None, began=0.0, events=events, by="trace")], 0.0):
        assert (question.values["since"], question.values["until"]) == ("1970-01-01 00:00:00", "2105-01-01 00:00:00")


def test_sessions_are_asked_for_together_until_an_answer_would_be_too_long(tmp_path: Path) -> None:
    write_sessions(tmp_path, 5)

    def asked(**most: int) -> list[int]:
        verifier = Verifier(settings_of(tmp_path), Selection(), time.time(), **most)
        questions = [*verifier.explain(lambda _read: None)]
        assert len(questions) % 2 == 0
        return [len(question.values["owners"]) for question in questions[::2]]  # type: ignore[arg-type] # a list

    assert asked() == [5]
    assert asked(owners=2) == [2, 2, 1]
    # Each session has three events.
    assert asked(events=7) == [2, 2, 1]


def test_sessions_that_go_to_another_host_or_project_are_not_asked_for(tmp_path: Path) -> None:
    write_sessions(tmp_path, 3)
    (tmp_path / "config.toml").write_text(
        '[[project]]\npath = "/home/ada/field-1"\napi_key = "phc_other"\n'
        '[[project]]\npath = "/home/ada/field-2"\nhost = "https://eu.i.posthog.com"\n'
    )
    (tmp_path / "config.toml").chmod(0o600)
    verifier = Verifier(settings_of(tmp_path), Selection(), time.time())
    asked = [question.values["owners"] for question in verifier.explain(lambda _read: None)][::2]
    # Another project of the same PostHog is asked for by itself; the key goes to no other PostHog.
    assert asked == [[session_id("asked-0")], [session_id("asked-1")]]

    # Events of one project go through a reverse proxy, and both to one PostHog.
    proxied = settings_of(
        tmp_path,
        POSTHOG_LLMA_ALLOW_CUSTOM_HOST="true",
        POSTHOG_HOST="https://e.example.com",
        POSTHOG_APP_HOST="https://eu.posthog.com",
    )
    verifier = Verifier(proxied, Selection(), time.time())
    asked = [question.values["owners"] for question in verifier.explain(lambda _read: None)][::2]
    assert sorted(map(str, asked)) == sorted(str([session_id(f"asked-{number}")]) for number in range(3))


async def held(*answers: Answer) -> tuple[dict[str, HeldSession], list[str], list[str]]:
    """Return what is held, the notes and the queries, if PostHog answers so."""
    async with CaptureServer() as server:
        server.script(*answers)

        def ask() -> tuple[dict[str, HeldSession], list[str]]:
            with App(server.url, Secret("phx_mine"), pace=Pace(sleep=lambda _seconds: None)) as app:
                holding = Holding(app, Project(id="1"))
                return holding.of([ExpectedSession(id="s", folder=None, began=0.0)], 0.0), holding.notes

        found, notes = await asyncio.to_thread(ask)
        return found, notes, [json.loads(request.body)["query"]["query"] for request in server.requests]


def rows(*found: object) -> Answer:
    return Answer(body=json.dumps({"results": found}).encode())


async def test_a_posthog_without_the_table_of_traces_says_so_once() -> None:
    refused = Answer(status=400, body=b'{"detail": "Unknown table `posthog.ai_events`."}')
    _, [note], _ = await held(rows(ROW), refused)
    assert note.startswith("the table of traces was not asked: ")
    assert "Unknown table" in note


async def test_columns_that_were_not_asked_for_are_an_error() -> None:
    for odd in (
        ["only one"],
        ["s", "no list"],
        ["s", [["too", "few"]]],
        ["s", [["$ai_span", "t", "m", [1], *"12345"]]],
    ):
        with pytest.raises(AppError, match="other columns"):
            await held(rows(odd))
