"""Text from logs, made fit for a page: nothing in it acts, and what cannot be seen is shown."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

__all__ = ["markdown", "visible"]

_LONGEST = 200_000
"""Characters of one text that a page shows."""

# Lines of a text may break and be indented; other control characters, and those that turn the direction of text around
# or take no room, could make it look like something else.
_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(value: Any) -> Any:
    """Show invisible characters of a text as escapes, and cut it if it is huge; other values stay as they are."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    cut = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}… [{len(value) - _LONGEST:,} characters more]"
    return _SUSPECT.sub(_escape, cut)


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return f"[{unicodedata.name(char, '') or f'U+{ord(char):04X}'}]" if char > "\x9f" else f"\\x{ord(char):02x}"


def _renderer() -> MarkdownIt:
    # HTML in the text is shown as text. Images would be fetched from elsewhere, so they stay links.
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")


_MARKDOWN = _renderer()


def markdown(text: str) -> Markup:
    """Render Markdown from a log. Only http and https links are links; nothing else in it leads anywhere."""
    tokens = _MARKDOWN.parse(visible(text))
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                address = str(child.attrs.get("href", ""))
                if address.lower().startswith(("https://", "http://")):
                    child.attrs |= {"rel": "noopener noreferrer nofollow", "target": "_blank"}
                else:
                    child.attrs.pop("href", None)
    # The renderer escapes everything that comes from the text.
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704
