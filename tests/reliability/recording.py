"""A program that records without a pause until it is killed, which it does itself in the middle of a line.

    python -m tests.reliability.recording --seed 1 --cut-share 0.01 --kept FOLDER

Its files get a second name in the folder *kept*. So it is known afterwards which lines were written whole, although the
daemon removes files that it has delivered.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from llma_recorder import TraceRecorder

from tests.reliability.kept import keep

_LONGEST_PAUSE = 0.3
"""Seconds between two lines at most."""


def main() -> None:
    """Record until the end."""
    parser = argparse.ArgumentParser(description="Record calls, and die in the middle of a line.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--kept", type=Path, required=True, help="folder in which files get a second name")
    parser.add_argument("--cut-share", type=float, required=True, help="share of the lines that are cut")
    options = parser.parse_args()
    draws, write, pid = random.Random(options.seed), os.write, os.getpid()

    def cut(descriptor: int, data: Any) -> int:
        if draws.random() < options.cut_share:
            write(descriptor, data[: draws.randrange(1, len(data))])
            os.kill(pid, signal.SIGKILL)
        return write(descriptor, data)

    name = f"program {options.seed}"
    TraceRecorder(name).record_metric("began")
    keep(Path(os.environ["POSTHOG_LLMA_OUTBOX"]), options.kept, pid)
    os.write = cut
    while True:
        with TraceRecorder(name, distinct_id=name, properties={"seed": options.seed}) as recorder:
            for number in range(draws.randrange(1, 6)):
                with recorder.span(f"step {number}", input="x" * draws.choice([10, 1000, 20_000])):
                    recorder.record_generation(model="claude-opus-4-5", output_text="y", usage={"input_tokens": number})
                time.sleep(draws.random() * _LONGEST_PAUSE)


if __name__ == "__main__":
    main()
