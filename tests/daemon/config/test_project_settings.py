"""The settings of one project: tables of config.toml, and the project's own files, which anybody may have written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config import loading
from daemon.config.project_settings import InvalidProjectError, Project, Projects
from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.system.secret import Secret

KEY = "phc_key_of_the_user"


@dataclass(frozen=True)
class Home:
    """A user with a config.toml and one project."""

    root: Path

    @property
    def config_file(self) -> Path:
        return self.root / "config.toml"

    @property
    def folder(self) -> str:
        return str(self.root / "work" / "orchard")

    def path(self, name: str) -> Path:
        path = Path(self.folder) / ".claude" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def config(self, content: str) -> None:
        self.config_file.write_text(content)
        self.config_file.chmod(0o600)

    def shared(self, **env: object) -> Path:
        return write(self.path("settings.json"), env)

    def local(self, **env: object) -> Path:
        return write(self.path("settings.local.json"), env)

    def projects(self, **variables: str) -> Projects:
        own = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": KEY} if not self.config_file.exists() else {}
        return Projects(loading.load({}, own | variables, config_file=self.config_file, home=self.root / "home"))

    def project(self, **variables: str) -> Project:
        return self.projects(**variables).of(self.folder)


def write(path: Path, env: Mapping[str, object]) -> Path:
    path.write_text(json.dumps({"env": env, "permissions": {}}))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    Path(home.folder).mkdir(parents=True)
    return home


# ---------------------------------------------------------------------- without files


def test_without_anything_of_its_own_the_users_settings_hold(home: Home) -> None:
    project = home.project(POSTHOG_LLMA_EXCLUDE="/srv/secret")

    assert project.settings.api_key == Secret(KEY)
    assert project.route_request is None
    assert project.restraint == UNRESTRAINED
    assert project.warnings == ()
    assert project.allows(home.folder)
    assert not project.allows(home.folder, "/srv/secret/x")


@pytest.mark.parametrize("folder", [None, "", "relative", "/no/such", "/a\0b", "/a/\ud800"])
def test_a_folder_that_is_none_has_no_files(home: Home, folder: str | None) -> None:
    assert home.projects().of(folder).restraint == UNRESTRAINED


# ---------------------------------------------------------------------- tables


def test_the_first_matching_table_that_sets_a_value_wins(home: Home) -> None:
    home.config(
        f"""
        enabled = true
        api_key = "{KEY}"
        exclude = ["/always"]
        trace_grouping = "message"
        [[project]]
        path = "orchard"
        host = "https://eu.i.posthog.com"
        exclude = ["/first"]
        [[project]]
        path = "work/**"
        host = "https://us.i.posthog.com"
        distinct_id = "team@example.com"
        exclude = ["/second"]
        [[project]]
        path = "/elsewhere"
        distinct_id = "nobody@example.com"
        """
    )
    settings = home.project().settings

    assert settings.host == "https://eu.i.posthog.com"
    assert settings.distinct_id == "team@example.com"
    assert settings.trace_grouping == "message"
    assert settings.exclude == ("/always", "/first", "/second")
    assert settings.source("host") == f"{home.config_file}, [[project]] 1"
    assert settings.source("distinct_id") == f"{home.config_file}, [[project]] 2"


def test_a_table_can_say_more_than_the_user_as_a_whole(home: Home) -> None:
    """The table is the user's own configuration."""
    home.config('privacy_mode = true\n[[project]]\npath = "orchard"\nenabled = true\nprivacy_mode = false\n')
    assert home.project().settings.content_level == "full"
    assert home.project().allows(home.folder)
    assert not home.projects().of("/elsewhere").allows("/elsewhere")


def test_a_table_can_switch_a_project_off(home: Home) -> None:
    home.config('enabled = true\n[[project]]\npath = "orchard"\nenabled = false\n')
    home.shared(POSTHOG_LLMA_CC_ENABLED="true")
    project = home.project()

    assert not project.allows(home.folder)
    assert project.restraint == UNRESTRAINED, "the user may switch it on again while a session runs"
    assert len(project.warnings) == 1
    assert "[[project]] 1 overrides it" in project.warnings[0]


# ---------------------------------------------------------------------- what files make stricter


@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
def test_a_file_makes_things_stricter(home: Home, name: str) -> None:
    write(
        home.path(name),
        {
            "POSTHOG_LLMA_CONTENT": "no_tool_content",
            "POSTHOG_LLMA_INPUT": "prompt",
            "POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": 500,
            "POSTHOG_LLMA_EXCLUDE": "secret",
            "POSTHOG_LLMA_INCLUDE": f"{home.folder}/src,{home.folder}",
        },
    )
    project = home.project()

    assert project.settings.content_level == "no_tool_content"
    assert project.settings.input == "prompt"
    assert project.settings.max_attribute_length == 500
    assert project.allows(home.folder, f"{home.folder}/src")
    assert not project.allows(home.folder, f"{home.folder}/secret")
    assert not project.allows(home.folder, "/elsewhere")
    assert project.settings.source("content") == str(home.path(name))
    assert project.warnings == ()


def test_the_stricter_of_two_files_wins(home: Home) -> None:
    home.local(POSTHOG_LLMA_CONTENT="no_tool_content", POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH="300")
    home.shared(POSTHOG_LLMA_PRIVACY_MODE="true", POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH="400")
    project = home.project()

    assert project.settings.content_level == "metadata"
    assert project.settings.max_attribute_length == 300
    assert [warning.partition(" ")[0] for warning in project.warnings] == ["POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH"]


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ({"POSTHOG_LLMA_CONTENT": "metadata"}, {"POSTHOG_LLMA_CONTENT": "full"}),
        ({"POSTHOG_LLMA_PRIVACY_MODE": "true"}, {"POSTHOG_LLMA_PRIVACY_MODE": "false"}),
        ({"POSTHOG_LLMA_PRIVACY_MODE": "true"}, {"POSTHOG_LLMA_CONTENT": "no_tool_content"}),
        ({"POSTHOG_LLMA_INPUT": "prompt"}, {"POSTHOG_LLMA_INPUT": "delta"}),
        ({"POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": "500"}, {"POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": "501"}),
        ({"POSTHOG_AI_PURPOSE": "review"}, {"POSTHOG_AI_PURPOSE": "theft"}),
        ({"POSTHOG_LLMA_CUSTOM_PROPERTIES": '{"team": 1}'}, {"POSTHOG_LLMA_CUSTOM_PROPERTIES": {"team": 2}}),
        ({}, {"POSTHOG_LLMA_CUSTOM_PROPERTIES": {"$set": {"email": "x"}}}),
        ({}, {"POSTHOG_LLMA_CUSTOM_PROPERTIES": {"token": "phc_other", "distinct_id": "x"}}),
        ({}, {"POSTHOG_LLMA_ALLOW_CUSTOM_HOST": "true"}),
        ({}, {"POSTHOG_LLMA_REDACT_SECRETS": "false"}),
        ({}, {"POSTHOG_LLMA_STATE_DIR": "/tmp/x"}),
        ({}, {"CLAUDE_CONFIG_DIR": "/tmp/x"}),
        ({}, {"POSTHOG_LLMA_DISTINCT_ID": "somebody@example.com"}),
        ({}, {"POSTHOG_LLMA_TRACE_GROUPING": "message"}),
        ({}, {"POSTHOG_LLMA_SESSION_TIMEOUT": "1"}),
        ({}, {"POSTHOG_LLMA_CONTNET": "metadata"}),
    ],
)
@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
def test_a_setting_that_a_file_cannot_change_stays_with_a_warning(
    home: Home, name: str, own: dict[str, str], theirs: dict[str, object]
) -> None:
    before = home.project(**own)
    path = write(home.path(name), theirs)
    project = home.project(**own)

    assert project.settings == before.settings
    assert project.warnings
    assert all(str(path) in warning and len(warning.splitlines()) == 1 for warning in project.warnings)
    assert not any("phc_" in warning for warning in project.warnings)


@pytest.mark.parametrize("theirs", [{"POSTHOG_HOST": "https://eu.i.posthog.com"}, {"POSTHOG_API_KEY": "phc_other"}])
def test_a_host_or_key_of_the_shared_file_does_not_count(home: Home, theirs: dict[str, object]) -> None:
    path = home.shared(**theirs)
    project = home.project()

    assert (project.settings.host, project.settings.api_key) == ("https://us.i.posthog.com", Secret(KEY))
    assert project.route_request is None
    assert project.warnings == (f"{next(iter(theirs))} ({path}): has no effect in this file",)


def test_files_add_properties(home: Home) -> None:
    home.local(POSTHOG_LLMA_CUSTOM_PROPERTIES={"team": "apples", "floor": 3})
    home.shared(POSTHOG_LLMA_CUSTOM_PROPERTIES={"team": "apples", "tree": "oak"}, POSTHOG_AI_PURPOSE="authoring")
    project = home.project(POSTHOG_LLMA_CUSTOM_PROPERTIES='{"floor": 3}')

    assert project.settings.custom_properties == {"team": "apples", "floor": 3, "tree": "oak"}
    assert project.settings.purpose == "authoring"
    assert project.warnings == ()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "$ai_input_token_price",
            "$ai_output_token_price",
            "$ai_cache_read_token_price",
            "$ai_cache_write_token_price",
        ),
        *("$ai_request_price", "$ai_web_search_price", "$ai_project_name", "$ai_git_repo", "$ai_git_branch"),
        *("$ai_agent_name", "$ai_purpose", "$groups", "$set", "$set_once", "$ip"),
    ],
)
@pytest.mark.parametrize("file", ["settings.json", "settings.local.json"])
def test_only_the_user_can_set_prices_and_what_costs_are_told_apart_by(home: Home, file: str, name: str) -> None:
    path = write(home.path(file), {"POSTHOG_LLMA_CUSTOM_PROPERTIES": {name: 0, "team": "apples"}})
    project = home.project()

    assert project.settings.custom_properties == {"team": "apples"}
    [warning] = project.warnings
    assert str(path) in warning
    assert name in warning


def test_a_project_file_changes_no_price_of_the_user(home: Home) -> None:
    home.shared(POSTHOG_LLMA_CUSTOM_PROPERTIES={"$ai_input_token_price": 0, "$ai_prompt_name": "plan"})
    project = home.project(POSTHOG_LLMA_CUSTOM_PROPERTIES='{"$ai_input_token_price": 0.5}')

    assert project.settings.custom_properties == {"$ai_input_token_price": 0.5, "$ai_prompt_name": "plan"}


@pytest.mark.parametrize("theirs", [{"POSTHOG_LLMA_CC_ENABLED": "false"}, {"OPT_OUT_CAPTURE": "1"}])
@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
def test_a_file_can_switch_its_project_off(home: Home, name: str, theirs: dict[str, object]) -> None:
    write(home.path(name), theirs)
    project = home.project()

    assert not project.allows(home.folder)
    assert project.restraint.off


def test_following_projects_follows_those_that_say_so(home: Home) -> None:
    home.config(f'enabled = "projects"\napi_key = "{KEY}"\n')
    projects = home.projects()
    assert not projects.of(home.folder).allows(home.folder)
    home.shared(POSTHOG_LLMA_CC_ENABLED="true")
    assert projects.of(home.folder).allows(home.folder)
    home.local(POSTHOG_LLMA_CC_ENABLED="false")
    assert not projects.of(home.folder).allows(home.folder)
    assert not projects.of(None).allows(None)


def test_a_file_cannot_enable_a_project_that_the_user_has_off(home: Home) -> None:
    path = home.shared(POSTHOG_LLMA_CC_ENABLED="true")
    project = home.project(POSTHOG_LLMA_CC_ENABLED="false")

    assert not project.allows(home.folder)
    assert project.warnings == (
        (
            f"POSTHOG_LLMA_CC_ENABLED ({path}): has no effect: environment overrides it; "
            'to let projects decide, set enabled = "projects" in config.toml, above its tables'
        ),
    )


def test_a_session_begun_at_home_does_not_take_the_users_settings_for_a_projects(home: Home) -> None:
    path = home.root / "home" / ".claude" / "settings.json"
    path.parent.mkdir(parents=True)
    write(path, {"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_LLMA_DISTINCT_ID": "ada"})
    project = home.projects().of(str(home.root / "home"))

    assert project.warnings == ()
    assert project.settings.distinct_id == "ada"


# ---------------------------------------------------------------------- requests for a route


def test_a_key_of_the_users_own_file_is_a_claim(home: Home) -> None:
    path = home.local(POSTHOG_API_KEY="phc_other")
    project = home.project()

    assert project.settings.api_key == Secret("phc_other")
    assert project.route_request is not None
    assert project.route_request.path == path
    assert project.route_request.doubt is None
    status = path.stat()
    assert project.route_request.changed_at == max(status.st_mtime_ns, status.st_ctime_ns) // 1_000_000


def test_a_file_cannot_override_a_table(home: Home) -> None:
    home.config(f'enabled = true\n[[project]]\npath = "orchard"\napi_key = "{KEY}"\n')
    path = home.local(POSTHOG_API_KEY="phc_other")
    project = home.project()

    assert project.settings.api_key == Secret(KEY)
    assert project.route_request is None
    assert project.warnings == (
        (
            f"POSTHOG_API_KEY ({path}): {home.config_file}, [[project]] 1 overrides it with another value; "
            "remove it here"
        ),
    )


def test_the_same_host_and_key_again_are_no_claim(home: Home) -> None:
    home.local(POSTHOG_API_KEY=KEY, POSTHOG_HOST="us.posthog.com")
    assert home.project().route_request is None


def test_a_file_others_can_write_is_doubted(home: Home) -> None:
    path = home.local(POSTHOG_API_KEY="phc_other")
    path.chmod(0o664)
    route_request = home.project().route_request
    assert route_request is not None
    assert "can be written by other users; run chmod go-w" in (route_request.doubt or "")
    path.chmod(0o600)
    path.parent.chmod(0o777)
    route_request = home.project().route_request
    assert route_request is not None
    assert "can be written by other users" in (route_request.doubt or "")


def test_a_file_behind_a_link_is_doubted(home: Home) -> None:
    elsewhere = home.root / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere / "settings.local.json", {"POSTHOG_API_KEY": "phc_other"})
    (Path(home.folder) / ".claude").symlink_to(elsewhere)
    route_request = home.project().route_request
    assert route_request is not None
    assert "is a symbolic link" in (route_request.doubt or "")

    (Path(home.folder) / ".claude").unlink()
    home.path("settings.local.json").symlink_to(elsewhere / "settings.local.json")
    route_request = home.project().route_request
    assert route_request is not None
    assert (route_request.doubt or "").startswith("it is a symbolic link")


# ---------------------------------------------------------------------- files that cannot be used


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def passwords(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def loop(path: Path) -> None:
    path.symlink_to(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def half(path: Path) -> None:
    path.write_text('{"env": {"POSTHOG_LLMA_CONTENT": "meta')


def deep(path: Path) -> None:
    path.write_text('{"env": ' + "[" * 100_000 + "]" * 100_000 + "}")


def no_object(path: Path) -> None:
    path.write_text("[]")


def no_env(path: Path) -> None:
    path.write_text('{"env": 5}')


def no_level(path: Path) -> None:
    path.write_text('{"env": {"POSTHOG_LLMA_CONTENT": "none at all\\n"}}')


def no_word(path: Path) -> None:
    path.write_text('{"env": {"POSTHOG_LLMA_CC_ENABLED": "projects"}}')


def many_patterns(path: Path) -> None:
    path.write_text(json.dumps({"env": {"POSTHOG_LLMA_EXCLUDE": "*a" * 20_000}}))


def many_properties(path: Path) -> None:
    path.write_text(json.dumps({"env": {"POSTHOG_LLMA_CUSTOM_PROPERTIES": {"a": "b" * 20_000}}}))


BAD = [fifo, folder, device, passwords, loop, huge, binary, half, deep, no_object, no_env, no_level, no_word]
BAD += [many_patterns, many_properties]


@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_file_that_cannot_be_used_is_one_line(home: Home, name: str, make: object) -> None:
    assert callable(make)
    make(home.path(name))
    with pytest.raises(InvalidProjectError) as caught:
        home.project()

    said = str(caught.value)
    assert str(home.path(name)) in said
    assert said.isprintable()
    assert "root:" not in said
    assert len(said) < 400


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_file_that_becomes_unusable_leaves_the_previous_settings(home: Home, make: object) -> None:
    assert callable(make)
    path = home.shared(POSTHOG_LLMA_CONTENT="metadata")
    projects = home.projects()
    before = projects.of(home.folder)
    path.unlink()
    make(path)
    after = projects.of(home.folder)

    assert (after.settings, after.restraint) == (before.settings, before.restraint)
    assert len(after.warnings) == 1
    assert str(path) in after.warnings[0]
    assert after.warnings[0].isprintable()
    assert projects.of(home.folder) is after, "what was looked at is not read again"

    path.rmdir() if path.is_dir() else path.unlink()
    home.shared(POSTHOG_LLMA_CONTENT="no_tool_content")
    assert projects.of(home.folder).settings.content_level == "no_tool_content"


def test_the_files_of_an_excluded_project_are_not_read(home: Home) -> None:
    fifo(home.path("settings.json"))
    assert not home.project(POSTHOG_LLMA_EXCLUDE=home.folder).allows(home.folder)


def test_changes_are_seen(home: Home) -> None:
    projects = home.projects()
    assert projects.of(home.folder).settings.content_level == "full"
    home.shared(POSTHOG_LLMA_CONTENT="no_tool_content")
    assert projects.of(home.folder).settings.content_level == "no_tool_content"
    home.local(POSTHOG_LLMA_CONTENT="metadata")
    assert projects.of(home.folder).settings.content_level == "metadata"
    home.path("settings.local.json").unlink()
    assert projects.of(home.folder).settings.content_level == "no_tool_content"


# ---------------------------------------------------------------------- restraints


def test_limits_stay_for_the_whole_session(home: Home) -> None:
    path = home.shared(POSTHOG_LLMA_CONTENT="metadata", POSTHOG_LLMA_EXCLUDE="secret", POSTHOG_LLMA_INCLUDE=home.folder)
    projects = home.projects()
    restraint = projects.of(home.folder).restraint
    path.unlink()
    now = projects.of(home.folder)
    kept = now.under(restraint.also(now.restraint))

    assert now.settings.content_level == "full"
    assert kept.settings.content_level == "metadata"
    assert kept.allows(home.folder)
    assert not kept.allows(home.folder, f"{home.folder}/secret")
    assert not kept.allows(home.folder, "/elsewhere")
    assert not now.under(Restraint(off=True)).allows(home.folder)


restraints = st.builds(
    Restraint,
    off=st.booleans(),
    content=st.sampled_from([None, "metadata", "no_tool_content", "full"]),
    input=st.sampled_from([None, "prompt", "delta", "full"]),
    max_attribute_length=st.none() | st.integers(100, 5000),
    include=st.lists(st.lists(st.text(max_size=3), max_size=2).map(tuple), max_size=2, unique=True).map(tuple),
    exclude=st.lists(st.text(max_size=3), max_size=2, unique=True).map(tuple),
)


@given(restraints, restraints)
def test_restraints_add_up_and_can_be_kept(one: Restraint, other: Restraint) -> None:
    both = one.also(other)
    assert both.also(one) == both
    assert both.also(other) == both
    assert one.also(UNRESTRAINED) == one
    assert Restraint.load(one.dump()) == one


@pytest.mark.parametrize("text", ["", "{", "[]", '{"off": 5}'])
def test_text_that_is_not_a_restraint_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Restraint.load(text)
