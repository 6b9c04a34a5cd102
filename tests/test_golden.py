"""The events of whole sessions, pinned in `tests/golden`.

A change of these files changes what users see. UPDATE_GOLDEN=1 rewrites them; review their diff.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from llma_core import __version__
from llma_core.events import CaptureEvent
from tests.support import outbox
from tests.support.cases import ADA, CASES, Case
from tests.support.sessions import built, spans

GOLDEN = Path(__file__).parent / "golden"


def golden(case: Case) -> str:
    """Return a case's events, one on each line, without the version of this package."""
    found = spans(case.files(), whole_inputs=case.attribution.input_mode == "full")
    return text(built(found, case.attribution, repository=case.repository))


def text(events: Iterable[CaptureEvent], ours: Sequence[str] = ("$lib_version", "$ai_lib_version")) -> str:
    lines = []
    for event in events:
        value = json.loads(event.body)
        for name in ours:
            assert value["properties"].pop(name) == __version__
        lines.append(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")
    return "".join(lines)


@pytest.mark.parametrize("name", CASES)
def test_a_session_gives_the_events_of_its_golden_file(name: str) -> None:
    agrees(name, golden(CASES[name]))


def test_recorded_lines_of_each_type_give_the_events_of_their_golden_file() -> None:
    agrees("recorded", text(built(outbox.spans(outbox.EVERYTHING), ADA), ["$lib_version"]))


def agrees(name: str, written: str) -> None:
    path = GOLDEN / f"{name}.jsonl"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")

    expected = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == [json.loads(line) for line in expected.splitlines()]
    assert written == expected


def test_every_golden_file_has_a_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*CASES, "recorded"}
