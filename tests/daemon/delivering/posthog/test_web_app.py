"""Links to traces in PostHog's web app."""

from __future__ import annotations

import pytest

from daemon.delivering.posthog.web_app import key_url, session_url, trace_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://us.i.posthog.com", "https://us.posthog.com/llm-analytics/traces/a%2Fb"),
        ("https://eu.i.posthog.com", "https://eu.posthog.com/llm-analytics/traces/a%2Fb"),
        ("https://posthog.example.com:8443", "https://posthog.example.com:8443/llm-analytics/traces/a%2Fb"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/llm-analytics/traces/a%2Fb"),
    ],
)
def test_the_app_stands_beside_the_receiver(host: str, url: str) -> None:
    assert trace_url(host, "a/b") == url


def test_a_session_and_the_page_with_the_key_have_addresses_too() -> None:
    assert session_url("https://eu.i.posthog.com", "a/b") == "https://eu.posthog.com/llm-analytics/sessions/a%2Fb"
    assert key_url("https://us.i.posthog.com") == "https://us.posthog.com/settings/project#variables"
    assert key_url("https://posthog.example.com:8000") == "https://posthog.example.com:8000/settings/project#variables"
