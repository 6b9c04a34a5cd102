"""Pages in HTML and XML in an error become words."""

from __future__ import annotations

import time

import pytest

from llma_core.claude_code.records import api_error_words
from llma_core.markup import words

CASES = {
    "no page, but a < b and c > d": "no page, but a < b and c > d",
    "<html><head><title>502 Bad Gateway</title></head><body>x</body></html>": "502 Bad Gateway",
    "<!DOCTYPE html>\n<html lang='en'><TITLE>\n Access &amp; denied </TITLE>": "Access & denied",
    "<html><body><script>let a = '<b>'</script><style>p {x: y}</style><h1>Gone</h1><p>away": "Gone",
    "<html><body><script>hidden</script><p>Try <b>later</b></p><style>open": "Try later",
    "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No</Message></Error>": "AccessDenied No",
    "API Error: 502 <html><title>502 Bad Gateway</title></html> (tried 3 times)": (
        "API Error: 502 Bad Gateway (tried 3 times)"
    ),
    "<html></html>": "",
}


@pytest.mark.parametrize(("text", "said"), CASES.items())
def test_a_page_is_told_by_its_title_or_its_text(text: str, said: str) -> None:
    assert words(text) == said


def test_a_permanent_error_says_in_words_what_a_page_says() -> None:
    page = "<html><head><style>h1 {color: red}</style><title>403 Forbidden</title></head></html>"

    assert api_error_words(f"API Error: 403 {page}") == "API Error: 403 Forbidden"


@pytest.mark.parametrize("piece", ["<html>", "<script", "<html><script><", "<title", "&lt;", "</html>"])
def test_the_time_grows_no_faster_than_the_text(piece: str) -> None:
    began = time.process_time()
    words("<html>" + piece * (2_000_000 // len(piece)))

    assert time.process_time() - began < 5
