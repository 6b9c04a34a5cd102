from __future__ import annotations

from llma_core.memo import Memo


def test_what_was_put_is_there_and_what_was_not_is_not() -> None:
    memo = Memo(10_000)
    memo.put("apple", b"red", 8)
    memo.put("apple", b"green", 10)

    assert memo.get("apple", None) == b"green"
    assert memo.get("pear", b"none") == b"none"
    assert memo.size < 1000


def test_the_least_recently_asked_for_goes_first() -> None:
    memo = Memo(10_000)
    for name in ("apple", "pear", "plum"):
        memo.put(name, b"x", 2500)
    memo.get("apple", None)
    memo.put("cherry", b"x", 2500)

    assert [name for name in ("apple", "pear", "plum", "cherry") if memo.get(name, None)] == ["apple", "plum", "cherry"]
    assert memo.size <= 10_000


def test_what_would_take_half_of_all_room_is_not_kept() -> None:
    memo = Memo(10_000)
    memo.put("apple", b"x", 2500)
    memo.put("tree", b"x", 6000)

    assert memo.get("tree", None) is None
    assert memo.get("apple", None) == b"x"
