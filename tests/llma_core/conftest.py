from __future__ import annotations

import pytest

from llma_core.screen import surely_clean


@pytest.fixture(scope="session", autouse=True)
def _primed() -> None:
    """Build what the first megabyte builds, which takes longer than an example of a property may."""
    for _ in range(2):
        surely_clean(b'"%b"' % (b"x " * 600_000))
