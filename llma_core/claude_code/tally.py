"""Sums up a session or a turn; its trace is made from the sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Raw

from llma_core.claude_code.records import block
from llma_core.spans import (
    ApiFailure,
    Compaction,
    Context,
    Generation,
    HookRun,
    ToolCall,
    Trace,
    TurnKey,
)

__all__ = ["ClientTotals", "Tally"]


@dataclass(slots=True)
class ClientTotals:
    """Claude Code's own totals, from the latest line that has them.

    Attributes:
        cost_usd: the cost in US dollars.
        lines_added: lines of code added.
        lines_removed: lines of code removed.
    """

    cost_usd: float | None = None
    lines_added: int | None = None
    lines_removed: int | None = None


@dataclass(slots=True)
class Tally:
    """Sums over the spans of one trace. The order in which the spans come makes no difference.

    Attributes:
        scope: whether the trace is a session's or a turn's.
        session: the session's id.
        turn: the turn's key; None for a session.
        prompt: the first human prompt.
        name: the trace's name so far.
        opened: whether the trace exists: there was a person's prompt or an event.
        changed: whether anything came since the trace was last given out.
        announced: whether the session's opening was given out.
        announced_at: the time of that opening, which the trace then has, too.
    """

    scope: Literal["session", "turn"]
    session: str
    turn: TurnKey | None = None
    prompt: str | None = None
    name: str | None = None
    opened: bool = False
    changed: bool = False
    announced: bool = False
    announced_at: int | None = None
    _context: Context | None = None
    _context_rank: tuple[bool, int] = (False, -1)
    _prompt_at: int | None = None
    _first_at: int | None = None
    _started_at: int | None = None
    _ended_at: int | None = None
    _input: int | None = None
    _output: int | None = None
    _prompts: int = 0
    _generations: int = 0
    _tool_calls: int = 0
    _api_errors: int = 0
    _compactions: int = 0
    _unknown_records: int = 0
    _hook_runs: int = 0
    _hook_ms: int = 0
    _hook_errors: int = 0
    _agents: set[str] = field(default_factory=set)
    _answer: tuple[int, Sequence[bytes]] | None = None
    _failure: ApiFailure | None = None
    _answered_at: int = -1
    _interrupted_at: int = -1
    _stopped: tuple[int, str] | None = None
    _turns: dict[TurnKey, tuple[int, int]] = field(default_factory=dict)

    def add_prompt(self, text: str | None, at: int | None, context: Context) -> None:
        """Count a person's prompt."""
        self._prompts += 1
        if self._prompt_at is None:
            self._prompt_at = at
        if self.prompt is None:
            self.prompt = text
        self._note(context, at, at)

    def withdraw_prompt(self) -> None:
        """Count a person's prompt no longer: it proved to be a copy."""
        self._prompts -= 1
        spans = (self._generations, self._tool_calls, self._api_errors, self._compactions)
        self.opened = any((self._prompts, *spans))

    def add_generation(self, generation: Generation, answer: Sequence[bytes]) -> None:
        """Count an API response; *answer* is its text blocks that are not empty, as logged."""
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
                if generation.was_stopped:
                    self.interrupt(at)
                self._answered_at = max(self._answered_at, at)
                if answer and (self._answer is None or at >= self._answer[0]):
                    self._answer = (at, answer)
        self._note(generation.context, generation.started_at or at, at)

    def add_call(self, call: ToolCall) -> None:
        """Count a tool call."""
        self._tool_calls += 1
        if not call.context.is_subagent and call.status in ("interrupted", "no_result"):
            self.interrupt(call.ended_at if call.ended_at is not None else call.generation_ended_at)
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

    def add_unknown(self) -> None:
        """Count a line of an unknown type. It does not open the trace."""
        self._unknown_records += 1

    def add_hooks(self, runs: Iterable[HookRun]) -> None:
        """Count runs of hooks. They do not open the trace."""
        for run in runs:
            self._hook_runs += 1
            self._hook_ms += run.duration_ms or 0
            self._hook_errors += run.failed

    def add_agent(self, agent: str) -> None:
        """Count a subagent; the same one counts once."""
        self._agents.add(agent)

    def interrupt(self, at: int | None) -> None:
        """Note that the main thread was stopped. This does not open the trace."""
        self._interrupted_at = max(self._interrupted_at, at if at is not None else -1)

    def stop(self, limit: str, at: int | None) -> None:
        """Note that one of the user's limits stopped the main thread. This does not open the trace."""
        self.interrupt(at)
        self._stopped = max(self._stopped or (-1, ""), (at if at is not None else -1, limit))

    def _note(self, context: Context, start: int | None, end: int | None) -> None:
        self.opened = True
        self.changed = True
        if start is not None:
            self._started_at = start if self._started_at is None else min(self._started_at, start)
        last = end if end is not None else start
        if last is not None:
            self._ended_at = last if self._ended_at is None else max(self._ended_at, last)
        if last is not None:
            first = start if start is not None else last
            begun, ended = self._turns.get(context.turn, (first, last))
            self._turns[context.turn] = min(begun, first), max(ended, last)
        # The main thread's latest line gives the trace its context, whichever file was read first.
        rank = (not context.is_subagent, last if last is not None else -1)
        if self._context is None or rank >= self._context_rank:
            self._context, self._context_rank = context, rank

    def trace(self, client: ClientTotals | None = None) -> Trace:
        """Return the trace as it is now. It must have been opened."""
        assert self._context is not None
        first_at = self.announced_at if self.announced_at is not None else self._first_at
        return Trace(
            scope=self.scope,
            session=self.session,
            turn=self.turn,
            context=self._context,
            name=self.name,
            started_at=self._started_at,
            first_at=first_at if first_at is not None else (self._prompt_at or self._started_at),
            ended_at=self._ended_at,
            worked_ms=_covered(self._turns.values()) if self._turns else None,
            input_tokens=self._input,
            output_tokens=self._output,
            generations=self._generations,
            tool_calls=self._tool_calls,
            subagents=len(self._agents),
            api_errors=self._api_errors,
            compactions=self._compactions,
            unknown_records=self._unknown_records,
            hook_runs=self._hook_runs,
            hook_ms=self._hook_ms,
            hook_errors=self._hook_errors,
            outcome=self._outcome(),
            stopped_by=self._stopped[1] if self._stopped and self._stopped[0] >= self._answered_at else None,
            prompt=self.prompt,
            answer=_words(self._answer[1]) if self._answer else None,
            client_cost_usd=client.cost_usd if client else None,
            lines_added=client.lines_added if client else None,
            lines_removed=client.lines_removed if client else None,
        )

    def _outcome(self) -> Literal["ok", "failed", "interrupted"]:
        # If an answer followed a failed attempt, a retry worked. The trace failed only if nothing came after it.
        failed_at = (self._failure.at or 0) if self._failure is not None else -1
        if self._failure is not None and failed_at >= max(self._answered_at, self._interrupted_at):
            return "failed"
        return "interrupted" if self._interrupted_at >= max(self._answered_at, 0) else "ok"


def _covered(intervals: Iterable[tuple[int, int]]) -> int:
    """Return the length that intervals cover together."""
    covered, reached = 0, -1
    for start, end in sorted(intervals):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _words(answer: Sequence[bytes]) -> bytes:
    """Return the text of text blocks, joined by line breaks, as a JSON string.

    Decoding it would take much more memory if it is long.
    """
    parts: list[bytes | memoryview] = []
    for found in map(block, answer):
        if found is not None and isinstance(found.text, Raw):
            parts += [b"\\n" if parts else b'"', memoryview(found.text)[1:-1]]
    return b"".join([*parts, b'"'])
