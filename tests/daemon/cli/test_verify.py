"""What `verify` prints of a result. `tests/daemon/verifying` asks a real ClickHouse."""

from __future__ import annotations

from collections import Counter

from daemon.cli.verify import lines
from daemon.verifying.comparison import SessionResult
from daemon.verifying.verification import Report


def shown(report: Report, *, shows_all: bool = False) -> list[str]:
    said = [*lines(report, report.summary(0.0), shows_all=shows_all)]
    return said[: said.index("")]


def equal(number: int) -> SessionResult:
    return SessionResult(session=f"s-{number}", project="/home/ada/orchard", events=5, held=5)


def test_of_many_sessions_those_are_listed_that_are_not_equal() -> None:
    few = Report(host="h", sessions=[equal(number) for number in range(20)])
    assert shown(few)[19:] == ["s-19 /home/ada/orchard: equal, 5 events"]

    lost = SessionResult(session="lost", project=None, events=2, held=1, missing=["u"], missing_kinds=Counter("k"))
    waits = [SessionResult(session=f"w-{number}", project=None, unknown="waits for you") for number in range(2)]
    many = Report(host="h", sessions=[*few.sessions, lost, *waits, SessionResult(session="x", project=None, unsent=3)])
    assert shown(many) == [
        "lost: missing 1 of 2 (1 k)",
        "2 sessions not compared: waits for you",
        "21 sessions without a difference; `posthog-llma-daemon verify --all` shows each",
    ]
    every = shown(many, shows_all=True)
    assert len(every) == 24
    assert every[-2:] == ["w-1: not compared: waits for you", "x: 3 not sent"]
