"""The committed pictures match the source."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

from tests.screenshots.__main__ import FOLDER, versions
from tests.support.processes import ROOT
from tests.support.waiting import PATIENCE

NAMES = ("demo.svg", "explain.svg", "tail.svg", "usage.svg")


def words(picture: str) -> list[str]:
    """Return the words of a picture, in their order, without their positions."""
    pieces = re.findall(r"<text[^>]*>(.*?)</text>", picture, re.DOTALL)
    return " ".join(html.unescape(piece).replace("\xa0", " ") for piece in pieces).split()


def test_the_script_draws_the_committed_pictures(tmp_path: Path) -> None:
    # An unusual time zone and terminal: neither may affect the pictures.
    environ = {"PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo", "COLUMNS": "40", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "tests.screenshots", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, timeout=PATIENCE)
    assert sorted(path.name for path in tmp_path.iterdir()) == list(NAMES)
    for name in NAMES:
        kept, made = (folder / name for folder in (FOLDER, tmp_path))
        if f"<!-- {versions()} -->" in kept.read_text("utf-8"):
            assert made.read_bytes() == kept.read_bytes(), f"{name}: redraw them with python -m tests.screenshots"
        else:
            # Another version of rich may draw them differently, and prices change; the words are the same.
            found, expected = (
                [re.sub(r"\$[\d.,]+", "$", word) for word in words(each.read_text("utf-8"))] for each in (made, kept)
            )
            assert found == expected


def test_the_pictures_show_their_command_and_load_nothing_from_elsewhere() -> None:
    demo, explain, tail, usage = (" ".join(words((FOLDER / name).read_text("utf-8"))) for name in NAMES)
    assert "A sample session is being written" in demo
    assert "overloaded_error" in demo
    assert "scrubbed (" in explain
    assert "left out at content level no_tool_content" in explain
    assert "claude-opus-5-5" in usage
    assert "Bash 3 1" in usage
    assert "10 answers, 7 tool calls" in tail
    assert "Thanks! In one sentence, for the changelog?" in tail
    for name in NAMES:
        assert re.findall(r"https?://(?!www\.w3\.org)", (FOLDER / name).read_text("utf-8")) == []


def test_the_readme_shows_and_describes_the_pictures() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = dict(re.findall(r"!\[([^\]]{20,})\]\((tests/screenshots/\w+\.svg)\)", readme))
    assert sorted(shown.values()) == [f"tests/screenshots/{name}" for name in NAMES]


def test_tail_usage_and_the_page_come_first_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pictures = re.findall(r"!\[[^\]]{20,}\]\(tests/screenshots/(\w+\.\w+)\)", readme)
    assert pictures[:3] == ["tail.svg", "usage.svg", "page.png"]
