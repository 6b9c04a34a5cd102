"""What `status` tells of recorded calls: how many wait, what was dropped, and which files nothing records into."""

from __future__ import annotations

from pathlib import Path

from daemon.running.recordings import Recordings
from tests.support.outbox import line, process, write


def of(*outboxes: Path, unknown_lines: int = 0, ignored_fields: int = 0) -> Recordings:
    return Recordings.of(outboxes, unknown_lines=unknown_lines, ignored_fields=ignored_fields)


def test_files_that_wait_are_counted_and_are_no_problem(tmp_path: Path) -> None:
    first = write(tmp_path / "outbox", process(), line("span", 1))
    second = write(tmp_path / "outbox" / "command", line("span", 2), name="12-34-1")

    found = of(tmp_path / "outbox", tmp_path / "missing")

    assert (found.files, found.bytes) == (2, first.stat().st_size + second.stat().st_size)
    assert list(found.problems()) == []
    assert of(tmp_path / "missing") == Recordings()


def test_what_was_dropped_and_what_is_strange_is_told(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    write(outbox, process())
    (outbox / "12-34.dropped.json").write_text('{"too_full": 3, "disk": 1, "at": "2026-03-02T09:00:00.000Z"}')
    (outbox / "command").mkdir()
    (outbox / "command" / "56-78.dropped.json").write_text('{"too_full": 2, "encode": "x", "other": 9}')
    (outbox / "command" / "9-8.dropped.json").write_text("[")
    (outbox / "notes.jsonl").write_bytes(line("span", 1))
    outbox.chmod(0o755)

    found = of(outbox, unknown_lines=2)

    assert found.dropped == {"too_full": 5, "disk": 1}
    assert found.strange == (f"{outbox}/notes.jsonl",)
    messages = [problem.message for problem in found.problems()]
    assert messages[0] == "6 calls were not recorded: 1 because the disk refused them, 5 because the outbox was full"
    assert messages[1] == f"not read, as nothing records into files with such names: {outbox}/notes.jsonl"
    assert messages[2].startswith("2 lines and 0 fields")
    assert messages[3] == f"other users can use {outbox}"
