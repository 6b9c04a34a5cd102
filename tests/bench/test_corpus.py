from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from llma_core.agent import UnknownRecord
from llma_core.claude_code import records
from tests.bench import corpus
from tests.bench.corpus import Spec, lines_of, provide
from tests.bench.figures import exponent, percentile


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make corpora in this process, in a folder that is removed afterwards."""
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)


def made(folder: Path, spec: Spec) -> list[bytes]:
    corpus._write(spec, folder)
    return list(lines_of(folder))


def test_equal_specs_give_equal_logs(tmp_path: Path) -> None:
    spec = Spec(sessions=6, projects=2, size=300_000, agents=2)

    assert made(tmp_path / "one", spec) == made(tmp_path / "two", spec)


def test_lines_have_the_lengths_of_public_logs(tmp_path: Path) -> None:
    sizes = [len(line) for line in made(tmp_path, Spec(sessions=1, projects=1, size=40_000_000))]

    assert 900 < percentile(sizes, 0.5) < 1300
    assert 3000 < percentile(sizes, 0.9) < 7000
    assert 35_000 < percentile(sizes, 0.99) < 60_000
    assert max(sizes) > 2_000_000


def test_every_line_is_a_record_of_a_known_kind(tmp_path: Path) -> None:
    lines = made(tmp_path, Spec(sessions=4, projects=2, size=2_000_000, agents=2))

    kinds = Counter(type(records.decode(line[:-1], requests=True)) for line in lines)
    assert UnknownRecord not in kinds
    assert kinds[records.AssistantRecord] > kinds[records.UserRecord] > 50
    assert kinds[records.RequestShapeRecord] >= 2
    assert any(not line.isascii() for line in lines)


def test_every_call_has_a_result_and_every_subagent_a_call(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in made(tmp_path, Spec(sessions=4, projects=2, size=500_000, agents=3))]

    blocks = [
        block
        for line in lines
        if "message" in line and isinstance(line["message"]["content"], list)
        for block in line["message"]["content"]
    ]
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert Counter(calls) == Counter(block["tool_use_id"] for block in blocks if block["type"] == "tool_result")
    metas = [json.loads(path.read_bytes()) for path in tmp_path.rglob("*.meta.json")]
    assert len(metas) == 3
    assert {meta["toolUseId"] for meta in metas} <= set(calls)


def test_a_corpus_has_the_requested_files_and_size(tmp_path: Path) -> None:
    made(tmp_path, Spec(sessions=40, projects=8, size=4_000_000, agents=10))

    logs = list(tmp_path.rglob("*.jsonl"))
    assert len(logs) == 50
    assert len(list((tmp_path / "projects").iterdir())) == 8
    assert 0.8 < sum(path.stat().st_size for path in logs) / 4_000_000 < 1.6


def test_a_corpus_is_kept_for_later_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(sessions=1, projects=1, size=10_000)
    kept = tmp_path / "corpora" / spec.name
    kept.mkdir(parents=True)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("the corpus exists already"))

    assert provide(spec) == kept


def test_the_exponent_of_a_growing_cost_is_found() -> None:
    assert exponent([1, 4, 16], [3, 12, 48]) == pytest.approx(1)
    assert exponent([1, 4, 16], [3, 48, 768]) == pytest.approx(2)
    assert exponent([1, 4, 16], [7, 7, 7]) == pytest.approx(0)


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([3, 1, 2], 0.99) == 3
    assert percentile([5], 0.5) == 5
