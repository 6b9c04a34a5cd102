"""The crash harness notices whether a round's daemon has delivered anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.crash import Receiver
from tests.support.client import Workspace, start

EARLIER, CURRENT = 3, 4
ACCEPTED = {"path": "/i/v0/ai/batch/", "status": 200, "lost": False, "events": [{"uuid": "1"}]}


@pytest.mark.parametrize(
    ("request_judged", "delivered"),
    [
        (ACCEPTED | {"connection": CURRENT}, True),
        # A request of an earlier life is judged late.
        (ACCEPTED | {"connection": EARLIER}, False),
        (ACCEPTED | {"connection": CURRENT, "status": 503, "events": []}, False),
    ],
)
async def test_only_an_accepted_request_of_the_current_life_counts_as_a_delivery(
    tmp_path: Path, request_judged: dict[str, Any], delivered: bool
) -> None:
    workspace = Workspace(tmp_path / "machine")
    journal = tmp_path / "journal.jsonl"
    journal.write_text(json.dumps(request_judged) + "\n")
    # One process is both daemon and receiver: it prints a port, as the receiver does, and ends, so no more can come.
    command, env = ["echo", "1"], workspace.environment()
    async with start(command, name="both", environment=env, cwd=workspace.work, output=workspace.output) as child:
        await child.wait()
        receiver = Receiver(child, journal)
        receiver._life = 0, EARLIER
        assert await receiver.first_delivery(child) == delivered
