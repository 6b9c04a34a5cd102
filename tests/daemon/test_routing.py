from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from daemon import settings as settings_module
from daemon.catalog import Opening
from daemon.repository import Repositories
from daemon.routing import Routing
from daemon.settings import Settings
from daemon.store import FrozenRoute
from llma_core.events import Attribution

FROZEN = FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a user and an origin, on a machine whose user has none."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    folder = tmp_path / "orchard"
    folder.mkdir()
    for command in (
        ("init", "--quiet"),
        ("config", "user.email", "grace@example.com"),
        ("remote", "add", "origin", "https://token@github.com/grace/orchard.git"),
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, timeout=10)
    return folder


def settings(tmp_path: Path, **variables: str) -> Settings:
    return settings_module.load({}, variables, config_file=tmp_path / "none.toml", home=tmp_path)


def routing(tmp_path: Path, **variables: str) -> Routing:
    own = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": "phc_own"}
    return Routing(settings(tmp_path, **own | variables), Repositories())


def frozen_by(here: Routing, cwd: str | None) -> FrozenRoute:
    opening = Opening(session="s-1", cwd=cwd)
    return here.freeze(opening, here.rule(opening))


def said_by(here: Routing, frozen: FrozenRoute = FROZEN) -> Attribution:
    return here.attribution(frozen, here.rule(Opening(session="s-1"), frozen))


def test_a_session_is_its_repositorys_users(tmp_path: Path, repository: Path) -> None:
    frozen = frozen_by(routing(tmp_path), str(repository))
    assert (frozen.distinct_id, frozen.identified, frozen.grouping) == ("grace@example.com", True, "session")


def test_the_configured_person_comes_first(tmp_path: Path, repository: Path) -> None:
    frozen = frozen_by(routing(tmp_path, POSTHOG_LLMA_DISTINCT_ID="ada@example.com"), str(repository))
    assert (frozen.distinct_id, frozen.identified) == ("ada@example.com", True)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("cwd", [None, "/no/such/folder", "", "relative", "\0"])
def test_a_session_of_nobody_known_is_its_own_person_without_a_profile(tmp_path: Path, cwd: str | None) -> None:
    frozen = frozen_by(routing(tmp_path), cwd)
    assert (frozen.distinct_id, frozen.identified) == ("claude-code:s-1", False)


def test_what_was_frozen_holds_against_later_settings(tmp_path: Path) -> None:
    said = said_by(routing(tmp_path, POSTHOG_LLMA_DISTINCT_ID="bob@example.com", POSTHOG_LLMA_TRACE_GROUPING="message"))
    assert (said.distinct_id, said.identified, said.grouping) == ("ada@example.com", True, "session")


def test_what_is_said_follows_the_settings_of_now(tmp_path: Path) -> None:
    said = said_by(
        routing(
            tmp_path,
            POSTHOG_LLMA_CONTENT="no_tool_content",
            POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH="500",
            POSTHOG_LLMA_INPUT="prompt",
            POSTHOG_AI_PURPOSE="review",
            POSTHOG_LLMA_CUSTOM_PROPERTIES='{"team": "trees"}',
            POSTHOG_LLMA_TRACE_GROUPING="message",
        ),
        FrozenRoute(distinct_id="d", identified=False, grouping="message"),
    )
    assert (said.policy.level, said.policy.max_length) == ("no_tool_content", 500)
    assert (said.input_mode, said.purpose, said.grouping) == ("prompt", "review", "message")
    assert said.properties == {"team": "trees"}
    assert said.identified is False


def test_privacy_mode_overrules_the_content_level(tmp_path: Path) -> None:
    said = said_by(routing(tmp_path, POSTHOG_LLMA_PRIVACY_MODE="1", POSTHOG_LLMA_CONTENT="full"))
    assert said.policy.level == "metadata"


def test_grouping_is_frozen_as_it_is_set(tmp_path: Path) -> None:
    frozen = frozen_by(routing(tmp_path, POSTHOG_LLMA_TRACE_GROUPING="message"), None)
    assert frozen.grouping == "message"


def test_a_repository_is_named_without_its_credentials(tmp_path: Path, repository: Path) -> None:
    here = routing(tmp_path)
    assert here.repository(str(repository)) == "grace/orchard"
    assert here.repository(None) is None
    assert here.repository("/no/such/folder") is None
