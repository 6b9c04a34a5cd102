"""Prices in US dollars, by the list of `genai-prices`, or as the user has set them.

A cost is computed when it is shown and stored nowhere, so that a new list of prices mends old figures. It is an
estimate at list prices: a subscription does not pay it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import msgspec

from daemon.delivering.local.call import EMBEDDING, GENERATION, call
from daemon.system import collector
from daemon.usage.price_memory import PriceMemory, identity_of_list
from llma_core.view import OWN_COST

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelPrice

    from llma_core.view import EventView

__all__ = [
    "Dollars",
    "Rates",
    "Tokens",
    "answer",
    "call_cost",
    "event_dollars",
    "load_list",
    "memory",
    "rates",
    "thresholds",
]

memory = PriceMemory(lambda: identity_of_list(__file__))
"""What the list has answered to this program and, while a file is used, to others."""

_EVER = "1970-01-01"
_PER_MILLION = 1e-6
_PER_THOUSAND = 1e-3
# The names of the price list for what the events call `bedrock` and `vertex`.
_PROVIDERS = {"bedrock": "aws", "vertex": "google"}
_MAKERS = ("anthropic", "openai", "google", "x-ai", "deepseek", "moonshotai", "zai", "minimax", "mistral")


class Tokens(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What some calls used. Unknown counts are 0.

    Attributes:
        calls: number of calls.
        input: tokens sent that no cache held.
        output: tokens the model wrote.
        cache_read: tokens read from the cache.
        cache_write_5m: tokens written to the cache for five minutes.
        cache_write_1h: tokens written to the cache for an hour.
        web_searches: searches that the provider ran.
    """

    calls: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    web_searches: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        """Return the sums."""
        return Tokens(
            calls=self.calls + other.calls,
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write_5m=self.cache_write_5m + other.cache_write_5m,
            cache_write_1h=self.cache_write_1h + other.cache_write_1h,
            web_searches=self.web_searches + other.web_searches,
        )

    @property
    def total(self) -> int:
        """All tokens, of every kind."""
        return self.input + self.output + self.cache_read + self.cache_write_5m + self.cache_write_1h


class Dollars(msgspec.Struct, frozen=True, kw_only=True):
    """What calls cost at list prices.

    Attributes:
        known: US dollars of the calls whose model has a price.
        unpriced: models without a price, and their tokens. They are in no sum.
    """

    known: float = 0.0
    unpriced: dict[str, int] = {}

    def __add__(self, other: Dollars) -> Dollars:
        """Return the sums."""
        if not (self.unpriced or other.unpriced):
            return Dollars(known=self.known + other.known)
        models = dict(self.unpriced)
        for model, number in other.unpriced.items():
            models[model] = models.get(model, 0) + number
        return Dollars(known=self.known + other.known, unpriced=models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of one model under one set of conditions, in US dollars for one token, search or request."""

    input: float
    output: float
    cache_read: float
    cache_write_5m: float
    cache_write_1h: float
    web_search: float
    request: float = 0.0

    def cost(self, used: Tokens) -> float:
        """Return what *used* costs, in US dollars."""
        return (
            used.input * self.input
            + used.output * self.output
            + used.cache_read * self.cache_read
            + used.cache_write_5m * self.cache_write_5m
            + used.cache_write_1h * self.cache_write_1h
            + used.web_searches * self.web_search
            + used.calls * self.request
        )


@lru_cache(maxsize=4096)
def rates(
    model: str, provider: str | None, tier: str | None, day: str, sent: int = 0, own: str | None = None
) -> Rates | None:
    """Return the prices of a call; None if the model has none in the list.

    Args:
        model: the model as the log names it.
        provider: who serves it; None if unknown.
        tier: the service tier; None is the standard one. `priority` is how the events mark the client's fast mode.
        day: the date of the call, `2026-11-30`: prices change.
        sent: the input of the call in tokens, cached or not: long requests of some models cost more.
        own: prices that the user has set, as JSON by kind; they replace those of the list. Or what its caller says
            that the call cost, under `OWN_COST`.
    """
    set_by_user = msgspec.json.decode(own, type=dict[str, float]) if own else {}
    if (total := set_by_user.get(OWN_COST)) is not None:
        return Rates(input=0, output=0, cache_read=0, cache_write_5m=0, cache_write_1h=0, web_search=0, request=total)

    listed = _ask(Rates | None, "rates", model, provider, tier, _valid_since(model, provider, day), sent)
    if listed is None:
        # Without a price for what was written and read, a sum would be too low.
        if not {"input", "output"} <= set_by_user.keys():
            return None
        found = Rates(input=0, output=0, cache_read=0, cache_write_5m=0, cache_write_1h=0, web_search=0)
    else:
        found = listed
    if not set_by_user:
        return found
    # As PostHog does it: a price of the user's holds for its kind, and cached tokens cost as input where none is set.
    own_input = set_by_user.get("input", found.input)
    read = set_by_user.get("cache_read", found.cache_read if listed is not None else own_input)
    written = set_by_user.get("cache_write")
    return Rates(
        input=own_input,
        output=set_by_user.get("output", found.output),
        cache_read=read,
        cache_write_5m=written if written is not None else found.cache_write_5m or own_input,
        cache_write_1h=written if written is not None else found.cache_write_1h or own_input,
        web_search=found.web_search,
        request=set_by_user.get("request", 0.0),
    )


def call_cost(
    used: Tokens, *, model: str | None, provider: str | None, tier: str | None, at: int, own: str | None = None
) -> float | None:
    """Return what one call costs, in US dollars; None if its model has no price.

    Args:
        used: what it used.
        model: see `rates`; so are *provider*, *tier* and *own*.
        provider: who serves the model.
        tier: the service tier.
        at: its end, in milliseconds since the epoch: prices change.
        own: prices that the user has set.
    """
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).date().isoformat()
    price = rates(model or "", provider, tier, day, used.total - used.output, own)
    return price.cost(used) if price is not None else None


def event_dollars(event: EventView) -> Dollars:
    """Return what the call that an event reports costs; nothing for an event that is no finished call of a model."""
    row = call(event)
    if row.kind not in (GENERATION, EMBEDDING):
        return Dollars()
    used = Tokens(
        calls=1,
        input=row.input or 0,
        output=row.output or 0,
        cache_read=row.cache_read or 0,
        cache_write_5m=row.cache_write_5m or 0,
        cache_write_1h=row.cache_write_1h or 0,
        web_searches=row.web_searches or 0,
    )
    cost = call_cost(used, model=row.model, provider=row.provider, tier=row.tier, at=row.at, own=row.prices)
    return Dollars(known=cost) if cost is not None else Dollars(unpriced={row.model or "": used.total})


@lru_cache(maxsize=1024)
def thresholds(model: str, provider: str | None) -> tuple[int, ...]:
    """Return the sizes of input, in tokens, beyond which a request of this model costs more; usually none."""
    found: tuple[int, ...] = _ask(tuple[int, ...], "thresholds", model, provider)
    return found


def _valid_since(model: str, provider: str | None, day: str) -> str:
    """Return the date since which the prices of *day* hold; empty if they always did."""
    starts: tuple[str, ...] = _ask(tuple[str, ...], "starts", model, provider)
    return max((start for start in starts if start <= day), default="")


# ---------------------------------------------------------------------- asking the list


def _ask(kind: Any, *question: str | int | None) -> Any:
    """Return the answer of the list to a question, of this kind, as it is remembered, or from whoever has the list."""
    return memory.answer(kind, question, partial(answer, question))


def answer(question: Sequence[Any]) -> Any:
    """Ask the list itself, which stays in memory: with the libraries that it needs it takes 15 MB.

    Args:
        question: `rates`, a model, its provider, a service tier, the date since which the prices hold (empty if they
            always did) and the input in tokens; `thresholds` or `starts`, a model and its provider.

    Returns:
        The `Rates`, or None; the sizes of input from which on a request costs more; the dates of new prices.
    """
    match question:
        case "rates", model, provider, tier, since, sent:
            prices = _listed(model, provider, tier, since or _EVER)
            return _as_rates(prices, sent) if prices is not None else None
        case "thresholds", model, provider:
            every = _every_price(_model(model, provider))
            return tuple(sorted({start for prices in every for start in _starts(prices)}))
        case "starts", model, provider:
            return _dates(_model(model, provider))
    raise ValueError(question)


def _dates(model: Any) -> tuple[str, ...]:
    """Return since when the prices of a model in the list hold; none if they always did, or if there is no model."""
    if model is None:
        return ()
    dated = [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
    starts = (getattr(each.constraint, "start_date", None) for each in dated)
    return tuple(sorted({start.isoformat() for start in starts if start is not None}))


def load_list() -> DataSnapshot:
    """Return the list of prices, which is loaded by the first call."""
    with collector.paused():
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - a fifth of a second, and often needless

        return get_snapshot()


def _model(model: str, provider: str | None) -> Any:
    """Return the model's entry in the price list; None if it has none."""
    snapshot = load_list()
    # The client marks a long context and fast mode in the model's name. Some providers write the name behind theirs.
    plain = model.partition("[")[0].partition(" (")[0].strip()
    for who, name in _candidates(plain, provider):
        try:
            return snapshot.find_provider_model(name, None, who, None)[1]
        except LookupError:
            continue
    return None


def _candidates(model: str, provider: str | None) -> Iterator[tuple[str | None, str]]:
    if provider is not None:
        who = _PROVIDERS.get(provider, provider)
        yield who, model
        yield who, model.removeprefix(f"{provider}/")
    name = model.rpartition("/")[2]
    # A model behind a gateway is shown at the price of who makes it.
    yield from ((maker, name) for maker in _MAKERS)
    yield None, name
    # A name of Bedrock's or Vertex's: `us.anthropic.claude-…-v1:0`, `claude-…@20260101`.
    bare = name.rpartition("anthropic.")[2].partition("@")[0].partition(":")[0]
    if bare.startswith("claude"):
        yield "anthropic", bare
        yield "anthropic", bare.removesuffix("-v1").removesuffix("-v2")


@lru_cache(maxsize=1024)
def _listed(model: str, provider: str | None, tier: str | None, day: str) -> ModelPrice | None:
    found = _model(model, provider)
    if found is None:
        return None
    at = datetime.fromisoformat(day).replace(tzinfo=UTC)
    context: dict[str, str] = {}
    if tier == "priority" or model.endswith("(fast)"):
        context = {"speed": "fast"}
    elif tier == "batch":
        context = {"processing": "batch"}
    elif tier is not None:
        context = {"service_tier": tier}
    prices: ModelPrice = found.get_prices(at, context or None)
    return prices


def _every_price(model: Any) -> Iterator[ModelPrice]:
    if model is None:
        return
    prices = model.prices
    yield from [prices] if not isinstance(prices, list) else [each.prices for each in prices]
    for variant in model.price_variants or ():
        yield variant.prices


def _starts(prices: ModelPrice) -> Iterator[int]:
    for price in vars(prices).values():
        for tier in getattr(price, "tiers", ()):
            yield int(tier.start)


def _as_rates(prices: ModelPrice, sent: int) -> Rates:
    def per_token(*names: str) -> float:
        price = next((found for name in names if (found := getattr(prices, name, None)) is not None), None)
        return _at(price, sent) * _PER_MILLION

    return Rates(
        input=per_token("input_mtok"),
        output=per_token("output_mtok"),
        cache_read=per_token("cache_read_mtok", "input_mtok"),
        cache_write_5m=per_token("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
        cache_write_1h=per_token("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
        web_search=_at(getattr(prices, "web_searches_kcount", None), sent) * _PER_THOUSAND,
        request=_at(getattr(prices, "requests_kcount", None), sent) * _PER_THOUSAND,
    )


def _at(price: Any, sent: int) -> float:
    """Return a price for a request of *sent* tokens: a price with tiers holds for the whole request."""
    if price is None:
        return 0.0
    tiers = getattr(price, "tiers", None)
    if tiers is None:
        return float(price)
    return float(next((tier.price for tier in reversed(tiers) if sent > tier.start), price.base))
