from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.reading.sieve import Sieve


@given(st.sets(st.text(max_size=20), max_size=200))
def test_added_names_are_found(names: set[str]) -> None:
    sieve = Sieve()
    for name in names:
        sieve.add(name)
    assert all(name in sieve for name in names)


def test_other_names_are_hardly_ever_found() -> None:
    sieve = Sieve()
    assert "gen|1" not in sieve
    for number in range(50_000):
        sieve.add(f"gen|{number}")
    assert all(f"gen|{number}" in sieve for number in range(50_000))
    assert sum(f"call|{number}" in sieve for number in range(50_000)) < 500
