from __future__ import annotations

from pathlib import Path

import pytest

from daemon.system.file_system import file_system_of, find_mount, is_network


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afpfs", "webdav"])
def test_network_file_systems_are_known(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "xfs", "zfs", "overlay", "tmpfs", "apfs", "fuse.encfs", "fuseblk"])
def test_local_ones_are_none(kind: str) -> None:
    assert not is_network(kind)


def test_the_nearest_mount_counts_and_of_two_in_one_place_the_later_one() -> None:
    mounts = [("/", "ext4"), ("/home", "nfs4"), ("/home/ada/local", "ext4"), ("/srv", "xfs"), ("/srv", "9p")]
    assert find_mount(Path("/home/ada"), mounts) == "nfs4"
    assert find_mount(Path("/home/ada/local/state"), mounts) == "ext4"
    assert find_mount(Path("/home2"), mounts) == "ext4"
    assert find_mount(Path("/srv/x"), mounts) == "9p"
    assert find_mount(Path("/x"), [("/home", "nfs")]) is None


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    kind = file_system_of(tmp_path / "not there")
    assert kind
    assert not is_network(kind)
