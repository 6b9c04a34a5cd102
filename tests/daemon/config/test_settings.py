from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from daemon.cli.config import config
from daemon.config import loading
from daemon.config.loading import load
from daemon.config.settings import ConfigError, Secret, Settings
from daemon.config.table import SETTINGS

KEY = "phc_0123456789abcdefABCDEF"


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """A user's home with the files that contain settings."""

    home: Path

    @property
    def config_file(self) -> Path:
        return self.home / ".config" / "posthog-llma-daemon" / "config.toml"

    def write_config(self, content: str | bytes, mode: int = 0o600) -> None:
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.config_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.config_file.chmod(mode)

    def write_claude_settings(self, env: Mapping[str, object], folder: str = ".claude") -> Path:
        path = self.home / folder / "settings.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"env": env}))
        return path

    def load(self, environ: Mapping[str, str] | None = None, **flags: object) -> Settings:
        return load(flags, environ or {}, config_file=self.config_file, home=self.home)

    def problems(self, environ: Mapping[str, str] | None = None, **flags: object) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load(environ, **flags)
        return caught.value.problems

    def problem(self, environ: Mapping[str, str] | None = None, **flags: object) -> str:
        problems = self.problems(environ, **flags)
        assert len(problems) == 1
        return problems[0]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(home=tmp_path)


# --- the table ---------------------------------------------------------------------------------------------------


def test_variables_and_defaults_are_as_documented() -> None:
    assert {setting.variable: setting.default for setting in SETTINGS} == {
        "POSTHOG_API_KEY": None,
        "POSTHOG_LLMA_CC_ENABLED": "false",
        "POSTHOG_HOST": "https://us.i.posthog.com",
        "POSTHOG_LLMA_ALLOW_CUSTOM_HOST": "false",
        "POSTHOG_PERSONAL_API_KEY": None,
        "POSTHOG_APP_HOST": None,
        "POSTHOG_LLMA_PRIVACY_MODE": "false",
        "POSTHOG_LLMA_CONTENT": "full",
        "POSTHOG_LLMA_REDACT_SECRETS": "true",
        "POSTHOG_LLMA_DISTINCT_ID": None,
        "POSTHOG_LLMA_TRACE_GROUPING": "session",
        "POSTHOG_LLMA_INPUT": "delta",
        "POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": "12000",
        "POSTHOG_LLMA_CUSTOM_PROPERTIES": "{}",
        "POSTHOG_LLMA_INCLUDE": None,
        "POSTHOG_LLMA_EXCLUDE": None,
        "POSTHOG_AI_PURPOSE": None,
        "POSTHOG_LLMA_STATE_DIR": "the user's state folder",
        "POSTHOG_LLMA_OUTBOX": "outbox in the state folder",
        "POSTHOG_LLMA_SESSION_TIMEOUT": "3600",
        "CLAUDE_CONFIG_DIR": "~/.claude",
        "POSTHOG_LLMA_PLUGIN_STATUS_FILE": "false",
        "OPT_OUT_CAPTURE": None,
    }


def test_every_setting_is_a_field_and_explained() -> None:
    fields = {item.name for item in dataclasses.fields(Settings)} - {"projects", "config_file", "warnings", "sources"}

    assert fields == {setting.name for setting in SETTINGS}
    assert all(setting.help.endswith(".") for setting in SETTINGS)


def test_keys_of_config_toml_are_the_variables_without_prefix() -> None:
    assert [setting.key for setting in SETTINGS] == [
        "api_key",
        "cc_enabled",
        "host",
        "allow_custom_host",
        "personal_api_key",
        "app_host",
        "privacy_mode",
        "content",
        "redact_secrets",
        "distinct_id",
        "trace_grouping",
        "input",
        "max_attribute_length",
        "custom_properties",
        "include",
        "exclude",
        "ai_purpose",
        "state_dir",
        "outbox",
        "session_timeout",
        "claude_config_dir",
        "plugin_status_file",
        "opt_out_capture",
    ]


def test_with_nothing_set_the_defaults_hold(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(user.home / "state"))
    monkeypatch.setenv("HOME", str(user.home))
    settings = user.load()

    values = {entry.setting.name: entry.value for entry in settings.entries()}
    assert str(values.pop("state_dir")).startswith(str(user.home))
    assert values == {
        "api_key": None,
        "enabled": False,
        "host": "https://us.i.posthog.com",
        "allow_custom_host": False,
        "personal_api_key": None,
        "app_host": None,
        "privacy_mode": False,
        "content": "full",
        "redact_secrets": True,
        "distinct_id": None,
        "trace_grouping": "session",
        "input": "delta",
        "max_attribute_length": 12000,
        "custom_properties": {},
        "include": (),
        "exclude": (),
        "purpose": None,
        "outbox": None,
        "session_timeout": 3600,
        "claude_config_dirs": (user.home / ".claude",),
        "plugin_status_file": False,
        "opt_out": False,
    }
    assert {entry.source for entry in settings.entries()} == {"default"}
    assert settings.warnings == ()


# --- sources -----------------------------------------------------------------------------------------------------


def test_the_first_source_that_gives_a_value_wins(user: User) -> None:
    claude = user.write_claude_settings({"POSTHOG_AI_PURPOSE": "claude"})
    assert (user.load().purpose, user.load().source("purpose")) == ("claude", str(claude))

    user.write_config('ai_purpose = "toml"')
    assert (user.load().purpose, user.load().source("purpose")) == ("toml", str(user.config_file))

    environ = {"POSTHOG_AI_PURPOSE": "environ"}
    assert (user.load(environ).purpose, user.load(environ).source("purpose")) == ("environ", "environment")

    settings = user.load(environ, purpose="flag")
    assert (settings.purpose, settings.source("purpose")) == ("flag", "flag --purpose")


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_value_counts_as_unset(user: User, empty: str) -> None:
    user.write_config('host = "https://eu.i.posthog.com"')
    settings = user.load({"POSTHOG_HOST": empty, "OPT_OUT_CAPTURE": empty, "CLAUDE_CONFIG_DIR": empty}, host=None)

    assert settings.host == "https://eu.i.posthog.com"
    assert settings.source("opt_out") == "default"


def test_an_empty_list_counts_as_unset(user: User) -> None:
    assert user.load({"POSTHOG_LLMA_EXCLUDE": "/secret"}, exclude=()).exclude == ("/secret",)


def test_a_flag_that_is_none_is_a_mistake_of_the_program(user: User) -> None:
    with pytest.raises(TypeError, match="no such settings: hots"):
        user.load(hots="x")


def test_all_problems_of_all_sources_come_at_once(user: User) -> None:
    claude = user.write_claude_settings({"POSTHOG_LLMA_INPUT": "everything"})
    user.write_config('trace_grouping = "day"\nhots = "x"')

    problems = user.problems({"POSTHOG_LLMA_CONTENT": "ful", "POSTHOG_HOST": "a b"}, session_timeout="0")

    assert sorted(problems) == sorted(
        [
            f"{user.config_file}: unknown setting 'hots'; did you mean host?",
            "POSTHOG_HOST (environment): is not a host name; set a host such as https://us.i.posthog.com",
            "POSTHOG_LLMA_CONTENT (environment): 'ful' is not valid; set one of full, no_tool_content, metadata",
            f"POSTHOG_LLMA_TRACE_GROUPING ({user.config_file}): 'day' is not valid; set one of session, message",
            f"POSTHOG_LLMA_INPUT ({claude}): 'everything' is not valid; set one of delta, prompt, full",
            "POSTHOG_LLMA_SESSION_TIMEOUT (flag --session-timeout): '0' is not a time; set a number of seconds above 0",
        ]
    )


def test_a_value_that_cannot_be_read_does_not_fall_back(user: User) -> None:
    user.write_config("privacy_mode = true")

    assert "POSTHOG_LLMA_PRIVACY_MODE (environment)" in user.problem({"POSTHOG_LLMA_PRIVACY_MODE": "ture"})


def test_problems_are_one_line_each(tmp_path: Path) -> None:
    user = User(home=tmp_path / "two\nlines")
    user.write_config("hots = 1")

    assert user.problems({"POSTHOG_LLMA_CONTENT": "a\nb\u2028c"})
    for problem in user.problems({"POSTHOG_LLMA_CONTENT": "a\nb\u2028c"}):
        assert len(problem.splitlines()) == 1


def test_no_value_that_looks_like_a_key_is_repeated(user: User) -> None:
    user.write_config(f'trace_grouping = "{KEY}"\n"{KEY}" = 1')
    user.write_claude_settings({"POSTHOG_LLMA_INPUT": KEY})
    environ = {
        "POSTHOG_API_KEY": f"{KEY} ü",
        "POSTHOG_HOST": KEY,
        "POSTHOG_LLMA_CONTENT": KEY,
        "POSTHOG_LLMA_PRIVACY_MODE": KEY,
        "POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": KEY,
        "POSTHOG_LLMA_SESSION_TIMEOUT": KEY,
        "POSTHOG_LLMA_CUSTOM_PROPERTIES": KEY,
        "POSTHOG_LLMA_STATE_DIR": KEY,
        "CLAUDE_CONFIG_DIR": KEY,
    }

    problems = user.problems(environ)

    assert len(problems) >= 10
    assert KEY not in "\n".join(problems)


# --- config.toml -------------------------------------------------------------------------------------------------


def test_config_toml_has_types_of_its_own(user: User) -> None:
    user.write_config(
        f"""
        api_key = "{KEY}"
        enabled = true
        max_attribute_length = 500
        session_timeout = 0.5
        include = ["~/work, with comma", "/srv/**"]
        claude_config_dir = ["/a", "~/b"]
        [custom_properties]
        team = "web"
        since = 2026-01-02
        """
    )
    settings = user.load()

    assert settings.api_key == Secret(KEY)
    assert settings.enabled
    assert settings.max_attribute_length == 500
    assert settings.session_timeout == 0.5
    assert settings.include == ("~/work, with comma", "/srv/**")
    assert settings.claude_config_dirs == (Path("/a"), user.home / "b")
    assert settings.custom_properties == {"team": "web", "since": "2026-01-02"}


def test_both_spellings_of_enabled_are_known_but_not_together(user: User) -> None:
    for key in ("enabled", "cc_enabled"):
        user.write_config(f"{key} = true")
        assert user.load().enabled

    user.write_config("enabled = true\ncc_enabled = false")
    assert "is set twice" in user.problem()


def test_following_projects_is_the_users_word_in_the_config_file_only(user: User) -> None:
    user.write_config('enabled = " Projects "')
    assert user.load().enabled == "projects"
    assert user.load().why_disabled() is None

    advice = "'projects' is only valid in config.toml, above its tables; set true or false here"
    user.write_config('[[project]]\npath = "~/x"\nenabled = "projects"')
    assert user.problem() == f"POSTHOG_LLMA_CC_ENABLED ({user.config_file}, [[project]] 1): {advice}"
    user.write_config("")
    assert user.problem({"POSTHOG_LLMA_CC_ENABLED": "projects"}) == f"POSTHOG_LLMA_CC_ENABLED (environment): {advice}"
    path = user.write_claude_settings({"POSTHOG_LLMA_CC_ENABLED": "projects"})
    assert user.problem() == f"POSTHOG_LLMA_CC_ENABLED ({path}): {advice}"


# --- [[project]] tables of config.toml ---------------------------------------------------------------------------


def test_project_tables_are_read_in_their_order(user: User) -> None:
    user.write_config(
        """
        enabled = true
        [[project]]
        path = "~/x/**"
        api_key = "phc_of_x"
        host = "eu.posthog.com"
        custom_properties = { team = "trees" }
        [[project]]
        path = ["~/y", "z"]
        enabled = false
        exclude = ["~/y/secret"]
        """
    )
    first, second = user.load().projects

    assert first.path == ("~/x/**",)
    assert first.values == {
        "api_key": Secret("phc_of_x"),
        "host": "https://eu.i.posthog.com",
        "custom_properties": {"team": "trees"},
    }
    assert first.label == f"{user.config_file}, [[project]] 1"
    assert second.path == ("~/y", "z")
    assert second.values == {"enabled": False, "exclude": ("~/y/secret",)}
    assert list(user.load().pairs()) == [("https://eu.i.posthog.com", Secret("phc_of_x"))]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('path = "~/x"\nallow_custom_host = true', "allow_custom_host cannot be set for one project; set it above"),
        ('path = "~/x"\nredact_secrets = false', "redact_secrets cannot be set for one project"),
        ('path = "~/x"\nstate_dir = "/x"', "state_dir cannot be set for one project"),
        ('path = "~/x"\nclaude_config_dir = "/x"', "claude_config_dir cannot be set for one project"),
        ('path = "~/x"\nsession_timeout = 5', "session_timeout cannot be set for one project"),
        ('path = "~/x"\nhots = "x"', "unknown setting 'hots'; did you mean host?"),
        ('path = "~/x"\nhost = "https://evil.example"', "'evil.example' is not PostHog's"),
        ('path = "~/x"\ncontent = "some"', "'some' is not valid; set one of full, no_tool_content, metadata"),
        ("enabled = true", 'path names no folder; set one, such as path = "~/work/**"'),
        ("path = []", "path names no folder"),
        ('path = " "', "path names no folder"),
        ("path = 5", "path names no folder"),
    ],
)
def test_a_project_table_that_cannot_be_used_is_one_line(user: User, table: str, words: str) -> None:
    user.write_config(f"[[project]]\n{table}")
    problem = user.problem()

    assert f"{user.config_file}, [[project]] 1" in problem
    assert words in problem
    assert len(problem.splitlines()) == 1


@pytest.mark.parametrize("content", ['project = "x"', "[project]\npath = '~/x'", "project = [1]"])
def test_project_tables_that_are_not_a_list_are_one_problem(user: User, content: str) -> None:
    user.write_config(content)

    assert "project is not a list of tables; start each table with the line [[project]]" in user.problem()


def test_a_table_with_a_key_in_a_file_that_others_can_read_is_refused(user: User) -> None:
    user.write_config('[[project]]\npath = "~/x"\napi_key = "phc_of_x"', mode=0o644)

    assert "contains a key and can be read by other users; run `chmod 600 " in user.problem()


def test_a_table_that_gives_both_is_enough_to_start(user: User) -> None:
    user.write_config('[[project]]\npath = "~/x"\nenabled = true\napi_key = "phc_of_x"')
    assert user.load().why_disabled() is None
    user.write_config('[[project]]\npath = "~/x"\nenabled = true')
    assert user.load().why_disabled() is not None
    user.write_config('[[project]]\npath = "~/x"\napi_key = "phc_of_x"')
    assert user.load().why_disabled() is not None


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("hots", "did you mean host?"),
        ("POSTHOG_LLMA_TRACE_GROUPING", "did you mean trace_grouping?"),
        ("posthog_api_key", "did you mean api_key?"),
        ("zzzzzz", "remove it; `posthog-llma-daemon config` lists all settings"),
    ],
)
def test_an_unknown_key_is_a_problem_with_advice(user: User, key: str, advice: str) -> None:
    user.write_config(f"{key} = 1")

    assert user.problem() == f"{user.config_file}: unknown setting '{key}'; {advice}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o777])
def test_a_file_with_a_key_is_for_its_owner_only(user: User, mode: int) -> None:
    user.write_config(f'api_key = "{KEY}"', mode)

    assert user.problem() == (
        f"{user.config_file}: contains a key and can be read by other users; run `chmod 600 {user.config_file}`"
    )


def test_a_file_without_a_key_may_be_open(user: User) -> None:
    user.write_config('host = "eu.posthog.com"', 0o644)

    assert user.load().host == "https://eu.i.posthog.com"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a = 1\nkey = phc_secret", "is not valid TOML (line 2, column 7); correct the file"),
        ('a = "phc_secret', "is not valid TOML (end of document); correct the file"),
        (b'host = "\xff"', "is not UTF-8 (byte 8); save it as UTF-8"),
        ("a = " + "[" * 50_000, "is not valid TOML; correct the file"),
        (b"#" * (1024 * 1024 + 1), "is larger than 1048576 bytes; correct or remove the file"),
    ],
)
def test_an_unusable_config_toml_is_one_problem_that_quotes_nothing(
    user: User, content: str | bytes, what: str
) -> None:
    user.write_config(content)

    assert user.problem() == f"{user.config_file}: {what}"


def test_a_byte_order_mark_does_not_matter(user: User) -> None:
    user.write_config(b'\xef\xbb\xbfai_purpose = "x"')

    assert user.load().purpose == "x"


def test_a_folder_in_the_files_place_is_a_problem(user: User) -> None:
    user.config_file.mkdir(parents=True)

    assert user.problem() == f"{user.config_file}: is not a regular file; correct or remove the file"


def test_text_without_a_string_is_a_problem(user: User) -> None:
    user.write_config("distinct_id = 5\ninclude = [1]\nstate_dir = 7\ncustom_properties = [1]")

    assert len(user.problems()) == 4


# --- Claude Code's settings --------------------------------------------------------------------------------------


def test_every_config_dir_is_asked_in_order(user: User) -> None:
    user.write_claude_settings({"POSTHOG_AI_PURPOSE": "one"}, "one")
    user.write_claude_settings({"POSTHOG_AI_PURPOSE": "two", "POSTHOG_LLMA_INPUT": "prompt"}, "two")

    settings = user.load({"CLAUDE_CONFIG_DIR": f"~/one{os.pathsep}{os.pathsep}~/two{os.pathsep}~/one"})

    assert settings.claude_config_dirs == (user.home / "one", user.home / "two")
    assert settings.purpose == "one"
    assert settings.input == "prompt"


@pytest.mark.parametrize("end", ["", ",", " , ", os.pathsep])
@pytest.mark.parametrize("between", [",", ", ", " ,", ",,", os.pathsep])
def test_config_dirs_may_have_commas_between_them(user: User, between: str, end: str) -> None:
    settings = user.load({"CLAUDE_CONFIG_DIR": f"~/one{between}/two,2{between}~/three{end}"})
    assert settings.claude_config_dirs == (user.home / "one", Path("/two,2"), user.home / "three")


def test_claude_settings_cannot_move_themselves(user: User) -> None:
    user.write_claude_settings({"CLAUDE_CONFIG_DIR": "/elsewhere"})

    assert user.load().claude_config_dirs == (user.home / ".claude",)


def test_a_broken_claude_settings_file_is_one_problem(user: User) -> None:
    path = user.write_claude_settings({})
    path.write_text('{"env": {"POSTHOG_API_KEY": phc_secret}}')

    assert user.problem() == (
        f"{path}: is not valid JSON (line 1, column 29); correct the file (Claude Code reads it too)"
    )


def test_the_clients_other_folder_counts_if_it_has_logs(user: User) -> None:
    other = user.home / ".config" / "claude"
    other.mkdir(parents=True)
    assert user.load().claude_config_dirs == (user.home / ".claude",)

    (other / "projects").mkdir()
    assert user.load().claude_config_dirs == (user.home / ".claude", other)
    assert user.load({"CLAUDE_CONFIG_DIR": "/mine"}).claude_config_dirs == (Path("/mine"),)


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["true", "TRUE", " yes ", "On", "1"])
def test_words_for_true(user: User, word: str) -> None:
    settings = user.load({"POSTHOG_LLMA_CC_ENABLED": word, "OPT_OUT_CAPTURE": word, "POSTHOG_LLMA_PRIVACY_MODE": word})

    assert settings.enabled
    assert settings.opt_out
    assert settings.privacy_mode


@pytest.mark.parametrize("word", ["false", "No", "OFF\n", "0"])
def test_words_for_false(user: User, word: str) -> None:
    settings = user.load({"POSTHOG_LLMA_REDACT_SECRETS": word, "OPT_OUT_CAPTURE": word})

    assert not settings.redact_secrets
    assert not settings.opt_out


def test_a_key_is_a_project_key(user: User) -> None:
    assert user.load({"POSTHOG_API_KEY": f" {KEY}\n"}).api_key == Secret(KEY)
    assert "set the project API key (phc_…)" in user.problem({"POSTHOG_API_KEY": "phx_personal"})


@pytest.mark.parametrize(
    "key", ["phc_" + "x" * 61, "phc_ü", "phc_a b", "phc_a\tb", "phc_a\0b", "phc_\udcff", "x\u3000x"]
)
def test_a_key_of_another_form_is_refused_and_not_shown(user: User, key: str) -> None:
    problem = user.problem({"POSTHOG_API_KEY": key})

    assert problem.startswith("POSTHOG_API_KEY (environment): ")
    assert key not in problem


def test_a_key_of_an_unusual_kind_is_taken_with_a_warning(user: User) -> None:
    settings = user.load({"POSTHOG_API_KEY": "x" * 64})

    assert settings.api_key == Secret("x" * 64)
    (warning,) = settings.warnings
    assert warning == "POSTHOG_API_KEY (environment): does not start with phc_, as project API keys do"


@pytest.mark.parametrize(
    ("given_host", "host"),
    [
        ("https://us.i.posthog.com", "https://us.i.posthog.com"),
        ("us.i.posthog.com", "https://us.i.posthog.com"),
        (" https://us.i.posthog.com// ", "https://us.i.posthog.com"),
        ("HTTPS://EU.I.PostHog.com", "https://eu.i.posthog.com"),
        ("https://us.i.posthog.com:443", "https://us.i.posthog.com"),
        ("https://us.i.posthog.com:8443", "https://us.i.posthog.com:8443"),
        ("https://us.i.posthog.com.", "https://us.i.posthog.com"),
        ("https://us.posthog.com", "https://us.i.posthog.com"),
        ("eu.posthog.com/", "https://eu.i.posthog.com"),
        ("https://app.posthog.com", "https://us.i.posthog.com"),
        ("https://posthog.com", "https://posthog.com"),
        ("https://internal-c.posthog.com", "https://internal-c.posthog.com"),
        ("http://localhost:8010", "http://localhost:8010"),
        ("http://localhost:80", "http://localhost"),
        ("localhost:8010", "https://localhost:8010"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8010", "http://[::1]:8010"),
    ],
)
def test_hosts_that_are_posthogs_or_this_machine(user: User, given_host: str, host: str) -> None:
    assert user.load({"POSTHOG_HOST": given_host}).host == host


@pytest.mark.parametrize(
    "host",
    [
        "https://example.com",
        "https://posthog.com.example.com",
        "https://evilposthog.com",
        "http://us.i.posthog.com",
        "http://localhost.example.com",
        "http://128.0.0.1",
        "https://[::2]",
    ],
)
def test_another_host_needs_permission_and_encryption(user: User, host: str) -> None:
    assert user.problem({"POSTHOG_HOST": host}).startswith("POSTHOG_HOST (environment): ")


@pytest.mark.parametrize("permission", ["true", "perhaps"])
def test_a_permitted_host_is_not_a_second_problem(user: User, permission: str) -> None:
    environ = {"POSTHOG_HOST": "ph.example.com", "POSTHOG_LLMA_ALLOW_CUSTOM_HOST": permission}
    if permission == "true":
        assert user.load(environ).host == "https://ph.example.com"
    else:
        assert user.problem(environ).startswith("POSTHOG_LLMA_ALLOW_CUSTOM_HOST (environment): ")


def test_a_permitted_host_still_needs_encryption(user: User) -> None:
    problem = user.problem({"POSTHOG_HOST": "http://ph.example.com", "POSTHOG_LLMA_ALLOW_CUSTOM_HOST": "true"})

    assert "without encryption" in problem


@pytest.mark.parametrize(
    "host",
    [
        "https://user:hunter2@us.i.posthog.com",
        "hunter2@us.i.posthog.com",
        "https://us.i.posthog.com/batch",
        "https://us.i.posthog.com?x=hunter2",
        "https://us.i.posthog.com?",
        "https://us.i.posthog.com/#x",
        "https://us.i.posthog.com:port",
        "https://us.i.posthog.com:99999",
        "https://us.i.post\thog.com",
        "https://us i.posthog.com",
        "https://",
        "https://[::1",
        "https://a..b",
        "https://ü.posthog.com",
        "https://us.i.posthog.com\\@example.com",
        "ftp://us.i.posthog.com",
        "file:///etc/passwd",
        "/",
        "\udcff",
    ],
)
def test_an_invalid_host_is_refused_without_quoting_a_secret(user: User, host: str) -> None:
    problem = user.problem({"POSTHOG_HOST": host, "POSTHOG_LLMA_ALLOW_CUSTOM_HOST": "true"})

    assert problem.startswith("POSTHOG_HOST (environment): ")
    assert "hunter2" not in problem


def test_words_of_a_choice_are_known_in_any_case(user: User) -> None:
    environ = {
        "POSTHOG_LLMA_CONTENT": " No_Tool_Content ",
        "POSTHOG_LLMA_TRACE_GROUPING": "MESSAGE",
        "POSTHOG_LLMA_INPUT": "Prompt",
    }
    settings = user.load(environ)

    assert (settings.content, settings.trace_grouping, settings.input) == ("no_tool_content", "message", "prompt")
    assert settings.content_level == "no_tool_content"


def test_privacy_mode_overrules_the_content_level(user: User) -> None:
    settings = user.load({"POSTHOG_LLMA_PRIVACY_MODE": "true", "POSTHOG_LLMA_CONTENT": "full"})

    assert settings.content == "full"
    assert settings.content_level == "metadata"


@pytest.mark.parametrize(
    "length", ["99", "0", "-5", "1e3", "12_000", "+200", "\uff11\uff12\uff10\uff10", "many", "9" * 5000]
)
def test_a_length_is_a_whole_number_of_at_least_100(user: User, length: str) -> None:
    assert user.load({"POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": " 100 "}).max_attribute_length == 100
    assert "set a whole number of at least 100" in user.problem({"POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH": length})


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1h", "9" * 5000])
def test_a_timeout_is_a_number_above_0(user: User, seconds: str) -> None:
    assert user.load({"POSTHOG_LLMA_SESSION_TIMEOUT": "0.25"}).session_timeout == 0.25
    assert "set a number of seconds above 0" in user.problem({"POSTHOG_LLMA_SESSION_TIMEOUT": seconds})


def test_a_distinct_id_is_bounded_text(user: User) -> None:
    assert user.load({"POSTHOG_LLMA_DISTINCT_ID": " me "}).distinct_id == "me"
    assert "longer than 200 characters" in user.problem({"POSTHOG_LLMA_DISTINCT_ID": "x" * 201})
    assert "not valid UTF-8" in user.problem({"POSTHOG_LLMA_DISTINCT_ID": "\udcff"})
    user.write_claude_settings({"POSTHOG_LLMA_DISTINCT_ID": "a\0b"})
    assert "NUL" in user.problem()


def test_patterns_are_separated_by_commas_and_line_ends(user: User) -> None:
    settings = user.load(
        {"POSTHOG_LLMA_INCLUDE": "~/work, /srv/a b\n**/open,,", "POSTHOG_LLMA_EXCLUDE": "/c:d"}, include=None
    )

    assert settings.include == ("~/work", "/srv/a b", "**/open")
    assert settings.exclude == ("/c:d",)
    assert "NUL" in user.problem(include=["a\0b"])


@pytest.mark.parametrize("text", ['["~/work", "~/private"]', "['~/work']", '"~/private"', "~/work,'~/private'"])
def test_a_pattern_with_quotes_around_it_would_name_no_folder(user: User, text: str) -> None:
    assert "has quotes around it" in user.problem({"POSTHOG_LLMA_EXCLUDE": text})
    assert user.load({"POSTHOG_LLMA_EXCLUDE": "app/[id], /o'neill"}).exclude == ("app/[id]", "/o'neill")


def test_folders_are_absolute(user: User) -> None:
    assert user.load({"POSTHOG_LLMA_STATE_DIR": "~/s:t"}).state_dir == user.home / "s:t"
    assert user.load({"POSTHOG_LLMA_STATE_DIR": "~"}).state_dir == user.home
    assert user.load(state_dir=user.home / "x").state_dir == user.home / "x"
    for folder in ("relative", "./x", "~other/x"):
        assert "is not an absolute path" in user.problem({"POSTHOG_LLMA_STATE_DIR": folder})
        assert "is not an absolute path" in user.problem({"CLAUDE_CONFIG_DIR": folder})


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', "1", "{'a': 1}", '{"a": NaN}', '{"a": 1e999}', '{"a": ' * 5000, '{"a": "\\ud800"}', "\udcff"],
)
def test_custom_properties_are_a_json_object(user: User, text: str) -> None:
    problem = user.problem({"POSTHOG_LLMA_CUSTOM_PROPERTIES": text})

    assert problem.startswith("POSTHOG_LLMA_CUSTOM_PROPERTIES (environment): is ")
    assert problem.endswith('set a JSON object such as {"team": "web"}')


def test_custom_properties_of_toml_are_json_too(user: User) -> None:
    user.write_config("custom_properties = { a = inf }")

    assert "is not valid JSON" in user.problem()


def test_custom_properties_may_be_an_object_in_claude_settings(user: User) -> None:
    user.write_claude_settings({"POSTHOG_LLMA_CUSTOM_PROPERTIES": {"team": "web", "n": 1}})

    assert user.load().custom_properties == {"team": "web", "n": 1}


def test_a_custom_property_cannot_replace_what_identifies_an_event(user: User) -> None:
    properties = {"team": "web", "$ai_trace_id": "x", "$ai_input_tokens": 0, "$ai_input_token_price": 0.1}
    settings = user.load({"POSTHOG_LLMA_CUSTOM_PROPERTIES": json.dumps(properties)})

    assert settings.custom_properties == {"team": "web", "$ai_input_token_price": 0.1}
    assert len(settings.warnings) == 2
    assert "'$ai_trace_id'" in settings.warnings[1]


def test_a_misspelled_variable_is_a_warning(user: User) -> None:
    environ = {"POSTHOG_LLMA_PRIVACY_MOD": "true", "POSTHOG_LLMA_QQQQQQQQQQQQQQQQQQQQQQQQQQ": "1", "POSTHOG_OTHER": "1"}

    assert user.load(environ).warnings == (
        "POSTHOG_LLMA_PRIVACY_MOD (environment): no such setting; did you mean POSTHOG_LLMA_PRIVACY_MODE?",
        "POSTHOG_LLMA_QQQQQQQQQQQQQQQQQQQQQQQQQQ (environment): no such setting",
    )
    path = user.write_claude_settings({"POSTHOG_LLMA_CONTNET": "metadata"})
    assert user.load().warnings == (
        f"POSTHOG_LLMA_CONTNET ({path}): no such setting; did you mean POSTHOG_LLMA_CONTENT?",
    )


@given(
    st.dictionaries(
        st.sampled_from([setting.variable for setting in SETTINGS]),
        st.text(st.characters(exclude_characters="\0")),
        max_size=5,
    )
)
def test_any_environment_gives_settings_or_problems(environ: dict[str, str]) -> None:
    nowhere = Path("/nonexistent")
    problems: tuple[str, ...] = ()
    try:
        settings = load({}, environ, config_file=nowhere / "config.toml", home=nowhere)
    except ConfigError as error:
        problems = error.problems or ("",)
    else:
        assert settings.host.startswith(("https://", "http://"))
    assert all(len(problem.splitlines()) == 1 for problem in problems)


# --- whether anything is sent ------------------------------------------------------------------------------------


def test_a_missing_setting_is_reported_in_one_line(user: User) -> None:
    nothing = user.load().why_disabled()
    no_key = user.load({"POSTHOG_LLMA_CC_ENABLED": "true"}).why_disabled()
    not_enabled = user.load({"POSTHOG_API_KEY": KEY}).why_disabled()

    assert nothing == (
        "sending is not set up: run `posthog-llma-daemon login`, or set POSTHOG_LLMA_CC_ENABLED=true and "
        "POSTHOG_API_KEY"
    )
    assert no_key is not None
    assert "POSTHOG_LLMA_CC_ENABLED" not in no_key
    assert not_enabled is not None
    assert "POSTHOG_API_KEY" not in not_enabled


def test_enabled_with_a_key_gives_the_key(user: User) -> None:
    settings = user.load({"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": KEY})

    assert settings.why_disabled() is None
    settings.require_enabled()
    assert list(settings.pairs()) == [("https://us.i.posthog.com", Secret(KEY))]


def test_after_an_opt_out_nothing_is_sent(user: User) -> None:
    settings = user.load({"POSTHOG_LLMA_CC_ENABLED": "1", "POSTHOG_API_KEY": KEY, "OPT_OUT_CAPTURE": "yes"})

    with pytest.raises(ConfigError) as caught:
        settings.require_enabled()
    assert caught.value.problems == ("OPT_OUT_CAPTURE is set (environment), so nothing is sent; unset it to send",)


# --- secrets -----------------------------------------------------------------------------------------------------


def test_a_secret_shows_itself_only_when_asked(user: User) -> None:
    settings = user.load({"POSTHOG_API_KEY": KEY})
    secret = settings.api_key
    assert secret is not None

    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        repr(settings),
    ):
        assert KEY not in text
    assert secret.reveal() == KEY
    assert secret.masked() == "phc_01**********"
    assert Secret("phc_short").masked() == "**********"


def test_secrets_are_compared_by_their_strings() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


# --- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """The user at the command line, with nothing from the environment of the test run."""
    for name in list(os.environ):
        if name.startswith(("POSTHOG_", "XDG_", "CLAUDE_")) or name == "OPT_OUT_CAPTURE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(user.home))
    return user


def test_config_shows_every_setting_with_its_source(shell: User) -> None:
    settings_file = shell.write_claude_settings({"POSTHOG_AI_PURPOSE": "re[view]"})
    result = CliRunner().invoke(config, env={"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CUSTOM_PROPERTIES": '{"ü": 1}'})

    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert {setting.variable for setting in SETTINGS} <= rows.keys()
    assert "phc_01**********" in rows["POSTHOG_API_KEY"]
    assert "environment" in rows["POSTHOG_API_KEY"]
    assert "re[view]" in rows["POSTHOG_AI_PURPOSE"]
    assert '{"ü": 1}' in rows["POSTHOG_LLMA_CUSTOM_PROPERTIES"]
    assert "unset" in rows["POSTHOG_LLMA_INCLUDE"]
    assert str(settings_file)[:20] in result.stdout
    assert KEY not in result.output
    assert (
        "note: sending is not set up: run `posthog-llma-daemon login`, or set POSTHOG_LLMA_CC_ENABLED" in result.stderr
    )


def test_config_as_json(shell: User) -> None:
    result = CliRunner().invoke(config, ["--json"], env={"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_EXCLUDE": "/a,/b"})
    document = json.loads(result.stdout)

    assert result.exit_code == 0
    assert [*document["settings"]] == [setting.key for setting in SETTINGS]
    assert document["settings"]["exclude"] == {
        "variable": "POSTHOG_LLMA_EXCLUDE",
        "value": ["/a", "/b"],
        "source": "environment",
    }
    assert document["settings"]["api_key"]["value"] == "phc_01**********"
    assert document["settings"]["claude_config_dir"]["value"] == [str(shell.home / ".claude")]
    assert document["problems"] == []
    assert KEY not in result.output


def test_config_prints_warnings(shell: User) -> None:
    result = CliRunner().invoke(config, ["--json"], env={"POSTHOG_LLMA_INPT": "full"})

    assert len(json.loads(result.stdout)["warnings"]) == 1
    assert "warning: POSTHOG_LLMA_INPT (environment): no such setting" in result.stderr
    assert shell.home.is_dir()


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_config_with_problems_names_them_all_and_exits_78(shell: User, arguments: list[str]) -> None:
    result = CliRunner().invoke(config, arguments, env={"POSTHOG_LLMA_INPUT": "x", "POSTHOG_LLMA_CONTENT": "y"})

    assert result.exit_code == 78
    assert [line[:7] for line in result.stderr.splitlines()] == ["error: ", "error: "]
    if arguments:
        assert len(json.loads(result.stdout)["problems"]) == 2
    assert shell.home.is_dir()


def test_the_users_own_files_are_where_the_platform_has_them(shell: User) -> None:
    assert str(loading.default_config_file()).startswith(str(shell.home))
    assert loading.default_config_file().name == "config.toml"


# --- the web app -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("us.i.posthog.com", "https://us.posthog.com"),
        ("https://eu.posthog.com/", "https://eu.posthog.com"),
        ("https://app.posthog.com", "https://us.posthog.com"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_the_web_app_is_an_address_like_the_ingestion_host(user: User, given: str, host: str) -> None:
    assert user.load({"POSTHOG_APP_HOST": given}).app_host == host


def test_a_personal_key_is_taken_from_the_user_alone(user: User) -> None:
    assert str(user.load({"POSTHOG_PERSONAL_API_KEY": "phx_abc"}).personal_api_key) == "**********"
    user.write_claude_settings({"POSTHOG_PERSONAL_API_KEY": "phx_abc", "POSTHOG_APP_HOST": "https://us.posthog.com"})
    loaded = user.load()
    assert (loaded.personal_api_key, loaded.app_host) == (None, None)
    with pytest.raises(ConfigError, match="is a project API key"):
        user.load({"POSTHOG_PERSONAL_API_KEY": "phc_abc"})
    with pytest.raises(ConfigError, match="without encryption"):
        user.load({"POSTHOG_APP_HOST": "http://us.posthog.com"})
