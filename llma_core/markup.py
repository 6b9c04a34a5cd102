"""Says in words what a page in HTML or XML says, which a proxy answers with instead of the provider."""

from __future__ import annotations

import html
import re

__all__ = ["words"]

_LOOKED_AT = 20_000
"""Number of characters of a page that are looked at. Its title comes first."""

_PAGE = re.compile(r"<(?:!doctype\s|html[\s>]|head[\s>]|body[\s>]|\?xml\s)", re.IGNORECASE)
_END = "</html>"
_TAG = re.compile(r"<[^<>]*>")
_UNSEEN = ("script", "style")
_TELLING = ("title", "h1")


def words(text: str) -> str:
    """Return *text* with a page in it replaced by the page's title, or by its text if it has none.

    It takes linear time, whatever the text.
    """
    found = _PAGE.search(text)
    if found is None:
        return text
    page, ended, rest = text[found.start() :].partition(_END)
    page = page[:_LOOKED_AT]
    told = next((said for tag in _TELLING if (said := _plain(_inside(page, tag)))), None) or _plain(_seen(page))
    head = text[: found.start()].strip()
    # A title repeats the status that the client puts before the page.
    repeated = head.rpartition(" ")[2] + " "
    told = told.removeprefix(repeated) if head else told
    return " ".join(part for part in (head, told, rest.strip() if ended else "") if part)


def _inside(page: str, tag: str) -> str:
    """Return what stands in the first *tag* of a page; "" if it has none."""
    low = page.lower()
    start = low.find(f"<{tag}")
    opened = low.find(">", start) + 1 if start >= 0 else 0
    closed = low.find(f"</{tag}", opened)
    return page[opened:closed] if opened and closed >= 0 else ""


def _seen(page: str) -> str:
    """Return a page without its scripts and styles."""
    for tag in _UNSEEN:
        low = page.lower()
        kept: list[str] = []
        at = 0
        while (start := low.find(f"<{tag}", at)) >= 0:
            kept.append(page[at:start])
            end = low.find(f"</{tag}", start)
            at = end if end >= 0 else len(page)
        page = "".join([*kept, page[at:]])
    return page


def _plain(markup: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", markup)).split())
