"""The README and the pages in `docs/`, taken apart for the tests that hold them to the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["DOCS", "README", "ROOT", "Block", "Document", "documents", "spans"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"^(\|.*\|)\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        language: the word after the fence; "" if there is none.
        text: its lines.
    """

    language: str
    text: str


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        path: its file.
    """

    path: Path

    @property
    def name(self) -> str:
        """Its path below the root of the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """The whole page."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return _FENCED.sub("", self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        """Its fenced blocks, in order."""
        return [Block(language=language, text=text) for language, text in _FENCED.findall(self.text)]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link can name after its `#`."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def sections(self) -> Mapping[str, str]:
        """Return the text below each heading of the second level, by heading."""
        parts = re.split(r"^## (.+)$", self.text, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    def rows(self, first: str) -> Iterator[list[str]]:
        """Yield the rows of the tables whose first column has the heading *first*."""
        for head, rows in _TABLE.findall(self.prose):
            if _cells(head)[0] == first:
                yield from map(_cells, rows.splitlines())


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))]


def spans(text: str) -> list[str]:
    """Return what is written as code within *text*."""
    return re.findall(r"`([^`\n]+)`", text)


README = Document(ROOT / "README.md")


def documents() -> list[Document]:
    """Return the README and all pages."""
    return [README, *map(Document, sorted(DOCS.glob("*.md")))]
