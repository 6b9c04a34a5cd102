"""Links into PostHog's web app."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

__all__ = ["trace_url"]

_WEB_HOSTS = {"us.i.posthog.com": "us.posthog.com", "eu.i.posthog.com": "eu.posthog.com"}


def trace_url(host: str, trace: str) -> str:
    """Return the URL of a trace in PostHog's web app.

    The URL names no project, because the project's number cannot be derived from its key. PostHog uses the project that
    is open in the browser.

    Args:
        host: the ingestion host, as `scheme://name[:port]`. A self-hosted PostHog serves the web app
            there, too.
        trace: the trace's id.
    """
    parts = urlsplit(host)
    # Only PostHog's own ingestion hosts differ from the host of the web app.
    web = f"https://{_WEB_HOSTS[parts.netloc]}" if parts.netloc in _WEB_HOSTS else host
    return f"{web}/llm-analytics/traces/{quote(trace, safe='')}"
