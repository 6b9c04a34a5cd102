from __future__ import annotations

import stat
from pathlib import Path

import pytest

from daemon.installing.service_environment import (
    EnvironmentFileError,
    find_missing,
    read_environment,
    write_environment,
)

KEY = "phc_a_key_that_no_output_shows"


def missing(folder: Path, shell: dict[str, str], service: dict[str, str] | None = None) -> list[str]:
    found = find_missing(shell, service or {}, config_file=folder / "config.toml", home=folder)
    return [each.variable for each in found]


def test_a_variable_that_only_the_shell_has_is_missing(tmp_path: Path) -> None:
    shell = {
        "POSTHOG_API_KEY": KEY,
        "POSTHOG_HOST": "https://eu.i.posthog.com",
        "HTTPS_PROXY": "http://proxy",
        "X": "y",
    }
    assert missing(tmp_path, shell) == ["POSTHOG_API_KEY", "POSTHOG_HOST", "HTTPS_PROXY"]
    assert missing(tmp_path, shell, shell) == []


def test_a_variable_whose_value_a_file_gives_too_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('host = "eu.posthog.com"\n')
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "settings.json").write_text('{"env": {"POSTHOG_LLMA_CC_ENABLED": "1"}}')
    shell = {
        "POSTHOG_HOST": "https://eu.i.posthog.com/",
        "POSTHOG_LLMA_CC_ENABLED": "true",
        "POSTHOG_LLMA_CONTENT": "full",
        "POSTHOG_AI_PURPOSE": "review",
    }
    assert missing(tmp_path, shell) == ["POSTHOG_AI_PURPOSE"]


def test_a_different_value_is_missing_and_a_blank_one_is_not(tmp_path: Path) -> None:
    assert missing(tmp_path, {"POSTHOG_LLMA_CONTENT": "metadata"}, {"POSTHOG_LLMA_CONTENT": "full"}) == [
        "POSTHOG_LLMA_CONTENT"
    ]
    assert missing(tmp_path, {"POSTHOG_LLMA_CONTENT": " ", "HTTPS_PROXY": ""}) == []


def test_every_differing_variable_is_missing_if_the_service_could_not_read_its_settings(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('host = "https://posthog.example.com"\n')
    shell = {"POSTHOG_LLMA_ALLOW_CUSTOM_HOST": "true", "POSTHOG_LLMA_CONTENT": "full"}
    assert missing(tmp_path, shell) == ["POSTHOG_LLMA_ALLOW_CUSTOM_HOST", "POSTHOG_LLMA_CONTENT"]


def test_variables_are_written_to_a_private_file_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "config" / "service.env"
    assert read_environment(path) == {}
    values = {"HTTPS_PROXY": 'http://u:p$a"ss\\@proxy:3128', "NO_PROXY": "a, b#c"}
    assert list(write_environment(path, values.items())) == ["HTTPS_PROXY", "NO_PROXY"]
    assert read_environment(path) == values
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(write_environment(path, [("NO_PROXY", "c"), ("HTTPS_PROXY", values["HTTPS_PROXY"])])) == ["NO_PROXY"]
    assert read_environment(path) == values | {"NO_PROXY": "c"}


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "service.env"
    path.write_text('# mine\n; too\n\nHTTPS_PROXY=http://proxy:1\nNO_PROXY="a b"\n')
    assert read_environment(path) == {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "a b"}


@pytest.mark.parametrize("text", ["nonsense", "A-B=1", "A='1", "=1"])
def test_a_line_that_is_no_assignment_is_named_but_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "service.env"
    path.write_text(f"A=1\n{text}\n")
    with pytest.raises(EnvironmentFileError, match="line 2") as caught:
        read_environment(path)
    assert text not in str(caught.value)


@pytest.mark.parametrize("value", ["it's", "two\nlines"])
def test_a_value_that_cannot_be_quoted_is_not_written(tmp_path: Path, value: str) -> None:
    path = tmp_path / "service.env"
    with pytest.raises(EnvironmentFileError, match="HTTPS_PROXY"):
        write_environment(path, [("HTTPS_PROXY", value)])
    assert not path.exists()


def test_a_service_does_not_get_what_the_daemon_does_not_use(tmp_path: Path) -> None:
    assert (
        missing(tmp_path, {"POSTHOG_PERSONAL_API_KEY": "phx_mine", "POSTHOG_APP_HOST": "https://us.posthog.com"}) == []
    )
