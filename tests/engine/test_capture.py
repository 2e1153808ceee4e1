"""What a run prints and logs is its own: every line, in order, and nobody else's."""

import asyncio
import contextlib
import io
import logging
import sys
import threading
import time
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from tqdm import tqdm

from jupyter_flows import checkpoint, flow, get_run_logger, task
from jupyter_flows.engine import capture, checkpoints, logs, progress


def messages(run):
    return [line.message for line in run.logs]


def logged(body, **options):
    """Run `body` as a flow and return its log as pairs of source and message."""
    run = flow(body, **options).start().wait(30)
    assert run.state.is_completed(), run.record().error
    return [(line.source, line.message) for line in run.logs]


# -- streams ---------------------------------------------------------------------------


def test_prints_are_lines(capsys):
    """Each printed line is one line of the log, however it is put together; none goes elsewhere."""

    def body():
        print("one", 2, ["three"], sep="-")
        print("a", end="")
        print("b", end=" ", flush=True)
        print("c")
        print()
        print("two\nlines")
        sys.stdout.write("written\n")
        sys.stdout.writelines(["many\n", "of them\n"])
        sys.stderr.write("to stderr\n")
        print("again", file=sys.stderr)
        print("no newline", end="")

    assert logged(body) == [
        ("stdout", "one-2-['three']"),
        ("stdout", "ab c"),
        ("stdout", ""),
        ("stdout", "two"),
        ("stdout", "lines"),
        ("stdout", "written"),
        ("stdout", "many"),
        ("stdout", "of them"),
        ("stderr", "to stderr"),
        ("stderr", "again"),
        ("stdout", "no newline"),
    ]
    assert capsys.readouterr() == ("", "")


def test_writing_returns_what_a_stream_returns():
    """`sys.stdout.write` in a run counts characters, and refuses what is no text."""

    def body():
        assert sys.stdout.write("four") == 4
        with pytest.raises(TypeError, match="must be str, not int"):
            sys.stdout.write(4)

    assert logged(body) == [("stdout", "four")]


def test_prints_outside_of_runs_are_untouched(capsys):
    """What is printed outside of runs goes where it went, while runs print too."""

    def body():
        begun.set()
        for i in range(50):
            print("inside", i)
        go.wait(20)

    begun, go = threading.Event(), threading.Event()
    run = flow(body).start()
    begun.wait(20)
    print("outside")
    print("oops", file=sys.stderr)
    go.set()
    run.wait(20)
    assert messages(run) == [f"inside {i}" for i in range(50)]
    assert capsys.readouterr() == ("outside\n", "oops\n")


def test_print_to_a_file_passes(tmp_path):
    """`print(file=...)` goes where it says."""

    def body():
        with (tmp_path / "x").open("w") as file:
            print("to the file", file=file)
        buffer = io.StringIO()
        print("to the buffer", file=buffer)
        return buffer.getvalue()

    assert logged(body) == []
    assert (tmp_path / "x").read_text() == "to the file\n"


def test_a_run_may_redirect_its_own_prints():
    """`redirect_stdout` in a run gives its prints to the run's buffer, subflows or not."""

    @flow(log_prints=True)
    def inner():
        return None

    def body():
        with contextlib.redirect_stdout(io.StringIO()) as buffer:
            inner()
            print("caught")
        print("logged", buffer.getvalue().strip())

    assert logged(body) == [("stdout", "logged caught")]


def test_log_prints_false_lets_prints_pass(capsys):
    """With `log_prints=False` for a flow or task, prints go where they always went."""

    @task(log_prints=False)
    def quiet():
        print("task outside")

    @task
    def loud():
        print("task inside")

    @task(log_prints=True)
    def louder():
        print("also inside")

    def body():
        print("flow inside")
        quiet()
        loud()

    def quiet_body():
        print("flow outside")
        loud()
        louder()
        logging.getLogger("tests").warning("logged outside")

    assert [message for _, message in logged(body)] == ["flow inside", "task inside"]
    assert capsys.readouterr().out == "task outside\n"
    assert logged(quiet_body, log_prints=False) == [("louder-0", "also inside")]
    assert capsys.readouterr().out == "flow outside\ntask inside\n"


def test_a_foreground_flow_prints_where_it_is_called(capsys):
    """Prints of a foreground flow go where prints go, as in Prefect, unless it logs them."""

    @flow
    def plain():
        print("seen")

    @flow(log_prints=True)
    def logs_them():
        print("logged")

    plain()
    assert capsys.readouterr() == ("seen\n", "")
    logs_them()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.rstrip().endswith("| INFO    | Flow run 'logs-them' - logged")


def test_a_tasks_prints_bear_its_name():
    """What a task prints has the task's name as its source, a line without newline included."""

    @task
    def says(i):
        print("hello", i, end="")

    def body():
        says(1)
        print("between")
        says.submit(2).result()

    assert logged(body) == [("says-0", "hello 1"), ("stdout", "between"), ("says-1", "hello 2")]


# -- live lines ------------------------------------------------------------------------


def test_a_carriage_return_makes_a_live_line(until):
    """Output with carriage returns is one live line while it changes, and one log line at last."""

    def body():
        for i in range(3):
            sys.stdout.write(f"\rstep {i}")
        sys.stdout.flush()
        shown.set()
        go.wait(20)
        sys.stdout.write("\rstep 3\r")
        sys.stdout.write("\n")
        sys.stdout.write("windows\r\nlines\r\n")

    shown, go = threading.Event(), threading.Event()
    run = flow(body).start()
    shown.wait(20)
    assert run.record().live == (("stdout", "step 2"),)
    assert run.logs == []
    go.set()
    run.wait(20)
    assert messages(run) == ["step 3", "windows", "lines"]
    assert run.record().live == ()


def test_a_line_that_was_flushed_is_seen(until):
    """A line without its newline is seen while it lasts, once it was flushed."""

    def body():
        print("working...", end="", flush=True)
        shown.set()
        go.wait(20)
        print(" done")

    shown, go = threading.Event(), threading.Event()
    run = flow(body).start()
    shown.wait(20)
    assert run.record().live == (("stdout", "working..."),)
    go.set()
    assert messages(run.wait(20)) == ["working... done"]


@pytest.fixture
def _as_text(monkeypatch):
    """tqdm's bars are text, as where a run has too many of them."""
    monkeypatch.setattr(progress, "MOST", 0)


@pytest.mark.usefixtures("_as_text")
def test_tqdm_as_text_is_one_line():
    """A bar that is drawn as text is one live line and leaves one line in the log, its last."""

    def body():
        for _ in tqdm(range(200), desc="epoch", mininterval=0):
            pass

    [(source, message)] = logged(body)
    assert source == "stderr"
    assert "epoch: 100%" in message
    assert "200/200" in message
    assert "\r" not in message


@pytest.mark.usefixtures("_as_text")
def test_bars_of_overlapping_runs_are_one_line_each():
    """tqdm bars of two runs at once, which move the cursor for each other, are a line each."""

    def body(name):
        for i in tqdm(range(50), desc=name, mininterval=0):
            if i == 25:
                barrier.wait(20)

    barrier = threading.Barrier(2)
    bars = [flow(body, name=name).start(name) for name in ("one", "two")]
    for run in bars:
        lines = [message for message in messages(run.wait(20)) if message]
        assert len(lines) == 1
        assert f"{run.name}: 100%" in lines[0]
        assert "\x1b" not in lines[0]


# -- logging and warnings --------------------------------------------------------------


@pytest.fixture
def handlers():
    """Loggers as users set them up: with handlers to stdout and stderr, and without propagation."""
    chatty, alone = logging.getLogger("tests.chatty"), logging.getLogger("tests.alone")
    chatty.addHandler(logging.StreamHandler(sys.stdout))
    chatty.addHandler(logging.StreamHandler(sys.stderr))
    alone.propagate = False
    for logger in (chatty, alone):
        logger.setLevel(logging.DEBUG)
    yield chatty, alone
    chatty.handlers.clear()
    alone.propagate = True


def test_logging_is_captured_once(handlers, capsys):
    """A log record is one line, with its level and logger, whatever handlers it has."""
    chatty, alone = handlers

    def body():
        logging.warning("root %s", 1)
        chatty.info("chatty")
        alone.debug("alone")
        logging.getLogger("tests.quiet").debug("not enabled")
        get_run_logger().info("mine")
        try:
            raise ValueError("oh")
        except ValueError:
            chatty.exception("failed")
        chatty.error("bad %d", "format")

    run = flow(body).start().wait(20)
    lines = [(line.level, line.source, line.message) for line in run.logs]
    assert lines[:4] == [
        (30, "root", "root 1"),
        (20, "tests.chatty", "chatty"),
        (10, "tests.alone", "alone"),
        (20, "flow", "mine"),
    ]
    assert lines[4] == (40, "tests.chatty", "failed")
    assert lines[-2][2] == "ValueError: oh"
    assert "cannot be formatted" in lines[-1][2]
    assert "chatty" not in capsys.readouterr().out


def test_a_handler_may_do_what_it_likes(capsys):
    """A handler that sleeps, logs, warns, starts threads or uses the engine works in a run."""

    class Handler(logging.Handler):
        def emit(self, record):
            time.sleep(0.001)
            checkpoint()
            thread = threading.Thread(target=done.append, args=(record.getMessage(),))
            thread.start()
            thread.join()
            warnings.warn("in a handler", stacklevel=1)

    def body():
        logger.warning("once")

    done = []
    logger = logging.getLogger("tests.handler")
    handler = Handler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            lines = logged(body)
    finally:
        logger.removeHandler(handler)
    assert done == ["once"]
    assert lines[0] == ("tests.handler", "once")


def test_a_tasks_log_lines_name_the_task():
    """A record logged in a task names the task beside the logger."""

    @task
    def says():
        logging.getLogger("tests").warning("in a task")
        get_run_logger().info("mine")

    assert logged(says.fn) == [("tests", "in a task"), ("flow", "mine")]
    assert logged(lambda: says()) == [("says-0 · tests", "in a task"), ("says-0 · task", "mine")]


def test_warnings_are_captured():
    """A warning is a line at level WARNING, and outside of runs goes where it went."""

    def body():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            capture.install()  # as any other flow that begins now does
            warnings.warn("mind the gap", stacklevel=1)

    run = flow(body).start().wait(20)
    assert any("mind the gap" in line.message for line in run.logs)
    assert {line.level for line in run.logs} == {logging.WARNING}
    with pytest.warns(UserWarning, match="outside"):
        warnings.warn("outside", stacklevel=1)


# -- threads ---------------------------------------------------------------------------


def test_helper_threads_belong_to_their_run(capsys):
    """Threads, timers, pools and `to_thread` that a run starts print into its log, nested too."""

    def nested():
        print("helper")
        thread = threading.Thread(target=print, args=("nested",))
        thread.start()
        thread.join()

    class Own(threading.Thread):
        def run(self):
            print("subclass")

    def body():
        for thread in (
            threading.Thread(target=nested),
            threading.Timer(0, print, ("timer",)),
            Own(),
        ):
            thread.start()
            thread.join()
        with ThreadPoolExecutor(2) as pool:
            pool.submit(print, "submitted").result()
            list(pool.map(print, ["mapped"]))
        outside.submit(print, "in a pool from outside").result()

    async def body_async():
        await asyncio.to_thread(print, "to_thread")
        await asyncio.get_running_loop().run_in_executor(outside, print, "run_in_executor")
        await asyncio.gather(*(asyncio.to_thread(nested) for _ in range(2)))

    with ThreadPoolExecutor(1) as outside:
        found = [message for _, message in logged(body)]
        assert found == [
            *["helper", "nested", "timer", "subclass"],
            *["submitted", "mapped", "in a pool from outside"],
        ]
        found = [message for _, message in logged(body_async)]
        assert found[:2] == ["to_thread", "run_in_executor"]
        assert sorted(found[2:]) == ["helper", "helper", "nested", "nested"]
        outside.submit(print, "outside again").result()
    assert capsys.readouterr().out == "outside again\n"


def test_a_pools_threads_are_the_pools(capsys):
    """A pool's thread that was first needed in a run prints outside when it works for others."""

    def body():
        pool.submit(print, "inside").result()

    with ThreadPoolExecutor(1) as pool:
        assert logged(body) == [("stdout", "inside")]
        pool.submit(print, "outside").result()
        assert logged(body) == [("stdout", "inside")]
    assert capsys.readouterr().out == "outside\n"


def test_prints_of_two_threads_never_share_a_line():
    """What a thread leaves without a newline is a line of its own when the thread ends."""

    def body():
        for i in range(20):
            thread = threading.Thread(target=partial(print, i, end=""))
            thread.start()
            thread.join()
        print("main")

    assert [message for _, message in logged(body)] == [*map(str, range(20)), "main"]


# -- sleep -----------------------------------------------------------------------------

from time import sleep as bound_earlier  # noqa: E402


def test_a_sleep_that_was_bound_earlier_is_a_checkpoint(until):
    """`from time import sleep` before the first flow gives a sleep that a cancel ends too."""

    def body():
        started.set()
        bound_earlier(3600)

    started = threading.Event()
    run = flow(body).start()
    started.wait(20)
    until(lambda: run.book.parked)
    run.cancel()
    assert run.wait(20).state.is_cancelled()


def test_sleep_is_sleep():
    """`time.sleep` sleeps as long as it is told, in runs and outside, and refuses nonsense."""

    def body():
        begun = time.monotonic()
        time.sleep(0.05)
        time.sleep(0)
        for wrong, error in ((-1, ValueError), ("1", TypeError)):
            with pytest.raises(error):
                time.sleep(wrong)
        return time.monotonic() - begun

    assert 0.05 <= flow(body).start().result(20) < 5
    assert 0.05 <= body() < 5
    assert checkpoints.real_sleep is not time.sleep


# -- caps ------------------------------------------------------------------------------


def test_a_huge_line_is_cut_and_says_so():
    """A line of more characters than a browser can show is cut, and says how many were."""

    def body():
        print("x" * (logs.LONGEST + 1234))
        for _ in range(3):
            sys.stdout.write("y" * (logs.LONGEST // 2))
        print()

    run = flow(body).start().wait(20)
    one, two = messages(run)
    assert one.endswith("x… [1,234 characters cut]")
    assert two.endswith(f"y… [{logs.LONGEST // 2:,} characters cut]")


def test_lines_beyond_the_most_leave_memory_and_are_counted():
    """Of very many lines the newest are held, and the log says from which number on."""

    def body():
        for i in range(3 * logs.HELD):
            print(i)

    run = flow(body).start().wait(60)
    record = run.record()
    assert record.log_count == 3 * logs.HELD
    held = run.logs
    assert len(held) >= logs.HELD
    assert held[0].number == record.log_first
    assert [line.message for line in held] == [str(line.number) for line in held]


# -- all at once -----------------------------------------------------------------------

LINES = 5_000
RUNS = 20


def _prints(name, n):
    for i in range(n):
        print(name, i)


def _in_threads(name, n):
    helpers = [threading.Thread(target=_prints, args=(f"{name}-{k}", n // 4)) for k in range(4)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()


def _in_a_pool(name, n):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: _prints(f"{name}-{k}", n // 4), range(4)))


def _in_tasks(name, n):
    prints = task(_prints)
    for future in [prints.submit(f"{name}-{k}", n // 4) for k in range(4)]:
        future.result()


def _with_tqdm(name, n):
    for i in range(n // 10):
        for _ in tqdm(range(3), mininterval=0, desc=f"bar {i}", leave=False):
            pass
        for k in range(10):
            print(name, 10 * i + k)


def _with_logging(name, n):
    logger = logging.getLogger(f"tests.{name}")
    for i in range(n):
        logger.warning("%s %d", name, i)


async def _on_a_loop(name, n):
    async def branch(k):
        for i in range(n // 4):
            print(f"{name}-{k} {i}")
            if i % 50 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(branch(k) for k in range(4)))


async def _to_threads(name, n):
    await asyncio.gather(*(asyncio.to_thread(_prints, f"{name}-{k}", n // 4) for k in range(4)))


KINDS = [
    _prints,
    _in_threads,
    _in_a_pool,
    _in_tasks,
    _with_tqdm,
    _with_logging,
    _on_a_loop,
    _to_threads,
]


def _start(kind, name, log_prints):
    if asyncio.iscoroutinefunction(kind):

        async def body():
            await kind(name, LINES)

    else:

        def body():
            kind(name, LINES)

    return flow(body, name=name, log_prints=log_prints).start()


def _by_source(lines):
    """Group lines such as ``name 17`` by the name, each with its numbers in order."""
    found = defaultdict(list)
    for line in lines:
        name, _, number = line.rpartition(" ")
        found[name].append(int(number))
    return found


def test_overlapping_runs_never_mix(capsys):
    """Of 20 overlapping runs of 5,000 lines each line is in its own run, in order, none lost."""
    runs = [_start(KINDS[i % len(KINDS)], f"run{i}", True) for i in range(RUNS)]
    for i in range(100):
        print("outside", i)
    for i, run in enumerate(runs):
        assert run.wait(100).state.is_completed(), run.record().error
        own = [message for message in messages(run) if message.startswith("run")]
        others = [m for m in messages(run) if not m.startswith("run") and "bar " not in m and m]
        assert others == []
        assert run.log.count < 2 * logs.HELD  # so that all of them are held
        assert len(own) == LINES
        for name, numbers in _by_source(own).items():
            assert name == f"run{i}" or name.startswith(f"run{i}-")
            assert numbers == list(range(len(numbers)))
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"outside {i}" for i in range(100)]
    assert err == ""


def test_overlapping_runs_that_capture_nothing(capsys):
    """With `log_prints=False` nothing is captured of overlapping runs, and no line is lost."""
    plain = [kind for kind in KINDS if kind not in (_with_tqdm, _with_logging)]
    runs = [_start(kind, f"run{i}", False) for i, kind in enumerate(plain)]
    for run in runs:
        assert run.wait(100).state.is_completed(), run.record().error
        assert run.logs == []
    out = capsys.readouterr().out
    assert out.count("\n") == LINES * len(plain)
    assert [out.count(f"run{i}") for i in range(len(plain))] == [LINES] * len(plain)
