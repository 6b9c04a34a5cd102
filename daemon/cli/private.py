"""What the verbs share that ask PostHog's private API: the personal key, and errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daemon.cli.message import say
from daemon.cli.startup import CONFIGURATION, fail
from daemon.config.table import APP_NAME

if TYPE_CHECKING:
    from daemon.config.settings import Settings
    from daemon.system.secret import Secret
    from daemon.verifying.app import App

__all__ = ["asking", "personal_key"]


def personal_key(settings: Settings, host: str, scopes: str) -> Secret:
    """Return the user's personal key.

    Args:
        settings: the settings in force.
        host: PostHog's web app.
        scopes: what the key has to be allowed, in words.

    Raises:
        click.exceptions.Exit: with 78: there is none.
    """
    from daemon.delivering.posthog.web_app import personal_key_url

    if settings.personal_api_key is None:
        raise fail(
            f"there is no POSTHOG_PERSONAL_API_KEY: create a personal API key with the scopes {scopes} at "
            f"{personal_key_url(host)} and run `{APP_NAME} login --personal-key-stdin`",
            CONFIGURATION,
        )
    return settings.personal_api_key


@contextmanager
def asking(host: str, key: Secret) -> Iterator[App]:
    """Yield PostHog's private API. Long waits are told.

    Raises:
        click.exceptions.Exit: with 1: PostHog does not answer.
    """
    from daemon.verifying.app import App, AppError, Pace

    def tell(seconds: float, reason: str) -> None:
        say(f"note: waiting {seconds:,.0f} s: {reason}", err=True)

    try:
        with App(host, key, pace=Pace(tell=tell)) as app:
            yield app
    except AppError as error:
        raise fail(str(error)) from None
