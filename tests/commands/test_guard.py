"""However a process ends, SIGKILL included: nothing of its commands is left, nor its guard."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from jupyter_flows import flow, run_process
from jupyter_flows.commands import link, system
from tests.commands.families import alive, carrying, described
from tests.repeats import FULL

REPOSITORY = Path(__file__).parents[2]
NAME = "JUPYTER_FLOWS_TEST"  # the variable by which a program and what it starts are found
SLEEPS = "sh sleeps"  # notes its id
FAMILIES = {  # commands, and how many processes of each note their ids and stay
    "sh -c 'echo $$ >> pids; exec yes' | sh -c 'echo $$ >> pids; exec cat' > /dev/null": 2,
    "trap '' TERM HUP INT; echo $$ >> pids; while :; do sleep 0.1; done": 1,
    f"setsid {SLEEPS} & echo $$ >> pids; wait": 2,
    f"env -i {SLEEPS} & echo $$ >> pids; wait": 2,
    f"(env -i {SLEEPS} &)": 1,  # the command itself has ended
    f"setsid sh -c '(setsid {SLEEPS} &)'; sleep 3600": 1,  # a daemon
}
RUNS = """
from jupyter_flows import flow, run_process

@flow(on="thread")
def in_thread(command): run_process(command)

@flow(on="async")
async def on_loop(command): await run_process(command)
"""
GUARD = "\nfrom jupyter_flows.commands import link\ndef guard(): return link._guard._process.pid\n"
WITHOUT_PROC = """
import os
from jupyter_flows.commands import link, system
system.HAS_PROC = False
first = 'from jupyter_flows.commands.guard import main'
then = 'from jupyter_flows.commands import system; system.HAS_PROC = False'
link._PROGRAM = link._PROGRAM.replace(first, f"{first}; {then}")
begun = link.begun
link.begun = lambda mark, pid: (begun(mark, pid), os.write(1, b"told\\n"))
"""  # and says when the guard knows of a command: before that it could not find all of it
LAST = "\nimport time\ntime.sleep(3600)"


@pytest.fixture
def program(tmp_path):
    """Starts a Python program in `tmp_path`: `program(source)`; the last one is ended."""
    (tmp_path / "sleeps").write_text("echo $$ >> pids; exec sleep 3600")
    started = []

    def start(source, **options):
        token = str(uuid4())
        environment = os.environ | {NAME: token, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", "-c", source],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        process.token = token
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def noted(tmp_path, until):
    """Waits until so many processes have noted their ids, and returns them: `noted(count)`."""
    path = tmp_path / "pids"

    def read(count):
        until(lambda: path.exists() and path.read_text().count("\n") == count, f"{count} begin")
        processes = [psutil.Process(int(line)) for line in path.read_text().split()]
        path.unlink()
        return processes

    return read


def nothing_is_left_of(program, until):
    """The program, its guard, and all that carries its environment have ended."""
    program.wait(20)
    until(lambda: not carrying(NAME, program.token), "nothing is left")


def all_end(processes, until):
    """Wait until none of these processes is left; say of those that are what they are."""
    try:
        until(lambda: not any(alive(each.pid) for each in processes), "all have ended")
    except AssertionError as error:
        pytest.fail("\n".join([str(error), *(described(each.pid) for each in processes)]))


def besides_a_guard(program):
    """Return what carries a program's environment, or is about to: all but its guard."""
    found = []
    for each in carrying(NAME, program.token):
        try:
            if link._PROGRAM not in each.cmdline():
                found.append(each)
        except psutil.NoSuchProcess:
            pass
    return found


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "psutil"])
def test_sigkill_leaves_nothing_of_commands(program, noted, until, proc):
    """SIGKILL of a process ends all that the commands of its runs have started."""
    source = RUNS + f"for each in {list(FAMILIES)!r}:\n    in_thread.start(each)\n"
    source += "    on_loop.start(each)\n" + LAST
    for _ in range((100 if FULL else 3) if proc else 1):
        killed = program(source if proc else WITHOUT_PROC + source)
        processes = noted(2 * sum(FAMILIES.values()))
        for _ in range(0 if proc else 2 * len(FAMILIES)):
            assert killed.stdout.readline() == "told\n"
        assert all(alive(each.pid) for each in processes)
        killed.kill()
        all_end(processes, until)
        nothing_is_left_of(killed, until)


@pytest.mark.parametrize("command", FAMILIES)
@pytest.mark.skipif(not system.HAS_PROC, reason="pipes can be looked at only in /proc")
def test_sigkill_before_the_guard_knows_which_process_it_is(program, noted, until, command):
    """A command that has begun, but whose process id nobody could tell, does not outlive it."""
    source = (
        "import threading\nfrom jupyter_flows import run_process\n"
        "from jupyter_flows.commands import link\n"
        "link.begun = lambda mark, pid: threading.Event().wait()\n"
        f"run_process({command!r})"
    )
    killed = program(source)
    processes = noted(FAMILIES[command])
    killed.kill()
    all_end(processes, until)
    nothing_is_left_of(killed, until)


def test_sigkill_at_any_moment_of_a_beginning(program, until):
    """A command that is about to begin in the moment of the SIGKILL does not outlive it."""
    source = (
        "import threading\nfrom jupyter_flows import run_process\nprint('ready')\ninput()\n"
        "for _ in range(5):\n"
        "    threading.Thread(target=run_process, args=(['sleep', '3600'],)).start()"
    )
    for _ in range(100 if FULL else 5):
        killed = program(source)
        assert killed.stdout.readline() == "ready\n"
        print(file=killed.stdin, flush=True)
        threading.Event().wait(random.uniform(0, 0.04))  # the moment is what is tried out
        killed.kill()
        killed.wait(20)
        until(lambda of=killed: not besides_a_guard(of), "no command is left")
    nothing_is_left_of(killed, until)


def test_commands_of_commands(program, noted, until):
    """What a command runs by `run_process` itself ends with the outer process, too."""
    inner = f"from jupyter_flows import run_process; run_process({SLEEPS!r})"
    source = (
        f"from jupyter_flows import run_process\nrun_process({[sys.executable, '-c', inner]!r})"
    )
    killed = program(source)
    (process,) = noted(1)
    killed.kill()
    until(lambda: not alive(process.pid))
    nothing_is_left_of(killed, until)


def test_an_exit_without_cleanup(program, noted, until):
    """An end by `os._exit` is like one by SIGKILL."""
    source = RUNS + f"in_thread.start({SLEEPS!r})\ninput()\nimport os; os._exit(3)"
    ended = program(source)
    (process,) = noted(1)
    ended.communicate("\n")
    assert ended.returncode == 3
    until(lambda: not alive(process.pid))
    nothing_is_left_of(ended, until)


def test_the_guard_ends_with_a_normal_end(program, until):
    """When a process ends as it should, its guard ends too, and nothing is warned of."""
    source = (
        "from jupyter_flows import run_process\nrun_process(['true'])" + GUARD + "print(guard())"
    )
    ended = program(source, stderr=subprocess.PIPE)
    out, err = ended.communicate()
    assert (ended.returncode, err) == (0, "")
    until(lambda: not alive(int(out)), "the guard has ended")
    nothing_is_left_of(ended, until)


def test_a_killed_guard_is_replaced(program, noted, until):
    """The next command after the end of a guard gets a new one, which hears of all that run."""
    source = (
        RUNS
        + GUARD
        + (
            f"in_thread.start({SLEEPS!r})\ninput()\n"
            "import os; first = guard(); os.kill(first, 9)\n"
            "os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)\n"
            "run_process(['true']); assert guard() != first\nprint('replaced')"
        )
    )
    killed = program(source + LAST)
    (process,) = noted(1)
    print(file=killed.stdin, flush=True)
    assert killed.stdout.readline() == "replaced\n"
    assert alive(process.pid)
    killed.kill()
    until(lambda: not alive(process.pid))
    nothing_is_left_of(killed, until)


def test_a_forked_child_has_a_guard_of_its_own(program, noted, until):
    """Parent and child take their own commands along, and neither waits for the other's end."""
    source = RUNS + (
        "import os, warnings; warnings.simplefilter('ignore')\n"
        f"in_thread.start({SLEEPS!r})\ninput()\n"
        f"child = os.fork()\nif not child: run_process({SLEEPS!r})\nprint(child)"
    )
    parent = program(source + LAST)
    (of_parent,) = noted(1)
    print(file=parent.stdin, flush=True)
    child = int(parent.stdout.readline())
    (of_child,) = noted(1)
    parent.kill()
    until(lambda: not alive(of_parent.pid))
    assert alive(child)
    assert alive(of_child.pid)
    os.kill(child, signal.SIGKILL)
    until(lambda: not alive(of_child.pid))
    nothing_is_left_of(parent, until)


def test_somebody_else_holds_the_pipe(program, noted, until):
    """A copy of the process that Python does not know of does not put off the end."""
    source = RUNS + (
        f"import ctypes, time\nin_thread.start({SLEEPS!r})\ninput()\n"
        "copy = ctypes.PyDLL(None).fork()\n"
        "if not copy: ctypes.PyDLL(None).pause()\nprint(copy)"
    )
    killed = program(source + LAST)
    (process,) = noted(1)
    print(file=killed.stdin, flush=True)
    copy = int(killed.stdout.readline())
    killed.kill()
    until(lambda: not alive(process.pid))
    assert alive(copy)
    os.kill(copy, signal.SIGKILL)
    nothing_is_left_of(killed, until)


def test_what_a_command_has_left_on_purpose_stays(program, noted, until):
    """A daemon whose command has ended well is nobody's any more, and goes on."""
    source = (
        f"from jupyter_flows import run_process\nrun_process('setsid {SLEEPS} >/dev/null 2>&1 &')"
    )
    ended = program(source + GUARD + "print(guard())")
    (daemon,) = noted(1)
    guard = int(ended.stdout.readline())
    assert ended.wait(20) == 0
    until(lambda: not alive(guard), "the guard has ended")
    assert alive(daemon.pid)
    daemon.kill()


def test_without_a_guard_commands_run(monkeypatch):
    """Where no guard can be started, commands run all the same."""
    monkeypatch.setattr(link, "_guard", None)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert run_process(["echo", "on"]).stdout == "on\n"
    assert link._guard is None


def test_a_guard_that_does_not_read_is_not_waited_for(monkeypatch):
    """A guard that is held still is given up, once the pipe to it is full."""
    monkeypatch.setattr(link, "_PATIENCE", 1)
    guard = link._Guard()
    guard._process.send_signal(signal.SIGSTOP)
    while guard.tell("- 0\n" * 100):
        pass
    guard.dismiss()
    assert not guard.serves


def test_it_stands_apart():
    """It is in a session of its own, ignores signals, and holds nothing of its process."""
    guard = link._guard._process.pid
    status = Path(f"/proc/{guard}/status")
    ignores = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def ignored():
        line = next(each for each in status.read_text().splitlines() if each[:7] == "SigIgn:")
        return all(int(line.split()[1], 16) >> (number - 1) & 1 for number in ignores)

    assert os.getsid(guard) == guard
    assert ignored()
    held = [os.readlink(each) for each in Path(f"/proc/{guard}/fd").iterdir()]
    assert sorted(held)[:3] == ["/dev/null"] * 3
    assert [each[:5] for each in sorted(held)[3:]] == ["pipe:"]
    assert os.readlink(f"/proc/{guard}/cwd") == "/"


def test_it_is_light():
    """It imports neither the engine nor anything that is not Python's own."""
    arguments = [sys.executable, "-I", "-S", "-X", "importtime", "-c", link._PROGRAM]
    pipe, end = os.pipe()
    os.close(end)
    imported = subprocess.run(
        [*arguments, str(pipe), str(os.getpid()), str(REPOSITORY), *sys.path],
        pass_fds=[pipe],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr
    os.close(pipe)
    names = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "jupyter_flows.commands.guard" in names
    assert not [name for name in names if "engine" in name]
    assert not names & {"psutil", "typing", "subprocess", "socket", "asyncio", "site"}


def test_a_process_of_a_run_needs_none():
    """Where a run is in a process of its own, its supervisor ends what it leaves behind."""

    @flow(on="process")
    def runs():
        from jupyter_flows.commands import link

        run_process(["true"])
        return link._guard is None

    assert runs.start().result()
