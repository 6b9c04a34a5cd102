"""What calls cost at list prices, with caches, tiers, fast mode, and prices of the user's own."""

from __future__ import annotations

import pytest

from daemon.usage.prices import Rates, Tokens, rates, thresholds

DAY = "2026-11-20"
MILLION = 1_000_000


def price(model: str, provider: str | None = "anthropic", **conditions: object) -> Rates:
    found = rates(model, provider, conditions.get("tier"), DAY, conditions.get("sent", 0), conditions.get("own"))
    assert found is not None
    return found


def test_each_kind_of_token_has_its_own_price() -> None:
    opus = price("claude-opus-5")
    costs = [
        opus.cost(used)
        for used in (
            Tokens(input=MILLION),
            Tokens(output=MILLION),
            Tokens(cache_read=MILLION),
            Tokens(cache_write_5m=MILLION),
            Tokens(cache_write_1h=MILLION),
            Tokens(web_searches=1000),
        )
    ]
    assert costs == pytest.approx([5, 25, 0.5, 6.25, 10, 10])


def test_fast_mode_costs_more_whether_the_tier_or_the_name_says_so() -> None:
    standard = price("claude-opus-5").output
    assert price("claude-opus-5", tier="priority").output == pytest.approx(2 * standard)
    assert price("claude-opus-5 (fast)").output == pytest.approx(2 * standard)


def test_a_long_request_costs_more_where_the_list_says_so() -> None:
    assert thresholds("claude-sonnet-4-5", "anthropic") == (200_000,)
    assert price("claude-sonnet-4-5", sent=200_000).input == pytest.approx(3 / MILLION)
    assert price("claude-sonnet-4-5", sent=200_001).input == pytest.approx(6 / MILLION)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock"),
        ("claude-opus-4-6@20260101", "vertex"),
        ("claude-opus-4-6[1m]", "anthropic"),
        ("openrouter/anthropic/claude-opus-4.5", "openrouter"),
        ("glm-4.6", None),
        ("kimi-k2", None),
        ("deepseek-chat", None),
        ("gpt-5", None),
    ],
)
def test_models_are_found_by_the_names_that_logs_have(model: str, provider: str | None) -> None:
    assert price(model, provider).output > 0


def test_a_model_without_a_price_is_unknown_and_not_free() -> None:
    assert rates("a-model-of-nobody", None, None, DAY) is None
    assert rates("", None, None, DAY) is None


def test_prices_of_the_user_replace_those_of_the_list() -> None:
    own = price("claude-opus-5", own='{"input": 0.5, "request": 2.0}')
    assert own.cost(Tokens(calls=1, input=1)) == pytest.approx(2.5)
    assert own.output == price("claude-opus-5").output


def test_prices_of_the_user_alone_are_enough_if_they_cover_input_and_output() -> None:
    own = price("a-model-of-nobody", None, own='{"input": 0.5, "output": 1.0}')
    assert own.cost(Tokens(input=1, output=1, cache_read=2, cache_write_5m=1)) == pytest.approx(3.0)
    assert rates("a-model-of-nobody", None, None, DAY, 0, '{"output": 1.0}') is None
