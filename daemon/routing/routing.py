"""Routing: where a session's events go, who they belong to, and which of them may be sent.

A session's route is a host and a key. Usually it is the user's own. A `settings.local.json` in the session's project
can ask for another one. That counts only if the file is the user's, and cannot come from a repository or a session:

    the user owns it, nobody else can write it, and no symbolic link leads to it
    the folder is in a git work tree, and git does not track the file
    the user's own configuration has its pair of host and key, or the user has allowed the pair with `config allow`
    it has not changed since the session's first line, or the user ran `config allow` for this very folder after that

Until all four are true, the session waits. The session's first event freezes its route, person and grouping. Settings
that make things stricter are read again for every step, and stay for the session.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from daemon.config import parsers
from daemon.config.project_settings import FOLDER, LOCAL_FILE, InvalidProjectError, Project, Projects, RouteRequest
from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import LOCAL, Route
from daemon.following.opening import Opening
from daemon.routing.allowances import Allowance, Allowances
from daemon.routing.repository import Repositories, tracking
from daemon.state.rows import FrozenRoute
from daemon.system import disk
from daemon.system.messages import one_line
from daemon.system.secret import Secret
from daemon.system.small_file import UnreadableFileError
from llma_core.privacy import Policy
from llma_core.properties import Attribution, Shared

__all__ = ["Held", "Purpose", "Routing", "Ruling", "allowances_file", "configured_routes", "known_routes"]

_SETTINGS = 256
"""Of how many settings it is remembered what their sessions have in common."""
Purpose = Literal["send", "preview", "local"]
"""The purpose of events. `send`: they go to PostHog. `preview`: the user looks at them, even without a configured key.
`local`: they stay on this machine, whatever host or key is configured."""


class Held(Exception):  # noqa: N818 - named for the session's state, which is not an error
    """A session has to wait: nothing of it is sent, and nothing is lost.

    Attributes:
        reason: why, and what to do about it, in one printable line.
        restraint: the restraint to store for the session meanwhile.
    """

    def __init__(self, reason: str, restraint: Restraint = UNRESTRAINED) -> None:
        # The reason contains paths, and a repository chooses their names.
        self.reason = one_line(reason)
        self.restraint = restraint
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The current settings and route of a session.

    Attributes:
        project: the settings of its project, with the session's own restraint applied.
        route: where its events go; None if none may be sent.
    """

    project: Project
    route: Route | None

    @property
    def restraint(self) -> Restraint:
        """The restraint to store for the session, so that it never becomes less strict."""
        return self.project.restraint

    def allows(self, *folders: str | None) -> bool:
        """Whether events of all *folders* may be sent: an event's own folder, and the first folder of its session.

        Raises:
            Held: a folder does not answer.
        """
        try:
            return self.route is not None and self.project.allows(*folders)
        except disk.Unanswered as error:
            raise _unanswered(error, self.restraint) from None


def allowances_file(settings: Settings) -> Path:
    """Return the path of the file of allowances, next to config.toml."""
    return settings.config_file.with_name("allowed.json")


def configured_routes(settings: Settings) -> tuple[Route, ...]:
    """Return the routes in the user's own configuration, the user-wide route first."""
    return tuple(dict.fromkeys(Route(host=host, key=key) for host, key in settings.pairs()))


def known_routes(settings: Settings) -> tuple[Route, ...]:
    """Return every route that sessions may go: those of the user's own configuration first, then the allowed ones."""
    try:
        allowed = Allowances(allowances_file(settings)).all()
    except UnreadableFileError:
        # `doctor` and every session that asks for one of them say so.
        allowed = ()
    return tuple(dict.fromkeys((*configured_routes(settings), *_routes(allowed))))


class _Leaving:
    """What the sessions of the same settings have in common of their attribution.

    Attributes:
        settings: the settings. As long as they are known here, no others have their id.
        policy: what content may leave.
        properties: the user's own properties.
        shared: what was released of these, and of places.
    """

    __slots__ = ("policy", "properties", "settings", "shared")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.policy = Policy(
            level=settings.content_level, max_length=settings.max_attribute_length, redact=settings.redact_secrets
        )
        self.properties = dict(settings.custom_properties)
        self.shared = Shared()


class Routing:
    """Decides routes. Call it from the reading thread, because asking git can take a few seconds.

    Args:
        settings: the user's settings.
        repositories: asks git about folders.
        purpose: the purpose of the events.
        explain: whether events record what was removed from their properties.
        person: returns the distinct id of a session's person where that is known better than by the settings; None
            where it is not.
    """

    def __init__(
        self,
        settings: Settings,
        repositories: Repositories,
        *,
        purpose: Purpose = "send",
        explain: bool = False,
        person: Callable[[Opening], str | None] = lambda _opening: None,
    ) -> None:
        self._person = person
        if purpose != "send" and settings.why_disabled() is not None:
            # Sending is not set up yet, and nothing will be sent.
            settings = replace(settings, enabled=True, opt_out=False)
        self._purpose = purpose
        self._explain = explain
        self._projects = Projects(settings)
        self._repositories = repositories
        self._own = configured_routes(settings)
        self._whole_inputs = "full" in (
            settings.input,
            *(table.values.get("input", settings.input) for table in settings.projects),
        )
        self._allowances = Allowances(allowances_file(settings))
        self._leaving: dict[int, _Leaving] = {}
        self._line_context = parsers.Context(home=Path.home(), allow_custom_host=settings.allow_custom_host)

    def ruling_on(self, openings: Iterable[Opening]) -> AbstractContextManager[None]:
        """Return a context in which `rule` asks the disk about the projects of *openings* at once."""
        return self._projects.looking_at([opening.cwd for opening in openings if opening.cwd is not None])

    def rule(self, opening: Opening, frozen: FrozenRoute | None = None, restraint: Restraint = UNRESTRAINED) -> Ruling:
        """Return the current settings and route of a session.

        Args:
            opening: how the session began.
            frozen: the decision made with its first event; None before that.
            restraint: its stored restraint.

        Raises:
            Held: the session has to wait.
        """
        try:
            project = self._projects.of(opening.cwd)
        except InvalidProjectError as error:
            raise Held(str(error), restraint) from None
        except disk.Unanswered as error:
            raise _unanswered(error, restraint) from None
        project = project.under(restraint.also(project.restraint))
        route = None
        try:
            if project.allows(opening.cwd):
                route = LOCAL if self._purpose == "local" else self._known(frozen) or self._decide(project, opening)
        except Held as held:
            raise Held(held.reason, project.restraint) from None
        except disk.Unanswered as error:
            raise _unanswered(error, project.restraint) from None
        return Ruling(project=project, route=route)

    def freeze(self, opening: Opening, ruling: Ruling, frozen: FrozenRoute | None = None) -> FrozenRoute:
        """Make the decision that applies to all events of a session, when its first event is produced.

        Args:
            opening: how the session began.
            ruling: its current settings and route. There must be a route.
            frozen: an earlier decision, whose host or key the user no longer has. Only host and key are replaced.
        """
        assert ruling.route is not None
        host, key = ruling.route.host, ruling.route.fingerprint
        if frozen is not None:
            return replace(frozen, host=host, key=key)
        settings = ruling.project.settings
        distinct_id, identified = self._person(opening) or settings.distinct_id, True
        if not distinct_id and opening.cwd:
            distinct_id = self._repositories.of(opening.cwd).user_email
        if not distinct_id:
            distinct_id, identified = f"{opening.agent}:{opening.session}", False
        return FrozenRoute(
            distinct_id=distinct_id, identified=identified, grouping=settings.trace_grouping, host=host, key=key
        )

    def attribution(self, frozen: FrozenRoute, ruling: Ruling) -> Attribution:
        """Return what a session's events are attributed to, from the frozen decision and the current settings."""
        settings = ruling.project.settings
        leaving = self._leaving.get(id(settings))
        if leaving is None:
            if len(self._leaving) >= _SETTINGS:
                self._leaving.clear()
            leaving = self._leaving[id(settings)] = _Leaving(settings)
        return Attribution(
            distinct_id=frozen.distinct_id,
            identified=frozen.identified,
            grouping="message" if frozen.grouping == "message" else "session",
            policy=leaving.policy,
            input_mode=settings.input,
            purpose=settings.purpose,
            properties=leaving.properties,
            explain=self._explain,
            shared=leaving.shared,
        )

    def named(self, host: str | None, key: str | None, own: Route, *, is_local: bool = False) -> Route:
        """Return where a recorded line goes, which may name a host or a key itself.

        Whatever a process writes, its content may only go where the user wants it: a pair counts if it is in the user's
        configuration, or the user has allowed it.

        Args:
            host: the host that the line names, or None.
            key: the project API key that the line names, or None.
            own: the route that holds for its process.
            is_local: whether the line says that it may not leave this machine. Then nothing else counts.

        Raises:
            Held: the pair does not count, so the line has to wait.
        """
        if is_local and self._purpose != "local":
            return LOCAL
        if (host is None and key is None) or self._purpose == "local":
            return own
        try:
            route = Route(
                host=own.host if host is None else parsers.host(host, self._line_context),
                key=own.key if key is None else parsers.api_key(key, self._line_context),
            )
        except ValueError as error:
            what = "key" if host is None else f"host ({parsers.shown(host)}) or key"
            raise Held(f"a program recorded calls with a {what} that cannot be used: it {error}") from None
        if route != own and route not in (*self._own, *_routes(self._allowances_now())):
            raise Held(
                f"a program recorded calls for {route.host} with a key that you have not allowed; if that is right, "
                f"run `{APP_NAME} config allow --host {route.host} --key-stdin`"
            )
        return route

    def allowed(self) -> frozenset[Route]:
        """Return the routes that the user has allowed; none while that cannot be read."""
        try:
            return frozenset(_routes(self._allowances_now()))
        except Held:
            return frozenset()

    def allow_pair(self, route: Route) -> None:
        """Permit whatever names the host and key of *route* to be sent there.

        Raises:
            Held: the permission cannot be kept.
            OSError: the permission cannot be written.
        """
        try:
            now = int(time.time() * 1000)
            self._allowances.add(Allowance(folder="", host=route.host, key=route.key, at=now))
        except UnreadableFileError as error:
            raise Held(_bad_allowances(error)) from None

    @property
    def whole_inputs(self) -> bool:
        """Whether the setting `input` is "full" for any session. Each session's attribution has its own value."""
        return self._whole_inputs

    def repository(self, cwd: str | None) -> str | None:
        """Return `owner/name` of the repository that contains *cwd*; None if it is not known."""
        return self._repositories.of(cwd).origin if cwd else None

    def allow(self, folder: str) -> Route:
        """Permit the sessions of *folder* to go where its `settings.local.json` says.

        Returns:
            That route.

        Raises:
            Held: there is nothing to allow, or the file may not be the user's own.
            OSError: the permission cannot be written.
        """
        try:
            project = self._projects.of(folder)
        except InvalidProjectError as error:
            raise Held(str(error)) from None
        settings, route_request = project.settings, project.route_request
        if not project.allows(folder):
            raise Held(f"{folder}: its sessions are not sent, because it is excluded or not enabled; change that first")
        if route_request is None:
            path = f"{folder}/{FOLDER}/{LOCAL_FILE}"
            raise Held(f"{path} asks for no other host or key than your own; there is nothing to allow")
        if settings.api_key is None:
            raise Held(_no_key(project))
        self._check_owner(route_request, folder)
        route = Route(host=settings.host, key=settings.api_key)
        real = os.path.realpath(folder)
        try:
            now = int(time.time() * 1000)
            self._allowances.add(Allowance(folder=real, host=route.host, key=route.key, at=now))
        except UnreadableFileError as error:
            raise Held(_bad_allowances(error)) from None
        return route

    # ------------------------------------------------------------------ deciding

    def _known(self, frozen: FrozenRoute | None) -> Route | None:
        """Return the frozen route if the user still has its host and key; else None."""
        if frozen is None or frozen.host is None:
            return None

        def find(routes: Sequence[Route]) -> Route | None:
            matching = (route for route in routes if (route.host, route.fingerprint) == (frozen.host, frozen.key))
            return next(matching, None)

        return find(self._own) or find(_routes(self._allowances_now()))

    def _decide(self, project: Project, opening: Opening) -> Route:
        settings = project.settings
        if settings.api_key is None and self._purpose == "send":
            raise Held(_no_key(project))
        route = Route(host=settings.host, key=settings.api_key or Secret(""))
        if project.route_request is not None and opening.cwd:
            self._check_request(project.route_request, route, opening)
        return route

    def _check_request(self, route_request: RouteRequest, route: Route, opening: Opening) -> None:
        """Raise Held unless the host or key in a project's own file counts."""
        folder = opening.cwd
        assert folder is not None
        allow = f"if that is right, run `{APP_NAME} config allow {shlex.quote(folder)}`"
        if route_request.doubt is None:
            real = disk.call(folder, partial(os.path.realpath, folder))
            allowed = self._allowances_now()
            if route not in (*self._own, *_routes(allowed)):
                raise Held(f"{route_request.path} sends to {route.host} with a key that you have not allowed; {allow}")
            here = [each for each in allowed if (each.folder, each.host, each.key) == (real, route.host, route.key)]
            seen = max((each.at for each in here), default=0)
            if route_request.changed_at >= max(seen, opening.at or 0):
                raise Held(f"{route_request.path} was changed after the session began; {allow}")
        self._check_owner(route_request, folder)

    def _check_owner(self, route_request: RouteRequest, folder: str) -> None:
        """Raise Held if the file may come from a repository, or may not be the user's own."""
        doubt = route_request.doubt
        if doubt is None:
            name = f"{FOLDER}/{LOCAL_FILE}"
            match tracking(folder, name):
                case "tracked":
                    doubt = f"git tracks it; run git -C {shlex.quote(folder)} rm --cached {name}"
                case "outside":
                    doubt = "it is not in a git work tree of your own; set them in a [[project]] table of config.toml"
                case "unknown":
                    doubt = "git did not say whether it tracks the file; run git status there to see why"
                case "untracked":
                    return
        raise Held(f"{route_request.path}: its host and key do not count, because {doubt}")

    def _allowances_now(self) -> tuple[Allowance, ...]:
        try:
            return self._allowances.all()
        except UnreadableFileError as error:
            raise Held(_bad_allowances(error)) from None


def _routes(allowed: Sequence[Allowance]) -> tuple[Route, ...]:
    return tuple(Route(host=each.host, key=each.key) for each in allowed)


def _unanswered(error: disk.Unanswered, restraint: Restraint) -> Held:
    return Held(f"{error.filename} does not answer; get the disk it is on to work, or unmount it", restraint)


def _no_key(project: Project) -> str:
    source = project.settings.source("enabled")
    return f"{source} enables the project, but there is no POSTHOG_API_KEY for it; set one in config.toml"


def _bad_allowances(error: UnreadableFileError) -> str:
    return f"{error.path}: {error.reason}; remove it and run `{APP_NAME} config allow` again"
