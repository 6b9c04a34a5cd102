"""What a call of the recorder costs the program that makes it. A program of its own makes the calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.figures import Table, percentile
from tests.bench.machine import room

__all__ = ["recording"]

_RECORDER = Path(__file__).parents[2] / "recorder"
_CONTENT = 1000
"""Characters of the content of a call."""
_LONGEST = 120
"""Seconds after which the program is ended."""

_PROGRAM = """
import json, os, sys, time
from llma_recorder import TraceRecorder

count, content = int(sys.argv[1]), "x" * int(sys.argv[2])
messages = [{"role": "user", "content": content}]
usage = {"input_tokens": 250, "output_tokens": 4, "cache_read_input_tokens": 200}
recorder = TraceRecorder("bench", properties={"run": 1}, distinct_id="ada")
here = os.environ["POSTHOG_LLMA_OUTBOX"]
absent = TraceRecorder("bench")

def generation(recorder=recorder):
    recorder.record_generation(
        model="claude-opus-4-5", input_messages=messages, output_text="fine", usage=usage, duration_ms=12.5,
        stop_reason="end_turn",
    )

def around():
    with recorder.generation(model="claude-opus-4-5", input=messages) as call:
        call.finish(output_text="fine", usage=usage)

def span():
    with recorder.span("step"):
        pass

found = {}
for name, call in {
    "json.dumps of the content": lambda: json.dumps(messages),
    "record_generation": generation,
    "with generation(...)": around,
    "with span(...)": span,
    "record_generation, no outbox": lambda: generation(absent),
}.items():
    os.environ["POSTHOG_LLMA_OUTBOX"] = here if "no outbox" not in name else here + "/none"
    call()
    times = found[name] = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
print(json.dumps(found))
"""


def recording(calls: int) -> Table:
    """Record calls with 1 KB of content, one after the other."""
    table = Table(f"A call of the recorder, content of {_CONTENT:,} characters", ("call", "calls", "p50 µs", "p99 µs"))
    with room() as place:
        outbox = place.folder / "outbox"
        outbox.mkdir(mode=0o700)
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(calls), str(_CONTENT)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_RECORDER), "POSTHOG_LLMA_OUTBOX": str(outbox)},
            stdout=subprocess.PIPE,
            timeout=_LONGEST,
            check=True,
        )
    for name, times in json.loads(done.stdout).items():
        table.rows.append((name, calls, percentile(times, 0.5) * 1e6, percentile(times, 0.99) * 1e6))
    return table
