"""Unpacked logs are private: nothing of them stays behind, also when a worker was killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from daemon.archiving.scratch import scratch


def test_what_a_killed_worker_leaves_behind_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "posthog-llma-archive-left"
    (left / "logs").mkdir(parents=True)
    (left / "logs" / "private.jsonl").write_text("{}")
    (left / "lock").touch()
    begun, other = tmp_path / "posthog-llma-archive-begun", tmp_path / "another-folder"
    for folder in (begun, other):
        folder.mkdir()

    with scratch() as first:
        (first / "logs").mkdir()
        assert first.stat().st_mode & 0o077 == 0
        with scratch() as second:
            # The first is in use, and who makes the one without a lock has not got to it yet.
            assert set(tmp_path.iterdir()) == {first, second, begun, other}
        assert set(tmp_path.iterdir()) == {first, begun, other}
    assert set(tmp_path.iterdir()) == {begun, other}
