"""The schema of config.toml accepts exactly what the daemon reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.config import loading
from daemon.config.schema import config_schema, value_type
from daemon.config.settings import ConfigError
from daemon.config.table import SETTINGS, Setting

SCHEMA = config_schema()
TABLE = SCHEMA["properties"]["project"]["items"]


def test_it_knows_every_key_and_no_other() -> None:
    keys = {key for setting in SETTINGS for key in (setting.key, *setting.aliases)}
    assert SCHEMA["properties"].keys() == keys | {"project"}
    assert SCHEMA["additionalProperties"] is False
    ours = {key for setting in SETTINGS if setting.in_project for key in (setting.key, *setting.aliases)}
    assert TABLE["properties"].keys() == ours | {"path"}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_default_in_the_schema_is_the_daemons_default(tmp_path: Path, setting: Setting) -> None:
    declared = SCHEMA["properties"][setting.key]
    assert declared["description"] == setting.help
    assert "default" not in TABLE["properties"].get(setting.key, {})
    if "default" in declared:
        loaded = loading.load({}, {}, config_file=tmp_path / "none", home=tmp_path)
        value = getattr(loaded, setting.name)
        assert declared["default"] == (dict(value) if value_type(setting) == "object" else value)


@pytest.mark.parametrize(
    "setting", [each for each in SETTINGS if "enum" in SCHEMA["properties"][each.key]], ids=lambda each: each.name
)
def test_the_words_of_a_choice_are_those_that_are_read(tmp_path: Path, setting: Setting) -> None:
    def load(value: Any) -> object:
        path = tmp_path / "config.toml"
        path.write_text(f"{setting.key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n")
        return getattr(loading.load({}, {}, config_file=path, home=tmp_path), setting.name)

    for word in SCHEMA["properties"][setting.key]["enum"]:
        assert load(word) == word
    with pytest.raises(ConfigError):
        load("no such word")


def test_projects_may_not_leave_it_to_projects() -> None:
    assert SCHEMA["properties"]["enabled"]["enum"] == [True, False, "projects"]
    assert TABLE["properties"]["enabled"]["type"] == "boolean"
