"""The web application: pages made on the server, the parts of them that change, and the data of the two drawings."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from daemon.delivering.local.events import LocalEvents, UnreadableEventsError
from daemon.delivering.local.text_index import TextIndex
from daemon.page.access import Access, Guard
from daemon.page.changes import Changes
from daemon.page.detail import detail
from daemon.page.memory import Thrift
from daemon.page.running import Running
from daemon.page.text import markdown, visible
from daemon.running.condition import Condition
from daemon.system import figures
from daemon.usage import steps
from daemon.usage.report import By, Group, Index, Range, midnight, summed
from llma_core import view
from llma_core.trace_tree import short_id

__all__ = ["Sources", "application"]

_HERE = Path(__file__).parent
_PERIODS = (("Today", 1), ("7 days", 7), ("30 days", 30))
_STACKS = ("model", "project", "branch", "agent")
_LABELS = 80
"""Labels of steps that one request may ask for: more than fit on a screen."""
_ROWS = 500
"""Sessions that the table shows."""
_SORTS = ("last", "cost", "calls", "tokens", "name")
_INDEXING_SECONDS = 0.3
"""A person hardly waits for this, and the page asks again every second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the pages get what they show.

    Attributes:
        path: the local file.
        is_made: whether it is there; if not, another program is making it, or brings an old one up to date.
        changes: tells what changed in it.
        running: returns the sessions that run now.
        condition: returns what `status` says; None if nothing is sent from this machine.
        explain: returns what became of an event on its way out, by session and uuid.
        posthog_url: returns the address of a trace in PostHog; None if it was not sent.
        reading: returns how many sessions are still to be read, 0 if that is not known; None once the file is current.
        indexing: for how many seconds a search may index words that are left before it shows what it finds by then.
    """

    path: Path
    is_made: Callable[[], bool]
    changes: Changes
    running: Callable[[], list[Running]]
    condition: Callable[[], Condition | None]
    explain: Callable[[str, str], Any]
    posthog_url: Callable[[str, str], str | None]
    reading: Callable[[], int | None]
    indexing: float = _INDEXING_SECONDS


def application(sources: Sources, access: Access) -> Starlette:
    """Return the application.

    Args:
        sources: where the pages get what they show.
        access: who may read them.
    """
    pages = _Pages(sources)
    routes = [
        Route("/", pages.overview),
        Route("/parts/totals", pages.totals),
        Route("/parts/running", pages.running),
        Route("/data/days", pages.days),
        Route("/sessions", pages.sessions),
        Route("/parts/sessions", pages.session_rows),
        Route("/sessions/{session}", pages.session),
        Route("/data/sessions/{session}/steps", pages.steps),
        Route("/data/sessions/{session}/labels", pages.labels),
        Route("/parts/sessions/{session}/steps/{uuid}", pages.step),
        Route("/parts/sessions/{session}/steps/{uuid}/explained", pages.explained),
        Route("/delivery", pages.delivery),
        Route("/parts/delivery", pages.delivery_part),
        Route("/live", pages.live),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access), Middleware(Thrift)],
        exception_handlers={404: pages.missing, UnreadableEventsError: pages.unreadable, Exception: pages.broken},
    )


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True),
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # They are part of the program: nobody changes them while it runs.
        auto_reload=False,
    )
    environment.filters |= {
        "short_id": short_id,
        "dollars": figures.dollars,
        "tokens": figures.short_tokens,
        "duration": figures.short_duration,
        "size": figures.size,
        "number_of": figures.count,
        "markdown": markdown,
        "clock": _clock,
    }
    return environment


class _Pages:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._templates = _templates()

    # ------------------------------------------------------------------ overview

    async def overview(self, request: Request) -> Response:
        context = await run_in_threadpool(self._overview)
        return self._page(request, "overview.html", **context, running=await self._running())

    async def totals(self, request: Request) -> Response:
        return self._page(request, "_totals.html", **await run_in_threadpool(self._overview))

    def _overview(self) -> dict[str, Any]:
        with self._index() as index:
            # Once for all periods: the first paint waits for this.
            by_day = index.usage("day", Range(since=midnight(max(days for _, days in _PERIODS) - 1)))
            periods = []
            for name, days in _PERIODS:
                wanted = Range(since=midnight(days - 1))
                total = summed(each for each in by_day if (each.key or "") >= _date(days - 1))
                calls, failed = index.tool_calls(wanted)
                periods.append(
                    {
                        "name": name,
                        "total": total,
                        "cached": _share(total.tokens.cache_read, total.tokens.total - total.tokens.output),
                        "tool_calls": calls,
                        "tool_failures": failed,
                        "failure_rate": _share(failed, calls),
                    }
                )
        return {"periods": periods, "stacks": _STACKS, "reading": self._sources.reading()}

    async def running(self, request: Request) -> Response:
        return self._page(request, "_running.html", running=await self._running())

    async def _running(self) -> list[dict[str, Any]]:
        return await run_in_threadpool(self._running_now)

    def _running_now(self) -> list[dict[str, Any]]:
        running = self._sources.running()
        names = LocalEvents(self._sources.path).names([each.session for each in running])
        # Those that wait for a person come first.
        ordered = sorted(running, key=lambda each: (each.waits_for is None, -(each.since or 0.0)))
        return [{**asdict(each), "name": names.get(each.session, "")} for each in ordered]

    async def days(self, request: Request) -> Response:
        by = request.query_params.get("by", "model")
        if by not in _STACKS:
            by = "model"
        length = _number(request.query_params.get("days"), 30, most=400)

        def read() -> dict[str, Any]:
            with self._index() as index:
                slices = index.stack(cast("By", by), Range(since=midnight(length - 1)))
            dates = [_date(ago) for ago in reversed(range(length))]
            sums: dict[str, float] = {}
            for each in slices:
                name = each.key or "unknown"
                sums[name] = sums.get(name, 0.0) + each.dollars.known
            kept = sorted(sums, key=lambda name: -sums[name])[:7]
            series = {name: [0.0] * length for name in kept}
            if len(sums) > len(kept):
                series["others"] = [0.0] * length
            tokens = [0] * length
            places = {date: place for place, date in enumerate(dates)}
            for each in slices:
                place = places.get(each.day or "")
                if place is None:
                    continue
                name = each.key or "unknown"
                series[name if name in series else "others"][place] += each.dollars.known
                tokens[place] += each.tokens.total
            return {
                "days": dates,
                "tokens": tokens,
                "series": [{"name": visible(name), "dollars": values} for name, values in series.items()],
            }

        return _json(await run_in_threadpool(read))

    # ------------------------------------------------------------------ sessions

    async def sessions(self, request: Request) -> Response:
        return self._page(request, "sessions.html", **await run_in_threadpool(self._sessions, request))

    async def session_rows(self, request: Request) -> Response:
        return self._page(request, "_sessions.html", **await run_in_threadpool(self._sessions, request))

    def _sessions(self, request: Request) -> dict[str, Any]:
        given = request.query_params
        days = _number(given.get("days"), 30, most=400)
        sort = given.get("sort", "last")
        sort = sort if sort in _SORTS else "last"
        words, project = given.get("q", "").strip()[:200], given.get("project", "").strip()[:200]
        only_errors = given.get("errors") == "1"
        wanted = Range(since=midnight(days - 1), projects=frozenset({project}) if project else None)
        events = LocalEvents(self._sources.path)
        left, why = self._index_words() if words else (0, "")
        with self._index() as index:
            more = 0
            if sort == "last" and not (words or project or only_errors):
                # What most look at needs no sums of the sessions that are not shown.
                newest, number = index.newest(wanted, _ROWS)
                named = frozenset(each for each in newest if each is not None)
                if len(named) == len(newest):
                    wanted, more = Range(since=wanted.since, sessions=named), number - len(newest)
            groups = index.usage("session", wanted)
            failures = index.failures(wanted)
            projects = index.used_projects(Range(since=midnight(days - 1)))
        if words:
            found = events.sessions_with(words)
            groups = [each for each in groups if each.key in found or (each.key or "").startswith(words)]
        if only_errors:
            groups = [each for each in groups if each.attempts or failures.get(each.key or "")]
        # A name is read from what is kept of a session. Of a long list, only those that are shown need one.
        names = events.names([each.key for each in groups if each.key]) if sort == "name" else {}
        groups.sort(key=_sorter(sort, names), reverse=sort != "name")
        names = names or events.names([each.key for each in groups[:_ROWS] if each.key])
        running = {each.session: each for each in self._sources.running()}
        return {
            "rows": groups[:_ROWS],
            "more": more + max(0, len(groups) - _ROWS),
            "names": names,
            "failures": failures,
            "running": running,
            "projects": projects,
            "left": left,
            "why": why,
            "given": {"q": words, "project": project, "sort": sort, "days": days, "errors": only_errors},
        }

    def _index_words(self) -> tuple[int, str]:
        """Index words for a moment; return of about how many events they are left then, and what went wrong."""
        try:
            return TextIndex(self._sources.path).complete(within=self._sources.indexing), ""
        except sqlite3.Error as error:
            return 0, str(error)

    # ------------------------------------------------------------------ one session

    async def session(self, request: Request) -> Response:
        identity = request.path_params["session"]

        def read() -> dict[str, Any] | None:
            with self._index() as index:
                found = steps.session(index, identity)
                if found is None:
                    return None
                total = index.total(Range(sessions=frozenset({identity})))
                own = index.usage("session", Range(sessions=frozenset({identity})))
            return {
                "session": found,
                "total": total,
                "counted": next((each.disputed for each in own), None),
                "name": LocalEvents(self._sources.path).names([identity]).get(identity, ""),
                "url": self._sources.posthog_url(identity, found.traces[0]) if found.traces else None,
                "cached": _share(total.tokens.cache_read, total.tokens.total - total.tokens.output),
            }

        context = await run_in_threadpool(read)
        if context is None:
            return self._error(request, 404, "This session is not in the local file.")
        return self._page(request, "session.html", **context)

    async def steps(self, request: Request) -> Response:
        identity = request.path_params["session"]

        def read() -> dict[str, Any] | None:
            with self._index() as index:
                found = steps.session(index, identity)
            if found is None:
                return None
            return {
                "waiting": found.seconds_waiting,
                "steps": [
                    [
                        step.uuid,
                        step.kind,
                        step.depth,
                        step.started,
                        step.ended,
                        visible(step.name),
                        step.status,
                        step.failed,
                        figures.short_tokens(step.tokens.total) if step.tokens is not None else "",
                        figures.dollars(step.dollars) if step.dollars is not None else "",
                    ]
                    for step in found.steps
                ],
            }

        found = await run_in_threadpool(read)
        return _json(found) if found is not None else _json({"steps": []}, 404)

    async def labels(self, request: Request) -> Response:
        session, wanted = request.path_params["session"], request.query_params.getlist("u")[:_LABELS]

        def read() -> dict[str, tuple[str, str]]:
            bodies = LocalEvents(self._sources.path).bodies(session, wanted)
            return {uuid: (_label(view.asked(body)), _label(view.words(body))) for uuid, body in bodies.items()}

        return _json(await run_in_threadpool(read))

    async def step(self, request: Request) -> Response:
        session, uuid = request.path_params["session"], request.path_params["uuid"]
        bodies = await run_in_threadpool(LocalEvents(self._sources.path).bodies, session, [uuid])
        context = {"session": session, "uuid": uuid}
        if uuid not in bodies:
            return self._page(request, "_gone.html", **context)
        return self._page(request, "_step.html", step=detail(bodies[uuid]), **context)

    async def explained(self, request: Request) -> Response:
        session, uuid = request.path_params["session"], request.path_params["uuid"]
        found = await run_in_threadpool(self._sources.explain, session, uuid)
        return self._page(request, "_explained.html", found=found)

    # ------------------------------------------------------------------ delivery

    async def delivery(self, request: Request) -> Response:
        return self._page(request, "delivery.html", **await run_in_threadpool(self._delivery))

    async def delivery_part(self, request: Request) -> Response:
        return self._page(request, "_delivery.html", **await run_in_threadpool(self._delivery))

    def _delivery(self) -> dict[str, Any]:
        condition = self._sources.condition()
        problems = list(condition.problems(time.time())) if condition is not None else []
        return {"condition": condition, "problems": problems}

    # ------------------------------------------------------------------ live, and errors

    async def live(self, _request: Request) -> Response:
        # Server-sent events. A lost browser is noticed by its connection, so nothing has to be sent meanwhile.
        async def told() -> AsyncIterator[bytes]:
            async for change in self._sources.changes.stream():
                if change.sessions is not None:
                    yield b"event: change\ndata: " + msgspec.json.encode(change.sessions) + b"\n\n"
                if change.running:
                    yield b"event: running\ndata: -\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    async def missing(self, request: Request, _error: Exception) -> Response:
        return self._error(request, 404, "There is no such page.")

    async def unreadable(self, request: Request, error: Exception) -> Response:
        if not self._sources.is_made():
            words = "Another program is making the local file. This page loads by itself once that is done."
            return self._page(request, "error.html", 503, words=words, passes=True)
        reason = error.reason if isinstance(error, UnreadableEventsError) else ""
        return self._error(request, 503, f"The local file cannot be read: {reason}")

    async def broken(self, request: Request, _error: Exception) -> Response:
        # The error is not shown: it may quote a log.
        return self._error(request, 500, "This is a bug. The terminal in which `view` runs says where.")

    # ------------------------------------------------------------------ helpers

    @contextlib.contextmanager
    def _index(self) -> Iterator[Index]:
        with Index(self._sources.path) as index:
            yield index

    def _page(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        made = self._templates.get_template(template).render(path=request.url.path, **context)
        return HTMLResponse(made, status)

    def _error(self, request: Request, status: int, words: str) -> Response:
        return self._page(request, "error.html", status, words=words, passes=False)


def _date(days_ago: int) -> str:
    """Return the date of the day that many days ago, in local time."""
    return (datetime.now().astimezone().date() - timedelta(days=days_ago)).isoformat()


def _label(text: str) -> Any:
    """Return how a text begins, on one line."""
    return visible(" ".join(text[:1000].split())[:300])


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _share(part: float, whole: float) -> str:
    return figures.share(part, whole) if whole else "-"


def _number(given: str | None, otherwise: int, *, most: int) -> int:
    return (
        min(most, int(given)) if given is not None and given.isascii() and given.isdigit() and int(given) else otherwise
    )


def _clock(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    today = datetime.now().astimezone().date()
    return f"{at:%H:%M:%S}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"


def _sorter(sort: str, names: dict[str, str]) -> Callable[[Group], Any]:
    return {
        "cost": lambda group: group.dollars.known,
        "calls": lambda group: group.tokens.calls,
        "tokens": lambda group: group.tokens.total,
        "name": lambda group: names.get(group.key or "", "").lower(),
    }.get(sort, lambda group: group.last)
