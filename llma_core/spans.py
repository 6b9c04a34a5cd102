"""What happened, in the terms of tracing: generations, tool calls, failed attempts, compactions, traces.

An accumulator gives out these spans when they are final, and `llma_core.events` turns them into events. Key names of
any client or vendor do not appear here. Times are from the log, in milliseconds since the epoch, UTC. Content is raw
JSON, as logged. Unless a docstring says otherwise, None means that the log does not say.
"""

from __future__ import annotations

import struct
import zlib
from typing import Literal

from msgspec import Struct

__all__ = [
    "ApiFailure",
    "Compaction",
    "ContentBlock",
    "Context",
    "Framework",
    "Generation",
    "HookRun",
    "InnerCall",
    "InputMessage",
    "LineRange",
    "Metric",
    "OpeningTrace",
    "Prompt",
    "Recorded",
    "RecordedCost",
    "RecordedError",
    "RecordedTotals",
    "Request",
    "RequestMessage",
    "SessionFacts",
    "SideCalls",
    "Span",
    "TokenUsage",
    "ToolCall",
    "Trace",
    "TurnKey",
    "Verdict",
    "checksum_of",
    "same_message",
    "settled_name",
]


class TokenUsage(Struct, frozen=True, kw_only=True, gc=False):
    """The token counts of one API response.

    Attributes:
        input: uncached input tokens; the cache counts are not part of them.
        output: output tokens, including thinking.
        cache_read: input tokens read from the cache.
        cache_creation: input tokens written to the cache. If both are known, the 5m and 1h counts add up to it.
        cache_creation_5m: tokens written to the cache for five minutes.
        cache_creation_1h: tokens written to the cache for one hour.
        reasoning: output tokens used for thinking.
        web_searches: number of web searches by the provider, which are billed separately.
        service_tier: the provider's value, such as `standard` or `priority`.
        speed: the provider's value, such as `standard` or `fast`.
        inner: the calls inside this one, each with its place; their counts are not part of these.
        raw: the usage as logged, a JSON object.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_creation: int | None = None
    cache_creation_5m: int | None = None
    cache_creation_1h: int | None = None
    reasoning: int | None = None
    web_searches: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    inner: tuple[InnerCall, ...] = ()
    raw: bytes | None = None


class InnerCall(Struct, frozen=True, kw_only=True, gc=False):
    """A call that the provider made inside another, such as an advisor's or a compaction's.

    Attributes:
        index: its place among the parts of the call.
        kind: the provider's name for it.
        model: its model; None if it is that of the call.
        usage: its own token counts.
    """

    index: int
    kind: str
    model: str | None
    usage: TokenUsage


class LineRange(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The lines of one file that a span is made from. They are settled when the span is settled.

    Attributes:
        file: the file, by the name its reader gave it.
        start: offset of the first line in bytes.
        end: offset just after the last line in bytes.
    """

    file: str
    start: int
    end: int


class TurnKey(Struct, frozen=True, kw_only=True, gc=False):
    """The key of a turn: of a prompt and everything that followed from it.

    Attributes:
        kind: `prompt`, or `stretch` for messages without a prompt.
        id: the id of the prompt, or of the stretch's first message.
    """

    kind: Literal["prompt", "stretch"]
    id: str


class Framework(Struct, frozen=True, kw_only=True):
    """How the events of one kind of log are named.

    Attributes:
        name: the framework's name; its main thread's agent is called so, too.
        prefix: how the names of its own event properties begin.
        ids: how the kinds of things begin that its uuids are made of.
        library: the library that its events name as their origin; None if that is this project.
    """

    name: str
    prefix: str
    ids: str
    library: str | None = None


class Context(Struct, frozen=True, kw_only=True, gc=False):
    """What was true at a span's last line.

    Attributes:
        framework: how its event is named.
        session: id of the session that wrote the span first.
        turn: the turn it belongs to.
        prompt: the human prompt of that turn.
        session_name: name of the session's trace so far.
        turn_name: name of the turn's trace.
        cwd: working directory.
        branch: git branch.
        version: version of the client.
        entrypoint: how the client was started, such as `cli` or `sdk-cli`.
        permission_mode: the turn's permission mode.
        near: time of the thread's latest line that has one, the best guess for a line without a time.
        effort: how hard the model was asked to think.
        agent: type of the subagent; on the main thread, the agent that the session was started as, if it was.
        parent_call: id of the call that started the subagent; None on the main thread, or if no call is known.
        is_subagent: whether the span belongs to a subagent.
    """

    framework: Framework
    session: str
    turn: TurnKey
    prompt: str | None = None
    session_name: str | None = None
    turn_name: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    entrypoint: str | None = None
    permission_mode: str | None = None
    near: int | None = None
    effort: str | None = None
    agent: str | None = None
    parent_call: str | None = None
    is_subagent: bool = False


class ContentBlock(Struct, frozen=True, kw_only=True, gc=False):
    """One block of a message.

    Attributes:
        type: the provider's name for this kind of block.
        raw: the block as logged, a JSON object.
    """

    type: str
    raw: bytes


class InputMessage(Struct, frozen=True, kw_only=True, gc=False):
    """One message of a thread's conversation, as logged.

    Attributes:
        role: `user`; `assistant` for an earlier answer.
        content: a JSON string or a JSON list of blocks.
        origin: `prompt`: a person typed it. `client`: the client added or wrapped it. `command_output`: a command that
            the user ran printed it. `agent_prompt`: another model wrote it. `notification`: a background task has ended
            and reports. `tool_result`: a tool's result. `answer`: an answer of the model, in a whole conversation.
    """

    role: str
    content: bytes
    origin: Literal["prompt", "client", "command_output", "agent_prompt", "notification", "tool_result", "answer"]


class RequestMessage(Struct, frozen=True, kw_only=True):
    """One message of an API request.

    Attributes:
        role: `user`, `assistant` or `system`.
        blocks: its content, each block a JSON object.
    """

    role: str
    blocks: tuple[bytes, ...]


class Request(Struct, frozen=True, kw_only=True):
    """An API request as it was sent, as far as it can be rebuilt from the log.

    Attributes:
        system: the blocks of the system prompt, each a JSON object; empty if they are not known.
        tools: the definitions of the offered tools, a JSON list.
        messages: all messages in order; None if any of them cannot be found in the log.
        exact: whether everything is known and is exactly what was sent.
    """

    system: tuple[bytes, ...]
    tools: bytes | None
    messages: tuple[RequestMessage, ...] | None
    exact: bool


class Prompt(Struct, frozen=True, kw_only=True, gc=False):
    """A person's prompt, which starts a turn and its trace. It makes no event of its own.

    Attributes:
        identity: id of the prompt's line.
        context: the context.
        at: when it was given.
        lines: the line.
    """

    identity: str
    context: Context
    at: int | None
    lines: LineRange


class Generation(Struct, frozen=True, kw_only=True, gc=False):
    """One API response.

    Attributes:
        identity: id of the message, unique across all sessions.
        span_id: the readable id that others refer to; None if that is the identity.
        inside: id of the generation that it ran in; None if it is no call inside another.
        kind: what a call inside another is, such as `advisor_message`.
        checksum: tells copies of the message from other messages; see `checksum_of`.
        context: the context.
        model: the model.
        provider: who serves the model, judged by its id; None if the id does not say.
        usage: the token counts.
        output_partial: whether the output count is only a lower bound, because the stream broke off, the user stopped
            it, or the count was logged before the end.
        started_at: when the request began.
        ended_at: time of its last line.
        stop_reason: the provider's value; `interrupted` for a message that the user stopped.
        was_stopped: whether the user stopped it, or its client ended before it was complete.
        input: what its turn started with (the prompt, or a subagent's task), then what the model was given since its
            previous answer.
        conversation: everything that was said on the thread before this answer, since the last compaction; None unless
            the caller asked for whole inputs.
        request: the request that it answers; None unless the caller asked for whole inputs and the log has it.
        output: its blocks in order, each once.
        tools_called: names of the tools it called, in order.
        max_tokens: the request's limit.
        thinking: the request's setting, a JSON object.
        service_tier: the service tier of the answer.
        speed: the speed of the answer.
        request_id: the provider's id of the request.
        request_name: a name in the settled table by which copies are recognized that have new ids; None if there are no
            such copies.
        mcp_server: the MCP server whose result the message answers.
        mcp_tool: that server's tool.
        skill: the skill that was active.
        lines: the lines it is made from.
    """

    identity: str
    span_id: str | None = None
    inside: str | None = None
    kind: str | None = None
    checksum: bytes
    context: Context
    model: str | None
    provider: str | None
    usage: TokenUsage | None
    output_partial: bool
    started_at: int | None
    ended_at: int | None
    stop_reason: str | None
    was_stopped: bool = False
    input: tuple[InputMessage, ...]
    conversation: tuple[InputMessage, ...] | None = None
    request: Request | None = None
    output: tuple[ContentBlock, ...]
    tools_called: tuple[str, ...]
    max_tokens: int | None = None
    thinking: bytes | None = None
    service_tier: str | None = None
    speed: str | None = None
    request_id: str | None = None
    request_name: str | None = None
    mcp_server: str | None = None
    mcp_tool: str | None = None
    skill: str | None = None
    lines: LineRange


class HookRun(Struct, frozen=True, kw_only=True, gc=False):
    """One run of a hook, a program that the user lets the client run.

    Attributes:
        name: what it is hooked to, such as `PostToolUse:Bash`.
        duration_ms: how long it took, in milliseconds.
        failed: whether it ended with an error or was stopped.
        error: the error message, if there was one.
    """

    name: str
    duration_ms: int | None
    failed: bool
    error: str | None


class ToolCall(Struct, frozen=True, kw_only=True, gc=False):
    """One call of a tool, with its result if there is one.

    Attributes:
        identity: id of the call, unique across all sessions.
        call_id: the provider's id of the call; results and subagents refer to it.
        context: the context.
        name: the tool.
        subject: the agent, skill, workflow or command that the call starts, by its name.
        duration_ms: how long it took, in milliseconds, as its result says.
        generation: identity of the generation that made the call.
        generation_ended_at: time of that generation's last line when it became final; for a call that came later, the
            time of the call's own line.
        is_agent: whether the call starts a subagent.
        called_at: time of the call's line.
        ended_at: time of the result's line; None without a result.
        input: the arguments as raw JSON.
        output: the result's content as raw JSON; None without a result.
        status: `ok`, `error`, `denied`, `interrupted` or `no_result`.
        permission_decision: whether the call was allowed, in the client's words.
        skill: the skill that was active.
        hooks: the hooks that ran before and after it, in order.
        lines: the lines it is made from.
    """

    identity: str
    call_id: str
    context: Context
    name: str
    subject: str | None = None
    duration_ms: int | None = None
    generation: str
    generation_ended_at: int | None
    is_agent: bool
    called_at: int | None
    ended_at: int | None
    input: bytes | None
    output: bytes | None
    status: Literal["ok", "error", "denied", "interrupted", "no_result"]
    permission_decision: str | None
    skill: str | None
    hooks: tuple[HookRun, ...]
    lines: LineRange


class ApiFailure(Struct, frozen=True, kw_only=True, gc=False):
    """One API attempt that failed.

    Attributes:
        identity: uuid of its line.
        context: the context.
        at: when it failed.
        started_at: when the attempt began.
        model: the model that was asked.
        provider: as for a generation.
        status: the HTTP status.
        error_type: the provider's type, such as `overloaded_error`.
        message: the error message.
        input: as for a generation. The same holds for the two below.
        conversation: everything that was said before and with the request.
        request: the request that failed.
        lines: the line.
    """

    identity: str
    context: Context
    at: int | None
    started_at: int | None
    model: str | None
    provider: str | None
    status: int | None
    error_type: str | None
    message: str | None
    input: tuple[InputMessage, ...] = ()
    conversation: tuple[InputMessage, ...] | None = None
    request: Request | None = None
    lines: LineRange


class Compaction(Struct, frozen=True, kw_only=True, gc=False):
    """A compaction: the client replaced the conversation by a summary.

    Attributes:
        identity: uuid of its line.
        context: the context.
        at: when it was done.
        duration_ms: how long it took, in milliseconds.
        trigger: `manual` or `auto`.
        tokens_before: size of the conversation before it, in tokens.
        tokens_after: size of the conversation after it, in tokens.
        summary: what stands in the conversation's place.
        lines: the lines.
    """

    identity: str
    context: Context
    at: int | None
    duration_ms: int | None
    trigger: str | None
    tokens_before: int | None
    tokens_after: int | None
    summary: str | None = None
    lines: LineRange


class SideCalls(Struct, frozen=True, kw_only=True, gc=False):
    """Calls of one model that are not logged, such as those for titles: the client's own totals tell of them.

    Attributes:
        number: the number of the session's ending that tells of them, from 1.
        context: the context of the main thread's latest line before that.
        model: the model.
        provider: as for a generation.
        usage: their token counts, added up.
        at: the time of that line.
        lines: the line with the totals.
    """

    number: int
    context: Context
    model: str
    provider: str | None
    usage: TokenUsage
    at: int | None
    lines: LineRange


class Metric(Struct, frozen=True, kw_only=True, gc=False):
    """A figure about a session, by which sessions can be compared.

    Attributes:
        name: what it measures, such as `lines_added`.
        value: by how much it grew since the session's ending before.
        number: the number of the session's ending that tells of it, from 1.
        context: the context of the main thread's latest line before that.
        at: the time of that line.
        lines: the line that tells of it.
    """

    name: str
    value: int
    number: int
    context: Context
    at: int | None
    lines: LineRange


class Verdict(Struct, frozen=True, kw_only=True):
    """What somebody else said of a session when it ended, such as a command that ran it.

    Attributes:
        name: what it says.
        value: the value.
        number: the number of the trace's ending that it is said with, from 1.
        context: the context of the session's latest span.
        at: the time of that span.
    """

    name: str
    value: str | float
    number: int
    context: Context
    at: int | None


class RecordedCost(Struct, frozen=True, kw_only=True):
    """What something cost by its caller's own account, in US dollars."""

    total: float | None = None
    input: float | None = None
    output: float | None = None


class RecordedError(Struct, frozen=True, kw_only=True):
    """That something failed.

    Attributes:
        type: the name of the error's class, or the provider's name for it.
        message: the error message, which is content.
    """

    type: str | None = None
    message: str | None = None


class RecordedTotals(Struct, frozen=True, kw_only=True):
    """What a recorder summed for a trace: numbers of things and tokens, and US dollars."""

    generations: int | None = None
    spans: int | None = None
    embeddings: int | None = None
    errors: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


class Recorded(Struct, frozen=True, kw_only=True):
    """Something that a program recorded itself, final as it is.

    Attributes:
        kind: what it is.
        identity: its uuid, which is also that of its event.
        context: where its program ran.
        at: when it ended.
        lines: its line.
        trace: the id of its trace.
        session: the id of its session; None if it is in none.
        span: the id that others name as their parent; None: its identity.
        parent: the span that it is inside; None: its trace.
        name: what the program calls it.
        distinct_id: whose it is; None: that of the settings.
        groups: PostHog's groups, a JSON object.
        properties: the caller's own properties, a JSON object.
        is_private: whether no content of it may leave.
        is_local: whether nothing of it may leave the machine.
        host: the host that it is to be sent to; None: that of the settings.
        key: the project API key that it is to be sent with; None: that of the settings.
        model: the model.
        provider: who serves the model.
        input: what went in, as JSON.
        output: what came out, as JSON.
        usage: the token counts; None also for what failed.
        is_exclusive: whether the count of input tokens leaves out those of the cache; None if no cache is known.
        latency_ms: how long it took, in milliseconds.
        first_token_ms: how long until its first token, in milliseconds.
        stream: whether it was streamed.
        cost: what it cost; None if the program does not say.
        error: that it failed; None if it did not.
        http_status: the HTTP status of the answer.
        stop_reason: the provider's value.
        parameters: the parameters of the request, a JSON object.
        tools: the definitions of the offered tools, a JSON list.
        turns: how many turns an agent took.
        base_url: where the provider was reached.
        request_id: the provider's id of the request.
        service_tier: the service tier.
        span_type: what kind of step a span is, such as `tool` or `retriever`.
        totals: what a trace sums.
        outcome: how a trace ended, `ok` or `failed`.
        label: the name of a metric or of a feedback.
        value: its value, as JSON.
        text: what somebody wrote as feedback.
    """

    kind: Literal["generation", "embedding", "span", "trace", "metric", "feedback"]
    identity: str
    context: Context
    at: int
    lines: LineRange
    trace: str
    session: str | None = None
    span: str | None = None
    parent: str | None = None
    name: str | None = None
    distinct_id: str | None = None
    groups: bytes | None = None
    properties: bytes | None = None
    is_private: bool = False
    is_local: bool = False
    host: str | None = None
    key: str | None = None
    model: str | None = None
    provider: str | None = None
    input: bytes | None = None
    output: bytes | None = None
    usage: TokenUsage | None = None
    is_exclusive: bool | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    stream: bool | None = None
    cost: RecordedCost | None = None
    error: RecordedError | None = None
    http_status: int | None = None
    stop_reason: str | None = None
    parameters: bytes | None = None
    tools: bytes | None = None
    turns: int | None = None
    base_url: str | None = None
    request_id: str | None = None
    service_tier: str | None = None
    span_type: str | None = None
    totals: RecordedTotals | None = None
    outcome: str | None = None
    label: str | None = None
    value: bytes | None = None
    text: str | None = None


class SessionFacts(Struct, frozen=True, kw_only=True):
    """What the caller of an agent knows of a session that the agent's own log holds. It makes no event of its own.

    Attributes:
        agent: the agent's name.
        session: the session's id.
        phase: `start`: what is known from its beginning on, up to the name; `end`: the rest.
        context: where its program ran.
        lines: the line that says it.
        distinct_id: whose session it is.
        properties: properties of all its events, a JSON object.
        groups: PostHog's groups, a JSON object.
        is_private: whether no content of it may leave.
        name: the name of its trace.
        turns: how many turns it took.
        api_ms: time spent in API calls, in milliseconds.
        cost: what it cost by the caller's own account, in US dollars.
        result: how it ended, as the agent calls it, such as `success`.
    """

    agent: str
    session: str
    phase: Literal["start", "end"]
    context: Context
    lines: LineRange
    distinct_id: str | None = None
    properties: bytes | None = None
    groups: bytes | None = None
    is_private: bool = False
    name: str | None = None
    turns: int | None = None
    api_ms: float | None = None
    cost: float | None = None
    result: str | None = None


class OpeningTrace(Struct, frozen=True, kw_only=True, gc=False):
    """The beginning of a session, as its first attempt at an API call on the main thread tells it.

    Attributes:
        session: the session's id.
        context: the context of that attempt.
        at: when that attempt ended, as `Trace.first_at`.
        name: the session's title so far, or the first prompt.
        prompt: the first prompt.
    """

    session: str
    context: Context
    at: int | None
    name: str | None
    prompt: str | None


class Trace(Struct, frozen=True, kw_only=True, gc=False):
    """The summary of a session or a turn that has ended.

    Attributes:
        scope: `session` or `turn`.
        session: the session's id.
        turn: the turn's key; None for a session.
        context: the context of its latest span.
        name: the session's title or the first prompt.
        started_at: when its first span began.
        first_at: when the main thread's first attempt at an API call ended; without one, when the first generation did,
            else the time of its prompt. This is the event's time.
        ended_at: when its last span ended.
        worked_ms: how long somebody worked, in milliseconds: each turn from its prompt to its last span, overlaps once.
        input_tokens: sum over its generations.
        output_tokens: sum over its generations.
        generations: number of generations.
        tool_calls: number of tool calls.
        subagents: number of subagents.
        api_errors: number of failed attempts.
        compactions: number of compactions.
        unknown_records: number of lines of types that this version does not know.
        hook_runs: number of runs of hooks.
        hook_ms: how long they took together, in milliseconds.
        hook_errors: number of these runs that failed.
        outcome: `failed` if the main thread's last attempt failed; `interrupted` if the user, or the client's end,
            stopped what it did last.
        stopped_by: the limit of the user's that did so, as the client calls it.
        prompt: the first prompt.
        answer: the text of the last answer, as a JSON string.
        client_cost_usd: the client's own total in US dollars, cumulative as the client writes it.
        lines_added: the client's own total of lines of code added, cumulative.
        lines_removed: the client's own total of lines of code removed, cumulative.
    """

    scope: Literal["session", "turn"]
    session: str
    turn: TurnKey | None
    context: Context
    name: str | None
    started_at: int | None
    first_at: int | None
    ended_at: int | None
    worked_ms: int | None = None
    input_tokens: int | None
    output_tokens: int | None
    generations: int
    tool_calls: int
    subagents: int
    api_errors: int
    compactions: int
    unknown_records: int = 0
    hook_runs: int = 0
    hook_ms: int = 0
    hook_errors: int = 0
    outcome: Literal["ok", "failed", "interrupted"] = "ok"
    stopped_by: str | None = None
    prompt: str | None = None
    answer: bytes | None = None
    client_cost_usd: float | None = None
    lines_added: int | None = None
    lines_removed: int | None = None


Span = (
    Prompt
    | Generation
    | ToolCall
    | ApiFailure
    | Compaction
    | SideCalls
    | Metric
    | OpeningTrace
    | Trace
    | Recorded
    | SessionFacts
)


def settled_name(
    kind: Literal["gen", "call", "error", "compaction", "prompt", "request", "side", "metric", "line"], identity: str
) -> str:
    """Return the name of a span in the settled table; it is the same in whatever log the span is found."""
    return f"{kind}|{identity}"


def checksum_of(uuid: str | None, timestamp: str | None, block: bytes) -> bytes:
    """Return the checksum of a message, which tells its copies from another message that a gateway gave the same id.

    It has four bytes each for the uuid, the time and the block of the message's first line. If the line lacks one of
    them, its bytes are zero.
    """
    # The CRC of nothing is zero.
    return _CHECKSUM.pack(zlib.crc32((uuid or "").encode()), zlib.crc32((timestamp or "").encode()), zlib.crc32(block))


_CHECKSUM = struct.Struct(">III")


def same_message(checksum: bytes, other: bytes) -> bool:
    """Whether two checksums belong to copies of one message: any of their parts is the same."""
    slots = ((checksum[at : at + 4], other[at : at + 4]) for at in (0, 4, 8))
    return any(one == another and one != bytes(4) for one, another in slots)
