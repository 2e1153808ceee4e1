"""Interrupted anywhere, code cleans up: each shape at every safe point, and at random."""

import contextlib
import ctypes
import inspect
import random
import sys
import threading
import time
import types

import pytest

from jupyter_flows import flow
from jupyter_flows.engine import capture, checkpoints, interrupting, monitoring
from jupyter_flows.engine.current import current
from jupyter_flows.engine.executors import for_background
from jupyter_flows.engine.interrupting import attend
from jupyter_flows.engine.safe_lines import may_be_on_top, points
from jupyter_flows.errors import RunCancellation
from tests.engine import test_cleanup as checkpoint_shapes
from tests.faults import shapes
from tests.faults.conftest import milliseconds
from tests.faults.shapes import FROM_CHECKPOINTS, HOPELESS, OWN
from tests.repeats import FULL

WATCHES = monitoring.available()
needs_watching = pytest.mark.skipif(not WATCHES, reason="needs Python 3.12 or later")
by_force_too = pytest.mark.skipif(
    not (WATCHES or FULL),
    reason="before Python 3.12 threads are hit by force too, and some hang: figures in full only",
)
named = pytest.mark.parametrize("shape", OWN + FROM_CHECKPOINTS, ids=lambda shape: shape.__name__)
pytestmark = pytest.mark.filterwarnings(
    "ignore:mind",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",  # of what other tests have given up, collected meanwhile
)


def ledger_of(shape):
    own = shape.__module__ == shapes.__name__
    return shapes.Ledger() if own else checkpoint_shapes.Resources(0)


def make_run(shape, ledger, around=contextlib.nullcontext, **options):
    """Make a flow of a shape, and a run of it that is not launched."""

    def calls():
        with around():
            shape(ledger)

    async def awaits():
        with around():
            await shape(ledger)

    made = flow(
        awaits if inspect.iscoroutinefunction(shape) else calls, name=shape.__name__, **options
    )
    run = made.make_run(for_background(None, is_async=made.isasync))
    ledger.run = run
    return made, run


def all_code(module):
    """Return every code object of a module's functions and classes."""
    todo = [value for value in vars(module).values() if hasattr(value, "__module__")]
    found = set()
    while todo:
        value = todo.pop()
        value = getattr(value, "__wrapped__", value)
        if isinstance(value, type) and value.__module__ == module.__name__:
            todo += vars(value).values()
        code = getattr(value, "__code__", value)
        if isinstance(code, types.CodeType) and code not in found:
            found.add(code)
            todo += [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return {code for code in found if code.co_filename == module.__file__}


# -- at every safe point in turn ---------------------------------------------------------


class Sweep:
    """Cancels a run at its safe point of a number, counting them on the way."""

    def __init__(self, run, stop_at):
        self.run = run
        self.stop_at = stop_at
        self.seen = 0
        self.watched = all_code(shapes) | all_code(checkpoint_shapes)

    def at_instruction(self, frame):
        owner = current.get()
        if owner is None or owner.flow_run.chain[-1] is not self.run or self.run.delivered:
            return
        offset = frame.f_lasti
        if offset not in points(frame.f_code) or not may_be_on_top(frame.f_code, packages=False):
            return
        if not checkpoints.is_place_to_stop(owner, frame):
            return
        self.seen += 1
        if self.seen == self.stop_at:
            self.run.cancel(grace=3600)
            checkpoints.heed(owner, forced=False, frame=frame)

    def calls_on(self, code, offset):
        """Watch what comes to be called, such as code that `exec` makes."""
        if code not in self.watched and code.co_filename.startswith(("<nowhere", "/tmp/ipykernel")):
            self.watched.add(code)
            monitoring.watch([code])


def swept(shape, stop_at):
    """Run a shape, cancelled at its safe point of this number."""
    ledger = ledger_of(shape)
    made, run = make_run(shape, ledger)
    sweep = Sweep(run, stop_at)
    starts = sys.monitoring.events.PY_START
    sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "sweep")
    sys.monitoring.register_callback(sys.monitoring.PROFILER_ID, starts, sweep.calls_on)
    monitoring.call_back(sweep.at_instruction)
    monitoring.watch(sweep.watched)
    sys.monitoring.set_events(sys.monitoring.PROFILER_ID, starts)
    try:
        made.launch(run)
        run.wait(30)
    finally:
        sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
        sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)
        monitoring.unwatch(sweep.watched)
        monitoring.call_back(interrupting._at_instruction)
    return run, ledger, sweep.seen


@needs_watching
@pytest.mark.timeout(600)
@named
def test_an_interruption_at_any_safe_point_leaves_every_cleanup_whole(shape, times, figure):
    """Interrupted at each of its safe points in turn, a shape closes all that it has opened."""
    run, ledger, count = swept(shape, 0)
    assert run.state.is_completed(), (run.state, run.record().error)
    assert ledger.left == []
    assert count > 1
    every = max(1, -(-count // times(200, count)))
    lost = []
    for at in range(1, count + 1, every):
        run, ledger, _ = swept(shape, at)
        assert run.state.is_final(), f"hung at {at}"
        if ledger.left:
            lost.append((at, ledger.left))
        if run.delivered:
            assert run.state.is_cancelled(), (at, run.state)
    tried = len(range(1, count + 1, every))
    figure(f"sweep  {shape.__name__:28} {tried:5} of {count:5} safe points: {len(lost)} lost")
    assert lost == []


# -- at random -------------------------------------------------------------------------


def interrupted_at_random(shape, made_random):
    """Interrupt a shape that runs again and again; return the run, its ledger and how long."""
    told = []

    @contextlib.contextmanager
    def note():
        try:
            yield
        except BaseException:
            told.append(time.perf_counter())
            raise

    ledger = ledger_of(shape)
    begun = threading.Event()

    def over_and_over(ledger):
        begun.set()
        while True:
            shape(ledger)

    async def over_and_over_async(ledger):
        begun.set()
        while True:
            await shape(ledger)

    again = over_and_over_async if inspect.iscoroutinefunction(shape) else over_and_over
    # without watching, what is not met at a safe point is hit by force: the figures say how often
    made, run = make_run(again, ledger, note, kill_grace_seconds=30 if WATCHES else 0.3)
    made.launch(run)
    begun.wait(20)
    wait_a_while(made_random.uniform(0, 0.004))
    asked = time.perf_counter()
    run.cancel(grace=0)
    run.wait(30 if WATCHES else 2)
    return run, ledger, (told[0] - asked if told else None)


def wait_a_while(seconds):
    """Let other threads run for a while."""
    threading.Event().wait(seconds)


@by_force_too
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "shape", OWN + FROM_CHECKPOINTS * WATCHES, ids=lambda shape: shape.__name__
)
def test_an_interruption_at_random_leaves_every_cleanup_whole(shape, times, figure):
    """Interrupted at a random moment, a shape closes all that it has opened, and soon."""
    seed = random.randrange(2**32)
    made_random = random.Random(seed)
    lost, hung, took = [], 0, []
    repeats = times(15, 1_000) if WATCHES else 30
    for _ in range(repeats):
        run, ledger, seconds = interrupted_at_random(shape, made_random)
        if not run.state.is_final():
            hung += 1
            run.abandon()
            continue
        assert run.state.is_cancelled(), (run.state, run.record().error)
        lost += [ledger.left] if ledger.left else []
        took += [] if seconds is None else [seconds]
    skipped = len(lost)
    figure(
        f"random {shape.__name__:28} {repeats:5} times: {skipped} lost, {hung} hung, "
        f"{milliseconds(took)}"
    )
    if WATCHES:
        assert (lost, hung) == ([], 0), f"seed {seed}"


# -- the yardstick: what SetAsyncExc does to the same shapes ----------------------------------


def injected(shape, made_random):
    """Kill a plain thread that runs a shape again and again; return what was left open."""
    ledger = ledger_of(shape)
    begun = threading.Event()

    def over_and_over():
        begun.set()
        try:
            while True:
                shape(ledger)
        except RunCancellation:
            pass
        except BaseException:
            ledger.left.append("another error")

    thread = threading.Thread(target=over_and_over, daemon=True)
    thread.start()
    begun.wait(20)
    wait_a_while(made_random.uniform(0, 0.004))
    killed = type("Killed", (RunCancellation,), {"__init__": lambda self: None})
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(killed)
    )
    thread.join(0.5)
    if thread.is_alive():  # swallowed, or stuck for ever
        ledger.left.append("hung")
        stop_for_good(thread, killed)
    return ledger.left


def stop_for_good(thread, killed):
    deadline = time.monotonic() + 5
    while thread.is_alive() and time.monotonic() < deadline:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(killed)
        )
        thread.join(0.01)


YARDSTICKS = ("one_line_loop", "nested_everything", "lock_and_try", "recursion")


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", YARDSTICKS)
def test_plain_injection_loses_cleanups(name, times, figure):
    """The same shapes, stopped by `PyThreadState_SetAsyncExc` anywhere: for comparison."""
    shape = next(each for each in OWN if each.__name__ == name)
    made_random = random.Random(1)
    repeats = times(30, 1_000)
    lost = sum(bool(injected(shape, made_random)) for _ in range(repeats))
    figure(f"plain injection {name:19} {repeats:5} times: {lost} lost")


# -- what cannot hold ------------------------------------------------------------------


@by_force_too
@pytest.mark.parametrize("shape", HOPELESS, ids=lambda shape: shape.__name__)
def test_what_cannot_be_kept_whole_ends_cancelled_all_the_same(shape, times, figure):
    """Shapes that cannot be cleaned up: a statement before `try`, a C caller that hides errors."""
    made_random = random.Random(1)
    for _ in range(times(15, 1_000) if WATCHES else 30):
        run, _, _ = interrupted_at_random(shape, made_random)
        assert run.state.is_cancelled(), run.state


def test_nothing_is_watched_afterwards():
    """Once nothing is asked, no code object is watched."""
    capture.install()
    for run in list(interrupting._attended):
        attend(run)
    deadline = time.monotonic() + 10
    while (monitoring.watched() or interrupting._attended) and time.monotonic() < deadline:
        wait_a_while(0.01)
    assert monitoring.watched() == 0
    assert not interrupting._attended
