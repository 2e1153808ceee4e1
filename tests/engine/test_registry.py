"""The runs of this process: which are active, and which have ended."""

import threading

from jupyter_flows import checkpoint, flow
from jupyter_flows.engine import registry


def test_who_was_told_of_an_end_finds_no_active_run(monkeypatch, until):
    """A run whose end was told to who waits for it is not active, whoever else is still told."""

    @flow
    def endless():
        begun.set()
        while True:
            checkpoint()

    def move_late(run):
        moving.set()
        assert go_on.wait(20)
        move(run)
        moved.set()

    begun, moving, go_on, moved = (threading.Event() for _ in range(4))
    move = registry._move
    monkeypatch.setattr(registry, "_move", move_late)
    run = endless.start()
    assert begun.wait(20)
    assert registry.active() == [run]
    run.cancel()
    assert moving.wait(20)
    run.announce()  # as another thread does that gives it up meanwhile
    run.wait(20)
    assert registry.active() == []
    assert registry.find(run.id) is run
    assert registry.known()[0] is run
    go_on.set()
    assert moved.wait(20)
    assert registry.find(run.id) is run
