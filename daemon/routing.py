"""Whose a session's events are, and what of them may leave: settings and repository to an Attribution."""

from __future__ import annotations

from daemon.patterns import Folders
from daemon.repository import Repositories
from daemon.settings import Settings
from daemon.store import FrozenRoute
from llma_core.events import Attribution
from llma_core.privacy import Policy

__all__ = ["Routing"]


class Routing:
    """Resolves routes. Called from the reading thread: asking git may take up to two seconds.

    Args:
        settings: the settings in force.
        repositories: what folders' repositories say.
    """

    def __init__(self, settings: Settings, repositories: Repositories) -> None:
        self._settings = settings
        self._repositories = repositories
        self._folders = Folders(settings.include, settings.exclude)

    def freeze(self, session: str, cwd: str | None) -> FrozenRoute:
        """Decide, with a session's first event, what holds for all its others.

        Args:
            session: the session's id.
            cwd: its first working directory.
        """
        distinct_id = self._settings.distinct_id
        identified = True
        if not distinct_id and cwd:
            distinct_id = self._repositories.of(cwd).user_email
        if not distinct_id:
            distinct_id, identified = f"claude-code:{session}", False
        return FrozenRoute(distinct_id=distinct_id, identified=identified, grouping=self._settings.trace_grouping)

    def attribution(self, frozen: FrozenRoute) -> Attribution:
        """Return what a session's events say, from what was frozen and from the settings of now."""
        settings = self._settings
        return Attribution(
            distinct_id=frozen.distinct_id,
            identified=frozen.identified,
            grouping="message" if frozen.grouping == "message" else "session",
            policy=Policy(level=settings.content_level, max_length=settings.max_attribute_length),
            input_mode=settings.input,
            purpose=settings.purpose,
            properties=dict(settings.custom_properties),
        )

    @property
    def whole_inputs(self) -> bool:
        """Whether generations say their whole inputs."""
        return self._settings.input == "full"

    def allows(self, *folders: str | None) -> bool:
        """Whether the settings let events of all *folders* be sent: an event's own, and its session's first."""
        return all(self._folders.allow(folder) for folder in folders)

    def repository(self, cwd: str | None) -> str | None:
        """Return `owner/name` of the repository *cwd* lies in."""
        return self._repositories.of(cwd).origin if cwd else None
