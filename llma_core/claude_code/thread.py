"""What is open on one thread of a session: the message being written, the calls without a result, the input gathered.

A thread is the main conversation or one subagent. These are the accumulator's working parts; nothing outside the
package uses them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from llma_core.claude_code.conversation import Conversation
from llma_core.claude_code.records import AgentMeta, ApiRequestRecord, Block
from llma_core.claude_code.requests import RequestLog
from llma_core.claude_code.usage import Reading
from llma_core.spans import Context, HookRun, InputMessage, LineRange, Request, TurnKey

__all__ = [
    "AGENT_TOOLS",
    "SIDE",
    "Call",
    "Input",
    "LineContext",
    "OpenMessage",
    "PromptLine",
    "Result",
    "Thread",
    "WaitingSpan",
    "WholeInput",
]

AGENT_TOOLS = frozenset({"Agent", "Task"})
"""Tools that start a subagent; Task is the older name."""

SIDE = "side:"
"""How the keys of subagents begin whose lines stand in the main file."""

_REMEMBERED_REQUESTS = 64
"""Requests kept to find the start of a message; the one it names is always among the last few of its thread."""


@dataclass(slots=True, kw_only=True)
class PromptLine:
    """A line that starts a turn, and what every line below it in the conversation belongs to.

    Attributes:
        turn: the turn's key.
        text: what the person typed; None where nobody did (a background task's end).
        name: the name its own trace would have.
        permission_mode: the mode it was sent in.
        copied: whether another session wrote it first.
    """

    turn: TurnKey
    text: str | None
    name: str | None
    permission_mode: str | None
    copied: bool = False


@dataclass(slots=True, kw_only=True)
class Input:
    """A message the model will be shown with its next request.

    Attributes:
        answers: the call whose result it is.
        part: the part of the conversation it belongs to.
    """

    message: InputMessage
    at: int | None
    answers: str | None = None
    part: int = 0


@dataclass(slots=True, kw_only=True)
class WholeInput:
    """What the whole input of a message is made of, taken where its first line stands.

    Attributes:
        before: the conversation before what it was given last.
        part: the part of the conversation it belongs to.
        request: the request it answers, as far as it can be rebuilt.
    """

    before: tuple[InputMessage, ...]
    part: int
    request: Request | None = None


@dataclass(slots=True, kw_only=True)
class LineContext:
    """What was known on the main thread, or of the envelope, where a line stands."""

    session: str
    near: int | None
    prompt: PromptLine | None
    session_name: str | None
    cwd: str | None
    branch: str | None
    version: str | None
    entrypoint: str | None
    agent: str | None
    effort: str | None
    skill: str | None


@dataclass(slots=True, kw_only=True)
class OpenMessage:
    """An API response whose lines are being collected.

    Attributes:
        inputs: how many of the thread's inputs were there when its first line came.
        has_stop_reason: whether a line has a stop reason.
        broke_off: whether that stop reason is the client's own, put on a stream that broke off.
        asked_again: whether the thread's next request was seen.
        emitted: whether its span was given out, so that its calls may follow.
        whole: what its whole input is made of; None unless that was asked for.
        order: of each block, where the client says that it belongs.
    """

    id: str
    checksum: bytes
    line_context: LineContext
    lines: LineRange
    heard_at: float
    inputs: int
    first_at: int | None
    last_at: int | None
    model: str | None = None
    request: ApiRequestRecord | None = None
    request_at: int | None = None
    readings: list[Reading] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    stop_reason: str | None = None
    has_stop_reason: bool = False
    broke_off: bool = False
    aborted: bool = False
    asked_again: bool = False
    copied: bool = False
    emitted: bool = False
    whole: WholeInput | None = None
    skill: str | None = None
    mcp_server: str | None = None
    mcp_tool: str | None = None

    def add(self, block: Block, index: int | None) -> None:
        """Add a block where *index* says, behind those of its kind; at the end if nothing says where."""
        place = index if index is not None else max(self.order, default=0)
        at = bisect_right(self.order, place)
        self.order.insert(at, place)
        self.blocks.insert(at, block)


@dataclass(slots=True, kw_only=True)
class Result:
    """A tool's result line."""

    at: int | None
    content: bytes
    status: Literal["ok", "error", "denied", "interrupted"]
    permission_decision: str | None
    lines: LineRange
    heard_at: float


@dataclass(slots=True, kw_only=True)
class Call:
    """A tool call, from the block that makes it until its span is given out.

    Attributes:
        message: the message that makes it; None for one whose line came when the message had been given out.
        message_id: that message's id.
        prompt: the words a subagent is started with.
        agent_type: the kind of subagent it starts.
        claimed_by: the subagent it started, once known.
        is_complete: whether everything that may stand behind its result has been read.
        hooks: the hooked-in programs that ran before and after it.
        hooks_rest: the last line that says so.
    """

    id: str
    identity: str
    name: str
    input: bytes | None
    at: int | None
    line_context: LineContext
    lines: LineRange
    thread: Thread
    message: OpenMessage | None
    message_id: str
    copied: bool = False
    result: Result | None = None
    prompt: str | None = None
    agent_type: str | None = None
    claimed_by: str | None = None
    is_complete: bool = False
    hooks: list[HookRun] = field(default_factory=list)
    hooks_lines: LineRange | None = None

    @property
    def starts_agent(self) -> bool:
        """Whether the call starts a subagent."""
        return self.name in AGENT_TOOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingSpan:
    """Something final on a subagent's thread, waiting until it is known which call started the agent."""

    lines: LineRange
    heard_at: float
    emit: Callable[[], None]


@dataclass(slots=True, kw_only=True)
class Thread:
    """One conversation with the model.

    Attributes:
        key: "" for the main thread, the agent's id for a subagent, `side:<uuid>` for one inside an old main file.
        parent_context: for a subagent, what its parent's call says; None until the call is known.
        at: when its latest line was written, as far as that says so.
        near: when the latest line was written that says so.
        began: when its first text was.
        working: whether the model owes an answer on this thread.
        conversation: what was said on it; None unless whole inputs were asked for, as for what follows.
        request_log: the requests it made.
    """

    key: str
    open: OpenMessage | None = None
    inputs: list[Input] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    orphans: dict[str, Result] = field(default_factory=dict)
    requests: dict[str, tuple[ApiRequestRecord, int | None]] = field(default_factory=dict)
    request: tuple[ApiRequestRecord, int | None] | None = None
    waiting: list[WaitingSpan] = field(default_factory=list)
    parent_context: Context | None = None
    meta: AgentMeta | None = None
    first_text: str | None = None
    first_uuid: str | None = None
    began: int | None = None
    prompt_id: str | None = None
    agent_type: str | None = None
    prompt: PromptLine | None = None
    session: str | None = None
    at: int | None = None
    near: int | None = None
    working: bool = False
    heard_at: float = 0.0
    conversation: Conversation | None = None
    request_log: RequestLog | None = None

    @property
    def is_subagent(self) -> bool:
        """Whether this is not the main thread."""
        return bool(self.key)

    def add_input(self, message: InputMessage, *, answers: str | None = None) -> None:
        """Add what the model will be shown with its next request; *answers* the call whose result it is."""
        part = self.conversation.part if self.conversation is not None else 0
        self.inputs.append(Input(message=message, at=self.at, answers=answers, part=part))

    def add_request(self, request: ApiRequestRecord, at: int | None) -> None:
        """Keep a request until the message it led to names it."""
        self.request = (request, at)
        if request.id:
            self.requests[request.id] = self.request
            while len(self.requests) > _REMEMBERED_REQUESTS:
                del self.requests[next(iter(self.requests))]

    def needed(self) -> Iterator[LineRange]:
        """Yield the lines that something not yet given out still rests on."""
        if self.open is not None:
            yield self.open.lines
        for item in self.waiting:
            yield item.lines
        for call in self.calls.values():
            yield call.lines
            if call.result is not None:
                yield call.result.lines
        for orphan in self.orphans.values():
            yield orphan.lines
