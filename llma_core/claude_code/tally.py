"""What a session or a turn has come to so far: the sums its trace is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llma_core.spans import ApiFailure, Compaction, Context, Generation, ToolCall, Trace, TurnKey

__all__ = ["ClientTotals", "Tally"]


@dataclass(slots=True)
class ClientTotals:
    """The client's own totals; the latest line wins."""

    cost_usd: float | None = None
    lines_added: int | None = None
    lines_removed: int | None = None


@dataclass(slots=True)
class Tally:
    """Sums over the spans of one trace, in whatever order they come.

    Attributes:
        scope: whose trace it is.
        session: the session's id.
        turn: the turn's key; None for a session's.
        prompt: the first human prompt in it.
        name: what the trace is called so far.
        opened: whether anything makes it a trace: a person's prompt, or an event.
        changed: whether anything came since it was last given out.
    """

    scope: Literal["session", "turn"]
    session: str
    turn: TurnKey | None = None
    prompt: str | None = None
    name: str | None = None
    opened: bool = False
    changed: bool = False
    _context: Context | None = None
    _context_rank: tuple[bool, int] = (False, -1)
    _prompt_at: int | None = None
    _first_at: int | None = None
    _started_at: int | None = None
    _ended_at: int | None = None
    _input: int | None = None
    _output: int | None = None
    _generations: int = 0
    _tool_calls: int = 0
    _api_errors: int = 0
    _compactions: int = 0
    _agents: set[str] = field(default_factory=set)
    _answer: tuple[int, str] | None = None
    _failure: ApiFailure | None = None
    _answered_at: int = -1

    def add_prompt(self, text: str | None, at: int | None, context: Context) -> None:
        """Count a person's prompt."""
        if self._prompt_at is None:
            self._prompt_at = at
        if self.prompt is None:
            self.prompt = text
        self._note(context, at, at)

    def add_generation(self, generation: Generation, answer: str | None) -> None:
        """Count an API response; *answer* is the text it gave on the main thread, if any."""
        at = generation.ended_at
        self._generations += 1
        usage = generation.usage
        if usage is not None:
            if usage.input is not None:
                self._input = (self._input or 0) + usage.input
            if usage.output is not None:
                self._output = (self._output or 0) + usage.output
        if at is not None:
            self._first_at = at if self._first_at is None else min(self._first_at, at)
            if not generation.context.is_subagent:
                self._answered_at = max(self._answered_at, at)
                if answer and (self._answer is None or at >= self._answer[0]):
                    self._answer = (at, answer)
        self._note(generation.context, generation.started_at or at, at)

    def add_call(self, call: ToolCall) -> None:
        """Count a tool call."""
        self._tool_calls += 1
        self._note(call.context, call.called_at, call.ended_at)

    def add_failure(self, failure: ApiFailure) -> None:
        """Count a failed attempt."""
        self._api_errors += 1
        if not failure.context.is_subagent and (self._failure is None or (failure.at or 0) >= (self._failure.at or 0)):
            self._failure = failure
        self._note(failure.context, failure.at, failure.at)

    def add_compaction(self, compaction: Compaction) -> None:
        """Count a compaction."""
        self._compactions += 1
        self._note(compaction.context, compaction.at, compaction.at)

    def add_agent(self, agent: str) -> None:
        """Count a subagent, once however often it is named."""
        self._agents.add(agent)

    def _note(self, context: Context, start: int | None, end: int | None) -> None:
        self.opened = True
        self.changed = True
        if start is not None:
            self._started_at = start if self._started_at is None else min(self._started_at, start)
        last = end if end is not None else start
        if last is not None:
            self._ended_at = last if self._ended_at is None else max(self._ended_at, last)
        # The main thread's latest line speaks for the trace, whichever file happened to be read first.
        rank = (not context.is_subagent, last if last is not None else -1)
        if self._context is None or rank >= self._context_rank:
            self._context, self._context_rank = context, rank

    def trace(self, client: ClientTotals | None = None) -> Trace:
        """Return the trace as things stand. It must have been opened."""
        assert self._context is not None
        # A failed attempt that a later answer followed was a retry; the trace failed only if nothing came after it.
        failure = self._failure if self._failure and (self._failure.at or 0) >= self._answered_at else None
        return Trace(
            scope=self.scope,
            session=self.session,
            turn=self.turn,
            context=self._context,
            name=self.name,
            started_at=self._started_at,
            first_at=self._first_at if self._first_at is not None else (self._prompt_at or self._started_at),
            ended_at=self._ended_at,
            input_tokens=self._input,
            output_tokens=self._output,
            generations=self._generations,
            tool_calls=self._tool_calls,
            subagents=len(self._agents),
            api_errors=self._api_errors,
            compactions=self._compactions,
            failed=failure is not None,
            error=failure.message if failure else None,
            error_type=failure.error_type if failure else None,
            prompt=self.prompt,
            answer=self._answer[1] if self._answer else None,
            client_cost_usd=client.cost_usd if client else None,
            lines_added=client.lines_added if client else None,
            lines_removed=client.lines_removed if client else None,
        )
