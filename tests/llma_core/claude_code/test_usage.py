from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llma_core.claude_code.usage import Reading, combine
from llma_core.spans import TokenUsage

COUNTS = st.none() | st.integers(min_value=0, max_value=10**6)
USAGES = st.builds(TokenUsage, input=COUNTS, output=COUNTS, cache_read=COUNTS, cache_creation=COUNTS, reasoning=COUNTS)


def reading(output: int | None, *, final: bool = False, input: int | None = 10, **counts: int | str | bytes) -> Reading:  # noqa: A002
    return Reading(usage=TokenUsage(input=input, output=output, **counts), final=final)  # type: ignore[arg-type]


def test_a_message_without_a_reading_has_no_usage() -> None:
    assert combine([]) is None


def test_lines_repeat_the_usage_and_are_not_added() -> None:
    usage = combine([reading(777, final=True), reading(777, final=True), reading(777, final=True)])

    assert usage == TokenUsage(input=10, output=777)


def test_the_line_with_a_stop_reason_has_the_last_word_even_if_it_says_less() -> None:
    usage = combine([reading(100), reading(64, final=True), reading(90)])

    assert usage is not None
    assert usage.output == 64


def test_of_two_lines_with_a_stop_reason_the_later_one_counts() -> None:
    usage = combine([reading(64, final=True), reading(65, final=True)])

    assert usage is not None
    assert usage.output == 65


def test_a_count_that_the_line_with_a_stop_reason_lacks_is_that_of_the_others() -> None:
    usage = combine([reading(3, cache_read=5, cache_creation=7), reading(64, input=None, final=True)])

    assert usage == TokenUsage(input=10, output=64, cache_read=5, cache_creation=7)
    assert combine([reading(3), reading(None, input=None, final=True)]) == TokenUsage(input=10, output=3)


def test_without_a_stop_reason_each_count_is_its_greatest() -> None:
    usage = combine([reading(3, cache_read=5), reading(64, input=9), reading(5, cache_read=4, reasoning=2)])

    assert usage == TokenUsage(input=10, output=64, cache_read=5, reasoning=2)


def test_what_is_no_count_comes_from_the_line_that_says_most() -> None:
    usage = combine(
        [
            reading(3, service_tier="batch", raw=b'{"n":1}'),
            reading(64, service_tier="standard", speed="fast", raw=b'{"n":2}'),
            reading(5, raw=b'{"n":3}'),
        ]
    )

    assert usage is not None
    assert (usage.service_tier, usage.speed, usage.raw) == ("standard", "fast", b'{"n":2}')


def test_a_count_no_line_gives_is_unknown_and_not_zero() -> None:
    usage = combine([reading(None, input=None), reading(None, input=None)])

    assert usage == TokenUsage()


@given(st.lists(USAGES, min_size=1))
def test_a_combined_count_is_one_that_stands_in_the_log(usages: list[TokenUsage]) -> None:
    combined = combine([Reading(usage=usage, final=False) for usage in usages])

    assert combined is not None
    for name in ("input", "output", "cache_read", "cache_creation", "reasoning"):
        said = [getattr(usage, name) for usage in usages]
        assert getattr(combined, name) in said
        assert getattr(combined, name) == max((count for count in said if count is not None), default=None)


@given(st.lists(USAGES, min_size=1), st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_the_order_of_lines_without_a_stop_reason(
    usages: list[TokenUsage], random: object
) -> None:
    readings = [Reading(usage=usage, final=False) for usage in usages]
    shuffled = list(readings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert combine(readings) == combine(shuffled)
