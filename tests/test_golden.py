"""The events of whole sessions, pinned in `tests/golden`.

A change of these files changes what users see. UPDATE_GOLDEN=1 rewrites them; review their diff.
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
    """Return a case's events, one on each line, without the version of this package."""
    lines = []
    found = spans(case.files(), whole_inputs=case.attribution.input_mode == "full")
    for event in built(found, case.attribution, repository=case.repository):
        value = json.loads(event.body)
        for name in ("$lib_version", "$ai_lib_version"):
            assert value["properties"].pop(name) == __version__
        lines.append(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")
    return "".join(lines)


@pytest.mark.parametrize("name", CASES)
def test_a_session_gives_the_events_of_its_golden_file(name: str) -> None:
    path = GOLDEN / f"{name}.jsonl"
    written = golden(CASES[name])
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")

    expected = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == [json.loads(line) for line in expected.splitlines()]
    assert written == expected


def test_every_golden_file_has_a_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)
