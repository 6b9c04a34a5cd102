"""A stand-in for the client: it leaves a record in the registry of live processes, and a log.

python -m tests.support.fake_client --config DIR --session ID --log PATH --lines FILE [...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support.waiting import PATIENCE

TIMESTAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(?:Z|\+00:00)")


def as_of_now(lines: bytes) -> bytes:
    """Move prepared lines to the present: lines older than the program that follows them would be history."""
    first = TIMESTAMP.search(lines)
    assert first is not None
    late = datetime.now(UTC) - datetime.fromisoformat(first[0].decode())

    def moved(found: re.Match[bytes]) -> bytes:
        return (datetime.fromisoformat(found[0].decode()) + late).isoformat().encode()

    return TIMESTAMP.sub(moved, lines)


def names(folder: Path, session: str) -> bool:
    return any(session.encode() in path.read_bytes() for path in folder.glob("*.json"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--session", required=True)
    parser.add_argument("--log", required=True, help="where the log goes below `projects`")
    parser.add_argument("--lines", type=Path, required=True, help="a file with what goes there")
    parser.add_argument("--no-registry", action="store_true")
    parser.add_argument("--named-in", type=Path, help="answer nothing until a file in this folder names the session")
    parser.add_argument("--leave-record", action="store_true", help="end without removing the record")
    parser.add_argument("--until", type=Path, help="run until there is such a file")
    parser.add_argument("--verdict", help="what to write where POSTHOG_LLMA_PROPERTIES_FILE says")
    parser.add_argument("--signals", type=Path, help="where to write each signal that comes")
    parser.add_argument("--exit", type=int, default=0)
    given = parser.parse_args()

    if given.signals is not None:

        def note(number: int, _frame: object) -> None:
            with given.signals.open("a") as file:
                file.write(f"{signal.Signals(number).name}\n")

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, note)

    record = given.config / "sessions" / f"{os.getpid()}.json"
    if not given.no_registry:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"pid": os.getpid(), "sessionId": given.session, "startedAt": time.time() * 1000}))
        # A real client has no answer within this time.
        time.sleep(0.5)
    deadline = time.monotonic() + PATIENCE
    while given.named_in is not None and not names(given.named_in, given.session):
        if time.monotonic() > deadline:
            return 98
        time.sleep(0.02)
    log = given.config / "projects" / given.log
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        file.write(as_of_now(given.lines.read_bytes()))
    deadline = time.monotonic() + PATIENCE
    while given.until is not None and not given.until.exists():
        if time.monotonic() > deadline:
            return 99
        time.sleep(0.02)
    if given.verdict is not None:
        Path(os.environ["POSTHOG_LLMA_PROPERTIES_FILE"]).write_text(given.verdict)
    if not given.no_registry and not given.leave_record:
        record.unlink()
    return int(given.exit)


if __name__ == "__main__":
    sys.exit(main())
