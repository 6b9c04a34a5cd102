"""The harness sees whether a round's daemon delivered anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.crash import Receiver
from tests.support.client import Workspace, start

EARLIER, PRESENT = 3, 4
ACCEPTED = {"path": "/i/v0/ai/batch/", "status": 200, "lost": False, "events": [{"uuid": "1"}]}


@pytest.mark.parametrize(
    ("request_judged", "delivered"),
    [
        (ACCEPTED | {"connection": PRESENT}, True),
        # What another life had sent is judged late.
        (ACCEPTED | {"connection": EARLIER}, False),
        (ACCEPTED | {"connection": PRESENT, "status": 503, "events": []}, False),
    ],
)
async def test_only_what_the_present_life_sent_and_the_receiver_took_is_a_delivery(
    tmp_path: Path, request_judged: dict[str, Any], delivered: bool
) -> None:
    workspace = Workspace(tmp_path / "machine")
    journal = tmp_path / "journal.jsonl"
    journal.write_text(json.dumps(request_judged) + "\n")
    # One process stands for both: it prints a port, as the receiver does, and it has ended, so nothing more can come.
    command, env = ["echo", "1"], workspace.environment()
    async with start(command, name="both", environment=env, cwd=workspace.work, output=workspace.output) as child:
        await child.wait()
        receiver = Receiver(child, journal)
        receiver._life = 0, EARLIER
        assert await receiver.first_delivery(child) == delivered
