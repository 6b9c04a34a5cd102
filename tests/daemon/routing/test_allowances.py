"""The file of allowances: how it is written and read."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from daemon.routing.allowances import Allowance, Allowances
from daemon.system.secret import Secret
from daemon.system.small_file import UnreadableFileError

ONE = Allowance(folder="/work/a", host="https://us.i.posthog.com", key=Secret("phc_one"), at=1)
OTHER = Allowance(folder="/work/b", host="https://eu.i.posthog.com", key=Secret("phc_other"), at=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "allowed.json"


def test_nothing_is_allowed_at_first(path: Path) -> None:
    assert Allowances(path).all() == ()
    assert not path.exists()


def test_an_allowance_is_visible_to_other_readers_at_once(path: Path) -> None:
    reader, writer = Allowances(path), Allowances(path)
    assert reader.all() == ()
    writer.add(ONE)
    assert reader.all() == (ONE,)
    writer.add(OTHER)
    assert reader.all() == (ONE, OTHER) == Allowances(path).all()
    assert [entry.name for entry in path.parent.iterdir()] == ["allowed.json"]


def test_the_same_again_is_kept_with_its_new_time(path: Path) -> None:
    allowances = Allowances(path)
    for at in (1, 5):
        allowances.add(Allowance(folder=ONE.folder, host=ONE.host, key=ONE.key, at=at))
    assert [each.at for each in allowances.all()] == [5]


def test_only_the_user_can_read_it(path: Path) -> None:
    Allowances(path).add(ONE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o622, 0o666])
def test_a_file_open_to_others_allows_nothing(path: Path, mode: int) -> None:
    Allowances(path).add(ONE)
    path.chmod(mode)
    with pytest.raises(UnreadableFileError, match="can be read or written by other users"):
        Allowances(path).all()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"allowed": 5}', '{"allowed": [{}]}', '{"allowed": [[', "[" * 100_000, "\udcff", "null"],
)
def test_a_file_of_another_form_allows_nothing_and_is_left_as_it_is(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content.encode(errors="surrogateescape"))
    path.chmod(0o600)
    before = path.read_bytes()
    for attempt in (Allowances(path).all, lambda: Allowances(path).add(ONE)):
        with pytest.raises(UnreadableFileError):
            attempt()
    assert path.read_bytes() == before


def test_a_row_with_a_time_of_another_kind_is_refused(path: Path) -> None:
    Allowances(path).add(ONE)
    document = json.loads(path.read_text())
    document["allowed"][0]["at"] = "never"
    path.write_text(json.dumps(document))
    with pytest.raises(UnreadableFileError, match="is not what `config allow` writes"):
        Allowances(path).all()
