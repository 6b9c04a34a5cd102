from __future__ import annotations

import gc

import pytest

from daemon.system import collector


def fail_in_a_pause() -> None:
    with collector.paused():
        assert not gc.isenabled()
        with collector.paused():
            pass
        assert not gc.isenabled()
        raise LookupError


def test_a_pause_of_the_collector_ends_as_it_began() -> None:
    assert gc.isenabled()
    with pytest.raises(LookupError):
        fail_in_a_pause()
    assert gc.isenabled()
