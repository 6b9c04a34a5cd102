"""PostHog's web app: where people look at what was sent."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

__all__ = ["trace_url"]

_WEB_HOSTS = {"us.i.posthog.com": "us.posthog.com", "eu.i.posthog.com": "eu.posthog.com"}


def trace_url(host: str, trace: str) -> str:
    """Return where PostHog shows a trace.

    No project is named in it, as a project's key does not tell its number: PostHog takes the current one.

    Args:
        host: the ingestion host, as `scheme://name[:port]`; who runs PostHog has the app at the same.
        trace: the trace's id.
    """
    parts = urlsplit(host)
    # Sub-domains of ingestion are PostHog's own; nobody else's host is changed.
    web = f"https://{_WEB_HOSTS[parts.netloc]}" if parts.netloc in _WEB_HOSTS else host
    return f"{web}/llm-analytics/traces/{quote(trace, safe='')}"
