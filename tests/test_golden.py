"""The events of whole sessions, pinned: what `tests/golden` holds is what is sent.

A change of these files is a change of what users see. UPDATE_GOLDEN=1 writes them anew, for a reader to compare.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llma_core import __version__
from tests.support.cases import CASES, Case
from tests.support.sessions import built, spans

GOLDEN = Path(__file__).parent / "golden"


def golden(case: Case) -> str:
    """Return a case's events, one a line, with the release's number taken out."""
    lines = []
    found = spans(case.files(), whole_inputs=case.attribution.input_mode == "full")
    for event in built(found, case.attribution, repository=case.repository):
        value = json.loads(event.body)
        for name in ("$lib_version", "$ai_lib_version"):
            assert value["properties"].pop(name) == __version__
        lines.append(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")
    return "".join(lines)


@pytest.mark.parametrize("name", CASES)
def test_a_session_gives_the_events_it_always_gave(name: str) -> None:
    path = GOLDEN / f"{name}.jsonl"
    said = golden(CASES[name])
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(said, encoding="utf-8")

    expected = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in said.splitlines()] == [json.loads(line) for line in expected.splitlines()]
    assert said == expected


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)
