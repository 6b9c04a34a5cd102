"""Receipts of what programs recorded: what they say, and how long they are kept."""

from __future__ import annotations

import gzip
import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemon.delivering.route import Route
from daemon.state.layout import receipts_folder, remove_state
from daemon.state.receipts import Receipt, Receipts, full_days, read_receipts
from daemon.system.secret import Secret
from tests.support.capture_server import Accept, Answer, CaptureServer
from tests.support.machine import Machine
from tests.support.outbox import EVERYTHING, START, line, uuid, write

ALLOWED = "phc_a_key_in_a_table"
NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


def receipt(number: int, folder: str = "/home/ada/orchard") -> Receipt:
    return Receipt(
        uuid=uuid(number), kind="$ai_span", session=None, trace="t", model=None, at=0, input=0, given=0, output=0,
        cache_read=0, cache_write_5m=0, cache_write_1h=0, web_searches=0, provider=None, tier=None, prices=None,
        is_priced=False, folder=folder, host="https://us.i.posthog.com", key="00",
    )  # fmt: skip


def days(state: Path) -> list[str]:
    return sorted(path.name for path in receipts_folder(state).iterdir())


async def test_a_receipt_says_where_each_recorded_event_went_and_never_what_it_says(
    machine: Machine, posthog: CaptureServer
) -> None:
    machine.cadence = replace(machine.cadence, tick=0.02, hot_sweep=0.2, gone=0.0)
    machine.writes_config(f'[[project]]\npath = "{machine.root}/tabled"\napi_key = "{ALLOWED}"\n')
    named = {"$ai_project_name": 7}
    lines = (line("span", 20, api_key=ALLOWED), line("metric", 22, metric="m", value=1, properties=named))
    write(machine.outbox, EVERYTHING, *lines, name="4711-1772442000000-1")
    # The last one is set aside.
    posthog.fault = lambda request: (
        Answer(status=400, body=b"no") if uuid(22).encode() in gzip.decompress(request.body) else Accept()
    )
    # One of years ago goes, whatever comes now.
    Receipts(machine.state, now=lambda: NOON - timedelta(days=2000)).add([receipt(30)])
    assert await machine.once(posthog.url)

    found = {each.uuid: each for each in read_receipts(machine.state)}
    mine, other = (Route(host=posthog.url, key=Secret(key)).fingerprint for key in ("phc_test", ALLOWED))
    expected = {uuid(number): (posthog.url, mine) for number in (*range(1, 10), 22)} | {uuid(20): (posthog.url, other)}
    assert {name: (each.host, each.key) for name, each in found.items()} == expected
    answer = found[uuid(3)]
    assert (answer.kind, answer.session, answer.trace) == ("$ai_generation", "pull-52984", "review-1")
    assert (answer.model, answer.folder, answer.at) == (
        "claude-opus-5-5",
        "/home/ada/orchard",
        round((START + timedelta(seconds=3)).timestamp() * 1000),
    )
    assert (answer.input, answer.given, answer.output) == (12, 12, 34)
    assert (answer.cache_read, answer.cache_write_5m, answer.cache_write_1h, answer.web_searches) == (1000, 10, 20, 1)
    assert json.loads(answer.prices or "") == {"total": 0.0421}
    # What caches held is in the one count, and not in the other.
    assert (found[uuid(5)].input, found[uuid(5)].given) == (10, 1010)
    assert [found[uuid(number)].is_priced for number in (1, 3, 4, 2)] == [True, True, False, False]
    [name] = days(machine.state)
    kept = (receipts_folder(machine.state) / name).read_text()
    assert not [word for word in ("apples", "Review it", "count", "retrieve", ALLOWED, "phc_test") if word in kept]
    assert stat.S_IMODE((receipts_folder(machine.state) / name).stat().st_mode) == 0o600


def test_receipts_are_kept_for_a_month_and_no_more_of_them_than_fit(tmp_path: Path) -> None:
    now = NOON
    book = Receipts(tmp_path, now=lambda: now)
    for number in range(32):
        now = NOON + timedelta(days=number)
        book.add([receipt(number)])
    book.tidy()
    assert (len(days(tmp_path)), days(tmp_path)[0]) == (31, "2026-04-01.jsonl")
    assert [each.uuid for each in read_receipts(tmp_path)][-2:] == [uuid(30), uuid(31)]

    now += timedelta(days=1)
    small = Receipts(tmp_path, now=lambda: now, most=500)
    small.add([receipt(40)])
    small.tidy()
    assert days(tmp_path)[-2:] == ["2026-05-01.jsonl", "2026-05-02.jsonl"]
    assert len(days(tmp_path)) < 5

    Receipts(tmp_path, now=lambda: now, most_a_day=1).add([receipt(41)])
    assert full_days(tmp_path, most=1)[-1] == "2026-05-02"
    assert uuid(41) not in {each.uuid for each in read_receipts(tmp_path)}
    # They also go when nothing is recorded any more.
    now += timedelta(days=31)
    book.tidy()
    assert days(tmp_path) == []
    book.add([receipt(42)])
    assert remove_state(tmp_path) == []


def test_a_receipt_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    book = Receipts(tmp_path, now=lambda: NOON)
    odd = os.fsdecode(b"/home/ada/\xff")
    book.add([receipt(1), receipt(2, folder=odd)])
    [name] = days(tmp_path)
    path = receipts_folder(tmp_path) / name
    with path.open("ab") as file:
        file.write(b'["torn by a full disk')
    book.add([receipt(3)])
    with path.open("ab") as file:
        file.write(b'["of another version"]\n\xff\n')
    assert [(each.uuid, each.folder) for each in read_receipts(tmp_path)] == [
        (uuid(1), "/home/ada/orchard"),
        (uuid(2), odd),
        (uuid(3), "/home/ada/orchard"),
    ]
    path.chmod(0o600)
    receipts_folder(tmp_path).rename(tmp_path / "elsewhere")
    receipts_folder(tmp_path).write_text("no folder")
    book.add([receipt(4)])
    assert [*read_receipts(tmp_path)] == []
    # What is written must be found, and removed with the state.
    receipts_folder(tmp_path).unlink()
    receipts_folder(tmp_path).symlink_to(tmp_path / "elsewhere")
    kept = (tmp_path / "elsewhere" / name).read_bytes()
    book.add([receipt(5)])
    assert (tmp_path / "elsewhere" / name).read_bytes() == kept
