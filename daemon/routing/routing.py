"""Where a session's events go, whose they are, and what of them may leave.

A session's route is the host and the key it is sent with. It is the user's own, or what a `settings.local.json` of the
session's project asks for, if that file is the user's and nothing a repository or a session can have brought:

    its owner is the user, nobody else can write it, and no symbolic link leads to it
    git has the folder in a work tree and does not track the file
    its host and key are a pair that the user's own configuration has, or that `config allow` has allowed once
    it was not changed since the session's first line, unless `config allow` was told of this very folder since then

Until all of that holds the session waits. With its first event route, person and grouping are frozen; what makes things
stricter is looked at again with every step, and stays for the session.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from daemon.config.project_settings import FOLDER, LOCAL_FILE, InvalidProjectError, Project, Projects, RouteRequest
from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import LOCAL, Route
from daemon.following.opening import Opening
from daemon.routing.allowances import Allowance, Allowances
from daemon.routing.repository import Repositories, tracking
from daemon.state.rows import FrozenRoute
from daemon.system.messages import one_line
from daemon.system.secret import Secret
from daemon.system.small_file import UnreadableFileError
from llma_core.events import Attribution
from llma_core.privacy import Policy

__all__ = ["Held", "Purpose", "Routing", "Ruling", "allowances_file", "configured_routes"]

Purpose = Literal["send", "preview", "local"]
"""What events are made for. `send`: to go to PostHog. `preview`: to be looked at as they would go, also where no key is
set up yet. `local`: to stay on this machine, whatever host or key they would go with."""


class Held(Exception):  # noqa: N818 - it says what is done with the session; nothing is wrong
    """A session has to wait: nothing of it is sent, and nothing of it is lost.

    Attributes:
        reason: why, and what to do about it, in one line that can be printed.
        restraint: what is to be remembered for the session meanwhile.
    """

    def __init__(self, reason: str, restraint: Restraint = UNRESTRAINED) -> None:
        # Paths are a repository's to choose.
        self.reason = one_line(reason)
        self.restraint = restraint
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What holds for a session now.

    Attributes:
        project: what holds for its project, and for itself.
        route: where its events go; None where none may.
    """

    project: Project
    route: Route | None

    @property
    def restraint(self) -> Restraint:
        """What is to be remembered for the session, so that it never becomes less."""
        return self.project.restraint

    def allows(self, *folders: str | None) -> bool:
        """Whether events of all *folders* may be sent: an event's own, and its session's first."""
        return self.route is not None and self.project.allows(*folders)


def allowances_file(settings: Settings) -> Path:
    """Return where `config allow` keeps what it was told: beside config.toml."""
    return settings.config_file.with_name("allowed.json")


def configured_routes(settings: Settings) -> tuple[Route, ...]:
    """Return the routes of the user's own configuration, the user-wide one first."""
    return tuple(dict.fromkeys(Route(host=host, key=key) for host, key in settings.pairs()))


class Routing:
    """Resolves routes. Called from the reading thread: asking git may take some seconds.

    Args:
        settings: the settings in force.
        repositories: what folders' repositories say.
        purpose: what the events are for.
        explain: whether events note what was done to their properties.
    """

    def __init__(
        self, settings: Settings, repositories: Repositories, *, purpose: Purpose = "send", explain: bool = False
    ) -> None:
        if purpose != "send" and settings.why_disabled() is not None:
            # Nothing is set up yet, and nothing will leave.
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

    def rule(self, opening: Opening, frozen: FrozenRoute | None = None, restraint: Restraint = UNRESTRAINED) -> Ruling:
        """Say what holds for a session now.

        Args:
            opening: how the session began.
            frozen: what was decided with its first event.
            restraint: what was remembered for it.

        Raises:
            Held: it has to wait.
        """
        try:
            project = self._projects.of(opening.cwd)
        except InvalidProjectError as error:
            raise Held(str(error), restraint) from None
        project = project.under(restraint.also(project.restraint))
        route = None
        if project.allows(opening.cwd):
            try:
                route = LOCAL if self._purpose == "local" else self._kept(frozen) or self._decide(project, opening)
            except Held as held:
                raise Held(held.reason, project.restraint) from None
        return Ruling(project=project, route=route)

    def freeze(self, opening: Opening, ruling: Ruling, frozen: FrozenRoute | None = None) -> FrozenRoute:
        """Decide, with a session's first event, what holds for all its others.

        Args:
            opening: how the session began.
            ruling: what holds for it; it has a route.
            frozen: what was decided before, for a host or key that is none of the user's any more. Only these change.
        """
        assert ruling.route is not None
        host, key = ruling.route.host, ruling.route.fingerprint
        if frozen is not None:
            return replace(frozen, host=host, key=key)
        settings = ruling.project.settings
        distinct_id, identified = settings.distinct_id, True
        if not distinct_id and opening.cwd:
            distinct_id = self._repositories.of(opening.cwd).user_email
        if not distinct_id:
            distinct_id, identified = f"claude-code:{opening.session}", False
        return FrozenRoute(
            distinct_id=distinct_id, identified=identified, grouping=settings.trace_grouping, host=host, key=key
        )

    def attribution(self, frozen: FrozenRoute, ruling: Ruling) -> Attribution:
        """Return what a session's events say, from what was frozen and from what holds now."""
        settings = ruling.project.settings
        return Attribution(
            distinct_id=frozen.distinct_id,
            identified=frozen.identified,
            grouping="message" if frozen.grouping == "message" else "session",
            policy=Policy(
                level=settings.content_level,
                max_length=settings.max_attribute_length,
                redact=settings.redact_secrets,
            ),
            input_mode=settings.input,
            purpose=settings.purpose,
            properties=dict(settings.custom_properties),
            explain=self._explain,
        )

    @property
    def whole_inputs(self) -> bool:
        """Whether generations of some session may say their whole inputs; those of which is said with each."""
        return self._whole_inputs

    def repository(self, cwd: str | None) -> str | None:
        """Return `owner/name` of the repository *cwd* lies in."""
        return self._repositories.of(cwd).origin if cwd else None

    def allow(self, folder: str) -> Route:
        """Take the user's word that sessions of *folder* may go where its `settings.local.json` says.

        Returns:
            Where that is.

        Raises:
            Held: there is nothing to allow, or the file may be somebody else's.
            OSError: it cannot be written down.
        """
        try:
            project = self._projects.of(folder)
        except InvalidProjectError as error:
            raise Held(str(error)) from None
        settings, route_request = project.settings, project.route_request
        if not project.allows(folder):
            raise Held(f"{folder}: nothing of it is sent, for it is excluded or not enabled; change that first")
        if route_request is None:
            path = f"{folder}/{FOLDER}/{LOCAL_FILE}"
            raise Held(f"{path} asks for no other host or key than what holds already; there is nothing to allow")
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

    def _kept(self, frozen: FrozenRoute | None) -> Route | None:
        """Return the frozen route, while its host and key are still the user's."""
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
        """Let a host or key of a project's own file count, or raise Held."""
        folder = opening.cwd
        assert folder is not None
        allow = f"if that is right, run `{APP_NAME} config allow {shlex.quote(folder)}`"
        if route_request.doubt is None:
            real = os.path.realpath(folder)
            allowed = self._allowances_now()
            if route not in (*self._own, *_routes(allowed)):
                raise Held(f"{route_request.path} sends to {route.host} with a key that you have not allowed; {allow}")
            here = [each for each in allowed if (each.folder, each.host, each.key) == (real, route.host, route.key)]
            seen = max((each.at for each in here), default=0)
            if route_request.changed_at >= max(seen, opening.at or 0):
                raise Held(f"{route_request.path} was changed after the session had begun; {allow}")
        self._check_owner(route_request, folder)

    def _check_owner(self, route_request: RouteRequest, folder: str) -> None:
        """Raise Held where the file may have come with a repository, or be somebody else's."""
        doubt = route_request.doubt
        if doubt is None:
            name = f"{FOLDER}/{LOCAL_FILE}"
            match tracking(folder, name):
                case "tracked":
                    doubt = f"git tracks it; run git -C {shlex.quote(folder)} rm --cached {name}"
                case "outside":
                    doubt = "it is in no git work tree; set them in a [[project]] table of config.toml"
                case "unknown":
                    doubt = "git does not say whether it tracks it; see what git status says there"
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


def _no_key(project: Project) -> str:
    source = project.settings.source("enabled")
    return f"{source} enables the project, and there is no POSTHOG_API_KEY for it; set one in config.toml"


def _bad_allowances(error: UnreadableFileError) -> str:
    return f"{error.path}: {error.reason}; remove it and run `{APP_NAME} config allow` again"
