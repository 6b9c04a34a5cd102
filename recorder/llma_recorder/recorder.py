"""The recorder of one trace: what host programs call."""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Callable, TypeVar, Union

from llma_recorder import attribution, failures, responses, scope, usage, values
from llma_recorder.encoding import Encoded, encode, plain
from llma_recorder.failures import Failure, GivenError
from llma_recorder.identifiers import moment, uuid7
from llma_recorder.outbox import Outbox, is_opted_out, outbox
from llma_recorder.responses import Response
from llma_recorder.spans import Generation, Span, Timed
from llma_recorder.usage import ModelUsage, Usage
from llma_recorder.values import count, flag, number

__all__ = ["TraceRecorder"]

Content = Union[str, Sequence[Any], Mapping[str, Any], None]
"""A text, messages with `role` and `content`, or one such message."""

_LOOK_AGAIN = 1.0
"""Seconds after which a recorder without an outbox looks for one again."""
_FOLD_AT = 1000
_PATIENCE = 0.05
"""Seconds to wait for another thread that adds up sums."""
_T = TypeVar("_T", bound=Timed)
_LAST_TIME = 253_402_300_799
"""The end of the year 9999, in seconds since the epoch."""
_LONGEST_TEXT = 1_000_000


class TraceRecorder:
    """Records one trace: the calls of models and the spans that belong together, such as one answer to a user.

    Every call appends one line to a file of the outbox. Nothing is sent from this process. If there is no outbox, or
    OPT_OUT_CAPTURE opts out, a call does nothing and takes about a microsecond. No method raises, whatever it is given,
    or waits for anything but the write. Values that have no JSON form become their `repr`. Threads, tasks and forked
    processes may share a recorder.

    As a context manager it ends the trace on leaving, with the error raised, if any.

    Args:
        name: the trace's name.
        properties: properties of every event of the trace.
        distinct_id: the user in PostHog.
        trace_id: the trace's id; a new one by default. Several recorders may write to one trace.
        session_id: the session that the trace belongs to, such as a conversation.
        groups: group keys by group type.
        privacy_mode: whether content stays out: inputs, outputs, tool definitions, error messages, the texts of
            feedback, and parameters other than numbers are not written.
        api_key: the PostHog project that the events go to, if not the daemon's own. The daemon's user has to allow it.
        host: the PostHog host of that project.
        local: whether nothing of the trace may leave the machine. The daemon shows it, and never sends it.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        properties: Mapping[str, Any] | None = None,
        distinct_id: str | None = None,
        trace_id: str | None = None,
        session_id: str | None = None,
        groups: Mapping[str, str] | None = None,
        privacy_mode: bool = False,
        api_key: str | None = None,
        host: str | None = None,
        local: bool = False,
    ) -> None:
        # One for the whole trace, so that two ends of it, one of them after a fork, are one event.
        self._uuid = uuid7(time.time_ns() // 1_000_000)
        self.trace_id: str = values.text(trace_id) or self._uuid
        """The trace's id."""
        self._name = values.text(name)
        self._properties = attribution.mapping(properties)
        self._privacy_mode = attribution.is_on(privacy_mode)
        self._common: dict[str, Any] = {"trace_id": self.trace_id}
        for key, value in (("session_id", session_id), ("distinct_id", distinct_id)):
            _put(self._common, key, values.text(value))
        _put(self._common, "groups", attribution.groups(groups))
        for key, value in (("api_key", api_key), ("host", host)):
            _put(self._common, key, values.text(value))
        if self._privacy_mode:
            self._common["privacy_mode"] = True
        if attribution.is_on(local):
            self._common["local"] = True
        self._started = time.perf_counter()
        self._is_ended = False
        self._losses = 0
        self._tally = _Tally()
        self._outbox: Outbox | None = None
        self._next_look = 0.0

    @property
    def enabled(self) -> bool:
        """Whether calls are recorded at present: there is an outbox, and nobody has opted out."""
        try:
            return self._target() is not None
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            return False

    def record_generation(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        input_messages: Content = None,
        input: Content = None,  # noqa: A002 -- the word of the context manager and of embeddings
        output_text: str | None = None,
        output: Content = None,
        structured_output: object = None,
        response: object = None,
        usage: object = None,
        model_usage: object = None,
        duration_ms: float | None = None,
        ended_at: float | None = None,
        time_to_first_token_ms: float | None = None,
        stream: bool | None = None,
        total_cost_usd: float | None = None,
        input_cost_usd: float | None = None,
        output_cost_usd: float | None = None,
        num_turns: int | None = None,
        stop_reason: str | None = None,
        error: GivenError = None,
        http_status: int | None = None,
        model_parameters: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        base_url: str | None = None,
        request_id: str | None = None,
        service_tier: str | None = None,
        name: str | None = None,
        span_id: str | None = None,
        parent_id: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> None:
        """Record a call of a model that has ended.

        Args:
            model: the model's name.
            provider: such as anthropic or openai.
            input_messages: what was sent: messages with `role` and `content`, or a text.
            input: the same by another name.
            output_text: the answer's text.
            output: the answer as messages, instead of its text.
            structured_output: the answer as data, as models with an output schema give it.
            response: the SDK's response object. It says what the other arguments do not.
            usage: token counts as Anthropic or OpenAI report them, an object or a dict.
            model_usage: token counts by model, as the Claude Agent SDK reports them. Each model becomes a generation of
                its own; content, latency and turns stay with the one named by *model*, or the one that cost most.
            duration_ms: how long the call took, in milliseconds.
            ended_at: when it ended, in seconds since the epoch; by default now.
            time_to_first_token_ms: how long the first token took, in milliseconds.
            stream: whether the answer was streamed.
            total_cost_usd: what the call cost, in US dollars. PostHog computes it from the tokens if it is not given.
            input_cost_usd: the part for the input.
            output_cost_usd: the part for the output.
            num_turns: how many turns an agent took.
            stop_reason: why the model stopped.
            error: the exception or the message, if the call failed. Token counts are left out then.
            http_status: the HTTP status. One of 400 or more is an error by itself.
            model_parameters: such as temperature and max_tokens.
            tools: the definitions of the tools that the model may call.
            base_url: the URL of the provider's API.
            request_id: the provider's id of the request.
            service_tier: the tier that served the request.
            name: what the call is for.
            span_id: its id, if other events name it as their parent.
            parent_id: the id of the span around it; by default the one that the running code is in.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        try:
            if self._target() is None:
                return
            facts = {name: fact for name, fact in locals().items() if fact is not None}
            self._generation(facts)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def record_embedding(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        input: Content = None,  # noqa: A002 -- the word of the providers' APIs
        input_tokens: int | None = None,
        response: object = None,
        usage: object = None,
        duration_ms: float | None = None,
        ended_at: float | None = None,
        total_cost_usd: float | None = None,
        error: GivenError = None,
        http_status: int | None = None,
        base_url: str | None = None,
        request_id: str | None = None,
        name: str | None = None,
        span_id: str | None = None,
        parent_id: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> None:
        """Record a call that turned text into vectors. The vectors are not written.

        Args:
            model: the model's name.
            provider: such as openai.
            input: the text, or several.
            input_tokens: number of tokens.
            response: the SDK's response object. It says what the other arguments do not.
            usage: token counts as the provider reports them, instead of *input_tokens*.
            duration_ms: how long the call took, in milliseconds.
            ended_at: when it ended, in seconds since the epoch; by default now.
            total_cost_usd: what the call cost, in US dollars.
            error: the exception or the message, if the call failed.
            http_status: the HTTP status. One of 400 or more is an error by itself.
            base_url: the URL of the provider's API.
            request_id: the provider's id of the request.
            name: what the call is for.
            span_id: its id, if other events name it as their parent.
            parent_id: the id of the span around it; by default the one that the running code is in.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        try:
            if self._target() is None:
                return
            facts = {name: fact for name, fact in locals().items() if fact is not None}
            self._embedding(facts)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def record_span(
        self,
        name: str | None = None,
        *,
        input: object = None,  # noqa: A002 -- the word of the line format
        output: object = None,
        duration_ms: float | None = None,
        ended_at: float | None = None,
        error: GivenError = None,
        http_status: int | None = None,
        kind: str | None = None,
        span_id: str | None = None,
        parent_id: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> None:
        """Record something that is no call of a model and has ended, such as a tool's work or a retrieval.

        Args:
            name: what was done.
            input: what it was given.
            output: what came of it.
            duration_ms: how long it took, in milliseconds.
            ended_at: when it ended, in seconds since the epoch; by default now.
            error: the exception or the message, if it failed.
            http_status: the HTTP status. One of 400 or more is an error by itself.
            kind: such as tool, agent, chain or retriever.
            span_id: its id, if other events name it as their parent.
            parent_id: the id of the span around it; by default the one that the running code is in.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        try:
            if self._target() is None:
                return
            facts = {name: fact for name, fact in locals().items() if fact is not None}
            self._span(facts)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def record_metric(
        self,
        name: str,
        value: float | str | bool = True,
        *,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> None:
        """Record a measure of the trace's quality.

        Args:
            name: what is measured.
            value: a number, a word or a truth.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        try:
            if self._target() is None:
                return
            facts = {"privacy_mode": privacy_mode, "properties": properties, "more": more}
            line = self._line("metric", facts, None, _COMMON)
            line["metric"] = values.text(name) or "metric"
            line["value"] = _score(value)
            self._write(line)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def record_feedback(
        self,
        name: str,
        value: float | str | bool | None = None,
        *,
        text: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> None:
        """Record what a user thinks of the trace.

        Args:
            name: the feedback, such as helpful.
            value: a number, a word or a truth.
            text: what the user wrote.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        try:
            if self._target() is None:
                return
            facts = {"privacy_mode": privacy_mode, "properties": properties, "more": more}
            line = self._line("feedback", facts, None, _COMMON)
            line["feedback"] = values.text(name) or "feedback"
            if value is not None:
                line["value"] = _score(value)
            if "privacy_mode" not in line:
                _put(line, "text", values.text(text, _LONGEST_TEXT))
            self._write(line)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def record_trace(
        self,
        *,
        input: object = None,  # noqa: A002 -- the word of the line format
        output: object = None,
        error: GivenError = None,
        http_status: int | None = None,
        outcome: str | None = None,
        duration_ms: float | None = None,
        name: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> None:
        """End the trace, with sums of what this recorder recorded. Later calls of this method change nothing.

        Args:
            input: what the trace began with, such as the user's question.
            output: what came of it.
            error: the exception or the message, if it failed.
            http_status: the HTTP status. One of 400 or more is an error by itself.
            outcome: ok or failed; by default failed if there is an error.
            duration_ms: how long it took, in milliseconds; by default since the recorder was made.
            name: the trace's name, if it was not known before.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event, such as a verdict.
        """
        try:
            if self._target() is None or self._is_ended:
                return
            self._is_ended = True
            failure = failures.read(error, http_status)
            facts = {
                "name": values.text(name) or self._name,
                "privacy_mode": privacy_mode,
                "properties": properties,
                "more": more,
                "uuid": self._uuid,
            }
            line = self._line("trace", facts, failure, _COMMON)
            latency = number(duration_ms)
            took = (time.perf_counter() - self._started) * 1000
            line["latency_ms"] = round(took if latency is None else latency, 3)
            if "privacy_mode" not in line:
                _put(line, "input", _encoded(input))
                _put(line, "output", _encoded(output))
            line["totals"] = self._tally.totals()
            given = values.text(outcome)
            line["outcome"] = given if given in {"ok", "failed"} else "ok" if failure is None else "failed"
            self._write(line)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def span(
        self,
        name: str | None = None,
        *,
        input: object = None,  # noqa: A002 -- the word of the line format
        kind: str | None = None,
        parent_id: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> Span:
        """Return a context manager that records what runs inside as a span, with its latency and the error raised.

        Spans and calls inside become its children: in the same thread or task, in tasks started inside, and in threads
        that run in a copy of the context (`asyncio.to_thread` does). Elsewhere, give its `id` as *parent_id*.

        Args:
            name: what is done.
            input: what it is given.
            kind: such as tool, agent, chain or retriever.
            parent_id: the id of the span around it; by default the one that the running code is in.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        return self._timed(Span, self._span, locals())

    def generation(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        input: Content = None,  # noqa: A002 -- the word of the line format
        input_messages: Content = None,
        stream: bool | None = None,
        model_parameters: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        base_url: str | None = None,
        name: str | None = None,
        parent_id: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> Generation:
        """Return a context manager that records the call of a model inside. Tell it the answer with `finish`.

        Args:
            model: as in `record_generation`, and so are all others.
            provider: such as anthropic or openai.
            input: what is sent: messages, or a text. It is read on entering.
            input_messages: the same by another name.
            stream: whether the answer is streamed.
            model_parameters: such as temperature and max_tokens.
            tools: the definitions of the tools that the model may call.
            base_url: the URL of the provider's API.
            name: what the call is for.
            parent_id: the id of the span around it; by default the one that the running code is in.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        return self._timed(Generation, self._generation, locals())

    def embedding(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        input: Content = None,  # noqa: A002 -- the word of the line format
        base_url: str | None = None,
        name: str | None = None,
        parent_id: str | None = None,
        privacy_mode: bool = False,
        properties: Mapping[str, Any] | None = None,
        **more: object,
    ) -> Generation:
        """Return a context manager that records the embedding call inside. Tell it the answer with `finish`.

        Args:
            model: as in `record_embedding`, and so are all others.
            provider: such as openai.
            input: the text, or several. It is read on entering.
            base_url: the URL of the provider's API.
            name: what the call is for.
            parent_id: the id of the span around it; by default the one that the running code is in.
            privacy_mode: whether content stays out.
            properties: properties of the event.
            more: further properties of the event.
        """
        return self._timed(Generation, self._embedding, locals())

    def flush(self) -> bool:
        """Bring everything recorded to the disk (fsync); return whether all of this recorder's lines are there.

        A line need not be flushed to be sent: it is in the file when the method that records it returns. Without an
        outbox this is False, or True if OPT_OUT_CAPTURE opts out.
        """
        try:
            target = self._target()
            if target is None:
                return is_opted_out()
            return target.flush() and not self._losses
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            return False

    def __enter__(self) -> TraceRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.record_trace(error=error)

    async def __aenter__(self) -> TraceRecorder:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.record_trace(error=error)

    def _target(self) -> Outbox | None:
        """Return the outbox, looking for one again now and then."""
        found = self._outbox
        if found is None and time.monotonic() >= self._next_look:
            found = self._outbox = outbox()
            self._next_look = time.monotonic() + _LOOK_AGAIN
        return found

    def _write(self, line: dict[str, Any]) -> None:
        target = self._target()
        if target is not None and not target.write(line):
            self._losses += 1

    def _lost(self) -> None:
        with contextlib.suppress(Exception):
            self._losses += 1
            target = self._target()
            if target is not None:
                target.drop("encode")

    def _timed(self, kind: type[_T], record: Callable[[dict[str, Any]], None], facts: dict[str, Any]) -> _T:
        try:
            if self._target() is None:
                return kind(self.trace_id, None, {})
            facts["privacy_mode"] = self._is_private(facts)
            for name in ("input", "input_messages"):
                # Encoded now, because the caller goes on with it: a conversation gets its answer appended.
                if facts.get(name) is not None:
                    facts[name] = None if facts["privacy_mode"] else encode(_content_of(kind, facts[name]))
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

        def run(ended: dict[str, Any]) -> None:
            try:
                record(ended)
            except Exception:  # noqa: BLE001 -- recording must never disturb the caller
                self._lost()

        return kind(self.trace_id, run, facts)

    def _is_private(self, facts: dict[str, Any]) -> bool:
        return self._privacy_mode or attribution.is_on(facts.get("privacy_mode"))

    def _line(self, kind: str, facts: dict[str, Any], failure: Failure | None, fields: _Fields) -> dict[str, Any]:
        """Return the fields that all kinds of lines have."""
        now = time.time_ns() // 1_000_000
        own = facts.get("uuid")
        ended = _time(facts.get("ended_at"))
        line = {
            "v": 1,
            "type": kind,
            "uuid": own or uuid7(now),
            "at": moment(facts.get("ended") or (now if ended is None else ended)),
            **self._common,
        }
        _read(line, facts, fields)
        if kind in _NESTED:
            parent: Any = facts.get("parent_id")
            if issubclass(type(parent), Timed):  # isinstance asks the object, too
                parent = parent.id
            if parent is not None:
                _put(line, "parent_id", values.text(parent))
            elif own is None:  # what was entered knows its parent from then
                _put(line, "parent_id", scope.enclosing(self.trace_id))
        properties = self._properties
        for name in ("properties", "more"):
            given = facts.get(name)
            if given is not None and (type(given) is not dict or given):
                properties = {**properties, **attribution.mapping(given)}
        if properties:
            line["properties"] = properties
        private = self._is_private(facts)
        if private:
            line["privacy_mode"] = True
        if failure is not None:
            line["error"] = {}
            _put(line["error"], "type", failure.kind)
            if not private:
                _put(line["error"], "message", failure.message)
            if failure.status is not None:
                line.setdefault("http_status", failure.status)
        return line

    def _generation(self, facts: dict[str, Any]) -> None:
        response = responses.read(facts.get("response"))
        if response.is_embedding:
            self._embedding(facts)
            return
        failure = failures.read(facts.get("error"), facts.get("http_status")) or response.failure
        total = _first(number(facts.get("total_cost_usd")), response.total_cost_usd)
        each = usage.by_model(facts.get("model_usage"), total) or usage.by_model(response.model_usage, total)
        used = usage.read(facts.get("usage")) or response.usage
        model = values.text(facts.get("model")) or response.model
        if not each:
            self._call(facts, response, failure, model, used, total)
            return
        main = _main(each, model)
        for one in each:
            if one is main:
                # The usage of the call says more about caches, if it is that of this model alone.
                alone = len(each) == 1 and used is not None and used.input_tokens == one.usage.input_tokens
                self._call(facts, response, failure, one.model, used if alone else one.usage, one.cost)
            else:
                others = {name: fact for name, fact in facts.items() if name in _OF_ALL_MODELS}
                self._call(others, Response(provider=response.provider), None, one.model, one.usage, one.cost)

    def _call(
        self,
        facts: dict[str, Any],
        response: Response,
        failure: Failure | None,
        model: str | None,
        used: Usage | None,
        total: float | None,
    ) -> None:
        """Write the generation of one model."""
        line = self._line("generation", facts, failure, _OF_CALLS)
        _put(line, "model", model)
        if "privacy_mode" not in line:
            self._put_input(line, facts)
            _put(line, "output", _output(facts, response))
            _put(line, "tools", _sequence(facts.get("tools")))
        if facts.get("response") is not None or response.provider is not None:
            response.fill(line)
        if "privacy_mode" in line and "model_parameters" in line:
            # Prompts, stop sequences and schemas are parameters, too.
            line["model_parameters"] = _numbers(line["model_parameters"])
        used = _put_usage(line, used, failure)
        if used is not None and used.cache_exclusive is not None:
            line["cache_exclusive"] = used.cache_exclusive
        cost = {} if total is None else {"total_usd": total}
        _read(cost, facts, _COSTS)
        if cost:
            line["cost"] = cost
        self._tally.add("generations", failure, used, total)
        self._write(line)

    def _embedding(self, facts: dict[str, Any]) -> None:
        response = responses.read(facts.get("response"))
        failure = failures.read(facts.get("error"), facts.get("http_status")) or response.failure
        line = self._line("embedding", facts, failure, _OF_EMBEDDINGS)
        _put(line, "model", values.text(facts.get("model")) or response.model)
        _put(line, "provider", line.get("provider") or response.provider)
        _put(line, "request_id", line.get("request_id") or response.request_id)
        if "privacy_mode" not in line:
            self._put_input(line, facts)
        used = usage.read(facts.get("usage")) or response.usage
        raw = None if used is None else used.raw
        tokens = _first(count(facts.get("input_tokens")), None if used is None else used.counts.get("input_tokens"))
        used = _put_usage(line, None if tokens is None else Usage({"input_tokens": tokens}, None, raw), failure)
        total = number(facts.get("total_cost_usd"))
        if total is not None:
            line["cost"] = {"total_usd": total}
        self._tally.add("embeddings", failure, used, total)
        self._write(line)

    def _span(self, facts: dict[str, Any]) -> None:
        failure = failures.read(facts.get("error"), facts.get("http_status"))
        line = self._line("span", facts, failure, _OF_SPANS)
        if "privacy_mode" not in line:
            _put(line, "input", facts.get("input"))
            _put(line, "output", facts.get("output"))
        self._tally.add("spans", failure, None, None)
        self._write(line)

    def _put_input(self, line: dict[str, Any], facts: dict[str, Any]) -> None:
        given = facts.get("input_messages")
        _put(line, "input", _content(facts.get("input") if given is None else given))


_NESTED = frozenset({"generation", "embedding", "span"})


class _Tally:
    """Sums of what was recorded. Adding takes no lock, so that a signal handler or a fork cannot be stuck in it."""

    def __init__(self) -> None:
        self._new: collections.deque[tuple[str, bool, int, int, float | None]] = collections.deque()
        self._folding = threading.Lock()
        self._counts = {
            "generations": 0,
            "spans": 0,
            "embeddings": 0,
            "errors": 0,
            "input_tokens": 0,
            "output_tokens": 0,
        }
        self._cost: float | None = None

    def add(self, kind: str, failure: Failure | None, used: Usage | None, cost: float | None) -> None:
        inputs, outputs = (0, 0) if used is None else (used.input_tokens, used.output_tokens)
        self._new.append((kind, failure is not None, inputs, outputs, cost))
        if len(self._new) >= _FOLD_AT:
            self._fold(0)

    def totals(self) -> dict[str, Any]:
        self._fold(_PATIENCE)
        return dict(self._counts) if self._cost is None else {**self._counts, "cost_usd": self._cost}

    def _fold(self, patience: float) -> None:
        if not self._folding.acquire(timeout=patience):
            return
        try:
            while self._new:
                kind, failed, inputs, outputs, cost = self._new.popleft()
                for name, more in ((kind, 1), ("errors", failed), ("input_tokens", inputs), ("output_tokens", outputs)):
                    self._counts[name] += more
                if cost is not None:
                    self._cost = (self._cost or 0) + cost
        finally:
            self._folding.release()


def _put(line: dict[str, Any], key: str, value: object) -> None:
    if value is not None:
        line[key] = value


def _milliseconds(value: object) -> float | None:
    found = number(value)
    return None if found is None else round(found, 3)


def _numbers(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return those parameters that are numbers or truths."""
    return {key: value for key, value in parameters.items() if isinstance(value, (bool, int, float))}


def _put_usage(line: dict[str, Any], used: Usage | None, failure: Failure | None) -> Usage | None:
    """Add the token counts to a line, and return what was added."""
    # What a failed call reports is no account of what it used: many libraries report zeros.
    if used is None or failure is not None:
        return None
    line["usage"] = used.counts
    _put(line, "raw_usage", used.raw)
    return used


def _read(line: dict[str, Any], facts: dict[str, Any], fields: _Fields) -> None:
    """Put the facts into a line that *fields* has, if they have the right type."""
    for name, fact in facts.items():
        if name in fields and fact is not None:
            key, convert = fields[name]
            value = convert(fact)
            if value is not None:
                line[key] = value


def _time(value: object) -> int | None:
    """Return a time in seconds since the epoch in milliseconds; None if it is no time that can be written."""
    found = number(value)
    return int(found * 1000) if found is not None and found <= _LAST_TIME else None


def _first(given: float | None, otherwise: float | None) -> Any:
    return otherwise if given is None else given


def _or_plain(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let a function that an object makes raise have a plain copy of it instead."""

    @functools.wraps(convert)
    def run(value: object) -> Any:
        try:
            return convert(value)
        except Exception:  # noqa: BLE001 -- the caller's object may raise anything
            return convert(plain(value))

    return run


@_or_plain
def _sequence(value: object) -> list[Any] | None:
    if value is None:
        return None
    found = value if isinstance(value, (list, tuple)) else plain(value)
    return list(found) if isinstance(found, (list, tuple)) else [found]


@_or_plain
def _content(value: object) -> Any:
    """Return a text or a list, which is what inputs and outputs of models are; None if there is none."""
    if value is None or isinstance(value, (str, list)):
        return value
    found = list(value) if isinstance(value, tuple) else plain(value)
    if isinstance(found, dict):
        return [found]
    return found if isinstance(found, (str, list)) else str(found)


def _content_of(kind: type[Timed], value: object) -> Any:
    return value if kind is Span else _content(value)


def _encoded(value: object) -> Encoded | None:
    return None if value is None else encode(value)


def _output(facts: dict[str, Any], response: Response) -> Any:
    given = _content(facts.get("output"))
    if given is not None:
        return given
    words, structured = facts.get("output_text"), facts.get("structured_output")
    if structured is not None:
        return [responses.message(_content(words), structured)]
    return response.output if words is None else _content(words)


@_or_plain
def _score(value: object) -> Any:
    if isinstance(value, (bool, str)):
        return values.text(value, _LONGEST_TEXT) or "" if isinstance(value, str) else value
    found = plain(value)
    return found if isinstance(found, (int, float)) else values.text(found, _LONGEST_TEXT) or ""


def _main(each: list[ModelUsage], model: str | None) -> ModelUsage:
    """Return the entry of the model that was asked for, or else of the one that did most."""
    for one in each:
        if model is not None and (one.model == model or one.model.startswith(model) or model.startswith(one.model)):
            return one
    return max(each, key=lambda one: (one.cost or 0, one.usage.input_tokens + one.usage.output_tokens))


_Fields = dict[str, tuple[str, Callable[[Any], Any]]]
"""For the name of an argument: the key in the line, and what makes its value, or None of a value of another type."""

_COMMON: _Fields = {
    "name": ("name", values.text),
    "span_id": ("span_id", values.text),
    "http_status": ("http_status", failures.status),
}
_OF_SPANS: _Fields = {**_COMMON, "kind": ("kind", values.text), "duration_ms": ("latency_ms", _milliseconds)}
_OF_EMBEDDINGS: _Fields = {
    **_COMMON,
    "provider": ("provider", values.text),
    "duration_ms": ("latency_ms", _milliseconds),
    "base_url": ("base_url", values.text),
    "request_id": ("request_id", values.text),
}
_OF_CALLS: _Fields = {
    **_OF_EMBEDDINGS,
    "time_to_first_token_ms": ("time_to_first_token_ms", _milliseconds),
    "stream": ("stream", flag),
    "stop_reason": ("stop_reason", values.text),
    "model_parameters": ("model_parameters", attribution.mapping),
    "num_turns": ("num_turns", count),
    "service_tier": ("service_tier", values.text),
}
_COSTS: _Fields = {"input_cost_usd": ("input_usd", number), "output_cost_usd": ("output_usd", number)}
_OF_ALL_MODELS = frozenset({"name", "parent_id", "provider", "properties", "more", "privacy_mode", "ended", "ended_at"})
