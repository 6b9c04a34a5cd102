"""Uuids are computed here a second time from their keys, without the module under test."""

from __future__ import annotations

from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core import identifiers
from llma_core.spans import TurnKey

NAMESPACE = UUID("a3c3f6c2-9b8e-4a3e-b3a1-7e6b8e9a0f00")
IDS = "cc-"
SESSION = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
ENDED = "2026-03-02T09:00:00.300Z"


@pytest.mark.parametrize(
    ("uuid", "key"),
    [
        (identifiers.generation(IDS, SESSION, "msg_01"), f"cc-gen|{SESSION}|msg_01"),
        (identifiers.tool_call(IDS, SESSION, "toolu_01", "Bash", ENDED), f"cc-span|{SESSION}|toolu_01|Bash|{ENDED}"),
        (identifiers.failure(IDS, SESSION, "line-1"), f"cc-error|{SESSION}|line-1"),
        (identifiers.compaction(IDS, SESSION, "line-1"), f"cc-compaction|{SESSION}|line-1"),
        (identifiers.session_trace(IDS, SESSION), f"cc-trace-session|{SESSION}"),
        (identifiers.turn_trace(IDS, SESSION, TurnKey(kind="prompt", id="p-1")), f"cc-trace-msg|{SESSION}|p-1"),
        (
            identifiers.turn_trace(IDS, SESSION, TurnKey(kind="stretch", id="msg_01")),
            f"cc-trace-fallback|{SESSION}|msg_01",
        ),
    ],
    ids=lambda value: value.partition("|")[0] if "|" in value else "",
)
def test_uuids_follow_the_written_down_keys(uuid: str, key: str) -> None:
    assert uuid == str(uuid5(NAMESPACE, key))
    assert UUID(uuid).version == 5


@given(st.text())
def test_every_uuid_is_the_one_of_the_standard_library(message: str) -> None:
    assert identifiers.generation(IDS, SESSION, message) == str(uuid5(NAMESPACE, f"cc-gen|{SESSION}|{message}"))


def test_known_uuids_never_change() -> None:
    # The receiver has stored events under these uuids, so they must never change.
    assert identifiers.generation(IDS, "s", "m") == "3da9ac9a-9426-5d1b-b1e4-2ce649b25c59"
