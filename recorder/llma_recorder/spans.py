"""Context managers that measure what runs inside them: spans and calls of models."""

from __future__ import annotations

import sys
import time
from types import FrameType, TracebackType
from typing import Any, Callable

from llma_recorder import scope
from llma_recorder.encoding import encode
from llma_recorder.failures import GivenError
from llma_recorder.identifiers import uuid7

__all__ = ["Generation", "Span", "Timed"]


class Timed:
    """Something that is measured from entering to leaving, and recorded with its latency and the error raised, if any.

    Works with `with` and with `async with`. Errors pass through.

    Args:
        trace: the id of the trace it belongs to.
        record: records it, from its facts by name. None if nothing is recorded at present.
        facts: what is known before it starts.
    """

    def __init__(
        self,
        trace: str,
        record: Callable[[dict[str, Any]], None] | None,
        facts: dict[str, Any],
    ) -> None:
        self._trace = trace
        self._record = record
        self._given = facts
        self._facts: dict[str, Any] = {}
        self._scope: scope.Scope | None = None
        self._started = 0.0
        self._is_finished = False
        self._entered_again = 0
        self.id: str | None = None
        """Its span id while it is open, for `parent_id` elsewhere; None if nothing is recorded."""

    def fail(self, error: GivenError = True, *, http_status: int | None = None) -> None:
        """Say that it failed, where no exception does.

        Args:
            error: an exception, a message, a dict with `type` and `message`, or True.
            http_status: the HTTP status.
        """
        self._finish({"error": error, "http_status": http_status}, {})

    def _finish(self, facts: dict[str, Any], properties: dict[str, Any]) -> None:
        """Note *facts* that are known now, and that it ended now."""
        if self._scope is None:
            return
        try:
            self._facts.update((name, fact) for name, fact in facts.items() if fact is not None)
            if properties:
                self._facts["more"] = {**self._facts.get("more", {}), **properties}
            self._end_now()
            self._is_finished = True
        except Exception:  # noqa: BLE001, S110 -- recording must never disturb the caller
            pass

    def _end_now(self) -> None:
        if self._started and self._facts.get("duration_ms") is None:
            self._facts["duration_ms"] = (time.perf_counter() - self._started) * 1000
            self._facts["ended"] = time.time_ns() // 1_000_000

    def _enter(self, frame: FrameType | None) -> None:
        try:
            if self._scope is not None:
                # It is open already, and what it measures ends where it was entered first.
                self._entered_again += 1
            elif self._record is not None:
                self._facts = dict(self._given)
                self._is_finished = False
                self.id = uuid7(time.time_ns() // 1_000_000)
                if self._facts.get("parent_id") is None:
                    self._facts["parent_id"] = scope.enclosing(self._trace)
                self._scope = scope.enter(self._trace, self.id, frame)
                self._started = time.perf_counter()
        except Exception:  # noqa: BLE001, S110 -- recording must never disturb the caller
            pass

    def _leave(self, error: BaseException | None) -> None:
        try:
            if self._entered_again:
                self._entered_again -= 1
                return
            open_scope, self._scope = self._scope, None
            if open_scope is None or self._record is None:
                return
            open_scope.end()
            facts = self._facts
            if error is not None and not self._is_finished and not _is_quiet(error):
                facts["error"] = error
            self._end_now()
            facts["span_id"] = facts["uuid"] = self.id
            self._facts = {}
            self._record(facts)
        except Exception:  # noqa: BLE001, S110 -- recording must never disturb the caller
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(error)


class Span(Timed):
    """A span that is open. `TraceRecorder.span` makes one."""

    def __enter__(self) -> Span:
        self._enter(sys._getframe(1))  # noqa: SLF001 -- the only way to learn who enters; see `scope`
        return self

    async def __aenter__(self) -> Span:
        self._enter(sys._getframe(1))  # noqa: SLF001 -- as above
        return self

    def finish(self, output: object = None, **properties: object) -> None:
        """Say that the span's work is done, and what came of it. Its latency ends here.

        Args:
            output: what came of it.
            properties: properties of the event.
        """
        # What is encoded now does not change any more when the caller goes on with it.
        is_written = output is not None and self._scope is not None and not self._facts.get("privacy_mode")
        self._finish({"output": encode(output) if is_written else None}, properties)


class Generation(Timed):
    """A call of a model that is open. `TraceRecorder.generation` and `TraceRecorder.embedding` make one."""

    def __enter__(self) -> Generation:
        self._enter(sys._getframe(1))  # noqa: SLF001 -- as in Span
        return self

    async def __aenter__(self) -> Generation:
        self._enter(sys._getframe(1))  # noqa: SLF001 -- as in Span
        return self

    def first_token(self) -> None:
        """Say that the first token of a stream has arrived. Later ones change nothing."""
        if self._started and "time_to_first_token_ms" not in self._facts:
            self._facts["time_to_first_token_ms"] = (time.perf_counter() - self._started) * 1000
            self._facts["stream"] = True

    def finish(
        self,
        response: object = None,
        *,
        model: str | None = None,
        output_text: str | None = None,
        output: object = None,
        structured_output: object = None,
        usage: object = None,
        model_usage: object = None,
        total_cost_usd: float | None = None,
        num_turns: int | None = None,
        stop_reason: str | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        service_tier: str | None = None,
        **properties: object,
    ) -> None:
        """Say that the call is answered, and what the answer is. The latency ends here.

        What an exception in the rest of the `with` block says is not about the call any more.

        Args:
            response: a response of the Anthropic or OpenAI SDK, or the same as a dict: a message, a chat completion, a
                response of the Responses API, embeddings, the final object of a stream, or the list of all chunks of a
                chat completion. What it says need not be said by the other arguments, which come before it.
            model: as in `TraceRecorder.record_generation`, and so are all others.
            output_text: the answer's text.
            output: the answer as messages.
            structured_output: the answer as data.
            usage: the token counts.
            model_usage: the token counts by model.
            total_cost_usd: what the call cost, in US dollars.
            num_turns: number of turns.
            stop_reason: why the model stopped.
            http_status: the HTTP status.
            request_id: the provider's id of the request.
            service_tier: the tier that served it.
            properties: properties of the event.
        """
        facts = {
            "response": response,
            "model": model,
            "output_text": output_text,
            "output": output,
            "structured_output": structured_output,
            "usage": usage,
            "model_usage": model_usage,
            "total_cost_usd": total_cost_usd,
            "num_turns": num_turns,
            "stop_reason": stop_reason,
            "http_status": http_status,
            "request_id": request_id,
            "service_tier": service_tier,
        }
        self._finish(facts, properties)


def _is_quiet(error: BaseException) -> bool:
    """Whether an exception only ends something: a generator that is closed, a program that exits without an error."""
    return isinstance(error, GeneratorExit) or (
        isinstance(error, SystemExit) and (error.code is None or error.code == 0)
    )
