from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from daemon.config import loading
from daemon.config.settings import Settings
from daemon.delivering.route import LOCAL, Route
from daemon.following.opening import Opening
from daemon.routing.repository import Repositories
from daemon.routing.routing import Held, Purpose, Routing, configured_routes
from daemon.state.rows import FrozenRoute
from daemon.system.secret import Secret
from llma_core.properties import Attribution
from tests.support.waiting import PATIENCE

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
        subprocess.run(["git", *command], cwd=folder, check=True, timeout=PATIENCE)
    return folder


def settings(tmp_path: Path, **variables: str) -> Settings:
    return loading.load({}, variables, config_file=tmp_path / "none.toml", home=tmp_path)


def routing(tmp_path: Path, **variables: str) -> Routing:
    own = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": "phc_own"}
    return Routing(settings(tmp_path, **own | variables), Repositories())


def frozen_by(here: Routing, cwd: str | None) -> FrozenRoute:
    opening = Opening(agent="claude-code", session="s-1", cwd=cwd)
    return here.freeze(opening, here.rule(opening))


def said_by(here: Routing, frozen: FrozenRoute = FROZEN) -> Attribution:
    return here.attribution(frozen, here.rule(Opening(agent="claude-code", session="s-1"), frozen))


def test_a_session_is_its_repositorys_users(tmp_path: Path, repository: Path) -> None:
    frozen = frozen_by(routing(tmp_path), str(repository))
    assert (frozen.distinct_id, frozen.identified, frozen.grouping) == ("grace@example.com", True, "session")


def test_the_configured_person_comes_first(tmp_path: Path, repository: Path) -> None:
    frozen = frozen_by(routing(tmp_path, POSTHOG_LLMA_DISTINCT_ID="ada@example.com"), str(repository))
    assert (frozen.distinct_id, frozen.identified) == ("ada@example.com", True)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("cwd", [None, "/no/such/folder", "", "relative", "\0"])
def test_a_session_without_a_known_user_is_its_own_person_without_a_profile(tmp_path: Path, cwd: str | None) -> None:
    frozen = frozen_by(routing(tmp_path), cwd)
    assert (frozen.distinct_id, frozen.identified) == ("claude-code:s-1", False)


def test_a_frozen_decision_overrides_later_settings(tmp_path: Path) -> None:
    said = said_by(routing(tmp_path, POSTHOG_LLMA_DISTINCT_ID="bob@example.com", POSTHOG_LLMA_TRACE_GROUPING="message"))
    assert (said.distinct_id, said.identified, said.grouping) == ("ada@example.com", True, "session")


def test_an_attribution_follows_the_current_settings(tmp_path: Path) -> None:
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


def test_secrets_are_scrubbed_unless_the_settings_say_no(tmp_path: Path) -> None:
    assert said_by(routing(tmp_path)).policy.redact is True
    assert said_by(routing(tmp_path, POSTHOG_LLMA_REDACT_SECRETS="false")).policy.redact is False


def test_grouping_is_frozen_as_it_is_set(tmp_path: Path) -> None:
    frozen = frozen_by(routing(tmp_path, POSTHOG_LLMA_TRACE_GROUPING="message"), None)
    assert frozen.grouping == "message"


def test_a_repository_is_named_without_its_credentials(tmp_path: Path, repository: Path) -> None:
    here = routing(tmp_path)
    assert here.repository(str(repository)) == "grace/orchard"
    assert here.repository(None) is None
    assert here.repository("/no/such/folder") is None


# ---------------------------------------------------------------------- routes


OTHER = {"POSTHOG_HOST": "https://eu.i.posthog.com", "POSTHOG_API_KEY": "phc_other"}
THERE = Route(host="https://eu.i.posthog.com", key=Secret("phc_other"))
OWN = Route(host="https://us.i.posthog.com", key=Secret("phc_own"))


def write_local(folder: Path, env: Mapping[str, object] = OTHER) -> Path:
    """Write a project's `settings.local.json`, in one step."""
    path = folder / ".claude" / "settings.local.json"
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name("beside")
    beside.write_text(json.dumps({"env": env}))
    beside.replace(path)
    return path


def begun(folder: Path, *, after: float = 60.0) -> Opening:
    """A session whose first line is so many seconds from now."""
    return Opening(agent="claude-code", session="s-1", cwd=str(folder), at=int((time.time() + after) * 1000))


def with_table(tmp_path: Path, **variables: str) -> Routing:
    """The user's own configuration knows the other host and key, too."""
    config = tmp_path / "config.toml"
    config.write_text(
        '[[project]]\npath = "/elsewhere"\nhost = "https://eu.i.posthog.com"\napi_key = "phc_other"\n',
    )
    config.chmod(0o600)
    own = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": "phc_own"}
    return Routing(loading.load({}, own | variables, config_file=config, home=tmp_path), Repositories(), purpose="send")


def held(here: Routing, opening: Opening) -> str:
    with pytest.raises(Held) as caught:
        here.rule(opening)
    assert caught.value.reason.isprintable()
    assert "phc_" not in caught.value.reason
    return caught.value.reason


def test_a_session_goes_where_the_user_says(tmp_path: Path, repository: Path) -> None:
    assert routing(tmp_path).rule(begun(repository)).route == OWN
    assert configured_routes(settings(tmp_path, POSTHOG_API_KEY="phc_own")) == (OWN,)


def test_a_table_gives_its_folders_a_route_of_their_own(tmp_path: Path) -> None:
    here = with_table(tmp_path)
    assert here.rule(Opening(agent="claude-code", session="s", cwd="/elsewhere/x")).route == THERE
    assert here.rule(Opening(agent="claude-code", session="s", cwd="/somewhere")).route == OWN
    assert here.rule(Opening(agent="claude-code", session="s")).route == OWN


def test_a_pair_of_the_users_own_counts_from_the_projects_own_file(tmp_path: Path, repository: Path) -> None:
    write_local(repository)
    assert with_table(tmp_path).rule(begun(repository)).route == THERE


def test_an_unknown_pair_waits_until_it_is_allowed(tmp_path: Path, repository: Path) -> None:
    path = write_local(repository)
    here = routing(tmp_path)
    reason = held(here, begun(repository))
    assert reason == (
        f"{path} sends to https://eu.i.posthog.com with a key that you have not allowed; "
        f"if that is right, run `posthog-llma-daemon config allow {repository}`"
    )
    assert routing(tmp_path).allow(str(repository)) == THERE
    assert here.rule(begun(repository)).route == THERE, "another process has allowed it"

    # The pair has been allowed, but this file must not have changed since then.
    assert here.rule(begun(repository, after=-3600)).route == THERE
    write_local(repository)
    assert "was changed after the session began" in held(here, begun(repository, after=-3600))
    assert here.rule(begun(repository)).route == THERE


@pytest.mark.parametrize(
    "env",
    [{"POSTHOG_HOST": "https://eu.i.posthog.com"}, {"POSTHOG_API_KEY": "phc_other"}, OTHER],
)
def test_half_of_a_pair_is_no_pair(tmp_path: Path, repository: Path, env: Mapping[str, str]) -> None:
    write_local(repository, env)
    assert "that you have not allowed" in held(routing(tmp_path), begun(repository))


def test_an_invalid_host_is_never_asked_for(tmp_path: Path, repository: Path) -> None:
    write_local(repository, {"POSTHOG_HOST": "https://evil.example"})
    assert "'evil.example' is not PostHog's" in held(routing(tmp_path), begun(repository))
    with pytest.raises(Held, match="is not PostHog's"):
        routing(tmp_path).allow(str(repository))


def test_a_file_changed_while_the_session_ran_does_not_count(tmp_path: Path, repository: Path) -> None:
    write_local(repository)
    here = with_table(tmp_path)
    assert "was changed after the session began" in held(here, begun(repository, after=-60))
    assert "was changed after" in held(here, Opening(agent="claude-code", session="s", cwd=str(repository)))
    here.allow(str(repository))
    assert here.rule(begun(repository, after=-60)).route == THERE


def test_a_file_that_says_it_is_older_than_it_is_does_not_count(tmp_path: Path, repository: Path) -> None:
    path = write_local(repository)
    os.utime(path, (0, 0))
    assert "was changed after the session began" in held(with_table(tmp_path), begun(repository, after=-60))


def test_a_file_that_git_tracks_does_not_count(tmp_path: Path, repository: Path) -> None:
    path = write_local(repository)
    subprocess.run(["git", "add", "-f", str(path)], cwd=repository, check=True, timeout=PATIENCE)
    here = with_table(tmp_path)
    assert f"git tracks it; run git -C {repository} rm --cached" in held(here, begun(repository))
    with pytest.raises(Held, match="git tracks it"):
        here.allow(str(repository))


def test_a_file_outside_any_work_tree_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    write_local(folder)
    assert "it is not in a git work tree" in held(with_table(tmp_path), begun(folder))


@pytest.mark.parametrize("part", [".claude", ".claude/settings.local.json"])
def test_a_file_behind_a_link_does_not_count(tmp_path: Path, repository: Path, part: str) -> None:
    write_local(repository)
    there = tmp_path / "there"
    (repository / part).rename(there)
    (repository / part).symlink_to(there)
    here = with_table(tmp_path)
    assert "is a symbolic link" in held(here, begun(repository))
    with pytest.raises(Held, match="is a symbolic link"):
        here.allow(str(repository))


@pytest.mark.parametrize("part", [".claude", ".claude/settings.local.json"])
def test_a_file_others_can_write_does_not_count(tmp_path: Path, repository: Path, part: str) -> None:
    write_local(repository)
    (repository / part).chmod(0o775)
    assert "can be written by other users; run chmod go-w" in held(with_table(tmp_path), begun(repository))


def test_a_file_that_cannot_be_used_lets_sessions_wait(tmp_path: Path, repository: Path) -> None:
    path = write_local(repository)
    path.unlink()
    os.mkfifo(path)
    assert held(routing(tmp_path), begun(repository)) == f"{path}: is not a regular file; correct or remove it"


def test_a_route_once_taken_stays(tmp_path: Path, repository: Path) -> None:
    here = with_table(tmp_path)
    opening = begun(repository, after=-60)
    frozen = here.freeze(opening, here.rule(opening))
    assert (frozen.host, frozen.key) == (OWN.host, OWN.fingerprint)
    assert "phc_own" not in str(frozen)

    write_local(repository)
    assert here.rule(opening, frozen).route == OWN
    assert with_table(tmp_path).rule(opening, frozen).route == OWN, "after a restart, too"
    assert "was changed after" in held(here, opening)


def test_a_route_that_is_the_users_no_more_is_decided_anew(tmp_path: Path, repository: Path) -> None:
    here = routing(tmp_path)
    opening = begun(repository)
    frozen = here.freeze(opening, here.rule(opening))
    changed = routing(tmp_path, POSTHOG_API_KEY="phc_rotated", POSTHOG_LLMA_DISTINCT_ID="bob@example.com")
    ruling = changed.rule(opening, frozen)
    assert ruling.route == Route(host=OWN.host, key=Secret("phc_rotated"))
    again = changed.freeze(opening, ruling, frozen)
    assert again.key != frozen.key
    assert again.distinct_id == frozen.distinct_id == "grace@example.com"


def test_a_route_that_was_allowed_stays_when_the_file_is_gone(tmp_path: Path, repository: Path) -> None:
    path = write_local(repository)
    here = routing(tmp_path)
    here.allow(str(repository))
    opening = begun(repository)
    frozen = here.freeze(opening, here.rule(opening))
    path.unlink()
    assert routing(tmp_path).rule(opening, frozen).route == THERE


def test_an_excluded_folder_has_no_route(tmp_path: Path, repository: Path) -> None:
    write_local(repository)
    ruling = routing(tmp_path, POSTHOG_LLMA_EXCLUDE=str(repository)).rule(begun(repository))
    assert ruling.route is None
    assert not ruling.allows(str(repository))


def test_a_restraint_stays_with_whoever_waits(tmp_path: Path, repository: Path) -> None:
    write_local(repository, OTHER | {"POSTHOG_LLMA_CONTENT": "metadata"})
    here = routing(tmp_path)
    with pytest.raises(Held) as caught:
        here.rule(begun(repository))
    write_local(repository, {})
    ruling = here.rule(begun(repository), None, caught.value.restraint)
    assert ruling.project.settings.content_level == "metadata"
    assert ruling.restraint == caught.value.restraint


def test_a_project_without_a_key_waits_for_one(tmp_path: Path) -> None:
    here = routing(tmp_path, POSTHOG_API_KEY="")
    assert "there is no POSTHOG_API_KEY for it; set one in config.toml" in held(
        here, Opening(agent="claude-code", session="s", cwd="/x")
    )


@pytest.mark.parametrize("purpose", ["preview", "local"])
def test_local_events_need_no_key(tmp_path: Path, purpose: Purpose) -> None:
    here = Routing(settings(tmp_path, OPT_OUT_CAPTURE="1"), Repositories(), purpose=purpose)
    route = here.rule(Opening(agent="claude-code", session="s", cwd="/x")).route
    assert route is not None
    assert (route == LOCAL) == (purpose == "local")


def test_allowing_fails_if_there_is_nothing_to_allow(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(Held, match="there is nothing to allow"):
        routing(tmp_path).allow(str(repository))
    write_local(repository, {"POSTHOG_HOST": "https://eu.i.posthog.com"})
    with pytest.raises(Held, match="is excluded or not enabled"):
        routing(tmp_path, POSTHOG_LLMA_EXCLUDE=str(repository)).allow(str(repository))
    with pytest.raises(Held, match="there is no POSTHOG_API_KEY"):
        routing(tmp_path, POSTHOG_API_KEY="").allow(str(repository))


def test_unreadable_allowances_are_reported(tmp_path: Path, repository: Path) -> None:
    write_local(repository)
    allowed = tmp_path / "allowed.json"
    allowed.write_text("{}")
    allowed.chmod(0o600)
    here = routing(tmp_path)
    expected = f"{allowed}: is not what `config allow` writes; remove it and run `posthog-llma-daemon config allow`"
    assert held(here, begun(repository)).startswith(expected)
    with pytest.raises(Held, match="is not what `config allow` writes"):
        here.allow(str(repository))


def test_a_route_names_its_key_without_telling_it() -> None:
    assert "phc_other" not in f"{THERE} {THERE.name} {THERE.fingerprint}"
    assert THERE.fingerprint != OWN.fingerprint


# ---------------------------------------------------------------------- a hostile repository


def test_nothing_that_came_in_an_archive_sends_elsewhere_or_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with its own .git: untracked settings, and every program that git can be told to run."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    folder = tmp_path / "archive"
    folder.mkdir()
    hooks = folder / ".git" / "hooks"
    commands = [
        ["init", "--quiet"],
        ["config", "user.email", "grace@example.com"],
    ]
    commands += [["config", name, str(program)] for name in ("core.fsmonitor", "core.sshCommand", "core.pager")]
    commands += [["config", "filter.x.clean", str(program)], ["config", "core.hooksPath", str(hooks)]]
    commands += [["config", "alias.ls-files", f"!{program}"], ["config", "extensions.partialClone", "origin"]]
    commands += [["remote", "add", "origin", f"ext::{program}"]]
    for command in commands:
        subprocess.run(["git", *command], cwd=folder, check=True, timeout=PATIENCE)
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout", "reference-transaction"):
        (hooks / hook).write_text(program.read_text())
        (hooks / hook).chmod(0o755)
    (folder / ".gitattributes").write_text("* filter=x\n")
    local = write_local(folder, OTHER | {"POSTHOG_LLMA_ALLOW_CUSTOM_HOST": "true", "POSTHOG_LLMA_REDACT_SECRETS": "0"})
    shared = folder / ".claude" / "settings.json"
    shared.write_text(json.dumps({"env": OTHER | {"POSTHOG_LLMA_CUSTOM_PROPERTIES": {"$set": {"a": 1}, "token": "x"}}}))

    reason = held(routing(tmp_path), begun(folder))
    assert "with a key that you have not allowed" in reason
    # If the pair happens to be the user's own, routing asks git.
    known = with_table(tmp_path)
    assert known.rule(begun(folder)).route == THERE
    local.unlink()
    ruling = known.rule(begun(folder))
    assert ruling.route == OWN
    assert ruling.project.settings.custom_properties == {}
    assert ruling.project.settings.redact_secrets is True
    assert known.repository(str(folder)) is None
    known.freeze(begun(folder), ruling)
    assert not ran.exists()
    # The trap works: git as anybody runs it springs it.
    subprocess.run(["git", "-C", str(folder), "status"], capture_output=True, timeout=PATIENCE, check=False)
    assert ran.exists()
