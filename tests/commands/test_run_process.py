"""Commands of runs: what they say, how they end, and that nothing of them is left."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from jupyter_flows import (
    CommandFailed,
    flow,
    pause_flow_run,
    run_process,
    shield,
    task,
)
from jupyter_flows.engine import registry
from tests.commands.families import STUBBORN, alive, commands_below, pipes

FOR_EVER = "3600"
STILL = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DISK_SLEEP}
PYTHON = sys.executable


@pytest.fixture(params=["thread", "async", "main"])
def start(request, kernel_loop):
    """Starts a run of one command on each worker: `start(command, **options)`."""

    def start(command, **options):
        if request.param == "thread":

            @flow(name="runs")
            def body():
                return run_process(command, **options)

        else:

            @flow(name="runs", on=request.param)
            async def body():
                return await run_process(command, **options)

        return body.start()

    return start


def messages(run):
    return [line.message for line in run.logs]


def family_of(until, count):
    """Wait until there are so many processes below this one, and return them."""
    until(lambda: len(commands_below()) == count)
    return commands_below()


# -- what it gives --------------------------------------------------------------------------


def test_it_gives_what_the_command_said(start):
    """On every worker the result holds both streams, and the log has each line by its source."""
    run = start("echo one; echo two; printf three; echo four >&2")
    done = run.result()
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo\nthree", "four\n")
    assert sorted(messages(run)) == sorted(["one", "two", "three", "four"])
    assert {line.source for line in run.logs} == {"echo"}


def test_a_list_needs_no_quotes(start):
    """The arguments of a list reach the program as they are, and it may be a path."""
    script = "import sys; print(sys.argv[1:])"
    run = start([Path(PYTHON), "-c", script, "$HOME *", "a  b"])
    assert run.result().stdout == "['$HOME *', 'a  b']\n"
    assert run.logs[0].source == Path(PYTHON).name


def test_lines_come_as_they_are_said(start, until):
    """A line is in the log as soon as the command has said it, long before it ends."""
    run = start("echo first; sleep 3600")
    until(lambda: messages(run) == ["first"])
    run.cancel()
    run.wait()


def test_a_hundred_thousand_lines(start):
    """Nothing of a long output is lost, in the result and in the log, and all is in order."""
    run = start([PYTHON, "-c", "for i in range(100_000): print(i)"])
    assert run.result().stdout == "".join(f"{i}\n" for i in range(100_000))
    assert run.log.count == 100_000
    held = run.logs
    assert [int(line.message) for line in held] == [line.number for line in held]


def test_junk_a_long_line_and_colours(start):
    """Bytes that are no UTF-8 are replaced, colours are kept, a long line is one line."""
    script = (
        "import sys; w = sys.stdout.buffer.write\n"
        r"w(b'\xff\xfe\x00\n'); w('é'.encode()[:1]); sys.stdout.flush()" + "\n"
        r"w('é\n'.encode()[1:]); w(b'\x1b[31mred\x1b[0m\n'); w(b'x' * 1_500_000 + b'\n\xc3')"
    )
    run = start([PYTHON, "-c", script])
    assert run.result().stdout == ("��\x00\né\n\x1b[31mred\x1b[0m\n" + "x" * 1_500_000 + "\n�")
    assert messages(run)[1:3] == ["é", "\x1b[31mred\x1b[0m"]
    assert messages(run)[3].startswith("xxx")
    assert messages(run)[3].endswith("[500,000 characters cut]")
    assert len(messages(run)) == 5


def test_a_progress_bar_is_one_line(start):
    """Carriage returns overwrite a line, as they do when a run prints."""
    run = start(r"printf '10%%\r50%%\r100%%\ndone\n'")
    run.wait()
    assert messages(run) == ["100%", "done"]


def test_input_directory_and_environment(start, tmp_path):
    """It reads what it is given, where it is told to, with the environment that is named."""
    run = start("pwd; echo $WORD; cat", cwd=tmp_path, env={"WORD": "hello"}, input="à la carte")
    assert run.result().stdout == f"{tmp_path}\nhello\nà la carte"
    much = b"x" * 1_000_000
    assert len(start(["cat"], input=much, stream_output=False).result().stdout) == 1_000_000
    assert start(["true"], input=much).result().returncode == 0


def test_without_input_there_is_nothing_to_read(start):
    """A command that reads its stdin does not hang, nor take the kernel's."""
    assert start(["cat"]).result().stdout == ""


def test_output_that_is_not_to_be_streamed(start):
    """With `stream_output=False` the result has it all, and the log nothing."""
    run = start(["echo", "quiet"], stream_output=False)
    assert run.result().stdout == "quiet\n"
    assert messages(run) == []


def test_a_failure_says_what_happened(start):
    """An exit code other than 0 is an error that names the command, the code, and its last line."""
    run = start("echo out; echo warning >&2; echo no such thing >&2; exit 3")
    with pytest.raises(CommandFailed, match=r"ended with exit code 3: no such thing$") as caught:
        run.result()
    error = caught.value
    assert isinstance(error, subprocess.CalledProcessError)
    assert (error.returncode, error.stdout) == (3, "out\n")
    assert run.state.name == "Failed"
    with pytest.raises(CommandFailed, match=r"^The command 'kill -9 \$\$' was ended by SIGKILL\.$"):
        start("kill -9 $$").result()
    assert start(["false"], check=False).result().returncode == 1


def test_a_program_that_does_not_exist(start):
    """That there is no such program is said as Python says it."""
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        start(["no-such-program"]).result()


def test_an_argument_that_cannot_be_one(start):
    """What the system does not take as an argument is said as Python says it."""
    with pytest.raises(ValueError, match="null"):
        start(["echo", "a\0b"]).result()


@pytest.mark.parametrize("grace", [-1, "1", float("nan")])
def test_grace_is_a_number_of_seconds(grace):
    """A grace that is none is refused before anything is run."""
    with pytest.raises(ValueError, match="grace must be a number of seconds"):
        run_process(["true"], grace=grace)


def test_outside_of_runs(capfd):
    """Without a run it works too, in sync and async code, and shows its output as it comes."""
    assert run_process("echo out; echo err >&2").stdout == "out\n"

    async def main():
        both = await asyncio.gather(*[run_process(["echo", str(i)]) for i in range(2)])
        return [done.stdout for done in both]

    assert asyncio.run(_called_in_coroutine(main)) == ["0\n", "1\n"]
    shown = capfd.readouterr()
    assert sorted(shown.out.split()) == ["0", "1", "out"]
    assert shown.err == "err\n"


async def _called_in_coroutine(main):
    return await main()


def test_prints_that_pass_take_the_output_along(capfd):
    """With `log_prints=False` a command's output goes where the run's prints go."""

    @flow(log_prints=False)
    def passes():
        run_process(["echo", "passes"])

    run = passes.start()
    run.result()
    assert messages(run) == []
    assert capfd.readouterr().out == "passes\n"


def test_in_tasks(until):
    """In a task the source says which task it was; all that run are ended with the flow."""

    @task
    def work(word):
        run_process(f"echo {word}; sleep 3600")

    @flow
    def works():
        work.map(["a", "b"])

    run = works.start()
    until(lambda: sorted(messages(run)) == ["a", "b"])
    assert sorted(line.source for line in run.logs) == ["work-0 · echo", "work-1 · echo"]
    run.cancel()
    run.wait()
    assert [each.state.name for each in run.tasks] == ["Cancelled", "Cancelled"]


def test_in_a_run_in_a_process(until):
    """On a process of its own a run has its commands' output, and takes them with it."""

    @flow(on="process")
    def says():
        return run_process("echo out; echo err >&2").stdout

    run = says.start()
    assert run.result() == "out\n"
    assert sorted(messages(run)) == ["err", "out"]

    @flow(on="process")
    def pipes():
        run_process("yes | cat")

    run = pipes.start()
    until(lambda: run.log.count > 1000)
    run.cancel()
    run.wait(10)
    assert run.state.name == "Cancelled"


# -- how it is ended --------------------------------------------------------------------------


def test_a_cancel_ends_a_pipeline(start, until):
    """A cancel ends all members of a pipeline, and the run, in a moment."""
    run = start(["sh", "-c", "yes | cat"])
    until(lambda: run.log.count > 1000)
    family = family_of(until, 3)
    began = time.monotonic()
    run.cancel()
    run.wait(10)
    assert run.state.name == "Cancelled"
    assert time.monotonic() - began < 2
    assert not any(alive(each.pid) for each in family)


def test_a_cancel_is_raised_when_nothing_is_left(until):
    """When the code gets the cancel, all processes have gone; it can clean up after them."""
    seen = []

    @flow
    def body():
        try:
            run_process(STUBBORN, grace=0.3)
        except BaseException as error:
            seen.append((type(error).__name__, commands_below()))
            raise

    run = body.start()
    until(lambda: messages(run) == ["on"])
    run.cancel()
    run.wait(10)
    assert seen == [("RunCancellation", [])]
    assert run.state.name == "Cancelled"


def test_what_ignores_sigterm_is_killed_after_the_grace(start, until):
    """SIGTERM first, SIGKILL after the grace; the ladder does not cut that short."""
    run = start(STUBBORN, grace=1.5)
    until(lambda: messages(run) == ["on"])
    began = time.monotonic()
    run.cancel()
    run.wait(10)
    assert run.state.name == "Cancelled"
    assert 1.4 < time.monotonic() - began < 4


def test_a_kill_of_the_run_does_not_wait_for_the_grace(start, until):
    """Kill ends the command at once."""
    run = start(STUBBORN, grace=60)
    until(lambda: messages(run) == ["on"])
    began = time.monotonic()
    run.cancel()
    run.kill()
    run.wait(10)
    assert run.state.name == "Cancelled"
    assert time.monotonic() - began < 2


def test_a_cancel_with_a_shorter_grace_is_heeded(start, until):
    """`run.cancel(grace=...)` is the grace of its commands too, where that is shorter."""
    run = start(STUBBORN, grace=60)
    until(lambda: messages(run) == ["on"])
    run.cancel(grace=0.1)
    run.wait(10)
    assert run.state.name == "Cancelled"


def test_a_command_can_clean_up(start, until):
    """What the command says and does on SIGTERM is waited for, and is in the log."""
    run = start("trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done")
    until(lambda: messages(run) == ["on"])
    run.cancel()
    run.wait(10)
    assert "bye" in messages(run)


def test_descendants_that_left_are_ended_too(start, until, tmp_path):
    """A daemon that left the group, the session and its parent goes with the command."""
    script = (
        "import os, signal, sys, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"        open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "        print('on', flush=True); time.sleep(3600)\n    os._exit(0)\n"
        "time.sleep(3600)"
    )
    run = start([PYTHON, "-c", script], grace=0.2)
    until(lambda: messages(run) == ["on"])
    daemon = int((tmp_path / "pid").read_text())
    assert os.getsid(daemon) not in (os.getsid(0), daemon)
    run.cancel()
    run.wait(10)
    assert run.state.name == "Cancelled"
    until(lambda: not alive(daemon))  # it is dying, and may still be to be reaped


def test_a_timeout_ends_it():
    """A flow's timeout ends the command, and the run is TimedOut."""

    @flow(timeout_seconds=0.2)
    def late():
        run_process(["sleep", FOR_EVER])

    run = late.start()
    run.wait(10)
    assert run.state.name == "TimedOut"


def test_a_timeout_of_asyncio_ends_it():
    """A cancel by asyncio's own means, outside of runs, ends the command before it is raised."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await run_process(["sleep", FOR_EVER])
        return commands_below()

    assert asyncio.run(main()) == []


def test_a_command_in_a_cleanup_runs_to_its_end(until):
    """A command in a `finally` block is not cut short by the cancel that led there."""

    @flow
    def tidy():
        try:
            run_process(["sleep", FOR_EVER])
        finally:
            run_process("sleep 0.2; echo tidy")

    run = tidy.start()
    family_of(until, 1)
    run.cancel(grace=0)
    run.wait(10)
    assert run.state.name == "Cancelled"
    assert messages(run)[-1] == "tidy"


def test_a_shield_keeps_a_command(until):
    """Within a shield neither a cancel nor a pause reaches the command."""
    entered = threading.Event()

    @flow
    def shielded():
        with shield():
            entered.set()
            run_process("sleep 0.3; echo whole")

    run = shielded.start()
    entered.wait(10)
    run.pause()
    run.cancel(grace=0)
    run.wait(10)
    assert "whole" in messages(run)


def test_ctrl_c_outside_of_runs(tmp_path):
    """Ctrl-C while a plain program waits for a command ends the command."""
    source = (
        "from jupyter_flows import run_process\n"
        "try: run_process('trap \"\" INT; echo $$; sleep 3600')\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    program = subprocess.Popen(
        [PYTHON, "-u", "-c", source],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with program:
        pid = int(program.stdout.readline())
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 0
        assert program.stdout.read() == "interrupted\n"
    assert not alive(pid)


# -- pausing --------------------------------------------------------------------------------


def test_a_pause_suspends_it(start, until):
    """While PAUSED is said every process of the command is stopped; a resume lets it go on."""
    run = start("i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done")
    until(lambda: run.log.count > 5)
    for _ in range(20):
        run.pause()
        until(lambda: run.state.name == "Paused")
        # one that was about to run is stopped when its turn comes, before it does anything;
        # one that has just forked sleeps until its child, which is stopped, can begin
        until(lambda: {each.status() for each in commands_below()} <= STILL)
        count = run.log.count
        run.resume()
        until(lambda count=count: run.log.count > count + 2)
    run.cancel()
    run.wait(10)
    assert run.state.name == "Cancelled"
    numbers = [int(message) for message in messages(run)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_cancel_while_paused_ends_it(start, until):
    """A suspended command is ended by a cancel, and may clean up."""
    run = start("trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done")
    until(lambda: messages(run) == ["on"])
    run.pause()
    until(lambda: run.state.name == "Paused")
    run.cancel()
    run.wait(10)
    assert "bye" in messages(run)


def test_a_command_that_ends_as_it_is_paused(start, until):
    """A pause that comes with the command's end is taken, and the run ends after it."""
    for _ in range(20):
        run = start(["true"])
        try:
            run.pause()
        except Exception:
            run.wait(10)
            continue
        until(lambda run=run: run.state.name == "Paused" or run.state_is_final())
        if not run.state_is_final():
            run.resume()
        run.wait(10)
        assert run.state.name == "Completed"
    assert not registry.active()


def test_an_approval_beside_a_command(until):
    """While one task waits for a person, the command of another goes on."""

    @task
    def works():
        run_process("while :; do echo on; sleep 0.01; done")

    @flow
    def asks():
        works.submit()
        pause_flow_run()

    run = asks.start()
    until(lambda: run.state.name == "Paused" and run.log.count > 2)
    count = run.log.count
    until(lambda: run.log.count > count + 2)
    run.cancel()
    run.wait(10)


def test_nothing_is_left_of_a_hundred_commands():
    """A hundred commands one after another leave no thread, pipe or process."""
    open_pipes, threads = len(pipes()), threading.active_count()

    @flow
    def many():
        for i in range(100):
            run_process(["true"] if i % 2 else ["false"], check=False)

    many.start().result()
    assert len(pipes()) == open_pipes
    assert threading.active_count() <= threads + 1  # the engine's timer
