"""The state of one file of the outbox. Every line is a finished span, so there is next to none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from llma_core.agent import Accumulator, Decoded
from llma_core.outbox.framework import FRAMEWORK
from llma_core.outbox.lines import CostLine, ErrorLine, EventLine, ProcessLine, SessionLine, TotalsLine
from llma_core.spans import (
    Context,
    LineRange,
    Recorded,
    RecordedCost,
    RecordedError,
    RecordedTotals,
    SessionFacts,
    Span,
    TokenUsage,
    TurnKey,
)

__all__ = ["Recording"]


class Recording(Accumulator):
    """Turns the lines of one file into spans.

    Args:
        session: the file's name without its suffix.
    """

    def __init__(self, session: str) -> None:
        self._context = Context(framework=FRAMEWORK, session=session, turn=TurnKey(kind="stretch", id=session))
        self._ignored = 0

    def feed(self, record: Decoded, lines: LineRange, *, agent: str | None = None, now: float) -> list[Span]:
        """Take one line; an event comes of it at once."""
        del agent, now
        self._ignored += getattr(record, "ignored", 0)
        if isinstance(record, ProcessLine):
            self.first_cwd = self.first_cwd or record.cwd
            self._context = Context(
                framework=FRAMEWORK,
                session=self._context.session,
                turn=self._context.turn,
                cwd=record.cwd,
                version=record.library_version,
            )
            return []
        if isinstance(record, SessionLine):
            return [*_facts(record, self._context, lines)]
        return [_recorded(record, self._context, lines)] if isinstance(record, EventLine) else []

    def end(self, now: float) -> list[Span]:
        """Return nothing: what a file leaves open, no line will ever tell."""
        del now
        return []

    def ignored_fields(self) -> int:
        """Return how many fields were ignored since the last call."""
        found, self._ignored = self._ignored, 0
        return found


def _recorded(line: EventLine, context: Context, lines: LineRange) -> Recorded:
    return Recorded(
        kind=cast("Any", line.type),
        identity=line.uuid,
        context=context,
        at=line.moment,
        lines=lines,
        trace=_id(line.trace_id) or line.uuid,
        session=_id(line.session_id),
        span=_id(line.span_id),
        parent=_id(line.parent_id),
        name=line.name,
        distinct_id=_id(line.distinct_id),
        groups=_raw(line.groups),
        properties=_raw(line.properties),
        is_private=line.privacy_mode not in (None, False),
        is_local=line.local not in (None, False),
        host=_text(line.host),
        key=_text(line.api_key),
        model=line.model,
        provider=line.provider,
        input=_raw(line.input),
        output=_raw(line.output),
        usage=_usage(line) if line.error is None else None,
        is_exclusive=line.cache_exclusive,
        latency_ms=line.latency_ms,
        first_token_ms=line.time_to_first_token_ms,
        stream=line.stream,
        cost=_cost(line.cost),
        error=_error(line.error),
        http_status=line.http_status,
        stop_reason=line.stop_reason,
        parameters=_raw(line.model_parameters),
        tools=_raw(line.tools),
        turns=line.num_turns,
        base_url=line.base_url,
        request_id=line.request_id,
        service_tier=line.service_tier,
        span_type=line.kind,
        totals=_totals(line.totals),
        outcome=line.outcome if line.outcome in ("ok", "failed") else None,
        label=line.metric or line.feedback,
        value=_raw(line.value),
        text=line.text,
    )


def _facts(line: SessionLine, context: Context, lines: LineRange) -> Iterator[SessionFacts]:
    session = _id(line.session_id)
    is_local = line.local not in (None, False)
    if session is None or line.agent is None or line.phase not in ("start", "end") or is_local:
        return
    yield SessionFacts(
        agent=line.agent,
        session=session,
        phase=cast("Any", line.phase),
        context=context,
        lines=lines,
        distinct_id=_id(line.distinct_id),
        properties=_raw(line.properties),
        groups=_raw(line.groups),
        is_private=line.privacy_mode not in (None, False),
        name=line.name,
        turns=line.num_turns,
        api_ms=line.duration_api_ms,
        cost=line.cost.total_usd if line.cost is not None else None,
        result=line.subtype,
    )


def _id(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _text(value: Any) -> str | None:
    """Return a host or a key; what is no text is none that can be used, and so the line waits."""
    return value if value is None or isinstance(value, str) else "no text"


def _raw(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _usage(line: EventLine) -> TokenUsage | None:
    counts, raw = line.usage, _raw(line.raw_usage)
    if counts is None:
        return None if raw is None else TokenUsage(raw=raw)
    return TokenUsage(
        input=counts.input_tokens,
        output=counts.output_tokens,
        cache_read=counts.cache_read_input_tokens,
        cache_creation=counts.cache_creation_input_tokens,
        cache_creation_5m=counts.cache_creation_5m_input_tokens,
        cache_creation_1h=counts.cache_creation_1h_input_tokens,
        reasoning=counts.reasoning_tokens,
        web_searches=counts.web_search_count,
        raw=raw,
    )


def _cost(cost: CostLine | None) -> RecordedCost | None:
    return None if cost is None else RecordedCost(total=cost.total_usd, input=cost.input_usd, output=cost.output_usd)


def _error(error: ErrorLine | None) -> RecordedError | None:
    return None if error is None else RecordedError(type=error.type, message=error.message)


def _totals(totals: TotalsLine | None) -> RecordedTotals | None:
    return None if totals is None else RecordedTotals(
        generations=totals.generations,
        spans=totals.spans,
        embeddings=totals.embeddings,
        errors=totals.errors,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cost=totals.cost_usd,
    )  # fmt: skip
