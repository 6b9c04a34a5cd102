"""Archives come from anywhere: what is hostile or damaged leaves nothing behind, and says why in one line."""

from __future__ import annotations

import errno
import gzip
import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.archiving.source import MissingExtraError, Source, SourceError, find_sources
from daemon.archiving.unpacking import Unpacked, unpack
from tests.support.each import for_each
from tests.support.logs import LogBuilder, text
from tests.support.processes import session_id


def log(name: str = "one") -> bytes:
    builder = LogBuilder(session_id(name), cwd="/home/ada/orchard")
    builder.prompt("plant")
    builder.answer(text("done"), id=f"msg_{name}")
    [data] = builder.files().values()
    return data


PLACE = f"projects/-home-ada-orchard/{session_id('one')}.jsonl"


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(data), kind, link
    return member, data


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def source(folder: Path, name: str, data: bytes) -> Source:
    path = folder / name
    path.write_bytes(data)
    [found] = find_sources(str(path)).sources
    return found


def unpacked(folder: Path, name: str, data: bytes, **options: Any) -> tuple[Unpacked, dict[str, bytes]]:
    target = folder / "target"
    target.mkdir()
    found = unpack(source(folder, name, data), target, **options)
    return found, {
        path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()
    }


def test_a_member_that_is_no_regular_file_or_leads_out_of_the_folder_is_left_out(tmp_path: Path) -> None:
    data = log()
    outside = tmp_path / "outside.jsonl"
    outside.write_bytes(b"before")

    found, files = unpacked(
        tmp_path,
        "hostile.tar.gz",
        gzip.compress(
            tar(
                entry(f"../../{PLACE}", data),
                entry(f"projects/../../{session_id('two')}.jsonl", data),
                entry(f"projects/-a\0b/{session_id('two')}.jsonl", data),
                entry("projects/-x", kind=tarfile.SYMTYPE, link=str(tmp_path)),
                entry("projects/-x/outside.jsonl", b"through a link"),
                entry(
                    f"projects/-home-ada-orchard/{session_id('link')}.jsonl", kind=tarfile.SYMTYPE, link="/etc/passwd"
                ),
                entry(
                    f"projects/-home-ada-orchard/{session_id('hard')}.jsonl", kind=tarfile.LNKTYPE, link=str(outside)
                ),
                entry(f"projects/-home-ada-orchard/{session_id('pipe')}.jsonl", kind=tarfile.FIFOTYPE),
                entry(f"projects/-home-ada-orchard/{session_id('null')}.jsonl", kind=tarfile.CHRTYPE),
                entry("notes.txt", b"no log"),
                entry(f"/home/ada/.claude/{PLACE}", data),
            )
        ),
    )

    assert files.pop("projects/-x/outside.jsonl") == b"through a link"
    assert files.pop(f"projects/-a/{session_id('two')}.jsonl", data) == data
    assert files == {PLACE: data}
    assert found.refused == 4
    assert outside.read_bytes() == b"before"
    for path in (tmp_path / "target").rglob("*.jsonl"):
        assert path.stat().st_mode & 0o077 == 0
        assert not path.is_symlink()


def test_two_logs_of_one_name_are_kept_and_of_one_log_the_longer_one(tmp_path: Path) -> None:
    first, other = log("one"), log("two")

    found, files = unpacked(
        tmp_path,
        "doubled.tar",
        tar(entry(PLACE, first[:-1]), entry(f"b/{PLACE}", other), entry(f"c/{PLACE}", first), entry(PLACE, first[:-9])),
    )

    assert sorted(files.values()) == sorted([first, other])
    assert {one.size for one in found.logs.values()} == {len(first), len(other)}


def damaged_zip() -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr(PLACE, log())
    data = bytearray(output.getvalue())
    data[200] ^= 1
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(damaged_zip())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def cut_in_a_header() -> bytes:
    whole = bytearray(tar(entry(PLACE, log()), entry("b.txt", b"b"), entry(f"b/{PLACE}", log("two"))))
    at = whole.index(b"b.txt")
    whole[at : at + 512] = b"x" * 512
    return bytes(whole)


DAMAGED: list[tuple[str, Callable[[], bytes]]] = [
    ("cut.tar.gz", lambda: gzip.compress(tar(entry(PLACE, log())))[:-40]),
    ("cut.tar", lambda: tar(entry(PLACE, log()))[:900]),
    ("header.tar", cut_in_a_header),
    ("text.tar.gz", lambda: b"this is no archive"),
    ("text.zip", lambda: b"this is no archive"),
    ("text.tar.xz", lambda: b"this is no archive"),
    ("empty.tar", lambda: b""),
    ("crc.zip", damaged_zip),
    ("encrypted.zip", encrypted_zip),
    (f"{session_id('one')}.jsonl.gz", lambda: gzip.compress(log())[:-10]),
]


@for_each("name, make", DAMAGED)
def test_a_damaged_archive_says_so_in_one_line(
    name: str, make: Callable[[], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")

    with pytest.raises(SourceError) as raised:
        unpacked(folder, name, make())

    assert str(raised.value).startswith("it ")
    assert "\n" not in str(raised.value)


def sparse() -> bytes:
    """Return an archive with a file of which nearly nothing is stored."""
    member, data = entry(PLACE, b"{}\n")
    member.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": "8000000", "mtime": "1e99"}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


@for_each("name", ["bomb.tar.gz", "bomb.zip", "sparse.tar", f"{session_id('one')}.jsonl.gz"])
def test_what_unpacks_to_far_too_much_is_refused_before_the_disk_is_full(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bomb")
    zeros = bytes(8_000_000)
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PLACE, zeros)
    data = {
        "bomb.tar.gz": gzip.compress(tar(entry("no-log.bin", zeros))),
        "bomb.zip": output.getvalue(),
        "sparse.tar": sparse(),
    }.get(name, gzip.compress(zeros))

    with pytest.raises(SourceError, match="unpacks to more than 200 times"):
        unpacked(folder, name, data, free=1_000_000)


@for_each("url, package", [("s3://bucket/logs", "fsspec.core"), ("packed.jsonl.zst", "zstandard")])
def test_without_the_extra_a_line_says_what_to_install(
    url: str, package: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("extra")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError) as raised:
            find_sources(url) if url.startswith("s3:") else unpacked(folder, url, b"")

    assert "'posthog-llma-daemon[fleet]'" in str(raised.value)


def test_a_folder_that_cannot_be_listed_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "shut"):
        (tmp_path / "store" / name).mkdir(parents=True)
        (tmp_path / "store" / name / "logs.tar").write_bytes(tar(entry(PLACE, log())))
    names = os.listdir

    def refuse(path: str) -> list[str]:
        if str(path).endswith("/shut"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return names(path)

    # Whoever is root may read everything.
    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.chdir(tmp_path)

    found = find_sources("store")

    assert [source.url for source in found.sources] == [f"{tmp_path}/store/open/logs.tar"]
    assert found.errors == {f"{tmp_path}/store/shut": "permission denied"}
