"""`preview` with workers: the events that it yields in one process, in the same order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence

from daemon.following.logs import Logs
from daemon.following.opening import Ordered, in_order
from daemon.following.session_files import SessionFiles
from daemon.parallel.choice import Choice, NothingStored
from daemon.parallel.crew import PATIENCE, Crew, Launch, launch
from daemon.parallel.remote import Remote
from daemon.parallel.wire import Setup, Slice
from daemon.reading.claims import Claims
from daemon.reading.executions import Executions
from daemon.reading.facts import Facts
from daemon.reading.open_sessions import OpenSession
from daemon.reading.preview import OnHeld, events_of, leaving, together
from daemon.reading.reader import Reader, ReadOutcome
from llma_core.events import CaptureEvent

__all__ = ["preview"]

_TAKEN = 2 * 1024 * 1024
"""How many bytes of what workers have read to take at once, about."""


def preview(
    logs: Iterable[str],
    setup: Setup,
    on_held: OnHeld = lambda _session, _reason: None,
    *,
    jobs: int | None = None,
    around: Logs | None = None,
    launch: Launch = launch,
    patience: float = PATIENCE,
) -> Generator[CaptureEvent, None, None]:
    """Yield the events of *logs*, as `daemon.reading.preview` does.

    Call it where no event loop runs: it has one of its own. Close it, and its workers are ended.

    Args:
        logs: paths of logs.
        setup: what to go by.
        on_held: called with the id of a session that would have to wait for the user, or lines of it would, and the
            reason. These events are not yielded.
        jobs: how many processes may read at a time; None: as many as are worth it.
        around: all logs that are followed, if *logs* are among them.
        launch: starts the workers.
        patience: how long a worker that has something to read may say nothing, in seconds.

    Raises:
        OSError: a log cannot be read.
    """
    named = together(logs, around)
    claims, facts = Claims(), Facts()
    reader = Reader(logs=named, routing=setup.routing(), claims=claims, facts=facts)
    choice = Choice(
        logs=named,
        lookup=NothingStored(),
        claims=claims,
        executions=Executions(None),
        again=lambda _name: False,
        resends=lambda _name: None,
        facts=facts,
        first_start=lambda: None,
    )
    ordered = in_order(named.sessions.values())
    for each in ordered:
        for path in each.files.paths:
            # Only its name is known: how large it is decides who reads it.
            named.look(path)
    size = sum(file.size for each in ordered for path in each.files.paths if (file := named.files.get(path)))
    number = Crew.wanted(size, jobs)
    if not number:
        for files, _ in ordered:
            yield from events_of(leaving(files, reader.read_whole(files), on_held))
        return
    with asyncio.Runner() as runner:
        taking = _Taking(Crew(setup, number, launch=launch, patience=patience), choice, reader, runner)
        try:
            taking.begin(ordered)
            for place, each in enumerate(ordered):
                yield from events_of(leaving(each.files, taking.read_whole(place, each.files), on_held))
        finally:
            taking.close()


class _Taking:
    """Takes over what workers have read, in the order in which it counts.

    Args:
        crew: the workers.
        choice: which sessions they may read.
        reader: reads the others.
        runner: runs what waits for workers.
    """

    def __init__(self, crew: Crew, choice: Choice, reader: Reader, runner: asyncio.Runner) -> None:
        self._crew = crew
        self._choice = choice
        self._reader = reader
        self._runner = runner
        self._taken: deque[Slice] = deque()

    def begin(self, ordered: Sequence[Ordered]) -> None:
        """Give the workers what they may read of all that there is to read, if they are worth it."""
        tasks = self._choice.tasks(ordered, (), ())
        if self._crew.is_worth(tasks):
            self._runner.run(self._crew.begin(tasks))

    def close(self) -> None:
        """End the workers."""
        self._crew.close()

    def read_whole(self, number: int, files: SessionFiles) -> Iterator[ReadOutcome]:
        """Yield what each slice of a session came to. What a worker cannot tell is read here.

        Args:
            number: the place of the session in the order.
            files: the session.
        """
        remote = Remote(files, again=False)
        session = OpenSession(remote, 0.0)
        while number in self._crew:
            if not self._taken:
                self._taken.extend(self._runner.run(self._crew.take(number, _TAKEN)))
                if not self._taken:
                    break
            part = self._taken.popleft()
            if not self._choice.accept([part], {number: self._crew.task(number)}):
                break
            remote.take(part)
            self._reader.sessions.add(session)
            outcome = ReadOutcome(
                session=session, state="more" if part.progress.more else "caught_up", steps=[part.progress]
            )
            yield outcome
            if not self._reader.note(outcome):
                self._crew.drop(number)
                self._reader.close(files.name)
                return
        while self._taken and self._taken[0].number == number:
            self._taken.popleft()
        self._crew.drop(number)
        self._reader.close(files.name)
        yield from self._reader.read_whole(files)
