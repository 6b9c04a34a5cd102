"""Archiving: finds sources, looks through those that are new, and sends what is in them.

find_sources      what is at the URLs
manifest          leaves out what is done
survey            in the workers: what each source holds, and whether it can be read
chains            which sources have to be read together
send              in the workers: reads, delivers, and returns what is settled
manifest          keeps that, one chain at a time
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from daemon.archiving.chains import Chain, chains
from daemon.archiving.crew import Crew, Lost
from daemon.archiving.identities import Identities
from daemon.archiving.manifest import Manifest
from daemon.archiving.sending import Job, Sent, portable, send
from daemon.archiving.source import Source, SourceError, find_sources, shown
from daemon.archiving.survey import Survey, survey
from daemon.config.settings import Settings
from daemon.following.cadence import Cadence

__all__ = ["Archiving", "Progress"]


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        sources: how many sources there are.
        unchanged: how many of them were done before.
        looked: how many were looked through.
        done: how many are done now.
        sessions: how many sessions were read, or in a dry run are to be read.
        events: how many events were delivered.
        rejected: how many events the receiver refuses.
        size: bytes of logs that were sent, or in a dry run are to be sent, unpacked.
        total: bytes of logs to send, unpacked.
        others: how many files and members are no logs.
        refused: how many members have the name of a log and are a link, a device or the like.
        waited: seconds that workers waited because the receiver had asked another one to.
        errors: sources that could not be read or settled, by URL, with the reasons.
        stopped: why the receiver accepts nothing; None if it does.
    """

    sources: int = 0
    unchanged: int = 0
    looked: int = 0
    done: int = 0
    sessions: int = 0
    events: int = 0
    rejected: int = 0
    size: int = 0
    total: int = 0
    others: int = 0
    refused: int = 0
    waited: float = 0.0
    errors: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


class Archiving:
    """One run over some URLs.

    Args:
        settings: the settings in force.
        manifest: what is done.
        save: called after each chain, to keep the manifest.
        identities: whose sources they are.
        since: only sessions that ended then or later, in seconds since the epoch; None: all.
        tell: called when there is progress.
        cadence: times and sizes; None: the usual ones.

    Attributes:
        progress: how far it is.
    """

    def __init__(
        self,
        settings: Settings,
        manifest: Manifest,
        *,
        save: Callable[[], None] = lambda: None,
        identities: Identities | None = None,
        since: float | None = None,
        tell: Callable[[Progress], None] = lambda _progress: None,
        cadence: Cadence | None = None,
    ) -> None:
        self.progress = Progress()
        self._settings = portable(settings)
        self._manifest = manifest
        self._save = save
        self._identities = identities or Identities({})
        self._since = since
        self._tell = tell
        self._cadence = cadence
        self._empty: list[Source] = []

    def find(self, urls: Sequence[str]) -> list[Source]:
        """Return the sources at *urls* that are not done. What cannot be listed is one of the errors.

        Raises:
            MissingExtraError: a package for such URLs is not installed.
        """
        found: dict[str, Source] = {}
        for url in urls:
            try:
                here = find_sources(url)
            except SourceError as error:
                self.progress.errors[shown(url)] = str(error)
                continue
            self.progress.others += here.others
            self.progress.errors |= here.errors
            found |= {source.url: source for source in here.sources}
        left = [source for source in found.values() if not self._manifest.is_done(source, self._since)]
        self.progress.sources = len(found)
        self.progress.unchanged = len(found) - len(left)
        self._tell(self.progress)
        return left

    def survey(self, sources: Sequence[Source], crew: Crew) -> list[Chain]:
        """Look through *sources*, and return the chains of those that can be read.

        Raises:
            CrewLostError: nobody is left to do it.
        """
        progress = self.progress
        surveys: dict[str, Survey] = {}
        for source, result in crew.run(survey, sources):
            progress.looked += 1
            if isinstance(result, Lost):
                progress.errors[source.url] = result.reason
            elif result.error is not None:
                progress.errors[source.url] = result.error
            else:
                surveys[source.url] = result
                progress.others += result.others
                progress.refused += result.refused
            self._tell(progress)
        # In the order in which they were found, so that two runs make the same chains.
        readable = [surveys[source.url] for source in sources if source.url in surveys]
        names = {name for each in readable for session in each.sessions for name in (session.unit, *session.roots)}
        found = list(chains(readable, self._families(names)))
        progress.total = sum(chain.size for chain in found)
        self._empty = [each.source for each in readable if not each.logs]
        return found

    def _families(self, names: set[str]) -> Iterator[set[str]]:
        left = set(names)
        while left:
            family = self._manifest.family([left.pop()])
            left -= family
            if len(family) > 1:
                yield family

    def plan(self, found: Sequence[Chain]) -> None:
        """Count what would be sent of the chains *found*."""
        self.progress.sessions = len({unit for chain in found for unit in chain.units})
        self.progress.size = self.progress.total

    def send(self, found: Sequence[Chain], crew: Crew) -> None:
        """Send the chains *found*.

        Raises:
            CrewLostError: nobody is left to do it.
            ManifestError: the manifest cannot be kept.
        """
        progress = self.progress
        # A job is made only when its turn comes, so that few of them are in memory. The largest is first, so that no
        # worker is left with one when the others have nothing to do any more.
        waiting = deque(sorted(found, key=lambda chain: -chain.size))

        def jobs() -> Iterator[Job]:
            while waiting and progress.stopped is None:
                yield self._job(waiting.popleft(), crew)

        for job, result in crew.run(send, jobs()):
            if isinstance(result, Lost):
                self._fail(job.chain, result.reason)
            else:
                self._note(job.chain, result)
                self._save()
            self._tell(progress)
        if progress.stopped is not None:
            return
        for source in self._empty:
            self._manifest.skip(source, self._since, time.time())
            progress.done += 1
        self._tell(progress)

    def _job(self, chain: Chain, crew: Crew) -> Job:
        names = self._manifest.family(name for session in chain.sessions for name in (session.unit, *session.roots))
        return Job(
            chain=chain,
            settled=self._manifest.settled(sorted(names)),
            settings=self._settings,
            persons=self._persons(chain),
            since=self._since,
            pace=crew.pace,
            cadence=self._cadence,
            foreign=crew.foreign,
        )

    def _persons(self, chain: Chain) -> dict[str, str]:
        persons: dict[str, str] = {}
        for part in chain.parts:
            if (person := self._identities.of(part.source.url)) is not None:
                persons = dict.fromkeys(part.units, person) | persons
        return persons

    def _note(self, chain: Chain, sent: Sent) -> None:
        progress = self.progress
        progress.sessions += sent.sessions
        progress.events += sent.events
        progress.rejected += sent.rejected
        progress.waited += sent.waited
        self._manifest.settle(chain, sent.settled, done=sent.is_settled, since=self._since, now=time.time())
        if sent.is_settled:
            progress.done += len(chain.parts)
            progress.size += sent.size
            return
        progress.errors |= sent.errors
        progress.stopped = progress.stopped or sent.stopped
        if not sent.errors:
            self._fail(chain, sent.stopped or sent.held or "not everything could be delivered in time; run it again")

    def _fail(self, chain: Chain, reason: str) -> None:
        for part in chain.parts:
            self.progress.errors[part.source.url] = reason
