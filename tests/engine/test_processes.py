"""Runs in processes: what travels, what comes back, and how they are held."""

import asyncio
import atexit
import logging
import os
import resource
import signal
import statistics
import sys
import threading
import time
import warnings
from contextlib import ExitStack
from functools import partial

import pytest

from jupyter_flows import (
    FlowPauseTimeout,
    current_run,
    flow,
    get_run_logger,
    pause_flow_run,
    progress,
    task,
)
from jupyter_flows.errors import CrashedRun, FailedRun, NoSuchWorker, NotPortable
from jupyter_flows.states import StateType
from tests.engine.in_processes import ended, lines, sleeping, start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are none on Windows")

FOR_EVER = 3600


# -- there and back ---------------------------------------------------------------------


def test_a_run_has_a_process_of_its_own():
    """The body runs in another process, with its arguments, and its result comes back."""

    def body(a, *, b):
        return a + b, os.getpid()

    run = flow(body, on="process").start([1], b=[2])
    value, pid = run.result(30)
    assert value == [1, 2]
    assert pid != os.getpid()
    assert run.record().on == "process"
    assert run.record().parameters == {"a": "[1]", "b": "[2]"}


def test_a_kernel_with_very_many_open_files():
    """Runs come, are paused and end as ever where descriptors have high numbers."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, 4096), hard))
    try:
        with ExitStack() as files:
            for _ in range(1100):  # more than `select` can count to
                files.enter_context(open(os.devnull))
            run = start(sleeping)
            run.cancel()
            assert run.wait(30).state.is_cancelled()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def test_the_threads_that_a_body_leaves_running(tmp_path):
    """A run has ended when its threads have, those of a pool too, and what atexit calls."""

    def body():
        from concurrent.futures import ThreadPoolExecutor

        def write(name):
            time.sleep(0.2)
            (tmp_path / name).touch()

        threading.Thread(target=write, args=("thread",)).start()
        pool = ThreadPoolExecutor(1)
        pool.submit(write, "first in the pool")
        pool.submit(write, "second in the pool")
        atexit.register(write, "at exit")

    assert ended(body).state.is_completed()
    names = {"thread", "first in the pool", "second in the pool", "at exit"}
    assert {path.name for path in tmp_path.iterdir()} == names


class Odd(Exception):
    """An exception that is not made of what it shows."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")
        self.one = one


def test_exceptions_that_are_made_in_an_odd_way():
    """An exception whose init takes other things comes back as it was, in a group too."""

    def body():
        raise ExceptionGroup("all", [Odd(1, 2), ValueError(3)])

    group = ended(body).state.data
    assert isinstance(group, ExceptionGroup)
    odd = group.exceptions[0]
    assert (type(odd), str(odd), odd.one) == (Odd, "1 and 2", 1)


def test_async_code_runs_on_a_loop_of_its_process():
    """An async flow runs in a process as a sync one does."""

    async def body():
        await asyncio.gather(asyncio.sleep(0.01), asyncio.sleep(0.01))
        return os.getpid()

    assert ended(body).result() != os.getpid()


def test_it_begins_at_once():
    """With the supervisor warm, a body begins within 150 ms of `start`."""

    def body():
        return time.time()

    ended(body)
    waits = []
    for _ in range(10):
        before = time.time()
        waits.append(ended(body).result() - before)
    assert statistics.median(waits) < 0.15


def test_it_looks_around_as_the_kernel_does(tmp_path, monkeypatch):
    """Working directory, environment and `sys.path` are the kernel's when it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONLY_NOW", "set")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "made_just_now.py").write_text("value = 5")

    def body():
        import made_just_now

        return os.getcwd(), os.environ["ONLY_NOW"], made_just_now.value

    assert ended(body).result() == (str(tmp_path), "set", 5)


def test_what_it_prints_is_its_log():
    """Prints of Python, of descriptors and of commands that it runs become lines."""

    def body():
        print("by print")
        print("by stderr", file=sys.stderr)
        os.write(1, b"by descriptor\n")
        os.system("echo by command; echo by its stderr >&2")
        os.write(1, "no newline ü".encode())

    run = ended(body)
    said = lines(run, "stdout")
    assert {"by print", "by descriptor", "by command", "no newline ü"} == set(said)
    assert set(lines(run, "stderr")) == {"by stderr", "by its stderr"}


def test_c_code_that_holds_the_lock_is_heard(until):
    """What was written to a descriptor is read while C code keeps the process from running."""

    def body():
        os.write(1, b"heard\n")
        sum(range(10**12))

    run = start(body)
    until(lambda: "heard" in lines(run))
    assert run.kill()
    run.wait(30)
    assert run.state.is_cancelled()


def test_prints_pass_if_they_are_not_to_be_logged(capfd):
    """Without `log_prints` what a process prints goes where the kernel's prints go."""

    def body():
        print("passes")

    run = ended(body, log_prints=False)
    assert lines(run) == []
    assert "passes" in capfd.readouterr().out


def test_loggers_and_warnings_come_back():
    """Log records and warnings keep level and source; levels set in the kernel hold."""
    chosen = logging.getLogger("chosen.in.the.kernel")
    chosen.setLevel(logging.DEBUG)

    def body():
        get_run_logger().warning("of the run")
        logging.getLogger("lib").error("of a library")
        logging.getLogger("chosen.in.the.kernel").debug("as chosen")
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)

    run = ended(body)
    chosen.setLevel(logging.NOTSET)
    said = {(line.level, line.source): line.message for line in run.logs}
    assert said[logging.WARNING, "flow"] == "of the run"
    assert said[logging.ERROR, "lib"] == "of a library"
    assert said[logging.DEBUG, "chosen.in.the.kernel"] == "as chosen"
    assert any(level == logging.WARNING and name == "warnings" for level, name in said)


def test_tasks_and_bars_come_back():
    """Task runs and progress bars of the process are the run's."""

    def body():
        @task
        def double(x):
            print("doubling", x)
            return 2 * x

        for _ in progress(range(3), description="steps"):
            pass
        return [each.result() for each in double.map([1, 2])]

    run = ended(body)
    assert run.result() == [2, 4]
    assert {each.name for each in run.tasks} == {"double-0", "double-1"}
    assert {each.state.type for each in run.tasks} == {StateType.COMPLETED}
    assert [each.record().number for each in run.tasks] == [0, 1]
    assert lines(run, "double-0") == ["doubling 1"]
    (bar,) = run.progress
    assert (bar.label, bar.done, bar.total) == ("steps", 3, 3)
    assert bar.ended is not None


def test_unfinished_lines_are_seen(until):
    """A line that is not ended yet, such as tqdm's bar, is to be seen while it lasts."""

    def body():
        print("\rat 5 %", end="", flush=True)
        time.sleep(FOR_EVER)

    run = start(body)
    until(lambda: ("stdout", "at 5 %") in run.record().live)
    run.cancel(grace=0)
    run.wait(30)


def test_a_flood_of_output_holds_nothing_up():
    """A process that writes without end can be stopped at once, as any other."""

    def body():
        os.write(1, b"first\n")
        while True:
            os.write(1, b"x" * 999 + b"\n")

    run = start(body)
    while not run.logs:
        time.sleep(0.001)
    time.sleep(0.2)
    before = time.monotonic()
    run.kill()
    run.wait(30)
    assert run.state.is_cancelled()
    assert time.monotonic() - before < 2


def test_large_values_travel():
    """Arguments and results of many megabytes travel, and what was printed before them."""

    def body(data):
        for i in range(10_000):
            print(i)
        return data + b"!"

    data = os.urandom(1 << 20) * 20
    run = ended(body, data)
    assert run.result() == data + b"!"
    assert lines(run, "stdout") == [*map(str, range(10_000))]


def test_processes_that_its_code_forks():
    """Workers of a pool print into the log, and end when the pool is terminated."""

    def body():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(print, [f"worker {i}" for i in range(100)])
        return "terminated"

    run = ended(body)
    assert run.result() == "terminated"
    assert set(lines(run, "stdout")) == {f"worker {i}" for i in range(100)}


def test_a_signal_to_a_process_that_has_just_been_forked():
    """A signal that comes while the run's code forks ends the new process as any other does."""

    def body():
        import signal
        import time

        ends = []
        for _ in range(20):
            pid = os.fork()
            if not pid:
                time.sleep(1)
                os._exit(0)
            os.kill(pid, signal.SIGTERM)
            ends.append(os.WTERMSIG(os.waitpid(pid, 0)[1]))
        return ends

    assert ended(body).result() == [15] * 20


def test_a_system_without_processes(monkeypatch):
    """Where there is no fork, as on Windows, the worker is refused and another one named."""
    monkeypatch.delattr(os, "fork")
    with pytest.raises(NoSuchWorker, match="on='thread'"):
        start(sleeping)


# -- errors -----------------------------------------------------------------------------


def test_an_exception_is_raised_as_what_it_was():
    """The exception has its own type; its traceback shows the lines of the process."""

    def body():
        return {}["nothing"]

    run = ended(body)
    with pytest.raises(KeyError, match="nothing"):
        run.result()
    error = run.record().error
    assert error.type == "KeyError"
    assert 'return {}["nothing"]' in error.traceback
    assert "child.py" not in error.traceback


def test_an_exception_that_cannot_travel_is_told():
    """An exception that cannot be unpickled makes the run FAILED, with its text."""

    def body():
        class Odd(Exception):
            def __reduce__(self):
                return eval, ("1 / 0",)

            def __str__(self):
                return "1 and 2"

        raise Odd(1, 2)

    run = ended(body)
    with pytest.raises(FailedRun, match="Odd: 1 and 2"):
        run.result()
    assert "raise Odd(1, 2)" in run.record().error.traceback


def test_a_result_that_cannot_travel_is_told():
    """A result that cannot be pickled makes the run FAILED, and says of what type it is."""

    def body():
        return threading.Lock()

    with pytest.raises(NotPortable, match="being a lock"):
        ended(body).result()


def test_what_cannot_be_sent_is_named():
    """A parameter, or a variable of the function, that cannot travel is named."""
    lock = threading.Lock()

    def takes(value):
        return value

    def uses():
        return lock

    with pytest.raises(NotPortable, match="parameter 'value'"):
        start(takes, lock)
    with pytest.raises(NotPortable, match="variable 'lock', which 'uses' uses"):
        start(uses)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.abort()", "SIGABRT"),
    ],
)
def test_a_process_that_dies_by_itself(how, text):
    """A process that dies makes its run CRASHED, with the signal or the exit code."""

    def body(how):
        print("last words")
        exec(how, {"os": os, "signal": signal})

    run = ended(body, how, retries=2)
    assert run.state.is_crashed()
    assert text in run.state.message
    assert lines(run, "stdout") == ["last words"]
    assert run.attempt == 1
    with pytest.raises(CrashedRun, match=text):
        run.result()


def test_exit_in_the_body():
    """`sys.exit` in a process is what it is in a thread: CRASHED."""

    def body():
        sys.exit(3)

    state = ended(body).state
    assert (state.type, state.message) == (StateType.CRASHED, "Ended from outside: SystemExit.")


def test_each_attempt_is_a_new_process(tmp_path):
    """A retry runs in a fresh process, and knows which attempt it is."""

    def body(path):
        with open(path, "a") as file:
            print(os.getpid(), file=file)
        if current_run().attempt < 3:
            raise ValueError
        return current_run().attempt

    run = ended(body, tmp_path / "pids", retries=2)
    assert run.result() == 3
    assert len(set((tmp_path / "pids").read_text().split())) == 3
    assert [state.name for state in run.states].count("AwaitingRetry") == 2


# -- pausing ----------------------------------------------------------------------------


def counting(path):
    """Count in a file for ever."""
    count = 0
    while True:
        count += 1
        with open(path, "w") as file:
            file.write(str(count))


def read(files):
    return {file: file.read_bytes() for file in files}


def moves_on(file, was):
    return file.read_bytes() != was


def test_a_pause_suspends_the_whole_tree(tmp_path, until):
    """PAUSED is said when neither the process nor what it started moves; then all go on."""

    def body(path, count):
        if os.fork() == 0:
            count(path + "/child")
        print("begun")
        count(path + "/own")

    run = start(body, str(tmp_path), counting)
    files = [tmp_path / "child", tmp_path / "own"]
    until(lambda: all(file.exists() for file in files))
    for _ in range(5):
        run.pause()
        until(lambda: run.state.is_paused())
        held = read(files)
        time.sleep(0.05)
        assert read(files) == held
        run.resume()
        assert run.state.is_running()
        for file in files:
            until(partial(moves_on, file, held[file]))
    run.pause()
    until(lambda: run.state.is_paused())
    run.kill()
    run.wait(30)
    assert run.state.is_cancelled()


def test_time_stands_still_while_paused(until):
    """Sleeps, loops and timeouts of a suspended process take no notice of it."""

    async def body():
        from jupyter_flows import task

        @task(timeout_seconds=1.0)
        def nap():
            before = time.monotonic()
            print("begun")
            time.sleep(0.6)
            return time.monotonic() - before

        return nap()

    run = start(body, timeout_seconds=1.2)
    until(lambda: "begun" in [line.message for line in run.logs])
    run.pause()
    until(lambda: run.state.is_paused())
    time.sleep(1.5)
    run.resume()
    assert run.result(30) > 1.9


def test_a_cancel_while_paused_lets_cleanup_run(until):
    """A suspended process is let go on to be cancelled, and cleans up."""
    run = start(sleeping)
    until(lambda: "begun" in lines(run))
    run.pause()
    until(lambda: run.state.is_paused())
    run.cancel()
    run.wait(30)
    assert run.state.is_cancelled()
    assert "cleaned up" in lines(run)


# -- people -----------------------------------------------------------------------------


def test_approval_and_input(until):
    """A process waits for a go-ahead and for a line of text, as any run does."""

    def body():
        pause_flow_run(key="go")
        return input("Name? ")

    run = start(body)
    until(lambda: run.waiting is not None)
    assert run.state.is_paused()
    assert "go" in run.waiting.text
    run.resume()
    until(lambda: run.waiting is not None and run.waiting.kind == "input")
    run.resume("Ada")
    assert run.result(30) == "Ada"


def test_approval_in_async_code(until):
    """A coroutine in a process waits for a go-ahead while its tasks go on."""

    async def body():
        await pause_flow_run()
        return "went on"

    run = start(body)
    until(lambda: run.waiting is not None)
    run.resume()
    assert run.result(30) == "went on"


def test_nobody_answers():
    """A question that nobody answers in time fails, and is withdrawn."""

    def body():
        pause_flow_run(timeout=0.05)

    run = ended(body)
    with pytest.raises(FlowPauseTimeout):
        run.result()
    assert run.waiting is None


# -- within each other ------------------------------------------------------------------


def test_subflows_in_a_process():
    """A process may call flows: in its own thread, in the background, and in processes."""

    def body():
        @flow
        def inner(x):
            return x + 1

        @flow(on="process")
        def deeper():
            return os.getpid()

        return inner(1), inner.start(2).result(), deeper.start().result() != os.getpid()

    assert ended(body).result() == (2, 3, True)


def test_a_flow_of_a_module_travels_by_name(tmp_path, monkeypatch):
    """A flow of an imported module is imported in the process, and may call itself."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "flows_of_a_module.py").write_text(
        "import threading\n"
        "from jupyter_flows import flow, task\n"
        "lock = threading.Lock()\n"
        "@task\n"
        "def step(x):\n"
        "    with lock: return x\n"
        "@flow(on='process')\n"
        "def fall(n):\n"
        "    return 0 if n == 0 else step(n) + fall(n - 1)\n"
    )
    import flows_of_a_module

    def uses():
        return flows_of_a_module.step(4), fall(2)

    fall = flows_of_a_module.fall
    assert flows_of_a_module.fall.start(3).result(30) == 6
    assert ended(uses).result() == (4, 3)
