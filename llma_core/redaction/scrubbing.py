"""Scrubbing: finding secrets by all rules, and replacing them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from llma_core.redaction.assignments import assignments_in
from llma_core.redaction.authorization import BEARER_HINT, authorization_at, basics_in, bearers_in
from llma_core.redaction.blocks import BLOCK_HINT, blocks_in
from llma_core.redaction.calls import IDENTIFIED_HINT, JWT_HINT, calls_in
from llma_core.redaction.commands import commands_in
from llma_core.redaction.cookies import COOKIE, COOKIE_HINT, CURL_COOKIE, CURL_HINT, cookies_in
from llma_core.redaction.inputs import inputs_in, may_be_inputs
from llma_core.redaction.manifests import manifests_in
from llma_core.redaction.names import NAME_REACH, STEM_HINTS, name_of_key
from llma_core.redaction.pairs import pairs_in
from llma_core.redaction.places import MARKER_START, Found, marker, shares_b, shares_g, shares_k
from llma_core.redaction.positions import may_be_positions, positions_in
from llma_core.redaction.rules import ALL_RULES, Rules
from llma_core.redaction.statements import statements_in
from llma_core.redaction.tokens import REPEATED, long_runs, tokens_in
from llma_core.redaction.urls import SIGNATURE_HINT, signatures_in, urls_in
from llma_core.redaction.values import AUTHORIZATION, PASSWORD, VALUE_REACH

__all__ = ["scrub", "scrub_member"]

_SHORTEST = 8
"""A text with fewer bytes cannot hold a secret: neither a name with its value, nor a secret with a form of its own."""
_ROUNDS = 4
"""How often a text is searched again after a secret was found. Once is enough for any text that is not contrived."""
_MARKER = re.compile(rb"\[REDACTED:[a-z-]{1,40}\]")


def _find(data: bytes, rules: Rules = ALL_RULES) -> list[Found]:
    lower = data.lower()
    found: list[Found] = []
    # Each search through a whole text counts, so what cannot be without a rarer literal or byte is searched after it.
    with_all = rules is ALL_RULES
    with_k = (with_all or not rules.isdisjoint(_WITH_K)) and shares_k(lower)
    _find_named(data, lower, rules, found, with_k=with_k)
    with_b = (with_all or not rules.isdisjoint(_WITH_B)) and shares_b(lower)
    with_g = (with_all or not rules.isdisjoint(_WITH_G)) and shares_g(lower)
    if "urls" in rules and b"/" in data:
        found += urls_in(data, shared=with_k)
    if b"=" in data or (b"\\" in data and b"u003d" in lower):
        if with_g and "signatures" in rules and SIGNATURE_HINT.search(lower) is not None:
            found += signatures_in(data, lower)
        if with_k and "cookies" in rules and COOKIE_HINT.search(lower) is not None:
            found += cookies_in(COOKIE, data, lower, b"cookie")
        if "cookies" in rules and b"-b" in data and CURL_HINT.search(data) is not None:
            found += cookies_in(CURL_COOKIE, data, data, b"-b")
    if "commands" in rules and b"-" in data:
        found += commands_in(data)
    if "inputs" in rules and may_be_inputs(data):
        found += inputs_in(data)
    if "calls" in rules and (
        JWT_HINT.search(data) is not None or (with_b and IDENTIFIED_HINT.search(lower) is not None)
    ):
        found += calls_in(data, lower)
    if "positions" in rules and may_be_positions(data, with_b=with_b, with_g=with_g):
        found += positions_in(data)
    if with_b and "bearers" in rules and BEARER_HINT.search(lower) is not None:
        found += bearers_in(data, lower)
        found += basics_in(data, lower)
    if "tokens" in rules and (runs := long_runs(data)):
        found += tokens_in(data, runs)
    if found and MARKER_START in data:
        # What was scrubbed before stays as it is: a marker is not a value, and its kind is not a name.
        markers = [match.span() for match in _MARKER.finditer(data)]
        found = [place for place in found if not _overlaps(place, markers)]
    return found


_WITH_B: Rules = frozenset(("bearers", "calls", "positions"))
_WITH_K: Rules = frozenset(("urls", "cookies", "pwd"))
_WITH_G: Rules = frozenset(("signatures", "positions"))


def _find_named(data: bytes, lower: bytes, rules: Rules, found: list[Found], *, with_k: bool) -> None:
    """Add what is by a name, and what cannot be without the stem of one. Without `shares_k`, none is of "psk"."""
    key = 0
    for stem, rule, hint in STEM_HINTS:
        if rule in rules and (with_k or stem != b"psk"):
            at = first.end() - len(stem) if (first := hint.search(lower)) is not None else -1
            if at >= 0:
                found += assignments_in(data, lower, stem, at)
                if stem in _BESIDE:
                    found += _BESIDE[stem](data, lower)
            if stem == b"key":
                key = at
    if "blocks" in rules and key >= 0 and BLOCK_HINT.search(lower, key) is not None:
        found += blocks_in(data)
    if "pairs" in rules and b"value" in lower:
        found += pairs_in(data, lower)


_BESIDE: Final[Mapping[bytes, Callable[[bytes, bytes], Iterator[Found]]]] = {
    b"pass": statements_in,
    b"secret": manifests_in,
}
"""What else can only be where the stem of a name is."""


def _overlaps(place: Found, markers: list[tuple[int, int]]) -> bool:
    """Whether a place begins or ends within a marker. A secret with a form of its own may contain a whole marker."""
    last = bisect_right(markers, (place.end, 0)) - 1
    if last < 0 or markers[last][1] <= place.start:
        return False
    return (
        place.by_name
        or markers[last][1] > place.end
        or markers[bisect_right(markers, (place.start, 0)) - 1][1] > place.start
    )


def scrub(text: str, found: list[str] | None = None, rules: Rules = ALL_RULES) -> str:
    """Return *text* with every secret replaced by its marker; the same object if there is none.

    Scrubbing twice gives the same result as scrubbing once.

    Args:
        text: any text, including JSON.
        found: a list to add the kind of each secret to.
        rules: the rules that may begin in it. The others are already known not to.
    """
    if len(text) < _SHORTEST:
        return text
    scrubbed, kinds = _scrubbed_before(text) if len(text) <= REPEATED else _scrubbed(text, rules)
    if found is not None:
        found += kinds
    return scrubbed


def _scrubbed(text: str, rules: Rules = ALL_RULES) -> tuple[str, tuple[str, ...]]:
    data = text.encode("utf-8", "surrogatepass")
    places = _find(data, rules)
    if not places:
        return text, ()
    kinds: list[str] = []
    # A marker ends the word that it is in. So what follows may be recognizable as a secret only now.
    for _ in range(_ROUNDS):
        data = _replaced(data, places, kinds)
        if not (places := _find(data)):
            break
    return data.decode("utf-8", "surrogatepass"), tuple(kinds)


_scrubbed_before = lru_cache(maxsize=1024)(_scrubbed)


def _replaced(data: bytes, places: list[Found], kinds: list[str]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for start, end, kind in _joined(places):
        parts += (data[at:start], marker(kind).encode())
        at = end
        kinds.append(kind)
    parts.append(data[at:])
    return b"".join(parts)


def _joined(places: list[Found]) -> Iterator[tuple[int, int, str]]:
    """Yield the places in order, overlapping ones as one, so that everything that any rule found is removed."""
    places.sort(key=lambda place: (place.start, place.end))
    group = places[:1]
    end = group[0].end
    for place in places[1:]:
        if place.start >= end:
            yield group[0].start, end, _kind(group)
            group = []
        group.append(place)
        end = max(end, place.end) if len(group) > 1 else place.end
    yield group[0].start, end, _kind(group)


def _kind(group: list[Found]) -> str:
    return min(group, key=lambda place: (place.by_name, place.start)).kind


def scrub_member(
    key: str,
    value: str | int,
    found: list[str] | None = None,
    scrub: Callable[[str, list[str] | None], str] = scrub,
) -> str | int:
    """Return the *value* of an object's member scrubbed; if *key* says that it is a secret, replaced as a whole.

    Args:
        key: the member's key.
        value: a string or a number.
        found: a list to add the kind of each secret to.
        scrub: the function that scrubs a text.
    """
    name = name_of_key(key) if len(key) <= NAME_REACH else None
    if isinstance(value, int):
        if name is not PASSWORD or not name.hides(str(value), "quoted"):
            return value
    elif name is None:
        return scrub(value, found)
    elif name is AUTHORIZATION:
        data = value.encode("utf-8", "surrogatepass")
        place = authorization_at(data, 0)
        if place is None or place.end < len(data):
            return scrub(value, found)
        if found is not None:
            found.append(place.kind)
        return data[: place.start].decode() + marker(place.kind)
    else:
        kinds: list[str] = []
        scrubbed = scrub(value, kinds)
        is_run = len(value) > VALUE_REACH and not any(map(str.isspace, value))
        is_known = len(kinds) == 1 and scrubbed == marker(kinds[0])
        if is_known or not (is_run or name.hides(value[:VALUE_REACH], "quoted")):
            if found is not None:
                found += kinds
            return scrubbed
    if found is not None:
        found.append(name.kind)
    return marker(name.kind)
