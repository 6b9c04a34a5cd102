"""The backlog: the order it is read in, and what it says of how far it is."""

from __future__ import annotations

from daemon.history.backlog import Backlog


def test_sessions_come_in_their_order_until_the_reading_of_all_has_ended() -> None:
    backlog = Backlog({"b": 1, "a": 2})
    assert backlog.next == "b"
    backlog.finish("b")
    assert backlog.next == "a"
    assert "b" in backlog
    backlog.finish("a", "held")
    assert backlog.next is None
    assert backlog


def test_an_empty_one_holds_nothing_and_takes_nothing() -> None:
    backlog = Backlog()
    backlog.read("a", 5)
    backlog.finish("a")
    backlog.settle("a", "delivered")
    assert not backlog
    assert backlog.headway().is_whole
    assert backlog.headway().sent == 0


def test_headway_counts_what_is_done_and_what_is_begun() -> None:
    backlog = Backlog({"a": 100, "b": 50, "c": 7})
    backlog.read("a", 30)
    assert backlog.headway().bytes_done == 30
    backlog.read("a", 120)
    assert backlog.headway().bytes_done == 100, "a log that has grown counts as what it was measured"
    backlog.finish("a")
    backlog.finish("a", "missing")
    backlog.read("a", 3)
    backlog.finish("b", "stopped")
    backlog.settle("a", "delivered")
    backlog.settle("b", "rejected")
    backlog.settle("other", "delivered")
    backlog.settle(None, "delivered")
    headway = backlog.headway()
    assert (headway.sessions, headway.sessions_done, headway.stopped, headway.missing) == (3, 2, 1, 0)
    assert (headway.bytes, headway.bytes_done) == (157, 150)
    assert (headway.sent, headway.refused) == (1, 1)
    assert not headway.is_whole


def test_it_is_whole_when_every_session_was_read() -> None:
    backlog = Backlog({"a": 1})
    assert not backlog.headway().is_whole
    backlog.finish("a")
    assert backlog.headway().is_whole
