"""Reads what the recorder wrote, and holds every line against the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

__all__ = ["ROOT", "Recorded", "check"]

ROOT = Path(__file__).parents[2] / "recorder"
"""The distribution's folder."""

SCHEMA = json.loads((ROOT / "llma_recorder" / "line.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
"""Validates any line, after a look at its type."""
_KEYS = {
    kind: {*SCHEMA["properties"], *SCHEMA["$defs"][kind]["properties"]}
    | (set() if kind == "process" else set(SCHEMA["$defs"]["common"]["properties"]))
    for kind in SCHEMA["$defs"]["is"]
}


_VALIDATORS = {
    # What the whole schema comes to for a line of this type, in a fraction of the time.
    kind: Draft202012Validator(
        {
            **SCHEMA,
            "allOf": [{"$ref": f"#/$defs/{kind}"}, *([] if kind == "process" else [{"$ref": "#/$defs/common"}])],
        }
    )
    for kind in SCHEMA["$defs"]["is"]
}


def check(line: dict[str, Any]) -> None:
    """Fail if the schema does not allow a line, or does not know one of its keys."""
    _VALIDATORS[line["type"]].validate(line)
    unknown = set(line) - _KEYS[line["type"]]
    assert not unknown, f"the schema does not know {unknown}"
    assert None not in line.values(), "a value that is unknown is left out"


class Recorded:
    """An outbox.

    Args:
        folder: its path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"), key=lambda path: [int(part) for part in path.stem.split("-")])

    @property
    def dropped(self) -> dict[str, int]:
        """The sums of the counts of lost lines."""
        sums = {"too_full": 0, "disk": 0, "encode": 0}
        for path in self.folder.glob("*.dropped.json"):
            counts = json.loads(path.read_text())
            for why in sums:
                sums[why] += counts[why]
        return sums

    def lines(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of all files in order; only those of a type, or all but the first ones of files."""
        found = []
        for path in self.files:
            text = path.read_bytes().decode()
            assert text.endswith("\n")
            first, *rest = [json.loads(row) for row in text.removesuffix("\n").split("\n")]
            assert first["type"] == "process"
            for line in (first, *rest):
                check(line)
            found += [first, *rest] if kind == "process" else rest
        return [line for line in found if kind is None or line["type"] == kind]

    def line(self, kind: str) -> dict[str, Any]:
        """Return the only line of a type."""
        (found,) = self.lines(kind)
        return found
