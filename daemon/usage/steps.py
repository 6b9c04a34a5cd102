"""The steps of one session: what it did, in what order, under what, for how long, and for how much.

Like every report it reads rows without content, so a session of ten thousand steps is there at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from daemon.delivering.local.call import AGENT, ATTEMPT, EMBEDDING, GENERATION, TOOL, TRACE
from daemon.usage.prices import Tokens, call_cost
from daemon.usage.report import Index
from llma_core.trace_tree import order

__all__ = ["Kind", "Session", "Step", "session"]

Kind = Literal["generation", "embedding", "attempt", "tool", "agent", "other", "wait"]
"""What a step is: `attempt` is a failed one at a generation, `wait` is time in which a person was waited for."""

_KINDS: dict[int, Kind] = {
    GENERATION: "generation",
    ATTEMPT: "attempt",
    TOOL: "tool",
    AGENT: "agent",
    EMBEDDING: "embedding",
}
_SHORTEST_WAIT = 1000
"""Milliseconds without any step that are shown as waiting. Between steps the client needs some time itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        uuid: the uuid of its event; None for a wait.
        kind: see `Kind`.
        depth: how many steps it is under.
        started: in milliseconds since the epoch.
        ended: likewise.
        name: the tool, or the model of a generation; "" if unknown.
        agent: the agent it belongs to.
        status: how it ended; None where that is not said.
        failed: whether it failed.
        tokens: what it used, if it is a generation or an embedding.
        dollars: what that costs; None if its model has no price.
    """

    uuid: str | None
    kind: Kind
    depth: int
    started: int
    ended: int
    name: str
    agent: str | None = None
    status: str | None = None
    failed: bool = False
    tokens: Tokens | None = None
    dollars: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session and its steps, from the top down, each under what started it.

    Attributes:
        project: the project it was last in.
        branch: the branch it was last on.
        traces: its traces, in the order of their first steps.
        seconds_model: time in which a model worked, overlaps once.
        seconds_tools: time in which a tool and no model worked, overlaps once.
        seconds_waiting: time in which the session waited for a person.
    """

    session: str
    project: str | None
    branch: str | None
    traces: tuple[str, ...]
    steps: tuple[Step, ...]
    seconds_model: float
    seconds_tools: float
    seconds_waiting: float


def session(index: Index, identity: str) -> Session | None:
    """Return the session with the id *identity*; None if the file has nothing of it.

    Raises:
        UnreadableEventsError: the file is damaged.
    """
    rows = index.query(
        """
        SELECT lower(hex(uuid)), kind, at, seconds, trace_id, span, parent, name_id, model_id, provider_id, tier_id,
            project_id, branch_id, agent_id, status_id, input, output, cache_read, cache_write_5m, cache_write_1h,
            web_searches, prices_id
        FROM calls WHERE session_id = (SELECT id FROM words WHERE word = ?)
        """,
        (identity,),
    )
    if not rows:
        return None
    found: list[tuple[int, Step, str | None, str | None, str | None]] = []
    project = branch = None
    latest = 0
    for uuid, kind, at, seconds, trace, span, parent, *words in rows:
        name, model, provider, tier, project_id, branch_id, agent, status = map(index.word, words[:8])
        *counts, prices = words[8:]
        if at >= latest and kind != TRACE:
            latest, project, branch = at, project_id or project, branch_id or branch
        if kind == TRACE:
            continue
        started = at - round((seconds or 0.0) * 1000)
        tokens = dollars = None
        if kind in (GENERATION, EMBEDDING):
            tokens = Tokens(**dict(zip(_COUNTS, (each or 0 for each in counts), strict=True)), calls=1)
            own = index.word(prices)
            dollars = call_cost(tokens, model=model, provider=provider, tier=tier, at=at, own=own)
        step = Step(
            uuid=f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}",
            kind=_KINDS.get(kind, "other"),
            depth=0,
            started=started,
            ended=at,
            name=name or model or "",
            agent=agent,
            status=status,
            failed=kind == ATTEMPT or status in ("error", "denied", "interrupted"),
            tokens=tokens,
            dollars=dollars,
        )
        found.append((started, step, index.word(trace), span, parent))
    found.sort(key=lambda each: each[0])
    traces = tuple(dict.fromkeys(trace for _, _, trace, _, _ in found if trace is not None))
    steps = [step for _, step, *_ in found]
    waits = _waits(steps)
    models = _covered(
        (step.started, step.ended) for step in steps if step.kind in ("generation", "embedding", "attempt")
    )
    work = _covered((step.started, step.ended) for step in steps)
    return Session(
        session=identity,
        project=project,
        branch=branch,
        traces=traces,
        steps=tuple(_tree(steps, [(span, parent) for *_, span, parent in found], waits)),
        seconds_model=models / 1000,
        seconds_tools=(work - models) / 1000,
        seconds_waiting=sum(wait.ended - wait.started for wait in waits) / 1000,
    )


_COUNTS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches")


def _tree(
    steps: Sequence[Step], links: Sequence[tuple[str | None, str | None]], waits: Sequence[Step]
) -> Iterable[Step]:
    """Yield the steps from the top down, with the waits between those at the top."""
    left = list(waits)
    for index, depth in order(links):
        step = steps[index]
        while depth == 0 and left and left[0].started <= step.started:
            yield left.pop(0)
        yield replace(step, depth=depth)
    yield from left


def _waits(steps: Sequence[Step]) -> list[Step]:
    """Return the times in which no step ran, between the first and the last; *steps* are sorted by start."""
    waits: list[Step] = []
    end = steps[0].started if steps else 0
    for step in steps:
        if step.started - end >= _SHORTEST_WAIT:
            waits.append(Step(uuid=None, kind="wait", depth=0, started=end, ended=step.started, name=""))
        end = max(end, step.ended)
    return waits


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Return how many milliseconds some spans of time cover together."""
    total, end = 0, 0
    for start, stop in sorted(spans):
        begin = max(start, end)
        total += max(0, stop - begin)
        end = max(end, stop)
    return total
