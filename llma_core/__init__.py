"""From lines of an agent's session log to the events PostHog LLM Analytics takes: the pure half of the daemon.

    bytes                                      of a log that grows, in pieces of any size
      lines.LineSplitter                     -> complete lines, each with its place in the file
      claude_code.records.decode             -> records: the only module that knows the log's keys
      claude_code.session.SessionAccumulator -> spans, each once, when nothing more can come of it
      events.build                           -> events, encoded; only `view`, which reads them, knows their names too

A span is what happened in tracing words (spans): a generation (one model call, of however many lines), a tool call, a
failed attempt, a compaction, or a trace (a session, or one prompt with all that came of it). Each says on which lines
it rests, so that whoever delivers it knows how far a file is dealt with; and by what identity it is known, so that the
same log gives the same uuids (identifiers) wherever, whenever and in whatever pieces it is read.

When a span is final is the heart of it: the opening comment of `claude_code.session` has the rules. What of its content
may leave the machine is decided in `privacy`, which lets what need not be changed leave as the bytes it was logged as;
`redaction` finds secrets, after `screen` has seen at a glance that most events hold none.

Nothing here reads a file, a clock or the network, logs or waits: bytes, times and settings come in, values go out. So a
log can be replayed at any time, and what comes of it is the same to the byte. What reads, waits, keeps and sends is
`daemon`; its `service` has the other half of this map.
"""

from __future__ import annotations

__version__ = "0.1.0"
