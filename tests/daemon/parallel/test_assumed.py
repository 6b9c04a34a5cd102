"""What a worker assumed, applied to the true claims."""

from __future__ import annotations

from daemon.parallel.assumed import AssumedClaims, apply
from daemon.reading.claims import Claims


def test_a_copy_of_what_is_settled_meanwhile_does_not_begin_it_again() -> None:
    worker, claims = AssumedClaims(), Claims()
    worker.meet("message", "original", b"sum")
    worker.take("message", "original", b"sum")
    apply(claims, worker.facts(), "original")
    claims.release("message")

    # The fork begins the message, too, and then it is found to be a copy.
    worker.meet("message", "fork", b"sum")
    worker.pass_over("message", "fork")
    apply(claims, worker.facts(), "fork")
    assert claims.met("message") is None


def test_a_message_that_a_worker_begins_is_begun_for_its_session() -> None:
    worker, claims = AssumedClaims(), Claims()
    worker.meet("message", "original", b"sum")
    apply(claims, worker.facts(), "original")
    assert claims.met("message") == ("original", b"sum")
