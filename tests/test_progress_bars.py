"""Progress bars of a run: its loops, those made by hand, and tqdm's."""

import asyncio
import io
import subprocess
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm, trange
from tqdm.asyncio import tqdm as async_tqdm
from tqdm.auto import tqdm as auto_tqdm
from tqdm.notebook import tqdm as notebook_tqdm

from jupyter_flows import flow, progress, task
from jupyter_flows.engine import progress as bars_of_runs

pytestmark = pytest.mark.usefixtures("nothing_is_left")

KINDS = [tqdm, auto_tqdm, async_tqdm, notebook_tqdm]


def shown(run):
    """Return a run's bars: what each is called, how far it is, and in which it is."""
    bars = run.progress
    labels = {bar.number: bar.label for bar in bars}
    return [(bar.label, bar.done, bar.total, labels.get(bar.parent)) for bar in bars]


def ended(body, **options):
    """Run a body to its end; nothing was drawn, and every bar has ended."""
    run = flow(body, **options).start().wait(30)
    assert run.state.is_completed(), run.record().error
    assert run.logs == []
    assert all(bar.ended is not None for bar in run.progress)
    return run


# -- progress ------------------------------------------------------------------------------


def counts():
    for _ in progress(range(3), description="outer"):
        for _ in progress(iter("ab"), description="inner"):
            pass


@pytest.mark.parametrize("on", ["thread", "process"])
def test_loops_nest(on):
    """A loop over `progress` is a bar that counts by itself, within the bar around it."""
    assert shown(ended(counts, on=on)) == [("outer", 3, 3, None), ("inner", 2, None, "outer")]


def test_rate_and_total_are_there(until):
    """While it goes on a bar says how fast it is, from which the view tells the time left."""
    go = threading.Event()

    @flow
    def loops():
        for i in progress(range(1_000), description="step"):
            time.sleep(0.01)
            if i == 40:
                go.wait(20)

    run = loops.start()
    until(lambda: run.progress and run.progress[0].rate)
    [bar] = run.progress
    assert 0 < bar.rate <= 100
    assert bar.ended is None
    run.cancel()
    go.set()
    run.wait(20)
    assert run.progress[0].ended is not None


def test_a_bar_by_hand():
    """Without something to iterate over a bar is updated by hand, and closed by `with`."""

    def body():
        with progress(total=10, description="rows") as bar:
            for _ in range(3):
                bar.update(3)
            progress.update(0.5)
        last = progress(description="last")
        last.update()
        last.close()
        last.close()

    assert shown(ended(body)) == [("rows", 9.5, 10, None), ("last", 1, None, None)]


def test_update_is_for_the_innermost_bar():
    """`progress.update` counts on the bar that is open innermost, then on the one around it."""

    def body():
        with progress(total=4, description="outer"):
            with progress(description="inner"):
                progress.update(2)
            progress.update()

    assert shown(ended(body)) == [("outer", 1, 4, None), ("inner", 2, None, "outer")]


def update_alone():
    for _ in range(5):
        progress.update()


@pytest.mark.parametrize("on", ["thread", "process"])
def test_update_without_a_bar_counts_for_the_run(on):
    """Where no bar is open, `progress.update` begins one of the run's, without a total."""
    assert shown(ended(update_alone, on=on)) == [("progress", 5, None, None)]


@pytest.mark.parametrize(
    ("steps", "total", "told"),
    [
        (Fraction(5, 2), Decimal(10), (2.5, 10)),
        (float("nan"), float("nan"), (0, None)),
        (float("inf"), float("inf"), (0, None)),
        (10**400, "many", (0, None)),
        (2**53, 2**60, (2.0**53, 2.0**60)),
    ],
)
def test_whatever_counts_is_told_as_plain_numbers(steps, total, told):
    """A bar that counts in numbers of another kind, or without end, is told as JSON has it."""

    def body():
        with progress(total=total):
            progress.update(steps)

    (bar,) = ended(body).progress
    assert (bar.done, bar.total) == told
    assert {type(bar.done), type(bar.total)} <= {int, float, type(None)}


def test_async_loops():
    """`async for` over `progress` of an async iterable is a bar too."""

    async def pages():
        for i in range(3):
            await asyncio.sleep(0)
            yield i

    async def body():
        return [page async for page in progress(pages(), total=3, description="page")]

    run = ended(body)
    assert run.result() == [0, 1, 2]
    assert shown(run) == [("page", 3, 3, None)]


def test_a_loop_that_is_left_ends_its_bar():
    """A loop that is left by `break` or an error closes its bar, which keeps its count."""

    def body():
        for i in progress(range(10), description="left"):
            if i == 3:
                break
        try:
            for _ in progress(range(10), description="failed"):
                1 / 0  # noqa: B018
        except ZeroDivisionError:
            pass
        with progress(description="after"):
            pass

    assert shown(ended(body)) == [
        ("left", 3, 10, None),
        ("failed", 0, 10, None),
        ("after", 0, None, None),
    ]


def test_each_task_has_bars_of_its_own():
    """Tasks that loop at the same time, over bars of one name, are shown one by one."""
    together = threading.Barrier(3)

    @task
    def loops():
        for i in progress(range(4), description="row"):
            if i == 2:
                together.wait(20)

    def body():
        for future in [loops.submit() for _ in range(3)]:
            future.result()

    assert sorted(shown(ended(body))) == [(f"loops-{i} › row", 4, 4, None) for i in range(3)]


def test_threads_may_update_one_bar():
    """No step is lost where several threads update a bar."""

    def body():
        with progress(description="all") as bar:
            threads = [
                threading.Thread(target=lambda: [bar.update() for _ in range(500)])
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    assert shown(ended(body)) == [("all", 2_000, None, None)]


def test_old_bars_make_room_for_new_ones(monkeypatch):
    """A run shows a bounded number of bars: those that have ended go first."""
    monkeypatch.setattr(bars_of_runs, "MOST", 3)

    def body():
        with progress(description="all"):
            for i in range(6):
                for _ in progress(range(1), description=f"{i}"):
                    pass

    assert [label for label, *_ in shown(ended(body))] == ["all", "4", "5"]


def test_outside_of_a_run_it_only_iterates():
    """Outside of runs `progress` passes everything on and shows nothing."""
    assert list(progress(range(3), description="x")) == [0, 1, 2]
    assert next(progress("ab")) == "a"
    with progress(total=3) as bar:
        bar.update()
    progress.update()
    with pytest.raises(TypeError, match="not iterable"):
        progress(3)
    with pytest.raises(TypeError, match="nothing to iterate over"):
        list(progress(total=3))


# -- tqdm ----------------------------------------------------------------------------------


def nested(kind):
    for _ in kind(range(3), desc="outer"):
        for _ in kind(iter("ab"), desc="inner", leave=False):
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_tqdm_is_a_bar(kind):
    """A loop over any tqdm is a bar of the run, nested like its loops, and draws nothing."""
    run = flow(nested).start(kind).wait(30)
    assert run.state.is_completed(), run.record().error
    assert shown(run) == [("outer", 3, 3, None), ("inner", 2, None, "outer")]
    assert run.logs == []
    assert len(run.outputs) == 0


@pytest.mark.parametrize("by_hand", [False, True], ids=["loop", "by hand"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_tqdm_is_a_checkpoint(kind, by_hand):
    """A cancel takes hold at a step of a tqdm, without its grace, and the bar is ended."""
    began = threading.Event()

    @flow(cancel_grace_seconds=600)
    def endless():
        if by_hand:
            bar = kind(total=None)
            while True:
                bar.update()
                began.set()
        for _ in kind(iter(int, 1)):
            began.set()

    run = endless.start()
    assert began.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.logs == []
    assert all(bar.ended for bar in run.progress)


def imports_it_late():
    from tqdm import tqdm as late

    for _ in late(range(3), desc="late"):
        pass


@pytest.mark.parametrize("on", ["thread", "process"])
def test_tqdm_in_a_process(on):
    """It is so in a process, too, which draws its bars in the kernel."""
    assert shown(ended(imports_it_late, on=on)) == [("late", 3, 3, None)]


def test_tqdm_that_is_imported_in_a_run_is_a_bar():
    """It makes no difference whether tqdm was imported before the first run or in it."""
    code = (
        "import sys\nfrom jupyter_flows import flow\n@flow\ndef late():\n"
        "    from tqdm.auto import tqdm\n"
        "    for _ in tqdm(range(3), desc='late'): pass\n"
        "assert 'tqdm' not in sys.modules\n"
        "run = late.start().wait(20)\n"
        "print(run.state.type, [(b.label, b.done) for b in run.progress], run.logs)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "COMPLETED [('late', 3)] []\n"
    assert told.stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_tqdm_by_hand(kind, until):
    """Updates, descriptions, what is told beside them, resets and totals are seen at once."""
    seen = threading.Semaphore(0)

    def step():
        assert seen.acquire(timeout=20)

    @flow
    def by_hand():
        bar = kind(total=10, desc="bytes", initial=2)
        bar.update(3)
        step()
        bar.set_description("more")
        bar.set_postfix(loss=0.5)
        step()
        bar.reset(total=7)
        bar.update()
        step()
        bar.close()
        bar.close()

    run = by_hand.start()
    for each in (("bytes", 5, 10), ("more (loss=0.5)", 5, 10), ("more (loss=0.5)", 1, 7)):
        until(lambda each=each: [bar[:3] for bar in shown(run)] == [each], str(each))
        seen.release()
    assert run.wait(20).state.is_completed(), run.record().error
    assert run.progress[0].ended is not None
    assert run.logs == []


def test_tqdm_writes_lines():
    """What is written by `tqdm.write` is a line of the log, once, and whole."""

    def body():
        for i in trange(3):
            tqdm.write(f"at {i}")

    run = flow(body).start().wait(20)
    assert [line.message for line in run.logs] == ["at 0", "at 1", "at 2"]


def test_tqdm_of_an_async_iterable():
    """`async for` over a tqdm, and its `gather`, are bars."""

    async def pages():
        for i in range(3):
            yield i

    async def body():
        async for _ in async_tqdm(pages(), desc="pages"):
            pass
        await async_tqdm.gather(*[asyncio.sleep(0) for _ in range(4)], desc="gathered")

    assert shown(ended(body)) == [("pages", 3, None, None), ("gathered", 4, 4, None)]


def test_tqdm_in_tasks():
    """Tasks with a tqdm each, at the same time, have a bar each."""
    together = threading.Barrier(3)

    @task
    def loops():
        for i in tqdm(range(4), desc="row"):
            if i == 2:
                together.wait(20)

    def body():
        for future in [loops.submit() for _ in range(3)]:
            future.result()

    assert sorted(shown(ended(body))) == [(f"loops-{i} › row", 4, 4, None) for i in range(3)]


def test_tqdm_in_a_helper_thread():
    """A tqdm in a thread that the run starts is the run's."""

    def body():
        thread = threading.Thread(target=lambda: list(tqdm(range(3), desc="helper")))
        thread.start()
        thread.join()

    assert shown(ended(body)) == [("helper", 3, 3, None)]


def test_tqdm_that_is_left_or_forgotten_ends():
    """A tqdm loop that is left closes its bar; one that is never closed ends with its run."""

    def body():
        for i in tqdm(range(10), desc="left", mininterval=0):
            if i == 3:
                break
        kept.append(tqdm(total=3, desc="kept"))

    kept = []
    assert shown(ended(body)) == [("left", 3, 10, None), ("kept", 0, 3, None)]


def test_what_is_not_for_the_screen_is_left_alone():
    """A disabled tqdm, and one with a file of its own, are as ever, in runs too."""
    file = io.StringIO()

    def body():
        list(tqdm(range(3), disable=True))
        list(tqdm(range(3), disable=None))
        list(tqdm(range(3), file=file, desc="own file"))

    assert shown(ended(body)) == []
    assert "own file: 100%" in file.getvalue()


def test_tqdm_draws_where_prints_pass(capsys):
    """With `log_prints=False` a tqdm draws as it does outside of runs."""

    @flow(log_prints=False)
    def draws():
        list(tqdm(range(3), desc="drawn"))

    run = draws.start().wait(20)
    assert "drawn: 100%" in capsys.readouterr().err
    assert run.progress == ()


def test_tqdm_outside_of_runs_is_untouched(capsys):
    """A cell's own tqdm draws as ever, also while runs have theirs."""
    inside, outside = threading.Event(), threading.Event()

    @flow
    def loops():
        for _ in tqdm(range(2), desc="in a run"):
            inside.set()
            outside.wait(20)

    run = loops.start()
    inside.wait(20)
    for _ in tqdm(range(3), desc="outside", mininterval=0):
        pass
    drawn = capsys.readouterr().err
    outside.set()
    run.wait(20)
    assert "outside: 100%" in drawn
    assert "\n" not in drawn.rstrip("\n")
    assert "\x1b" not in drawn
    assert "in a run" not in drawn
    assert shown(run) == [("in a run", 2, 2, None)]


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.integers(min_value=1, max_value=5), max_size=8),
    total=st.none() | st.integers(min_value=1, max_value=40),
)
def test_both_kinds_of_bars_count_alike(steps, total):
    """Whatever is counted on a bar of ours and on a tqdm is shown alike."""

    def body():
        with progress(total=total, description="ours") as ours:
            for n in steps:
                ours.update(n)
        with tqdm(total=total, desc="tqdm") as theirs:
            for n in steps:
                theirs.update(n)

    one, other = shown(ended(body))
    assert one[1:] == other[1:] == (sum(steps), total, None)
