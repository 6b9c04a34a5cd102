from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from daemon.config import file as config_file
from daemon.config import loading, table
from daemon.config.settings import ConfigError, Settings

SETTINGS = {setting.name: setting for setting in table.SETTINGS}
KEY = "phc_a_key_that_no_output_shows"


def update(path: Path, **values: str | bool) -> None:
    config_file.update(path, {SETTINGS[name]: value for name, value in values.items()})


def load(path: Path) -> Settings:
    return loading.load({}, {}, config_file=path, home=path.parent)


def test_a_new_file_is_for_the_users_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    update(path, api_key=KEY, enabled=True, host="eu.i.posthog.com")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = load(path)
    assert found.api_key is not None
    assert (found.api_key.reveal(), found.enabled, found.host) == (KEY, True, "https://eu.i.posthog.com")
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]


def test_existing_contents_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('# mine\ncc_enabled = false # for now\n\n[custom_properties]\nteam = "web"\n')
    update(path, enabled=True, host="https://us.i.posthog.com")
    text = path.read_text()
    assert "# mine\ncc_enabled = true # for now\n" in text
    found = load(path)
    assert (found.enabled, found.host) == (True, "https://us.i.posthog.com")
    assert dict(found.custom_properties) == {"team": "web"}


def test_custom_properties_take_in_no_line_that_is_written_below(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for before in (
        "",
        '[custom_properties]\nteam = "web"\n',
        'custom_properties = {team = "web"}\nhost = "eu.posthog.com"\n',
    ):
        path.write_text(f'{before}[[project]]\npath = "~/a"\n')
        config_file.update(path, {SETTINGS["custom_properties"]: {"a b": "x\ny", "level": 3, "beta": True}})
        first = path.read_text().splitlines()[0]
        assert tomllib.loads(f'{first}\ncontent = "metadata"')["content"] == "metadata"
        found = load(path)
        assert dict(found.custom_properties) == {"a b": "x\ny", "level": 3, "beta": True}
        assert [dict(table.values) for table in found.projects] == [{}]


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    update(path, api_key=KEY, enabled=True)
    before = path.read_bytes()
    update(path, api_key=KEY, enabled=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("api_key", "phx_personal", "personal API key"),
        ("api_key", "two words", "look like a project API key"),
        ("host", "https://example.com", "POSTHOG_LLMA_ALLOW_CUSTOM_HOST"),
        ("content", "some", "metadata"),
    ],
)
def test_a_value_that_is_none_is_not_written(tmp_path: Path, name: str, value: str, word: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text("cc_enabled = true\n")
    with pytest.raises(ConfigError) as caught:
        update(path, **{name: value})
    [problem] = caught.value.problems
    assert word in problem
    assert str(path) not in problem, "it does not stand there"
    assert "personal" not in value or "phx_personal" not in problem
    assert path.read_text() == "cc_enabled = true\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]


def test_a_key_that_others_can_read_is_not_worked_on(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'api_key = "{KEY}"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        update(path, enabled=True)
    [problem] = caught.value.problems
    assert f"chmod 600 {path}" in problem
    assert KEY not in problem
    path.chmod(0o600)
    update(path, enabled=True)


def test_so_is_one_in_a_project_table(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[[project]]\npath = "~/work"\napi_key = "{KEY}"\n')
    path.chmod(0o640)
    assert "chmod 600" in (config_file.open_key(path) or "")


@pytest.mark.parametrize("content", [b"enabled = ", b"\xff", b"a = [" * 5000])
def test_a_file_that_cannot_be_read_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        update(path, enabled=True)
    assert path.read_bytes() == content


def test_values_can_be_tried_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    trial = config_file.tried(path, {SETTINGS["host"]: "eu.posthog.com"})
    assert trial.host == "https://eu.i.posthog.com"
    assert not path.exists()
