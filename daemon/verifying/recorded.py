"""The recorded events: what programs have recorded and was settled, by the session or trace that each belongs to.

No log gives them: a file of the outbox is removed once it is delivered. The receipts tell of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from daemon.config.patterns import Folders
from daemon.delivering.route import Route
from daemon.history.history import Selection
from daemon.state.receipts import Receipt
from daemon.usage.prices import Tokens, call_cost
from daemon.verifying.expectation import Amounts, ExpectedEvent, ExpectedSession, elsewhere
from llma_core.hogql import Owner

__all__ = ["Recorded"]

_Key = tuple[str, str, Owner, str]
"""A host, the fingerprint of a key, and what events are asked for by."""


class Recorded:
    """The recorded events that a user means.

    Args:
        receipts: all of them; the last one of an event counts.
        routes: the routes of interest, by host and fingerprint of the key.
        refused: the uuids of the events that are set aside.
        selection: which sessions the user means. Of a session without a log, only the events since its time count.
        logged: the ids of the chosen sessions that have logs. Of these, all events count.
    """

    def __init__(
        self,
        receipts: Iterable[Receipt],
        *,
        routes: Mapping[tuple[str, str], Route],
        refused: Container[str],
        selection: Selection,
        logged: Container[str],
    ) -> None:
        self._routes = routes
        self._sessions: dict[_Key, ExpectedSession] = {}
        folders, since = Folders(selection.projects), (selection.since or 0.0) * 1000
        for receipt in receipts:
            by: Owner = "trace" if receipt.session is None else "session"
            owner = receipt.trace if receipt.session is None else receipt.session
            is_meant = (
                (not receipt.at or receipt.at >= since)
                and owner.startswith(tuple(selection.sessions) or "")
                and folders.allow(receipt.folder)
            )
            if is_meant or receipt.session in logged:
                session = self._sessions.setdefault(
                    (receipt.host, receipt.key, by, owner), self._session(receipt, by, owner)
                )
                session.events[receipt.uuid] = _event(receipt, is_refused=receipt.uuid in refused)

    def take(self, session: str, route: Route) -> Mapping[str, ExpectedEvent]:
        """Return the recorded events that belong to a session which has a log, by uuid. They are not left then."""
        found = self._sessions.pop((route.host, route.fingerprint, "session", session), None)
        return {} if found is None else found.events

    def left(self) -> Iterator[ExpectedSession]:
        """Yield the sessions, and the traces without one, that nobody took."""
        yield from self._sessions.values()

    def _session(self, receipt: Receipt, by: Owner, owner: str) -> ExpectedSession:
        route = self._routes.get((receipt.host, receipt.key))
        return ExpectedSession(
            id=owner,
            folder=receipt.folder,
            began=receipt.at / 1000,
            by=by,
            is_logged=False,
            route=route,
            unknown=elsewhere(receipt.host) if route is None else None,
        )


def _event(receipt: Receipt, *, is_refused: bool) -> ExpectedEvent:
    dollars = _dollars(receipt) if receipt.is_priced else 0.0
    return ExpectedEvent(
        kind=receipt.kind,
        session=receipt.session or "",
        trace=receipt.trace,
        model=receipt.model or "",
        at=receipt.at / 1000 if receipt.at else None,
        amounts=Amounts(
            input=receipt.given,
            output=receipt.output,
            cache_read=receipt.cache_read,
            cache_write=receipt.cache_write_5m + receipt.cache_write_1h,
            dollars=dollars or 0.0,
        ),
        is_priced=dollars is not None,
        state="refused" if is_refused else "settled",
        is_logged=False,
    )


def _dollars(receipt: Receipt) -> float | None:
    used = Tokens(
        calls=1,
        input=receipt.input,
        output=receipt.output,
        cache_read=receipt.cache_read,
        cache_write_5m=receipt.cache_write_5m,
        cache_write_1h=receipt.cache_write_1h,
        web_searches=receipt.web_searches,
    )
    return call_cost(
        used, model=receipt.model, provider=receipt.provider, tier=receipt.tier, at=receipt.at, own=receipt.prices
    )
