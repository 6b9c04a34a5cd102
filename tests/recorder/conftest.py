"""An outbox for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.recorded import Recorded


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The outbox that recorders write to."""
    folder = tmp_path / "outbox"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("POSTHOG_LLMA_OUTBOX", str(folder))
    monkeypatch.delenv("OPT_OUT_CAPTURE", raising=False)
    return Recorded(folder)
