"""Links into PostHog's web app."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

__all__ = ["app_host", "key_url", "personal_key_url", "session_url", "trace_url", "traces_url"]

_WEB_HOSTS = {"us.i.posthog.com": "us.posthog.com", "eu.i.posthog.com": "eu.posthog.com"}


def traces_url(host: str) -> str:
    """Return the URL of the list of traces in PostHog's web app; see `trace_url`."""
    return trace_url(host, "").removesuffix("/")


def trace_url(host: str, trace: str) -> str:
    """Return the URL of a trace in PostHog's web app.

    The URL names no project, because the project's number cannot be derived from its key. PostHog uses the project that
    is open in the browser.

    Args:
        host: the ingestion host, as `scheme://name[:port]`. A self-hosted PostHog serves the web app
            there, too.
        trace: the trace's id.
    """
    return f"{app_host(host)}/llm-analytics/traces/{quote(trace, safe='')}"


def session_url(host: str, session: str) -> str:
    """Return the URL of a session, which lists its traces. It names no project, like that of a trace.

    Args:
        host: the ingestion host.
        session: the session's id.
    """
    return f"{app_host(host)}/llm-analytics/sessions/{quote(session, safe='')}"


def key_url(host: str) -> str:
    """Return the URL of the settings page that shows a project's API key.

    Args:
        host: the ingestion host.
    """
    return f"{app_host(host)}/settings/project#variables"


def personal_key_url(app: str) -> str:
    """Return the URL of the settings page that creates personal API keys.

    Args:
        app: the host of the web app.
    """
    return f"{app}/settings/user-api-keys"


def app_host(host: str) -> str:
    """Return the host of the web app that belongs to an ingestion host, both as `scheme://name[:port]`.

    Only PostHog's own ingestion hosts differ from it. What is behind a reverse proxy cannot be known.
    """
    name = urlsplit(host).netloc
    return f"https://{_WEB_HOSTS[name]}" if name in _WEB_HOSTS else host
