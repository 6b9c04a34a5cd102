"""Checks of PostHog: whether it can be reached, whether its clock agrees, and whether it knows the key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from daemon.checks import Finding, failure, fine, warning
from daemon.config.settings import Secret, Settings
from daemon.config.table import APP_NAME
from daemon.delivering.posthog.probe import Answer, PostHog, ProxyUnusableError, proxy_for
from daemon.state import layout
from daemon.state.store import StoreError, read_store
from daemon.state.verification import read_verification
from daemon.system.figures import count

__all__ = ["check_arrival", "check_receivers", "check_rejected"]

_BAD_REQUEST = 400
_UNAUTHORIZED = 401
_PROXY_AUTHENTICATION = 407

# Events carry the times of the logs. A minute is a visible error; PostHog replaces times from tomorrow with now.
_SKEW_WARNING = 60.0
_SKEW_FAILURE = 3600.0


def check_receivers(settings: Settings, *, pause: float = 1.0) -> Iterator[Finding]:
    """Check every PostHog host that the user's own configuration sends to, without sending an event.

    Args:
        settings: the settings. Without a key in them, no host is asked.
        pause: seconds before a second attempt.
    """
    for host, key in dict.fromkeys(settings.pairs()):
        yield from _check_receiver(host, key, pause)


def check_rejected(state_dir: Path) -> Iterator[Finding]:
    """Check whether events are set aside that PostHog refused. Yield nothing where no store can be read.

    Args:
        state_dir: the state directory.
    """
    try:
        with read_store(state_dir) as store:
            if store is None:
                return
            number = len(store.rejected())
    except (StoreError, sqlite3.Error):
        # `status` says what is wrong with it.
        return
    if number:
        yield warning(
            "rejected events",
            f"PostHog refused {number:,} event{'' if number == 1 else 's'}",
            f"`{APP_NAME} status --rejected` gives the reasons, `{APP_NAME} backfill --rejected` sends them again",
        )
    else:
        yield fine("rejected events", "none")


def check_arrival(settings: Settings) -> Iterator[Finding]:
    """Say how the last verification went, or how to run one. Yield nothing before anything was sent.

    Args:
        settings: the settings.
    """
    if not (settings.state_dir / layout.STORE).is_file():
        return
    found = read_verification(settings.state_dir)
    how = f"`{APP_NAME} verify` compares what PostHog holds with what was sent"
    if found is not None and found.missing:
        yield warning(
            "arrival",
            f"{found.missing:,} of {found.events:,} events were missing in PostHog ({found.at})",
            f"{how}; with --send-missing it sends what is missing again",
        )
    elif found is not None and found.nowhere:
        yield warning(
            "arrival",
            f"{count(found.nowhere, 'session')} went to no project that the personal key can see ({found.at})",
            f"`{APP_NAME} verify` shows which key they were sent with",
        )
    elif found is not None:
        yield fine("arrival", f"nothing was missing in PostHog ({found.at}); {how}")
    elif settings.personal_api_key is not None:
        yield fine("arrival", f"never verified; {how}")
    else:
        yield fine(
            "arrival",
            f"never verified; {how}, with a personal key that `{APP_NAME} login --personal-key-stdin` stores",
        )


def _check_receiver(host: str, key: Secret, pause: float) -> Iterator[Finding]:
    try:
        with PostHog(host, pause=pause) as posthog:
            path, answer = posthog.ask_capture(key)
            yield _judge_capture(host, path, answer)
            if answer.status is None:
                # Clock and key cannot be checked for the same reason.
                return
            yield _judge_clock(answer)
            verdict, answer = posthog.judge_key(key)
    except ProxyUnusableError as error:
        yield failure("capture", str(error), "correct HTTPS_PROXY or ALL_PROXY")
        return
    if verdict == "accepted":
        yield fine("key accepted", f"{host} knows {key.masked()}")
    elif verdict == "unknown":
        yield failure(
            "key accepted",
            f"{host} has no project with the key {key.masked()}, and silently drops its events",
            f"copy the key from the project's settings, check the region (us or eu), and run `{APP_NAME} login`",
        )
    else:
        said = answer.reason or f"it answered {answer.status}"
        yield warning(
            "key accepted",
            f"{host} does not tell ({said})",
            "check that the first trace arrives in PostHog",
        )


def _judge_capture(host: str, path: str, answer: Answer) -> Finding:
    proxy = proxy_for(host)
    way = f" through the proxy {proxy}" if proxy else ""
    if answer.status == _BAD_REQUEST and "<" not in answer.body:
        secure = ", TLS verified" if host.startswith("https:") else ""
        return fine("capture", f"{host}{path} answers{way}{secure}")
    if answer.status is None:
        hint = "check POSTHOG_HOST, the network and HTTPS_PROXY"
        if "CERTIFICATE" in answer.reason.upper():
            hint = "add your company's certificate authority to the system's trust store"
        return failure("capture", f"{host} cannot be reached{way} ({answer.reason})", hint)
    hint = {
        _UNAUTHORIZED: "POSTHOG_API_KEY must be a project key, which begins with phc_",
        _PROXY_AUTHENTICATION: "the proxy asks for a user and a password: put them in HTTPS_PROXY",
    }.get(answer.status, "check POSTHOG_HOST: it must be a PostHog ingestion host, not behind a login or a portal")
    return failure("capture", f"{host}{path} answers with {answer.status}{way}", hint)


def _judge_clock(answer: Answer) -> Finding:
    if answer.ahead is None:
        return warning("clock", "not checked: the server sends no time", "compare this machine's clock yourself")
    seconds = abs(answer.ahead)
    words = f"this machine's clock is {seconds:.0f} s {'ahead of' if answer.ahead > 0 else 'behind'} PostHog's"
    hint = "set it from the network (timedatectl set-ntp true): events carry its times"
    if seconds >= _SKEW_FAILURE:
        return failure("clock", words, hint)
    if seconds >= _SKEW_WARNING:
        return warning("clock", words, hint)
    return fine("clock", "agrees with PostHog's")
