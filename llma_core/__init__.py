"""The pure half of the daemon: it turns lines of an agent's session log into events for PostHog LLM Analytics.

    bytes                                      a log that grows, read in pieces of any size
      lines.LineSplitter                     -> complete lines, each with its place in the file
      agent.Agent.decoder                    -> records; `claude_code.records` is the only module that knows their keys
      agent.Accumulator.feed                 -> spans, each given out once, when it is final
      events.build                           -> events, encoded, under the names that PostHog knows

Nothing in this package reads a file, a clock or the network. Nothing logs or waits. Bytes, times and settings come in,
and values go out. So a log can be replayed at any time, and gives the same events to the byte. Reading, waiting,
storing and sending are the job of the `daemon` package; the top of `daemon/service.py` has the other half of this map.

Agents
    An agent is a program that writes session logs, such as Claude Code. `agent` declares what the daemon may ask of
    one, `agents` lists those there are, and `claude_code` has everything that only Claude Code does. `outbox` has the
    lines that programs record of their own calls: they are one more kind of log. `recovery` finds whole records in
    damaged lines, and `hosted_lines` tells which lines of a log belong to another session.

Spans
    A span says what happened in the terms of tracing (`spans`). It is a generation (one model call, however many lines
    the log uses for it), a tool call, a failed API attempt, a compaction, or a trace (a whole session, or one prompt
    and everything that followed from it). Each span names the lines it was made from, so that the daemon knows how much
    of a file is dealt with. Each has an identity, from which `identifiers` makes the event's uuid: wherever, whenever
    and in whatever pieces a log is read, its events have the same uuids.

When a span is final
    The log never says that a model call is complete. `claude_code.session` decides it, and its opening comment has the
    rules. This is the heart of the package.

What may leave the machine
    `privacy` applies the content level, scrubs secrets, and cuts what is too long. It lets most content leave as the
    bytes it was logged as. `redaction` has the rules that find secrets. `screen` looks at text first and finds in one
    pass that most of it holds none. `chat` goes through the messages of any provider, as programs record them.

Events
    `events` makes them. `properties` has what all of them share, `recorded_events` what only recorded ones have. `view`
    reads events back for whoever displays them, `trace_tree` arranges them, and `hogql` asks PostHog for them.
"""

from __future__ import annotations

__version__ = "0.1.0"
