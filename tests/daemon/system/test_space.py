"""How much room a disk has, and when that is too little."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.system.space import LITTLE_SPACE, NO_SPACE, Room, room_at


@pytest.mark.parametrize(
    ("free", "files", "level"),
    [
        (0, None, "none"),
        (NO_SPACE - 1, 1, "none"),
        (NO_SPACE, 1, "little"),
        (LITTLE_SPACE - 1, None, "little"),
        (LITTLE_SPACE, 1, "enough"),
        (LITTLE_SPACE, None, "enough"),
        (LITTLE_SPACE, 0, "none"),
    ],
)
def test_too_few_bytes_or_no_more_files_are_no_room(free: int, files: int | None, level: str) -> None:
    assert Room(free=free, files=files).level == level


def test_a_folder_that_does_not_exist_yet_is_looked_up_where_it_will_be(tmp_path: Path) -> None:
    there = os.statvfs(tmp_path)
    room = room_at(tmp_path / "not" / "yet")
    assert 0 < room.free <= there.f_blocks * there.f_frsize
    assert (room.files is None) == (there.f_files == 0)
