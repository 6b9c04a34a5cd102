"""`verify`: compare what PostHog holds with what was sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from daemon.cli.message import document, say
from daemon.cli.meter import Meter
from daemon.cli.moment import Moment
from daemon.cli.private import asking, personal_key
from daemon.cli.startup import capture_sinks, config_errors, fail, load_settings, log_options, session_options
from daemon.config.table import APP_NAME
from daemon.history.history import Selection
from daemon.system.figures import count, dollars
from daemon.system.messages import escaped, system_reason

if TYPE_CHECKING:
    from daemon.cli.backfill import MakeSink
    from daemon.config.settings import Settings
    from daemon.state.verification import Verification
    from daemon.verifying.comparison import ModelTotals, SessionResult
    from daemon.verifying.verification import Report, Verifier

__all__ = ["lines", "verify"]

_DAY = 86_400.0
_DAYS = 7
_SHOWN_VALUES = 6
_SHOWN_SESSIONS = 20
"""If there are no more sessions than this, each is shown. Of more, only those that are not equal."""


@click.command("verify")
@click.option(
    "--since",
    type=Moment(),
    help="Only sessions that ended at or after this time: 2026-11-20, 2026-11-20T14:00, or 7d for seven days ago.  "
    f"[default: {_DAYS}d, unless --session is given]",
)
@session_options
@click.option("--all", "shows_all", is_flag=True, help="Show each session, however many are equal.")
@click.option("--send-missing", is_flag=True, help="Send the missing events again, under the same ids.")
@click.option("--explain", is_flag=True, help="Print the queries instead of asking PostHog.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@log_options
def verify(
    *,
    since: float | None,
    projects: tuple[str, ...],
    sessions: tuple[str, ...],
    shows_all: bool,
    send_missing: bool,
    explain: bool,
    as_json: bool,
    log_format: str | None,
    log_level: str,
) -> None:
    """Ask PostHog which events it holds, and compare them with the logs and with what was sent.

    Needs a personal API key with the scopes query:read and project:read; `login --personal-key-stdin` stores one.

    Events younger than ten minutes are not judged. Exits with 0 if nothing is missing, and with 1 if something is, or
    if PostHog cannot be asked about a session.
    """
    if explain and (send_missing or as_json):
        raise click.UsageError("--explain asks nothing, so it goes with neither --send-missing nor --json")
    settings = load_settings({}, log_format=log_format, log_level=log_level)
    from daemon.verifying.verification import VerificationError, Verifier

    make_sink = None
    if send_missing:
        with config_errors():
            make_sink = capture_sinks(settings)
    now = time.time()
    if since is None and not sessions:
        since = now - _DAYS * _DAY
    try:
        verifier = Verifier(settings, Selection(since=since, projects=projects, sessions=sessions), now)
        if explain:
            _explain(verifier)
            return
        report = _ask(verifier, settings, as_json=as_json)
    except VerificationError as error:
        raise fail(str(error)) from None
    summary = report.summary(now)
    _store(settings, summary)
    if as_json:
        click.echo(document(_document(report, summary), indent=2))
    else:
        for line in lines(report, summary, shows_all=shows_all):
            say(line)
    for note in report.notes:
        say(f"note: {note}", err=True)
    if not summary.missing and not summary.nowhere:
        return
    if report.gone:
        what = count(report.gone, "missing event")
        say(f"{what} cannot be sent again: recorded by a program, and in no session's log", err=True)
    if report.sendable and make_sink is not None:
        _send(verifier, settings, report, summary, make_sink)
    elif report.sendable and not as_json:
        say(f"`{APP_NAME} verify --send-missing` sends the missing events again", err=True)
    raise click.exceptions.Exit(1)


def _ask(verifier: Verifier, settings: Settings, *, as_json: bool) -> Report:
    """Ask PostHog.

    Raises:
        click.exceptions.Exit: there is no personal key, or PostHog does not answer.
    """
    key = personal_key(settings, verifier.host, "query:read and project:read")
    with (
        asking(verifier.host, key) as app,
        Meter("reading", verifier.size, shown=not as_json) as meter,
    ):
        return verifier.verify(app, meter.show)


def _explain(verifier: Verifier) -> None:
    say(f"-- {verifier.host}/api/projects/PROJECT/query/", err=True)
    asked = 0
    for question in verifier.explain(lambda _read: None):
        asked += 1
        for name, value in question.values.items():
            click.echo(escaped(f"-- {name}: {_shown(value)}"))
        click.echo(f"{question.text.strip()}\n")
    if not asked:
        say("no session of these has an event, so nothing is asked", err=True)


def _shown(value: str | int | Sequence[str]) -> str:
    """Return a value of a query; of a long list the first items, and how many there are."""
    if isinstance(value, str | int) or len(value) <= _SHOWN_VALUES:
        return document(value)
    first = ", ".join(document(each) for each in value[:_SHOWN_VALUES])
    return f"[{first}, and {len(value) - _SHOWN_VALUES:,} more]"


def _store(settings: Settings, found: Verification, sent_again: Iterable[str] = ()) -> None:
    """Keep the result for `status`, and when missing events were sent again.

    A machine on which nothing was ever sent has no state directory to keep it in.
    """
    from daemon.state.verification import read_sent_again, write_verification
    from daemon.verifying.comparison import YOUNG_SECONDS

    if not settings.state_dir.is_dir():
        return
    now = time.time()
    before = read_sent_again(settings.state_dir).items()
    again = {uuid: at for uuid, at in before if at > now - YOUNG_SECONDS} | dict.fromkeys(sent_again, now)
    try:
        write_verification(settings.state_dir, found, again)
    except OSError as error:
        say(f"warning: the result cannot be kept in {settings.state_dir} ({system_reason(error)})", err=True)


def _send(verifier: Verifier, settings: Settings, report: Report, summary: Verification, make_sink: MakeSink) -> None:
    """Send the missing events again, by the daemon if one runs, else from this process.

    Raises:
        click.exceptions.Exit: with 1: not everything could be sent.
    """
    from daemon.cli.backfill import backfill_errors, send
    from daemon.history.backfill_job import BackfillJob

    missing = report.sendable
    names = {session.session for session in report.sessions if session.missing}
    chosen = [each for each in verifier.sessions if each.files.session in names]
    with backfill_errors():
        send(BackfillJob(settings, verifier.history, chosen, lost=missing), settings, make_sink, beside=True)
    _store(settings, summary, missing)
    say(f"`{APP_NAME} verify` in ten minutes shows whether they have arrived", err=True)


# ---------------------------------------------------------------------- words


def lines(report: Report, summary: Verification, *, shows_all: bool) -> Iterator[str]:
    """Yield the lines that say what was found.

    Args:
        report: what was found.
        summary: the same in numbers.
        shows_all: whether each session has a line, however many there are.
    """
    if not report.sessions:
        yield "no session of these has an event"
        return
    yield from _session_lines(report.sessions, shows_all=shows_all or len(report.sessions) <= _SHOWN_SESSIONS)
    others = len(report.sessions) - summary.sessions
    yield ""
    yield f"{count(summary.sessions, 'session')}: {summary.equal:,} equal, {summary.sessions - summary.equal:,} not" + (
        f"; {others:,} not compared" if others else ""
    )
    parts = [count(summary.events, "event"), f"{summary.missing:,} missing", f"{summary.extra:,} extra"]
    parts.append(f"{summary.doubled:,} held twice")
    unsent = sum(session.unsent for session in report.sessions)
    parts += [f"{number:,} {words}" for number, words in ((summary.not_yet, "not yet"), (unsent, "not sent")) if number]
    yield ", ".join(parts)
    for model, totals in sorted(report.models.items()):
        yield f"{model}: {_amounts(totals)}"


def _session_lines(sessions: Sequence[SessionResult], *, shows_all: bool) -> Iterator[str]:
    reasons: Counter[str] = Counter()
    left = 0
    for session in sessions:
        if shows_all or not (session.is_equal or session.unknown):
            yield f"{session.session} {session.project or ''}".rstrip() + f": {_words(session)}"
        elif session.unknown:
            reasons[session.unknown] += 1
        else:
            left += 1
    for reason, number in reasons.items():
        yield f"{count(number, 'session')} not compared: {reason}"
    if left:
        yield f"{count(left, 'session')} without a difference; `{APP_NAME} verify --all` shows each"


def _words(found: SessionResult) -> str:
    """Return the result of a session in words."""
    if found.unknown is not None:
        return f"not compared: {found.unknown}"
    parts: list[str] = []
    if found.missing:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(found.missing_kinds.items()))
        refused = f"; {found.refused:,} of them refused, see `{APP_NAME} status --rejected`" if found.refused else ""
        parts.append(f"missing {len(found.missing):,} of {found.events:,} ({kinds}{refused})")
    for number, words in (
        (found.extra, "extra {}"),
        (found.doubled, "held twice {}"),
        (found.traces_without_events, "traces without events {}"),
        (found.events_without_trace, "events without their trace {}"),
    ):
        if number:
            parts.append(words.format(f"{number:,}"))
    for model, more in sorted(found.tokens_differ.items()):
        parts.append(f"tokens of {model} differ by {more:+,}")
    if found.cost_differs:
        sign = "+" if found.cost_differs > 0 else "-"
        parts.append(f"cost differs by {sign}{dollars(abs(found.cost_differs))}")
    if not parts and (found.held or not (found.not_yet or found.unsent or found.expired)):
        parts.append(f"equal, {count(found.held, 'event')}")
    for number, words in (
        (found.not_yet, "{} not yet"),
        (found.unsent, "{} not sent"),
        (found.expired, "{} older than PostHog keeps them"),
    ):
        if number:
            parts.append(words.format(f"{number:,}"))
    return "; ".join(parts)


def _amounts(totals: ModelTotals) -> str:
    sent, held = sum(totals.sent.tokens), sum(totals.held.tokens)
    differs = "" if totals.sent.tokens == totals.held.tokens else f", PostHog has {held:,}"
    cost = f"{dollars(totals.sent.dollars)} at list prices, PostHog says {dollars(totals.held.dollars)}"
    return f"{sent:,} tokens{differs}; {cost}"


def _document(report: Report, summary: Verification) -> Mapping[str, Any]:
    return {
        **msgspec.to_builtins(summary),
        "by_session": [
            {
                "equal": session.is_equal,
                **{name: value for name, value in msgspec.to_builtins(session).items() if name != "models"},
            }
            for session in report.sessions
        ],
        "by_model": {model: msgspec.to_builtins(totals) for model, totals in sorted(report.models.items())},
        "notes": report.notes,
    }
