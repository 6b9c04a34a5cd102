"""Everything that can happen to logs happens on this machine. In the end, the receiver has the events of the logs.

The file system, the tailer, the pipeline, the ledger and the store are real. The clock, the network and the hints are
driven by hand. One session is complete in the end, whatever was done to its logs before. Another session is deleted at
some time; then the part of it that the daemon saw is what counts.

Set `LLMA_MACHINE_SECONDS` to run for that long instead of a few seconds.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from tests.support.histories import History, histories
from tests.support.logs import write_files
from tests.support.processes import start_of
from tests.support.rig import SECOND, Reference, Rig, reference, routing_for

SECONDS = float(os.environ.get("LLMA_MACHINE_SECONDS", "0"))

KEPT = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
DOOMED = "2f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"

FOLDERS = ("-one", "-two", f"{SECOND}-one", f"{SECOND}-two")

_STUB = b'{"type":"assistant","message":{"content":[{"te'
DAMAGE = (b"", b"\0" * 7, b"\0" * 3 + b"\n", _STUB, b"}{][,\n", b"\xef\xbb\xbf")
"""What comes before a line: nothing, what a full disk and a killed client leave, what no client writes, and a mark."""

RECORDS: tuple[Mapping[str, object], ...] = (
    {},
    {"procStart": None},
    {"pid": 2**31 - 2},
    {"procStart": "1"},
    {"startedAt": 1_600_000_000_000},
    {"pidDomain": "linux:elsewhere:pid:[1]"},
    {"startedAt": 10**400, "procStart": [1]},
)
"""Records of a process that lives, of none, of another program's, and of what nobody can know.

The start of a process is that of the one that lives where it is None.
"""

OWN_START = start_of(os.getpid())
"""When this process began, as a client writes it."""

_real_open = os.open
_real_time = time.time


class Machine(RuleBasedStateMachine):
    """Two sessions, the daemon, and the receiver.

    Attributes:
        sizes: how many bytes of its history each log has now; 0 if it does not exist.
        once: the most that it ever had.
        known: how much of it the daemon last found.
        last: how much it had when it was last deleted.
        seen: how much of it this run of the daemon has seen.
        inserted: the line that was inserted before its first line.
        damage: what was written before a line of its history, by where that line begins.
        copied: how much of its history each of its copies has.
        locked: the logs that cannot be opened.
        doomed: whether the second session was deleted for good.
        dropped: whether the second session ever left the daemon's memory.
        jumped: whether the wall clock ever went forward.
        proved: whether the registry ever said that a session had ended.
        crashed: whether the daemon ever crashed.
        lost: whether the daemon crashed after the deletion and so lost what it had not delivered of that session.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(capture_logs())
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        # More than all short ticks together: only where nothing is half-written may a proof end a session.
        self.rig = Rig(self.root, gone=100.0)
        self.histories: dict[str, History] = {}
        self.logs: dict[str, bytes] = {}
        self.metas: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.once: dict[str, int] = {}
        self.known: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.inserted: dict[str, bytes] = {}
        self.damage: dict[str, dict[int, bytes]] = {}
        self.copied: list[tuple[str, int]] = []
        self.locked: set[str] = set()
        self.doomed = self.jumped = self.proved = False
        self.ahead = 0.0
        self.crashed = self.lost = self.dropped = False
        self.stack.enter_context(patch("os.open", self._open))
        self.stack.enter_context(patch("time.time", lambda: _real_time() + self.ahead))

    def _open(self, path: Any, *arguments: Any, **options: Any) -> int:
        """Open a file unless it is locked. Permissions would not do: root is never denied any."""
        if any(os.fspath(path) == str(self.rig.path(name)) for name in self.locked):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return _real_open(path, *arguments, **options)

    @initialize(kept=histories(session=KEPT), doomed=histories(session=DOOMED, turns=1))
    def begin(self, kept: History, doomed: History) -> None:
        self.histories = {KEPT: kept, DOOMED: doomed}
        for history in self.histories.values():
            self.logs |= history.logs
            self.metas |= history.metas
        self.sizes = dict.fromkeys(self.logs, 0)
        self.once = dict.fromkeys(self.logs, 0)
        self.known = dict.fromkeys(self.logs, 0)
        self.last = dict.fromkeys(self.logs, 0)
        self.seen = dict.fromkeys(self.logs, 0)
        self.inserted = dict.fromkeys(self.logs, b"")
        self.damage = {name: {} for name in self.logs}

    def _is_doomed(self, name: str) -> bool:
        return name in self.histories[DOOMED].logs

    def _pick(self, data: st.DataObject, names: list[str]) -> str:
        return data.draw(st.sampled_from(sorted(names)), label="file")

    def _content(self, name: str) -> bytes:
        """What a log has now. What was damaged beyond its size is forgotten."""
        size, log, content, at = self.sizes[name], self.logs[name], self.inserted[name], 0
        self.damage[name] = {start: damage for start, damage in self.damage[name].items() if start < size}
        for start, damage in sorted(self.damage[name].items()):
            content += log[at:start] + damage
            at = start
        return content + log[at:size]

    def _least(self, name: str) -> int:
        """How much of a log must stay so that it is recognized: its first line, if another was inserted before it."""
        return min(self._first_line(name), self.sizes[name]) if self.inserted[name] else 0

    def _first_line(self, name: str) -> int:
        return next(end for history in self.histories.values() for end, _ in history.times.get(name, ()))

    def _written(self, *, doomed: bool = False) -> list[str]:
        return [name for name, size in self.sizes.items() if size and (doomed or not self._is_doomed(name))]

    # ------------------------------------------------------------------ the client

    @rule(data=st.data(), whole_lines=st.booleans(), damage=st.sampled_from(DAMAGE))
    def append(self, data: st.DataObject, *, whole_lines: bool, damage: bytes) -> None:
        names = [name for name in self.logs if self.sizes[name] < len(self.logs[name])]
        names = [*[name for name in names if not (self.doomed and self._is_doomed(name))], *self.metas]
        if not names:
            return
        name = self._pick(data, names)
        if name in self.metas:
            self.rig.append(name, self.metas.pop(name))
            return
        start, log = self.sizes[name], self.logs[name]
        ends = [end for history in self.histories.values() for end, _ in history.times.get(name, ()) if end > start]
        choice = st.sampled_from(ends) if whole_lines else st.integers(start + 1, len(log))
        end = data.draw(choice, label="to")
        self._content(name)
        if damage and start and log[start - 1 : start] == b"\n":
            self.damage[name][start] = damage
            self.rig.append(name, damage)
        self.rig.append(name, log[start:end])
        self.sizes[name] = end
        self.once[name] = max(self.once[name], end)

    # ------------------------------------------------------------------ somebody else

    @precondition(lambda self: self._written())
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        name = self._pick(data, self._written())
        self.sizes[name] = data.draw(st.integers(self._least(name), self.sizes[name]), label="to")
        os.truncate(self.rig.path(name), len(self._content(name)))

    @precondition(lambda self: self._written())
    @rule(data=st.data(), in_place=st.booleans(), another_line=st.booleans())
    def write_anew(self, data: st.DataObject, *, in_place: bool, another_line: bool) -> None:
        name = self._pick(data, self._written())
        if another_line and self.sizes[name] >= self._first_line(name):
            # Then every line has another offset.
            self.inserted[name] += b'{"type":"mode","number":%d}\n' % len(self.inserted[name])
        if in_place:
            self.rig.rewrite(name, self._content(name))
        else:
            self.rig.replace(name, self._content(name))

    @precondition(lambda self: self._written())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = self._pick(data, self._written())
        self.rig.delete(name)
        self.last[name] = self.sizes[name]
        self.sizes[name] = 0
        self.inserted[name] = b""

    @precondition(lambda self: self._written())
    @rule(data=st.data())
    def delete_and_create(self, data: st.DataObject) -> None:
        """On many file systems, the new file gets the inode of the old one."""
        name = self._pick(data, self._written())
        self.rig.delete(name)
        self.last[name] = self.sizes[name]
        self.sizes[name] = data.draw(st.integers(max(1, self._least(name)), self.sizes[name]), label="with")
        self.rig.append(name, self._content(name))

    @precondition(lambda self: self._written())
    @rule(data=st.data(), folder=st.sampled_from(FOLDERS), how=st.sampled_from(["move", "exchange"]))
    def move(self, data: st.DataObject, *, folder: str, how: str) -> None:
        getattr(self.rig, how)(self._pick(data, self._written()), folder)

    @precondition(lambda self: self._written())
    @rule(data=st.data(), folder=st.sampled_from(FOLDERS), how=st.sampled_from(["copy", "hard_link"]))
    def copy(self, data: st.DataObject, *, folder: str, how: str) -> None:
        name = self._pick(data, self._written())
        getattr(self.rig, how)(name, folder)
        self.copied.append((name, self.sizes[name]))

    @rule(
        session=st.sampled_from([KEPT, DOOMED, "another"]),
        fields=st.sampled_from(RECORDS),
        account=st.sampled_from([0, 1]),
    )
    def register(self, session: str, fields: Mapping[str, object], account: int) -> None:
        """Have a registry say what is true, what is not, or what no longer is, of a session in whatever folder."""
        is_last = (self.rig.registries[account] / "7.json").exists()
        if not self._may_prove(is_last or fields in RECORDS[:2] or "pid" in fields):
            return
        record = {"pid": os.getpid(), "sessionId": session, **fields}
        if "procStart" in record and record["procStart"] is None:
            record["procStart"] = OWN_START
        self._write_record(account, "7.json", json.dumps(record))

    @rule(account=st.sampled_from([0, 1]))
    def unregister(self, account: int) -> None:
        """Remove a record, as a client does that ends, and a sandbox under one that goes on."""
        record = self.rig.registries[account] / "7.json"
        if record.exists() and self._may_prove(True):
            record.unlink()

    def _may_prove(self, proves: bool) -> bool:
        """Whether the registry may change now in a way that proves an end, if *proves*."""
        if proves and self.jumped:
            # Its quiet would be long enough at once.
            return False
        self.proved = self.proved or proves
        return True

    @rule(
        content=st.sampled_from(["", "{", "[]", '{"sessionId": "x", "pid": ' + "9" * 400 + "}"]),
        account=st.sampled_from([0, 1]),
    )
    def damage_registry(self, content: str, account: int) -> None:
        self._write_record(account, "8.json", content)

    def _write_record(self, account: int, name: str, content: str) -> None:
        self.rig.registries[account].mkdir(exist_ok=True)
        (self.rig.registries[account] / name).write_text(content)

    @rule(by=st.sampled_from([-86_400.0, -600.0, 600.0, 86_400.0]))
    def jump(self, by: float) -> None:
        """Set the wall clock."""
        if by < 0 or not self.proved:
            self.ahead += by
            self.jumped = self.jumped or by > 0

    @precondition(lambda self: not self.doomed and any(self._is_doomed(name) for name in self._written(doomed=True)))
    @rule()
    def delete_for_good(self) -> None:
        for name in self._written(doomed=True):
            if self._is_doomed(name):
                self.rig.delete(name)
                self.locked.discard(name)
        self.doomed = True

    @precondition(lambda self: self._written())
    @rule(data=st.data())
    def lock(self, data: st.DataObject) -> None:
        self.locked.add(self._pick(data, self._written()))

    @precondition(lambda self: self.locked)
    @rule()
    def unlock(self) -> None:
        self.locked.clear()

    # ------------------------------------------------------------------ the daemon

    @rule()
    def look(self) -> None:
        self.rig.look()
        self._saw()

    @rule(budget=st.sampled_from([1, 700, 1 << 20]))
    def read(self, budget: int) -> None:
        self.rig.read(budget=budget)
        self._saw()

    @rule(seconds=st.sampled_from([0.9, 1.1, 400.0]))
    def tick(self, seconds: float) -> None:
        """Let the settle time pass; if nothing is half-written, also the quiet time."""
        if seconds < 400.0:
            ready = all(history.has_whole_messages(sizes) for history, sizes in self._states())
        else:
            ready = self._is_whole()
        if ready and not self.locked:
            self.rig.tick(seconds)
            self._saw()

    @rule()
    def end(self) -> None:
        # What a truncated log has lost is not part of the trace when the session ends.
        if self._is_whole() and not self.locked and all(self.sizes[name] >= self.once[name] for name in self._kept()):
            self.rig.end()
            self._saw()

    @rule()
    def crash(self) -> None:
        self.rig.crash()
        if not self.doomed:
            self.seen = dict.fromkeys(self.logs, 0)
        self.crashed = True
        self.lost = self.doomed

    @rule()
    def commit(self) -> None:
        self.rig.commit()

    @rule()
    def drop(self) -> None:
        for session in self.histories:
            self.dropped |= self.rig.drop(session) and session == DOOMED

    def _saw(self) -> None:
        self.known |= {name: size for name, size in self.sizes.items() if size}
        if not self.doomed:
            self.seen = {name: 0 if name in self.locked else self.sizes[name] for name in self.logs}

    def _kept(self) -> list[str]:
        return [name for name in self.logs if not self._is_doomed(name)]

    def _states(self) -> Iterator[tuple[History, Mapping[str, int]]]:
        """The histories, with the sizes that the daemon may know of each."""
        for history in self.histories.values():
            for sizes in (self.sizes, self.once, self.known, self.last):
                yield history, sizes
            for name, size in self.copied:
                if name in history.logs:
                    yield history, {**self.sizes, name: size}

    def _is_whole(self) -> bool:
        return all(history.is_whole(sizes) for history, sizes in self._states())

    # ------------------------------------------------------------------ the receiver

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        self.rig.acknowledge(self._some(data))

    @rule(data=st.data())
    def lose_answer(self, data: st.DataObject) -> None:
        self.rig.lose_answer(self._some(data))

    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        self.rig.refuse(self._some(data))

    def _some(self, data: st.DataObject) -> list[int] | None:
        count = len(self.rig.in_flight)
        if not count or data.draw(st.booleans(), label="all"):
            return None
        return data.draw(st.lists(st.integers(0, count - 1), unique=True), label="which")

    # ------------------------------------------------------------------ what must come of it

    def teardown(self) -> None:
        try:
            if self.histories:
                self._recover()
                self._check()
        finally:
            self.rig.close()
            self.stack.close()
            shutil.rmtree(self.root)

    def _recover(self) -> None:
        self.locked.clear()
        for registry in self.rig.registries:
            shutil.rmtree(registry, ignore_errors=True)
        for name, data in self.metas.items():
            self.rig.append(name, data)
        for name in self._kept():
            self.rig.append(name, self.logs[name][self.sizes[name] :])
            self.sizes[name] = len(self.logs[name])
        if not self.doomed:
            for name in self.histories[DOOMED].logs:
                self.rig.append(name, self.logs[name][self.sizes[name] :])
                self.seen[name] = self.once[name] = len(self.logs[name])
        else:
            self.rig.forget_missing()
        self.rig.finish()

    def _reference(self, doomed: Mapping[str, int]) -> Reference:
        """The events of the logs, if those of the second session have these sizes."""
        files = {name: data[: doomed.get(name, len(data))] for name, data in self.logs.items()}
        for history in self.histories.values():
            files |= history.metas
        with tempfile.TemporaryDirectory(prefix="logs-") as folder:
            projects = Path(folder) / "projects"
            write_files(projects, {name: data for name, data in files.items() if data})
            return reference(projects, routing_for(Path(folder)))

    def _check(self) -> None:
        doomed = self.histories[DOOMED].logs
        expected = self._reference({name: self.seen[name] for name in doomed})
        received, refused = self.rig.bodies(), set(self.rig.refused)
        wanted = {uuid for uuid in expected.bodies if not self._is_lost(expected, uuid)}
        assert wanted <= received.keys() | refused, "the receiver lacks events"
        # Lines written after the last look were read, too, if the log was kept open.
        least, most = ({name: sizes[name] for name in doomed} for sizes in (self.seen, self.once))
        possible = expected if most == least else self._reference(most)
        assert received.keys() <= possible.bodies.keys() | expected.bodies.keys(), "no log ever said what was received"
        for uuid in wanted & received.keys():
            bodies = received[uuid]
            if expected.names[uuid] == "$ai_trace":
                # A session that continued after its end ends again, and answers come out of order.
                assert expected.bodies[uuid] in bodies or uuid in refused or self._was_deleted(expected, uuid)
            else:
                assert set(bodies) <= {expected.bodies[uuid], possible.bodies.get(uuid)}
                assert len(bodies) <= 1 + self.rig.excused[uuid]

    def _was_deleted(self, expected: Reference, uuid: str) -> bool:
        return self.doomed and KEPT.encode() not in expected.bodies[uuid]

    def _is_lost(self, expected: Reference, uuid: str) -> bool:
        """Return whether an event may be missing: a deleted session's trace, or one that a crash lost."""
        if not self._was_deleted(expected, uuid):
            return False
        # The owed trace of a session without logs that is not in memory is given up.
        return self.lost or (expected.names[uuid] == "$ai_trace" and (self.crashed or self.dropped))


def profile(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def test_the_receiver_gets_the_events_of_the_logs_whatever_happens_to_them() -> None:
    run_state_machine_as_test(Machine, settings=profile(90, 40))


@pytest.mark.skipif(not SECONDS, reason="takes as long as LLMA_MACHINE_SECONDS says")
def test_the_receiver_gets_the_events_of_the_logs_whatever_happens_for_a_long_time() -> None:
    until = time.monotonic() + SECONDS
    run: Callable[..., None] = run_state_machine_as_test
    while time.monotonic() < until:
        run(Machine, settings=profile(300, 80))
