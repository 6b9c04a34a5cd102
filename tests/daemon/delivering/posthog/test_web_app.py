"""Links to traces in PostHog's web app."""

from __future__ import annotations

import pytest

from daemon.delivering.posthog.web_app import trace_url


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
