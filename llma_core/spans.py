"""What happened, in tracing words: generations, tool calls, failed attempts, compactions, traces.

An accumulator gives these out once they are final; `llma_core.events` turns them into capture events. No client's and
no vendor's key names stand here. Times are milliseconds since the epoch, UTC, from the log. Content is raw JSON, as
logged.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

__all__ = [
    "ApiFailure",
    "Compaction",
    "ContentBlock",
    "Context",
    "Generation",
    "HookRun",
    "InputMessage",
    "LineRange",
    "Prompt",
    "Request",
    "RequestMessage",
    "Span",
    "TokenUsage",
    "ToolCall",
    "Trace",
    "TurnKey",
    "checksum_of",
    "same_message",
    "settled_name",
]


class TokenUsage(Struct, frozen=True, kw_only=True):
    """Counts of one API response, in tokens; None where the log does not say.

    Attributes:
        input: uncached input tokens (the cache counts are not part of them).
        output: output tokens, thinking included.
        cache_read: input tokens read from the cache.
        cache_creation: input tokens written to the cache; the 5m and 1h counts add up to it where both are known.
        cache_creation_5m: written with a life of five minutes.
        cache_creation_1h: written with a life of one hour.
        reasoning: output tokens spent on thinking.
        web_searches: server-side web searches, billed apart.
        service_tier: `standard`, `priority`, ... as the provider says.
        speed: `standard`, `fast`, ... as the provider says.
        raw: the usage object as logged, a JSON object.
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
    raw: bytes | None = None


class LineRange(Struct, frozen=True, kw_only=True):
    """The lines of one file that a span rests on; they are settled when the span is.

    Attributes:
        file: the file, by the name its reader gave it.
        start: offset of the first of them.
        end: offset behind the last of them.
    """

    file: str
    start: int
    end: int


class TurnKey(Struct, frozen=True, kw_only=True):
    """What a prompt's own trace is called.

    Attributes:
        kind: `prompt` for the id of a prompt, `stretch` for the id of the first message where no prompt is to be found.
        id: that id.
    """

    kind: Literal["prompt", "stretch"]
    id: str


class Context(Struct, frozen=True, kw_only=True):
    """What was true where a span's last line stands.

    Attributes:
        session: id of the session that wrote the span first.
        turn: the prompt it belongs to.
        prompt: the human prompt of that turn.
        session_name: name of the session's trace so far.
        turn_name: name of the turn's trace.
        cwd: working directory of the line.
        branch: git branch of the line.
        version: client version of the line.
        entrypoint: how the client was started (`cli`, `sdk-cli`, ...).
        permission_mode: the turn's permission mode.
        near: time of the thread's latest line that has one: the best guess for a line without.
        effort: how hard the model was asked to think.
        agent: type of the subagent; None on the main thread.
        parent_call: id of the call that started the subagent; None on the main thread and where no call did.
        is_subagent: whether this is not the main thread.
    """

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


class ContentBlock(Struct, frozen=True, kw_only=True):
    """One block of a message.

    Attributes:
        type: the provider's name for it.
        raw: the block as logged, a JSON object.
    """

    type: str
    raw: bytes


class InputMessage(Struct, frozen=True, kw_only=True):
    """One message of a thread's conversation, as the log has it.

    Attributes:
        role: `user`; `assistant` for an earlier answer.
        content: a JSON string or a list of blocks, as logged.
        origin: `prompt` typed by a person; `client` text the client added or wrapped; `command_output` of a command the
            user ran; `agent_prompt` that another model wrote; `notification` of a background task's end, with what it
            has to report; `tool_result`; `answer` of the model's own, in a whole conversation.
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
    """An API request as it was sent, as far as the log lets it be rebuilt.

    Attributes:
        system: the system prompt's blocks, each a JSON object; empty where they are not known.
        tools: the definitions of the tools offered, a JSON list; None where they are not known.
        messages: all its messages in order, each of which is what the log says that was sent; None where one of them
            is not to be found.
        exact: whether all of that is known, and is what was sent.
    """

    system: tuple[bytes, ...]
    tools: bytes | None
    messages: tuple[RequestMessage, ...] | None
    exact: bool


class Prompt(Struct, frozen=True, kw_only=True):
    """A person asked something: a turn, and with it a trace, has begun. Gives no event of its own."""

    identity: str
    context: Context
    at: int | None
    lines: LineRange


class Generation(Struct, frozen=True, kw_only=True):
    """One API response.

    Attributes:
        identity: id of the message, unique over all sessions.
        checksum: see `checksum_of`.
        context: where it stands.
        model: the model as logged.
        provider: `anthropic`, `bedrock` or `vertex`.
        usage: token counts.
        output_partial: whether the output count is only a lower bound (cut, interrupted, or written before the end).
        started_at: when the request began.
        ended_at: its last line.
        stop_reason: the provider's word; `interrupted` for a message the user stopped; None where it is not known.
        input: what the model was given since its previous answer.
        conversation: all that was said on the thread up to its answer, since the last compaction; None unless whole
            inputs were asked for.
        request: the request that it answers; likewise, and None where the log has none.
        output: its blocks in order, each once.
        tools_called: names of the tools it called, in order.
        max_tokens: of the request.
        thinking: of the request, a JSON object.
        service_tier: of the answer.
        speed: of the answer.
        mcp_server: the MCP server whose result the message answers, where logged.
        mcp_tool: that server's tool.
        skill: the skill that was active, where logged.
        lines: the lines it rests on.
    """

    identity: str
    checksum: bytes
    context: Context
    model: str | None
    provider: str
    usage: TokenUsage | None
    output_partial: bool
    started_at: int | None
    ended_at: int | None
    stop_reason: str | None
    input: tuple[InputMessage, ...]
    conversation: tuple[InputMessage, ...] | None = None
    request: Request | None = None
    output: tuple[ContentBlock, ...]
    tools_called: tuple[str, ...]
    max_tokens: int | None = None
    thinking: bytes | None = None
    service_tier: str | None = None
    speed: str | None = None
    mcp_server: str | None = None
    mcp_tool: str | None = None
    skill: str | None = None
    lines: LineRange


class HookRun(Struct, frozen=True, kw_only=True):
    """One run of a program the user has hooked into the client.

    Attributes:
        name: what it was hooked to, `PostToolUse:Bash` and the like.
        duration_ms: how long it took, where logged.
        failed: whether it ended with an error or was stopped.
        error: its words then, if it had any.
    """

    name: str
    duration_ms: int | None
    failed: bool
    error: str | None


class ToolCall(Struct, frozen=True, kw_only=True):
    """One call of a tool, with its result if it ever got one.

    Attributes:
        identity: id of the call, unique over all sessions.
        call_id: the provider's id of the call; results and subagents name it.
        context: where the call stands.
        name: the tool.
        generation: identity of the generation that made the call.
        generation_ended_at: that generation's last line when it became final; a late call's own line.
        is_agent: whether the call starts a subagent.
        called_at: the call's line.
        ended_at: the result's line; None without a result.
        input: the arguments as raw JSON; None where the log has none.
        output: the result's content as raw JSON; None without a result.
        status: `ok`, `error`, `denied`, `interrupted` or `no_result`.
        permission_decision: what was decided about it, where logged.
        skill: the skill that was active, where logged.
        hooks: what ran before and after it, in order.
        lines: the lines it rests on.
    """

    identity: str
    call_id: str
    context: Context
    name: str
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


class ApiFailure(Struct, frozen=True, kw_only=True):
    """One API attempt that failed.

    Attributes:
        identity: uuid of its line.
        context: where it stands.
        at: when it failed.
        started_at: when the attempt began, where logged.
        model: the model asked, where known.
        provider: as for a generation.
        status: HTTP status, where known.
        error_type: the provider's type, `overloaded_error` and the like.
        message: the error's words.
        lines: the line.
    """

    identity: str
    context: Context
    at: int | None
    started_at: int | None
    model: str | None
    provider: str
    status: int | None
    error_type: str | None
    message: str | None
    lines: LineRange


class Compaction(Struct, frozen=True, kw_only=True):
    """The client replaced the conversation by a summary.

    Attributes:
        identity: uuid of its line.
        context: where it stands.
        at: when it was done.
        duration_ms: how long it took.
        trigger: `manual` or `auto`.
        tokens_before: size of the conversation before, in tokens.
        tokens_after: and after.
        lines: the line.
    """

    identity: str
    context: Context
    at: int | None
    duration_ms: int | None
    trigger: str | None
    tokens_before: int | None
    tokens_after: int | None
    lines: LineRange


class Trace(Struct, frozen=True, kw_only=True):
    """A session or a turn has ended; what it came to.

    Attributes:
        scope: `session` or `turn`.
        session: the session's id.
        turn: the turn's key; None for a session.
        context: of the latest line that counted.
        name: session title or first prompt.
        started_at: when the first thing in it began.
        first_at: time of its first generation, else of its prompt; the event's own time.
        ended_at: when the last thing in it ended.
        input_tokens: sum over its generations; None if none says.
        output_tokens: likewise.
        generations: how many.
        tool_calls: how many.
        subagents: how many.
        api_errors: how many failed attempts.
        compactions: how many.
        unknown_records: lines of types this version does not know.
        hook_runs: how often the user's hooked-in programs ran.
        hook_ms: how long they took together, where logged.
        hook_errors: how many of them failed.
        side_usage: by model, what the client's own totals hold beyond the generations: titles, compaction and other
            calls that are not logged. None where that cannot be told.
        failed: whether it ended in a failed attempt that nothing followed.
        error: that failure's words.
        error_type: that failure's type.
        prompt: the first prompt.
        answer: the last answer's words, as JSON.
        client_cost_usd: the client's own total, cumulative as it writes it.
        lines_added: likewise.
        lines_removed: likewise.
    """

    scope: Literal["session", "turn"]
    session: str
    turn: TurnKey | None
    context: Context
    name: str | None
    started_at: int | None
    first_at: int | None
    ended_at: int | None
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
    side_usage: Mapping[str, TokenUsage] | None = None
    failed: bool = False
    error: str | None = None
    error_type: str | None = None
    prompt: str | None = None
    answer: bytes | None = None
    client_cost_usd: float | None = None
    lines_added: int | None = None
    lines_removed: int | None = None


Span = Prompt | Generation | ToolCall | ApiFailure | Compaction | Trace


def settled_name(kind: Literal["gen", "call", "error", "compaction", "prompt"], identity: str) -> str:
    """Return what something that happened is called in the settled table, whatever log it is found in."""
    return f"{kind}|{identity}"


def checksum_of(uuid: str | None, timestamp: str | None, block: bytes) -> bytes:
    """Return what tells copies of a message from another message that a gateway gave the same id.

    Four bytes each for the first line's uuid, its time and its block; four zero bytes where the line has none.
    """
    # The checksum of nothing is zero.
    return _CHECKSUM.pack(zlib.crc32((uuid or "").encode()), zlib.crc32((timestamp or "").encode()), zlib.crc32(block))


_CHECKSUM = struct.Struct(">III")


def same_message(checksum: bytes, other: bytes) -> bool:
    """Whether two checksums have anything in common, so that they are of copies of one message."""
    slots = ((checksum[at : at + 4], other[at : at + 4]) for at in (0, 4, 8))
    return any(one == another and one != bytes(4) for one, another in slots)
