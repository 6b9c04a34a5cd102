from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.executing.properties_file import LIMIT_BYTES, PropertiesFile, PropertiesFileError


def test_the_folder_is_private_and_is_removed() -> None:
    with PropertiesFile() as file:
        folder = file.path.parent
        assert folder.stat().st_mode & 0o777 == 0o700
        file.path.write_text("{}")
    assert not folder.exists()


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_missing_or_empty_file_gives_no_properties(text: str | None) -> None:
    with PropertiesFile() as file:
        if text is not None:
            file.path.write_text(text)
        assert file.read() == ({}, frozenset())


def test_an_object_is_accepted_without_the_daemons_own_properties() -> None:
    with PropertiesFile() as file:
        file.path.write_text(
            '\ufeff{"verdict": "approve", "files": ["a"], "$ai_model": "x", "distinct_id": "y", "$ai_request_price": 0}'
        )
        properties, refused = file.read()
    assert properties == {"verdict": "approve", "files": ["a"]}
    assert refused == {"$ai_model", "distinct_id", "$ai_request_price"}


def test_a_file_above_the_size_limit_is_refused() -> None:
    with PropertiesFile() as file:
        file.path.write_text('{"a": "' + "x" * (LIMIT_BYTES - 9) + '"}')
        assert file.path.stat().st_size == LIMIT_BYTES
        assert set(file.read()[0]) == {"a"}
        file.path.write_text('{"a": "' + "x" * (LIMIT_BYTES - 8) + '"}')
        with pytest.raises(PropertiesFileError, match="larger"):
            file.read()


@pytest.mark.parametrize("data", [b"[]", b"{", b"1", b'{"a": NaN}', b'{"a": "\xff"}', b'{"a":' * 5000, b'{"a": 1e999}'])
def test_anything_but_an_object_is_refused(data: bytes) -> None:
    with PropertiesFile() as file:
        file.path.write_bytes(data)
        with pytest.raises(PropertiesFileError) as caught:
            file.read()
        assert "\n" not in str(caught.value)


def test_no_link_is_followed_not_even_one_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "properties.json").write_text('{"a": 1}')
    with PropertiesFile() as file:
        file.path.symlink_to(tmp_path / "properties.json")
        with pytest.raises(PropertiesFileError):
            file.read()
        folder = file.path.parent
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path)
        with pytest.raises(PropertiesFileError):
            file.read()
        folder.unlink()
    assert (tmp_path / "properties.json").exists()


def test_a_pipe_in_place_of_the_file_does_not_block() -> None:
    with PropertiesFile() as file:
        os.mkfifo(file.path)
        with pytest.raises(PropertiesFileError, match="regular"):
            file.read()
