from __future__ import annotations

import os

import pytest

from daemon.system.messages import system_reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, os.strerror(13), "/secret/place"), "permission denied"),
        (OSError("The disk is odd"), "the disk is odd"),
        (OSError(), ""),
    ],
)
def test_what_the_system_says_is_told_without_the_path(error: OSError, reason: str) -> None:
    assert system_reason(error) == reason
