"""The backlog: the order of its sessions, and its progress."""

from __future__ import annotations

from daemon.history.backlog import Backlog


def test_sessions_are_next_in_their_order_until_reading_has_ended_for_all() -> None:
    backlog = Backlog({"b": 1, "a": 2})
    assert backlog.next == "b"
    backlog.finish("b")
    assert backlog.next == "a"
    assert "b" in backlog
    backlog.finish("a", "held")
    assert backlog.next is None
    assert backlog


def test_an_empty_backlog_ignores_every_session() -> None:
    backlog = Backlog()
    backlog.read("a", 5)
    backlog.finish("a")
    backlog.settle("a", "u", "delivered")
    assert not backlog
    assert backlog.headway().is_whole
    assert backlog.headway().sent == 0


def test_headway_counts_finished_and_begun_sessions() -> None:
    backlog = Backlog({"a": 100, "b": 50, "c": 7})
    backlog.read("a", 30)
    assert backlog.headway().bytes_done == 30
    backlog.read("a", 120)
    assert backlog.headway().bytes_done == 100, "a log that has grown counts with its measured size"
    backlog.finish("a")
    backlog.finish("a", "missing")
    backlog.read("a", 3)
    backlog.finish("b", "stopped")
    backlog.settle("a", "u", "delivered")
    backlog.settle("b", "v", "rejected")
    backlog.settle("b", "v", "superseded")
    backlog.settle("other", "w", "delivered")
    backlog.settle(None, "x", "delivered")
    headway = backlog.headway()
    assert (headway.sessions, headway.sessions_done, headway.stopped, headway.missing) == (3, 2, 1, 0)
    assert (headway.bytes, headway.bytes_done) == (157, 150)
    assert (headway.sent, headway.refused) == (1, 1)
    assert not headway.is_whole


def test_headway_is_whole_once_every_session_was_read() -> None:
    backlog = Backlog({"a": 1})
    assert not backlog.headway().is_whole
    backlog.finish("a")
    assert backlog.headway().is_whole


def test_only_the_chosen_rejected_events_count_and_each_is_sent_once() -> None:
    backlog = Backlog({"a": 100}, ["u", "v"])
    backlog.note_sent(["u", "live"])
    assert backlog.resends == {"v"}
    backlog.settle("a", "u", "delivered")
    backlog.settle("a", "live", "delivered")
    backlog.settle("a", "v", "rejected")
    assert (backlog.headway().sent, backlog.headway().refused) == (1, 1)
