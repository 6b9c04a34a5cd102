from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable

import pytest

from daemon.running.notify import Notifier, watchdog_interval
from tests.support.waiting import PATIENCE


def notifier() -> Notifier:
    # The name is used as given; a service manager gives an absolute path.
    return Notifier({"NOTIFY_SOCKET": "notify"})


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda n: n.ready(), b"READY=1"),
        (lambda n: n.ready("following 3 files"), b"READY=1\nSTATUS=following 3 files"),
        (lambda n: n.status("two\nlines\tand  blanks"), b"STATUS=two lines and blanks"),
        (lambda n: n.status("x" * 1000), b"STATUS=" + b"x" * 200),
        (lambda n: n.status("\udcff"), b"STATUS=?"),
        (lambda n: n.stopping(), b"STOPPING=1"),
        (lambda n: n.watchdog(), b"WATCHDOG=1"),
        (lambda n: n.extend_timeout(10.5), b"EXTEND_TIMEOUT_USEC=10500000"),
    ],
)
def test_each_notification_is_one_datagram(
    manager: socket.socket, say: Callable[[Notifier], bool], said: bytes
) -> None:
    assert say(notifier())
    assert manager.recv(4096) == said


def test_reloading_carries_the_monotonic_clock(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    assert notifier().reloading()
    word, _, clock = manager.recv(4096).partition(b"\n")

    assert word == b"RELOADING=1"
    assert clock.startswith(b"MONOTONIC_USEC=")
    assert before <= int(clock.partition(b"=")[2]) <= time.monotonic_ns() // 1000


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_socket_name_works() -> None:
    name = f"posthog-llma-daemon-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(PATIENCE)

        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(4096) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str]) -> None:
    assert not Notifier(environ).ready()


@pytest.mark.parametrize("address", ["/nowhere/at/all", "/" + "x" * 500, "/a\0b"])
def test_a_missing_socket_is_not_an_error(address: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": address}).watchdog()


def test_a_manager_that_does_not_read_is_not_an_error(manager: socket.socket) -> None:
    speaker = notifier()

    # However long the system's queue is, it is full after some number of messages.
    assert any(not speaker.status("x") for _ in range(10_000))
    assert manager.recv(4096) == b"STATUS=x"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval(environ) == seconds
