"""What is open on one thread of a session: the message being written, calls without a result, inputs so far.

A thread is the main conversation or one subagent. These are the working parts of the accumulator (`session`). Nothing
outside this package uses them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import Struct

from llma_core.claude_code.conversation import Conversation
from llma_core.claude_code.records import AgentMeta, ApiRequestRecord, AssistantRecord, Block
from llma_core.claude_code.requests import RequestLog
from llma_core.claude_code.usage import Reading
from llma_core.spans import Context, HookRun, InputMessage, LineRange, Request, TokenUsage, TurnKey

__all__ = [
    "AGENT_TOOLS",
    "SIDE",
    "STARTERS",
    "Answer",
    "Call",
    "Input",
    "LineContext",
    "OpenCompaction",
    "OpenMessage",
    "PromptLine",
    "Result",
    "Thread",
    "WaitingSpan",
    "WholeInput",
]

AGENT_TOOLS = frozenset({"Agent", "Task"})
"""Tools that start a subagent. `Task` is the older name."""

STARTERS = AGENT_TOOLS | {"Skill", "Workflow"}
"""Tools whose calls may start subagents. A skill does if it asks for a context of its own (`context: fork`)."""

SIDE = "side:"
"""Prefix of the key of a subagent whose lines are in the main file."""

_KEPT_APART = 64
"""Number of inputs kept for a message on another branch. If a person went back, nobody ever answers them."""

_REMEMBERED_REQUESTS = 64
"""Number of requests kept to find when a message started. A message names one of the last few of its thread."""


class PromptLine(Struct, kw_only=True, eq=False, gc=False):
    """A line that starts a turn. Every line below it in the conversation belongs to it.

    Attributes:
        turn: the turn's key.
        text: what the person typed; None if nobody typed it, as for the end of a background task.
        name: the name that a trace of this turn gets.
        permission_mode: the permission mode it was sent in.
        copied: whether another session wrote it first.
        said: the prompt as the model saw it; None if nobody typed it.
        is_command: whether it is a command. A prompt with the same id takes its place (2.1.81 to 2.1.197).
        parent: the line above it in the conversation.
    """

    turn: TurnKey
    text: str | None
    name: str | None
    permission_mode: str | None
    copied: bool = False
    said: InputMessage | None = None
    is_command: bool = False
    parent: str | None = None


class Input(Struct, kw_only=True, eq=False, gc=False):
    """A message that the model sees with its next request.

    Attributes:
        message: the message.
        at: when it was written, in milliseconds since the epoch.
        answers: the calls whose results it holds.
        part: the part of the conversation it belongs to; see `Conversation.part`.
        root: the prompt that its line is known to belong to; None if that is not known, and on a subagent's thread.
    """

    message: InputMessage
    at: int | None
    answers: tuple[str, ...] = ()
    part: int = 0
    root: PromptLine | None = None


class WholeInput(Struct, kw_only=True, eq=False):
    """The whole input of a message, looked up at its first line.

    Attributes:
        before: the conversation before the inputs that came last.
        part: the part of the conversation it belongs to; see `Conversation.part`.
        request: the request it answers, as far as it can be rebuilt.
    """

    before: tuple[InputMessage, ...]
    part: int
    request: Request | None = None


class LineContext(Struct, kw_only=True, eq=False, gc=False):
    """What is known at a line: from the line's own fields, from its prompt, and from the session so far."""

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


class OpenMessage(Struct, kw_only=True, eq=False):
    """An API response whose lines are being collected.

    Attributes:
        lines: its lines so far.
        heard_at: when its latest line was read, in seconds on the caller's clock.
        given: the inputs that the thread had when the message's first line came.
        parent: the line above its first line.
        below: its lines, and the lines below them in the conversation.
        is_cut: whether the conversation was compacted since, so that no line is below it any more.
        readings: the token counts of each line.
        blocks: its content so far.
        order: for each block, the index that Claude Code gives it.
        seen: the keys of its blocks.
        has_stop_reason: whether one of its lines has a stop reason.
        broke_off: whether Claude Code made that stop reason up because the stream broke off.
        aborted: whether the user stopped it.
        asked_again: whether the thread's next request was seen.
        emitted: whether its span was given out, so that its calls may follow.
        has_new_ids: whether it may be a copy with new ids.
        whole: its whole input; None unless the caller asked for whole inputs.
    """

    id: str
    checksum: bytes
    line_context: LineContext
    lines: LineRange
    heard_at: float
    given: list[Input]
    first_at: int | None
    last_at: int | None
    model: str | None = None
    request: ApiRequestRecord | None = None
    request_at: int | None = None
    readings: list[Reading] = msgspec.field(default_factory=list)
    blocks: list[Block] = msgspec.field(default_factory=list)
    order: list[int] = msgspec.field(default_factory=list)
    seen: set[bytes] = msgspec.field(default_factory=set)
    calls: list[Call] = msgspec.field(default_factory=list)
    stop_reason: str | None = None
    has_stop_reason: bool = False
    broke_off: bool = False
    aborted: bool = False
    asked_again: bool = False
    copied: bool = False
    emitted: bool = False
    parent: str | None = None
    below: set[str] = msgspec.field(default_factory=set)
    is_cut: bool = False
    has_new_ids: bool = False
    whole: WholeInput | None = None
    skill: str | None = None
    request_id: str | None = None
    mcp_server: str | None = None
    mcp_tool: str | None = None

    def add(self, block: Block, index: int | None) -> None:
        """Add a block after those with the same *index* or a smaller one; at the end if the index is not known."""
        place = index if index is not None else max(self.order, default=0)
        at = bisect_right(self.order, place)
        self.order.insert(at, place)
        self.blocks.insert(at, block)


class Answer(Struct, kw_only=True, eq=False, gc=False):
    """A message, among all with its message id.

    Attributes:
        key: the message id; with the request's id behind it for all but the first.
        thread: the key of its thread.
        request: the request's id; None if its first line has none. Then what follows tells its lines apart.
        blocks: hashes of its blocks' keys.
        steps: how many results its thread had at its latest line.
        prompts: how many prompts its thread had at its latest line.
        usage: the token counts of its latest line.
    """

    key: str
    thread: str
    request: str | None
    blocks: set[int] = msgspec.field(default_factory=set)
    steps: int = 0
    prompts: int = 0
    usage: TokenUsage | None = None

    def is_continued(self, thread: Thread, blocks: set[int], usage: TokenUsage | None) -> bool:
        """Whether a line without a request's id is one more line of this message."""
        if thread.key != self.thread or not self.blocks.isdisjoint(blocks) or not (self.blocks and blocks):
            return True
        if thread.prompts != self.prompts:
            return False
        # A tool starts before the message is complete. So a result may be between two lines of one message, which
        # count the same input. The input of another message is another one.
        counts = (usage.input, usage.cache_read, usage.cache_creation) if usage is not None else ()
        before = (self.usage.input, self.usage.cache_read, self.usage.cache_creation) if self.usage is not None else ()
        return thread.steps == self.steps or (any(counts) and counts == before)


class Result(Struct, kw_only=True, eq=False, gc=False):
    """The result of a tool call.

    Attributes:
        duration_ms: how long the tool took, in milliseconds, as the result says.
        heard_at: when its line was read, in seconds on the caller's clock.
    """

    at: int | None
    content: bytes
    status: Literal["ok", "error", "denied", "interrupted"]
    permission_decision: str | None
    duration_ms: int | None
    lines: LineRange
    heard_at: float


class Call(Struct, kw_only=True, eq=False):
    """A tool call, from its block until its span is given out.

    Attributes:
        id: the provider's id, by which the result names it.
        key: its key among the calls of its thread: the id, until another call with this id comes.
        identity: the id; with the message's key behind it if an earlier message made a call with this id.
        message: the message that makes the call; None if the call's line came after that message was given out.
        message_id: that message's id.
        prompt: if it starts a subagent, the subagent's prompt.
        agent_type: if it starts a subagent, the kind of subagent.
        started_name: the name of the teammate or of the skill it starts.
        claimed_by: the subagent it started, once this is known.
        is_complete: whether everything that may follow its result has been read.
        hooks: the hooks that ran before and after it.
        hooks_lines: the last line that reports one of them.
    """

    id: str
    key: str
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
    started_name: str | None = None
    claimed_by: str | None = None
    is_complete: bool = False
    hooks: list[HookRun] = msgspec.field(default_factory=list)
    hooks_lines: LineRange | None = None

    @property
    def starts_agent(self) -> bool:
        """Whether the call starts a subagent."""
        return self.name in AGENT_TOOLS

    @property
    def is_unclaimed(self) -> bool:
        """Whether the call has no result yet, and is not known to have started a subagent."""
        return self.result is None and self.claimed_by is None and self.thread.calls.get(self.key) is self


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingSpan:
    """A final span of a subagent that waits until the call that started the subagent is known.

    Attributes:
        lines: the lines it is made from.
        heard_at: since when it waits, in seconds on the caller's clock.
        emit: gives it out.
    """

    lines: LineRange
    heard_at: float
    emit: Callable[[], None]


@dataclass(slots=True, kw_only=True)
class OpenCompaction:
    """A compaction whose summary has not come yet.

    Attributes:
        turn: the turn it belongs to; None on a subagent's thread.
        lines: the lines it is made from.
        heard_at: when its first line was read, in seconds on the caller's clock.
        summary: the summary; None until it has come.
        emit: gives it out.
    """

    turn: TurnKey | None
    lines: LineRange
    heard_at: float
    summary: str | None = None
    emit: Callable[[], None]


@dataclass(slots=True, kw_only=True)
class Thread:
    """One conversation with the model.

    Attributes:
        key: "" for the main thread; a subagent's id; `side:<uuid>` for a subagent whose lines are in an old main file.
        open: the message being written.
        parked: messages on other branches that may go on, by id.
        inputs: what the model sees with its next requests.
        compaction: the compaction whose summary comes next.
        calls: calls that were not given out yet, by id.
        orphans: results whose calls have not come yet, by the call's id.
        requests: the latest requests, each with its time, by id.
        request: the latest of them.
        waiting: spans that wait until the subagent's call is known.
        parent_context: for a subagent, the context of the call that started it; None until that call is known.
        first_text: a subagent's task: its first text, without an envelope that Claude Code put around it.
        named: for a subagent, the id of the call that started it, as its own first line names it.
        teammate: for a teammate, whether its first text came in a teammate's message.
        runs: for a subagent, its log's folders; one may be named by the run of a workflow that started it.
        steps: how many results came on it.
        prompts: how many prompts came on it.
        inherited: for a subagent without a text yet, the lines that may be its parent's.
        at: when its latest line was written, in milliseconds since the epoch; None if that line does not say.
        near: when the latest line with a time was written.
        began: when its first text was written.
        task: a subagent's first text, as the model saw it.
        working: whether the model owes an answer on this thread.
        asked_at: since when the model owes an answer that it would give without a further line of the user's, in
            milliseconds since the epoch; None if it owes none.
        is_behind: for a subagent, whether its answer was read in its call's result and not yet in its own log.
        heard_at: when its latest line was read, in seconds on the caller's clock.
        unknown_records: for a subagent, lines of unknown types that are not counted on its turn yet.
        conversation: what was said on it; None unless the caller asked for whole inputs.
        request_log: the requests that can be rebuilt; None unless the caller asked for whole inputs.
        is_subagent: whether it is a subagent's.
    """

    key: str
    open: OpenMessage | None = None
    parked: dict[str, OpenMessage] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)
    compaction: OpenCompaction | None = None
    calls: dict[str, Call] = field(default_factory=dict)
    orphans: dict[str, Result] = field(default_factory=dict)
    requests: dict[str, tuple[ApiRequestRecord, int | None]] = field(default_factory=dict)
    request: tuple[ApiRequestRecord, int | None] | None = None
    waiting: list[WaitingSpan] = field(default_factory=list)
    parent_context: Context | None = None
    meta: AgentMeta | None = None
    first_text: str | None = None
    first_uuid: str | None = None
    named: str | None = None
    teammate: bool = False
    steps: int = 0
    prompts: int = 0
    runs: tuple[str, ...] = ()
    inherited: list[tuple[AssistantRecord, LineRange]] = field(default_factory=list)
    began: int | None = None
    task: InputMessage | None = None
    prompt_id: str | None = None
    agent_type: str | None = None
    prompt: PromptLine | None = None
    session: str | None = None
    at: int | None = None
    near: int | None = None
    working: bool = False
    asked_at: int | None = None
    is_behind: bool = False
    heard_at: float = 0.0
    unknown_records: int = 0
    conversation: Conversation | None = None
    request_log: RequestLog | None = None
    is_subagent: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_subagent = bool(self.key)

    @property
    def call_id(self) -> str | None:
        """The id of the call that started this subagent, as its own files name it; None if they do not."""
        return (self.meta.tool_use_id if self.meta is not None else None) or self.named

    @property
    def may_call(self) -> bool:
        """Whether a call may still come on this subagent's thread: its log was not read yet, or not to its end."""
        if self.first_uuid is None or self.working or self.is_behind or self.messages:
            return True
        return any(call.result is None for call in self.calls.values())

    @property
    def messages(self) -> list[OpenMessage]:
        """The messages that are not finished."""
        if not self.parked:
            return [] if self.open is None else [self.open]
        return [*self.parked.values(), *([] if self.open is None else [self.open])]

    def rest(self) -> None:
        """Note that the model answered, or never will."""
        self.working = self.is_behind = False
        self.asked_at = None

    def ask(self) -> None:
        """Note that the model owes an answer."""
        self.working = True
        self.asked_at = self.near or 0

    def be_answered_for(self) -> None:
        """Note that the result of this subagent's call has its answer."""
        self.working, self.is_behind = False, self.working

    def park(self) -> None:
        """Set the open message aside, if there is one: a line of another branch comes."""
        if self.open is not None:
            self.parked[self.open.id] = self.open
            self.open = None

    def descend(self, line: str | None, parent: str | None) -> None:
        """Note that *line* is below *parent* in the conversation."""
        if line is None or parent is None:
            return
        if not (self.parked or self.calls):
            # Usually nothing but the open message is followed, and this is asked of each line.
            if self.open is not None and parent in self.open.below:
                self.open.below.add(line)
            return
        for message in self.followed():
            if parent in message.below:
                message.below.add(line)

    def followed(self) -> Iterator[OpenMessage]:
        """Yield the messages for which it matters what is below them: the open ones, and those with open calls."""
        yield from self.messages
        if not self.is_subagent:
            for call in self.calls.values():
                if call.message is not None and call.message.emitted:
                    yield call.message

    def take_inputs(self, is_apart: Callable[[Input], bool]) -> list[Input]:
        """Return the inputs for a message that begins; what comes next is for the message after it.

        Args:
            is_apart: whether an input is on another branch. Such a one is kept for a message there.
        """
        apart = [item for item in self.inputs if is_apart(item)]
        inputs = [item for item in self.inputs if not is_apart(item)] if apart else self.inputs
        self.inputs = apart[-_KEPT_APART:]
        return inputs

    def add_input(
        self, message: InputMessage, *, answers: tuple[str, ...] = (), root: PromptLine | None = None
    ) -> None:
        """Add what the model sees with its next request.

        Args:
            message: what it sees.
            answers: the calls whose results it holds.
            root: the prompt that its line is known to belong to.
        """
        part = self.conversation.part if self.conversation is not None else 0
        self.inputs.append(Input(message=message, at=self.at, answers=answers, part=part, root=root))

    def opened_with(self, line_context: LineContext) -> InputMessage | None:
        """Return what a line's turn started with: the prompt that was typed, or a subagent's task."""
        if self.is_subagent:
            return self.task
        return line_context.prompt.said if line_context.prompt is not None else None

    def pending(self) -> list[Input]:
        """Return what the model sees with the next request: what came after the open message, and its results."""
        if self.open is None:
            return list(self.inputs)
        own = {call.id for call in self.open.calls}
        return [*(item for item in self.open.given if own.intersection(item.answers)), *self.inputs]

    def add_request(self, request: ApiRequestRecord, at: int | None) -> None:
        """Keep a request until the message that answers it names it."""
        self.request = (request, at)
        if request.id:
            self.requests[request.id] = self.request
            while len(self.requests) > _REMEMBERED_REQUESTS:
                del self.requests[next(iter(self.requests))]

    def needed(self) -> Iterator[LineRange]:
        """Yield the lines of everything that was not given out yet."""
        for message in self.messages:
            yield message.lines
        for _, lines in self.inherited:
            yield lines
        for item in self.waiting:
            yield item.lines
        for call in self.calls.values():
            yield call.lines
            if call.result is not None:
                yield call.result.lines
        for orphan in self.orphans.values():
            yield orphan.lines
        if self.compaction is not None:
            yield self.compaction.lines
