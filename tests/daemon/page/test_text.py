"""Text from logs acts nowhere on the page, and what cannot be seen is shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.page.text import markdown, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\tcode", "plain\n\tcode"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a[RIGHT-TO-LEFT OVERRIDE]b"),
        ("a\u200bb", "a[ZERO WIDTH SPACE]b"),
        ("\x00\x9b", "\\x00\\x9b"),
        ("Grüße, 木", "Grüße, 木"),
    ],
)
def test_invisible_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_huge_text_is_cut_and_says_so() -> None:
    cut = visible("x" * 1_000_000)
    assert len(cut) < 201_000
    assert cut.endswith("[800,000 characters more]")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](data:text/html,<script>alert(1)</script>)",
        "[click](vbscript:x)",
        "[click](/sessions)",
        "[click](//evil.example/x)",
        "<javascript:alert(1)>",
        "![x](https://evil.example/pixel.png)",
        '[x](https://a.example/" onmouseover="alert(1))',
        "```html\n<script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\n```',
        "<svg/onload=alert(1)>",
    ],
)
def test_nothing_in_markdown_acts(text: str) -> None:
    html = str(markdown(text))
    assert not re.search(r"<(script|img|svg|iframe|object|embed|style|link|base|form)\b", html, re.IGNORECASE)
    for tag in re.findall(r"<[a-z][^>]*>", html):
        assert not re.search(r"\son\w+\s*=", re.sub(r'"[^"]*"', '""', tag))
        for address in re.findall(r'href="([^"]*)"', tag):
            assert address.startswith("https://")


def test_links_lead_out_safely() -> None:
    html = markdown("See [the docs](https://docs.example/a?b=1&c=2).")
    assert 'href="https://docs.example/a?b=1&amp;c=2"' in html
    assert 'rel="noopener noreferrer nofollow"' in html


def test_markdown_is_rendered() -> None:
    html = markdown("# Title\n\n- *one*\n\n`code`\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    for tag in ("<h1>", "<li>", "<em>", "<code>", "<table>"):
        assert tag in html


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    allowed = re.compile(r"</?(?:p|em|strong|code|pre|ul|ol|li|h[1-6]|blockquote|hr|br|a|table|thead|tbody|tr|th|td)\b")
    for tag in re.findall(r"</?[a-zA-Z][^>]*>", str(markdown(text))):
        assert allowed.match(tag)
