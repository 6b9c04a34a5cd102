"""Token counts, read from the shapes in which providers and SDKs report them.

Anthropic's `input_tokens` leave cached tokens out; OpenAI's `prompt_tokens` and `input_tokens` contain them. `Usage`
says which of both is meant, and leaves the numbers as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llma_recorder.encoding import plain
from llma_recorder.values import MOST, count, member, number, text

__all__ = ["ModelUsage", "Usage", "by_model", "read"]

# The names under which a count comes. If several are there, the first counts. A dot leads into an object within.
_NAMES: dict[str, tuple[str, ...]] = {
    "input_tokens": ("input_tokens", "prompt_tokens", "inputTokens", "promptTokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "outputTokens", "completionTokens"),
    "cache_read_input_tokens": (
        "cache_read_input_tokens",
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cacheReadInputTokens",
    ),
    "cache_creation_input_tokens": (
        "cache_creation_input_tokens",
        "prompt_tokens_details.cache_creation_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
        "cacheCreationInputTokens",
        "cacheWriteInputTokens",
    ),
    "cache_creation_5m_input_tokens": (
        "cache_creation.ephemeral_5m_input_tokens",
        "cache_creation_5m_input_tokens",
    ),
    "cache_creation_1h_input_tokens": (
        "cache_creation.ephemeral_1h_input_tokens",
        "cache_creation_1h_input_tokens",
    ),
    "reasoning_tokens": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "output_tokens_details.thinking_tokens",
        "reasoning_tokens",
    ),
    "web_search_count": (
        "server_tool_use.web_search_requests",
        "webSearchRequests",
        "web_search_requests",
        "web_search_count",
    ),
}
_INCLUSIVE = frozenset({"prompt_tokens", "promptTokens", "input_tokens_details"})

_PLACES = {place: (name, rank) for name, places in _NAMES.items() for rank, place in enumerate(places)}
_INNER = frozenset(place.partition(".")[2] for place in _PLACES if "." in place)
_OUTER = frozenset(place.partition(".")[0] for place in _PLACES if "." in place)


class Usage(NamedTuple):
    """What a call used.

    Attributes:
        counts: the numbers by the names of the line format; one that is not known is left out.
        cache_exclusive: whether input_tokens leaves cached tokens out; None if no cached tokens are known.
        raw: the usage as it was given, as JSON.
    """

    counts: dict[str, int]
    cache_exclusive: bool | None = None
    raw: dict[str, Any] | None = None

    @property
    def input_tokens(self) -> int:
        """Number of input tokens, cached ones included."""
        get = self.counts.get
        found = get("input_tokens", 0)
        if self.cache_exclusive:
            found += get("cache_read_input_tokens", 0) + get("cache_creation_input_tokens", 0)
        return found

    @property
    def output_tokens(self) -> int:
        """Number of output tokens."""
        return self.counts.get("output_tokens", 0)


class ModelUsage(NamedTuple):
    """What one of several models used.

    Attributes:
        model: its name.
        usage: what it used.
        cost: what that cost, in US dollars; None if nothing says so.
    """

    model: str
    usage: Usage
    cost: float | int | None


def read(given: object) -> Usage | None:
    """Return what a usage object or dict says; None if it has no counts."""
    if given is None:
        return None
    try:
        return _read(given)
    except Exception:  # noqa: BLE001 -- the caller's object may raise anything
        return None


def _read(given: object) -> Usage | None:
    if type(given) is not dict:
        if isinstance(given, (str, bytes, bool, int, float)):
            return None
        shown = plain(given)
        # What does not say what it consists of may have the attributes all the same.
        given = shown if isinstance(shown, dict) else {name: member(given, name) for name in (*_PLACES, *_OUTER)}
    counts: dict[str, int] = {}
    ranks: dict[str, int] = {}
    _collect(given, "", counts, ranks)
    if not counts:
        return None
    short, long = counts.get("cache_creation_5m_input_tokens"), counts.get("cache_creation_1h_input_tokens")
    if "cache_creation_input_tokens" not in counts and not short is long is None:
        counts["cache_creation_input_tokens"] = (short or 0) + (long or 0)
    exclusive = None
    if "cache_read_input_tokens" in counts or "cache_creation_input_tokens" in counts:
        # Whoever counts them in has one of these names.
        exclusive = _INCLUSIVE.isdisjoint(given) or all(given.get(name) is None for name in _INCLUSIVE)
    return Usage(counts, exclusive, None if given == counts else given)


def _collect(given: dict[str, Any], outer: str, counts: dict[str, int], ranks: dict[str, int]) -> None:
    for key, value in given.items():
        if value is None or type(key) is not str:
            continue
        place = _PLACES.get(outer + key if outer else key)
        if place is not None:
            name, rank = place
            amount = value if type(value) is int and 0 <= value <= MOST else count(value)
            if amount is not None and rank <= ranks.get(name, rank):
                counts[name] = amount
                ranks[name] = rank
        elif not outer and key in _OUTER:
            inner = value if isinstance(value, dict) else {name: member(value, name) for name in _INNER}
            _collect(inner, f"{key}.", counts, ranks)


def by_model(given: object, total_cost: float | None = None) -> list[ModelUsage]:
    """Return what each model used, from the Claude Agent SDK's `model_usage` or a dict of usages by model.

    The costs add up to *total_cost* if that is known: it is shared out by the costs that the models name or, if not all
    of them do, by their tokens.
    """
    if given is None:
        return []
    try:
        return _by_model(given, total_cost)
    except Exception:  # noqa: BLE001 -- the caller's object may raise anything
        return []


def _by_model(given: object, total_cost: float | None) -> list[ModelUsage]:
    if not isinstance(given, dict):
        return []
    found = [
        ModelUsage(name, usage, _cost(entry))
        for model, entry in list(given.items())
        if (name := text(model)) is not None and (usage := read(entry)) is not None
    ]
    if total_cost is None or not found:
        return found
    weights = [each.cost or 0 for each in found]
    if any(each.cost is None for each in found) or not sum(weights):
        weights = [each.usage.input_tokens + each.usage.output_tokens for each in found]
    whole = sum(weights)
    shares = [weight / whole if whole else 1 / len(found) for weight in weights]
    return [each._replace(cost=total_cost * share) for each, share in zip(found, shares)]


def _cost(entry: object) -> float | int | None:
    for name in ("costUSD", "cost_usd", "total_cost_usd"):
        found = number(member(entry, name))
        if found is not None:
            return found
    return None
