from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from daemon.config.claude_settings import CLEANUP_DAYS, cleanup_days, client_settings, read_env
from daemon.system.small_file import MAX_FILE_BYTES, UnreadableFileError, read_regular


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "settings.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_without_a_file_or_a_folder_there_is_no_env(tmp_path: Path) -> None:
    assert read_env(tmp_path) == {}
    assert read_env(tmp_path / "absent") == {}


def test_a_file_in_the_place_of_the_folder_is_no_file(tmp_path: Path) -> None:
    place = tmp_path / "claude"
    place.write_text("x")

    assert read_env(place) == {}


def test_values_come_as_an_environment_has_them(tmp_path: Path) -> None:
    block = {"TEXT": " a ", "YES": True, "NO": False, "COUNT": 12000, "SHARE": 0.5, "TABLE": {"a": [1]}, "GONE": None}
    write(tmp_path, json.dumps({"model": "x", "env": block}))

    assert read_env(tmp_path) == {
        "TEXT": " a ",
        "YES": "true",
        "NO": "false",
        "COUNT": "12000",
        "SHARE": "0.5",
        "TABLE": '{"a": [1]}',
    }


def test_a_file_without_env_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path, "{}")

    assert read_env(tmp_path) == {}


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, b"\xef\xbb\xbf" + b'{"env": {"A": "1"}}')

    assert read_env(tmp_path) == {"A": "1"}


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    target = write(tmp_path / "dotfiles", '{"env": {"A": "1"}}')
    (tmp_path / "settings.json").symlink_to(target)

    assert read_env(tmp_path) == {"A": "1"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"env": {\n"KEY": hunter2}}', "is not valid JSON (line 2, column 8)"),
        ("", "is not valid JSON (line 1, column 1)"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"env": {"A": ' + "1" * 5000 + "}}", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ('{"env": ["A=1"]}', "has an 'env' that is not an object"),
        (b'{"env": "\xff"}', "is not UTF-8 (byte 9)"),
    ],
)
def test_an_unusable_file_is_named_with_the_reason_and_not_quoted(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    path = write(tmp_path, content)

    with pytest.raises(UnreadableFileError) as caught:
        read_env(tmp_path)

    assert caught.value.path == path
    assert caught.value.reason == reason
    assert "hunter2" not in str(caught.value)


def test_a_pipe_in_the_files_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.json")

    with pytest.raises(UnreadableFileError, match="is not a regular file"):
        read_env(tmp_path)


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").mkdir()

    with pytest.raises(UnreadableFileError, match="is not a regular file"):
        read_env(tmp_path)


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").symlink_to(tmp_path / "settings.json")

    with pytest.raises(UnreadableFileError, match=r"cannot be read \(too many levels"):
        read_env(tmp_path)


def test_a_path_no_file_can_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="not a valid path"):
        read_regular(tmp_path / "a\0b")


def test_the_size_is_bounded(tmp_path: Path) -> None:
    path = write(tmp_path, b" " * MAX_FILE_BYTES)
    assert read_regular(path) == b" " * MAX_FILE_BYTES

    write(tmp_path, b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(UnreadableFileError, match="is larger than 1048576 bytes"):
        read_regular(path)


@pytest.mark.parametrize(
    ("document", "days"),
    [
        ("{}", CLEANUP_DAYS),
        ('{"cleanupPeriodDays": null}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": 0}', 0),
        ('{"cleanupPeriodDays": 7}', 7),
        ('{"cleanupPeriodDays": 7.0}', 7),
        ('{"cleanupPeriodDays": 365}', 365),
        ('{"cleanupPeriodDays": 1' + "0" * 400 + "}", 36_500),
        ('{"cleanupPeriodDays": "7"}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": -1}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": true}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": false}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": 7.5}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": Infinity}', CLEANUP_DAYS),
        ('{"cleanupPeriodDays": [7]}', CLEANUP_DAYS),
        ("[]", CLEANUP_DAYS),
        ("not JSON", CLEANUP_DAYS),
    ],
)
def test_the_client_keeps_logs_for_so_many_days(tmp_path: Path, document: str, days: int) -> None:
    write(tmp_path, document)

    assert cleanup_days(tmp_path) == days


def test_without_a_file_the_client_keeps_logs_for_as_long_as_it_does_by_default(tmp_path: Path) -> None:
    assert cleanup_days(tmp_path) == cleanup_days(tmp_path / "absent") == CLEANUP_DAYS


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ("{}", ()),
        ('{"enabledPlugins": {"b@x": true, "off@x": false, "a@y": true}}', ("b@x", "a@y")),
        ('{"enabledPlugins": ["a@y"]}', ()),
        ("not JSON", ()),
    ],
)
def test_the_plugins_that_are_enabled(tmp_path: Path, document: str, names: tuple[str, ...]) -> None:
    path = write(tmp_path, document)

    assert client_settings([path]).plugins == names


def test_later_settings_files_override_earlier_ones(tmp_path: Path) -> None:
    documents = [
        {"enabledPlugins": {"a@x": True, "b@x": True}, "env": {"ONE": "1", "TWO": "1"}},
        {"enabledPlugins": {"b@x": False, "c@x": True}, "env": {"TWO": 2}},
        ["no settings"],
        {"env": "no object"},
    ]
    files = [tmp_path / f"{number}.json" for number in range(len(documents))]
    for path, document in zip(files, documents, strict=True):
        path.write_text(json.dumps(document))
    installed = tmp_path / "installed_plugins.json"
    installed.write_text(json.dumps({"version": 2, "plugins": {"b@x": [{}], "d@x": [{}]}}))

    said = client_settings([*files, tmp_path / "absent.json"], installed)
    assert said.plugins == ("d@x", "a@x", "c@x")
    assert said.env == {"ONE": "1", "TWO": "2"}
    assert client_settings([], tmp_path / "absent.json").plugins == ()
