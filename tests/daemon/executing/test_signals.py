"""Signals are handed over; none ends the process meanwhile, and none stays blocked afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the event loop's own way is taken")

_BEGIN = """
import asyncio, os, signal
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM
from daemon.executing.signals import Signals
from tests.support.waiting import PATIENCE

heard = []

def hear(number, by_terminal):
    heard.append((number.name, by_terminal))

def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

async def until(holds):
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.001)

def blocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())

async def main():
"""


def run(body: str) -> str:
    """Run *body* in its own process, which must end by itself, and return its output."""
    script = _BEGIN + "".join(f"    {line}\n" for line in body.strip().splitlines()) + "\nasyncio.run(main())\n"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_signals_that_arrived_early_are_handed_over_once() -> None:
    said = run("""
with Signals() as signals:
    assert signals.first is None
    send(SIGTERM)
    await until(lambda: signals.first is not None)
    assert signals.first == SIGTERM
    signals.tell_to(hear)
    assert signals.first is None
    signals.tell_to(hear)
    send(SIGINT)
    await until(lambda: len(heard) > 1)
    print(heard)
""")
    assert said == "[('SIGTERM', False), ('SIGINT', False)]\n"


def test_ignored_signals_stay_ignored() -> None:
    said = run("""
signal.signal(SIGINT, signal.SIG_IGN)
with Signals() as signals:
    signals.tell_to(hear)
    send(SIGINT, SIGTERM)
    await until(lambda: heard)
send(SIGINT)
print(heard)
""")
    assert said == "[('SIGTERM', False)]\n"


def test_nothing_is_received_if_all_signals_are_ignored() -> None:
    run("""
for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM):
    signal.signal(number, signal.SIG_IGN)
with Signals():
    send(SIGTERM)
""")


def test_a_signal_at_the_very_end_does_not_end_the_process() -> None:
    run("""
with Signals():
    send(SIGTERM, SIGHUP, SIGQUIT)
""")


def test_after_the_context_signals_have_their_old_effect() -> None:
    run("""
before = blocked()
with Signals():
    assert blocked() == before | {SIGHUP, SIGINT, SIGQUIT, SIGTERM}
assert blocked() == before
""")
