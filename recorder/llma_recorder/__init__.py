"""Records LLM calls of your own code for PostHog LLM Analytics.

    from llma_recorder import TraceRecorder

    with TraceRecorder("answer", distinct_id="user-1") as recorder:
        with recorder.generation(model="claude-opus-4-5", input=messages) as call:
            call.finish(client.messages.create(...))

Each call appends one line to a local file, the outbox; posthog-llma-daemon sends it. Nothing here opens a connection,
starts a thread or raises an error. `line.schema.json` in this package describes the lines, for other languages.
"""

from __future__ import annotations

from llma_recorder.recorder import TraceRecorder
from llma_recorder.spans import Generation, Span
from llma_recorder.version import __version__

__all__ = ["Generation", "Span", "TraceRecorder", "__version__"]
