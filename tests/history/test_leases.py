"""Slots of limits that several processes share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_flows.errors import StoreUnavailable
from jupyter_flows.history import Leases, Store, leases
from jupyter_flows.history.leases import LeaseStore
from jupyter_flows.history.processes import FRESH_SECONDS, SILENT_SECONDS

from .fakes import kernel_record
from .test_crashes import dead_pid

Make = Callable[..., Leases]

RACER = """
import os, sys, time
from pathlib import Path

path, place, tests, name = sys.argv[1:]
sys.path.insert(0, tests)
from fakes import kernel_record
from jupyter_flows.history import Leases

leases = Leases(path, kernel_record(name))
most = 0
for number in range(int(os.environ["ROUNDS"])):
    ticket, held = leases.enter(["two"], 1)
    while not held:
        held = ticket in leases.grant([ticket])
    mine = Path(place) / f"{name}-{number}"
    mine.touch()
    most = max(most, len(os.listdir(place)))
    mine.unlink()
    leases.leave(ticket)
leases.close()
print(most)
"""


@pytest.fixture
def make(path: Path) -> Iterator[Make]:
    """Makes the leases of a kernel."""
    made: list[Leases] = []

    def make(id: str = "kernel-1", **changes: object) -> Leases:
        made.append(Leases(path, kernel_record(id, **changes)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_limits_are_kept(make: Make) -> None:
    """A limit that one kernel sets is every kernel's, until it is set anew or lifted."""
    make("one").set_limit("db", 3)
    other = make("other")
    other.set_limit("api", 1)
    assert other.limits() == {"db": 3, "api": 1}
    other.set_limit("db", 4)
    other.set_limit("api", None)
    assert make("third").limits() == {"db": 4}


def test_slots_go_in_order_to_whoever_waits(make: Make) -> None:
    """Of two kernels that wait the first gets the slot first, also when the other looks first."""
    one, other = make("one"), make("other")
    one.set_limit("db", 2)
    first, held = one.enter(["db"], 2)
    assert held
    second, held = other.enter(["db"], 2)
    assert not held
    third, held = one.enter(["db"], 1)
    assert not held
    assert not one.grant([third])
    one.leave(first)
    assert not one.grant([third])  # it would fit, and is not the first in line
    assert other.grant([second]) == {second}
    other.leave(second)
    assert one.grant([third]) == {third}


def test_several_limits_at_once(make: Make) -> None:
    """Who needs slots of two limits holds none of the one while it waits for the other."""
    one, other = make("one"), make("other")
    one.set_limit("a", 1)
    one.set_limit("b", 1)
    held_b, _ = one.enter(["b"], 1)
    both, held = other.enter(["a", "b"], 1)
    assert not held
    _, held = one.enter(["a"], 1)
    assert held
    one.leave(held_b)
    assert not other.grant([both])


def test_a_limit_that_is_raised_or_lifted_lets_in(make: Make) -> None:
    """Who waits gets in when the limit is raised, or is no more."""
    one = make()
    one.set_limit("db", 0)
    ticket, held = one.enter(["db"], 1)
    assert not held
    one.set_limit("db", 1)
    assert one.grant([ticket]) == {ticket}
    waiting, held = one.enter(["db"], 1)
    assert not held
    one.set_limit("db", None)
    assert one.grant([waiting]) == {waiting}


def test_the_slots_of_a_dead_kernel_are_free(make: Make) -> None:
    """What a kernel held or waited for whose process has ended is gone with it."""
    dead, living = make("dead", pid=dead_pid()), make("living")
    dead.set_limit("db", 1)
    assert dead.enter(["db"], 1)[1]
    assert not dead.enter(["db"], 1)[1]
    ticket, held = living.enter(["db"], 1)
    assert not held
    assert living.grant([ticket]) == {ticket}


def test_a_kernel_on_another_host_keeps_its_slots_for_its_lease(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process cannot be seen its slots are taken when it was silent for so long."""
    there, here = make("there", host="elsewhere"), make("here")
    there.set_limit("db", 1)
    there.enter(["db"], 1)
    ticket, _ = here.enter(["db"], 1)
    monkeypatch.setattr(leases, "GONE_SECONDS", 0.0)
    _be_silent(path, "there", SILENT_SECONDS - 5)
    assert not here.grant([ticket])
    _be_silent(path, "there", SILENT_SECONDS + 1)
    assert here.grant([ticket]) == {ticket}


def test_a_living_kernel_keeps_its_slots(make: Make, path: Path) -> None:
    """A process that lives keeps its slots, however long it has been silent."""
    held, waits = make("held"), make("waits")
    held.set_limit("db", 1)
    held.enter(["db"], 1)
    ticket, _ = waits.enter(["db"], 1)
    _be_silent(path, "held", 10 * SILENT_SECONDS)
    assert not waits.grant([ticket])


def test_one_that_does_not_look_holds_up_nobody(make: Make, path: Path) -> None:
    """The place in line of a kernel that is silent, as when C code holds it up, is passed over."""
    held, stuck, waits = make("held"), make("stuck"), make("waits")
    held.set_limit("db", 1)
    first, _ = held.enter(["db"], 1)
    second, _ = stuck.enter(["db"], 1)
    third, _ = waits.enter(["db"], 1)
    held.leave(first)
    assert not waits.grant([third])
    _be_silent(path, "stuck", FRESH_SECONDS + 1)
    assert waits.grant([third]) == {third}
    waits.leave(third)
    assert stuck.grant([second]) == {second}


def test_a_kernel_says_that_it_lives_while_it_holds(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    """While a kernel holds a slot, and no longer, it says again and again that it lives."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    one = make()
    one.set_limit("db", 1)
    ticket, _ = one.enter(["db"], 1)
    _be_silent(path, "kernel-1", 1_000)
    with LeaseStore(path) as store:
        until(lambda: time.time() - store._read("kernel", id="kernel-1")[0][-1] < 10)
    one.leave(ticket)
    until(lambda: one._beating is None)


def test_a_slot_that_cannot_be_given_back_is_later(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot given back while another program locks the store is free when that lets go."""
    monkeypatch.setattr(leases, "WAIT_SECONDS", 0.01)
    one = make()
    one.set_limit("db", 1)
    ticket, _ = one.enter(["db"], 1)
    with LeaseStore(path) as other:
        with other._transaction():
            one.leave(ticket)
        assert one.enter(["db"], 1)[1]


def test_without_a_store_nobody_gets_a_slot(path: Path) -> None:
    """Where the store cannot be opened, or is no longer there, all is refused, saying why."""
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    broken = Leases(path, kernel_record())
    with pytest.raises(StoreUnavailable, match=r"so none is given.*move it away"):
        broken.enter(["db"], 1)
    path.unlink()
    working = Leases(path, kernel_record())
    ticket, _ = working.enter(["db"], 1)
    for each in path.parent.iterdir():
        each.unlink()
    with pytest.raises(StoreUnavailable, match="moved or deleted"):
        working.enter(["db"], 1)
    working.leave(ticket)  # which harms nothing


def test_a_place_that_was_lost_is_told(make: Make, path: Path) -> None:
    """A kernel that was taken for gone while it waits is told so, and waits not for ever."""
    one = make()
    one.set_limit("db", 0)
    ticket, _ = one.enter(["db"], 1)
    with Store(path) as store, store._transaction():
        store._execute("forget_leases", {"kernel": "kernel-1"})
    with pytest.raises(StoreUnavailable, match="lost a place in line"):
        one.grant([ticket])


def test_a_place_that_is_given_up_is_not_lost(make: Make) -> None:
    """Who gives its place up while others are looked after, as when it is cancelled, fails none."""
    one = make()
    one.set_limit("db", 1)
    holder, _ = one.enter(["db"], 1)
    given_up, _ = one.enter(["db"], 1)
    waits, _ = one.enter(["db"], 1)
    one.leave(given_up)
    assert one.grant([given_up, waits]) == set()
    one.leave(holder)
    assert one.grant([given_up, waits]) == {waits}


def test_a_place_that_was_lost_and_told_is_lost(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    """Who waits hears that its place is lost, also when the kernel's log has been told."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    one = make()
    one.set_limit("db", 0)
    ticket, _ = one.enter(["db"], 1)
    with Store(path) as store, store._transaction():
        store._execute("forget_leases", {"kernel": "kernel-1"})
    until(lambda: one._beating is None)
    with pytest.raises(StoreUnavailable, match="lost a place in line"):
        one.grant([ticket])


def test_a_slot_that_was_lost_is_told(
    make: Make,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., None],
) -> None:
    """A kernel that others took for gone, and whose slot they have, says so in its log."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    one = make()
    one.set_limit("db", 1)
    one.enter(["db"], 1)
    with Store(path) as store, store._transaction():
        store._execute("forget_leases", {"kernel": "kernel-1"})
    until(lambda: "have taken 1 of its slots" in caplog.text)
    until(lambda: one._beating is None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_forked_child_has_no_slots(make: Make) -> None:
    """In a forked child the kernel's leases are refused, and nothing of them is touched."""
    one = make()
    one.set_limit("db", 1)
    ticket, _ = one.enter(["db"], 1)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            one.leave(ticket)
            one.enter(["db"], 1)
        except StoreUnavailable:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not one.enter(["db"], 1)[1]  # it still has it


def test_processes_race_for_slots(make: Make, path: Path, tmp_path: Path) -> None:
    """Whatever processes do at the same time, never more are inside than the limit says."""
    make().set_limit("two", 2)
    place = tmp_path / "inside"
    place.mkdir()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), str(place), str(Path(__file__).parent), name],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ROUNDS": "100"},
        )
        for name in ("a", "b", "c")
    ]
    most = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert 1 <= max(most) <= 2
    with LeaseStore(path) as store:
        assert store._leases() == []


def _be_silent(path: Path, kernel: str, seconds: float) -> None:
    """Let a kernel not have said for so long that it lives."""
    with LeaseStore(path) as store, store._transaction():
        store._execute("beat", {"kernel": kernel, "now": time.time() - seconds})
