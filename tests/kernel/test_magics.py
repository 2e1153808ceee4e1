"""``%%flow``, ``%flow`` and ``%flows`` in a real kernel."""

import time
from typing import Any

import pytest

HOUR = "%%flow hour --no-view\nfrom jupyter_flows import checkpoint\nimport time\ntime.sleep(3600)"


@pytest.fixture(autouse=True)
def none_left(flows: Any) -> Any:
    """Every test ends what it began."""
    yield
    flows.run("from jupyter_flows import runs\n%flows cancel --all\nfor r in runs.list(): r.wait()")


def test_an_hour_long_cell_gives_the_prompt_back_at_once(flows: Any) -> None:
    """A cell that takes an hour ends in under 200 ms, and the next cell runs at once."""
    flows.run("%%flow warm-up --wait --no-view\n1")
    began = time.monotonic()
    assert flows.run(HOUR)["error"] is None
    assert time.monotonic() - began < 0.2
    began = time.monotonic()
    assert flows.run("6 * 7")["result"] == "42"
    assert time.monotonic() - began < 0.2
    assert flows.state(flows.latest()) == "RUNNING"


def test_the_names_of_a_run_show_while_it_runs_and_are_published_when_it_completes(
    flows: Any,
) -> None:
    """`run["x"]` peeks at a live variable, and the notebook has the name only afterwards."""
    flows.run(
        "import threading\ngo = threading.Event()\n%config FlowsConfig.view = False",
    )
    flows.run(
        "%%flow peek --out run\nx = 1\nbound = threading.get_ident()\ngo.wait()\nx = 2\nx * 10"
    )
    peek = (
        "import time\nwhile 'bound' not in run.namespace: time.sleep(0.001)\nrun['x'], 'x' in dir()"
    )
    assert flows.run(peek)["result"] == "(1, False)"
    assert flows.run("go.set(); run.result(), x")["result"] == "(20, 2)"
    assert flows.run("run['nope']")["error"]["ename"] == "KeyError"
    flows.run("%config FlowsConfig.view = True")


def test_a_failed_run_publishes_nothing_and_keeps_its_names(flows: Any) -> None:
    """What a failed cell bound is in `run.namespace` and not in the notebook."""
    flows.run("%%flow fails --out run --no-view\nhalf = 1\nhalf / 0")
    told = "run.wait().state.type.value, run.namespace['half'], 'half' in dir()"
    assert flows.run(told)["result"] == "('FAILED', 1, False)"


def test_each_attempt_begins_with_the_notebooks_names(flows: Any) -> None:
    """A retried cell starts from a new snapshot, and `run.namespace` is that attempt's."""
    flows.run("attempts = []")
    flows.run(
        "%%flow again --retries 1 --out run --no-view\n"
        "seen = 'mine' in dir()\nmine = len(attempts)\nattempts.append(seen)\n1 / mine"
    )
    assert flows.run("run.result(), attempts, run['mine']")["result"] == "(1.0, [False, False], 1)"


def test_the_names_of_the_last_twenty_runs_are_kept(flows: Any) -> None:
    """The names of the last 20 cell runs can be looked at; those of older ones are let go."""
    source = (
        "for i in range(22):\n"
        "    get_ipython().run_cell_magic('flow', f'many{i} --no-view', f'k = {i}')\n"
        "    runs.list()[0].wait()\n"
        "kept = [r.namespace.get('k') for r in reversed(runs.list(limit=22))]\nstr(kept)"
    )
    flows.run("from jupyter_flows import runs")
    assert flows.run(source)["result"] == repr(str([None, None, *range(2, 22)]))


def test_await_shell_commands_and_magics_work(flows: Any) -> None:
    """Top-level await, `!cmd {x}` and line magics work, and the last expression is the result."""
    ran = flows.run(
        "%%flow mixed --wait --no-view --out run\nimport asyncio\nword = 'hi'\n"
        "await asyncio.sleep(0)\n!echo {word} there\n%who_ls str\nword.upper()"
    )
    assert "hi there" in ran["text"]
    assert flows.run("run.result(), run.record().on")["result"] == "('HI', 'async')"


def test_a_call_of_a_flow_starts_in_the_background(flows: Any) -> None:
    """`%flow etl(…)` starts the call and returns its FlowRun, braces left alone."""
    flows.run("from jupyter_flows import flow\n@flow\ndef etl(days, scale=1): return days, scale")
    assert (
        flows.run("run = %flow etl({1: 2}, scale={3})\nrun.result()")["result"] == "({1: 2}, {3})"
    )
    assert flows.run("%flow etl([1])")["result"] == "<FlowRun 'etl'>"


BAD = [
    ("%%flow x --nope\n1", "%%flow: unrecognized arguments: --nope"),
    ("%%flow x --timeout abc\n1", "%%flow: --timeout: needs a number of seconds, 0 or more"),
    ("%%flow x --timeout -5\n1", "%%flow: --timeout: needs a number of seconds, 0 or more"),
    ("%%flow x --timeout nan\n1", "%%flow: --timeout: needs a number of seconds, 0 or more"),
    ("%%flow x --timeout\n1", "%%flow: --timeout: expected one argument"),
    ("%%flow x --retries 1.5\n1", "%%flow: --retries: needs a whole number, 0 or more"),
    ("%%flow x --on dask\n1", "%%flow: --on: invalid choice: 'dask'"),
    ("%%flow x --on main\n1", "%%flow: The worker 'main' does not run sync code"),
    ("%%flow x --on thread\nawait y", "%%flow: The worker 'thread' does not run async code"),
    ("%%flow x --out 1a\n1", "%%flow: --out: needs the name of a variable"),
    ("%%flow 'x\n1", "%%flow: a quote is not closed"),
    ("%%flow\n\n", "%%flow: the cell is empty"),
    ("%flow", "%flow: give a call of a flow"),
    ("%flow print", "%flow: 'print' is no call"),
    ("%flow print(1)", "%flow: print is no flow"),
    ("%flow 1 +", "%flow: '1 +' is not an expression"),
    ("%flow typed('x')", "%flow: Flow 'typed' was called with wrong parameters: number"),
    ("%flow typed(1, 2)", "%flow: Flow 'typed' cannot be called like this"),
    ("%flows dance", "%flows: action: invalid choice: 'dance'"),
    ("%flows cancel", "%flows cancel: say which runs"),
    ("%flows cancel zz", "%flows cancel: No run of this kernel has an id that begins with 'zz'"),
    ("%flows cancel zz --all", "%flows cancel: give ids or filters, not both"),
    ("%flows replay --all", "%flows replay: only runs that have ended can be replayed, and --all"),
    ("%flows list --since soon", "%flows: --since: needs how long ago, such as 90 (seconds)"),
    ("%flows list --meta word", "%flows: --meta: needs KEY=VALUE, not 'word'"),
    ("%%flow x --meta =1\n1", "%%flow: --meta: needs KEY=VALUE, not '=1'"),
    ("%flows kill {ended} zz", "%flows kill: No run of this kernel has an id that begins with"),
    ("%flows list --state DONE", "%flows: --state: invalid choice: 'DONE'"),
    ("%flows resume {ended}", "%flows resume: <FlowRun 'ended'> is Completed: only a paused run"),
    ("%flows pause {ended}", "%flows pause: <FlowRun 'ended'> is Completed"),
]


@pytest.fixture(scope="module")
def with_flows(flows: Any) -> Any:
    """The kernel, with a flow that takes a number and a run that has ended."""
    flows.run("from jupyter_flows import flow\n@flow\ndef typed(number: int): return number")
    flows.run("%%flow ended --no-view --out run --wait\n1")
    flows.run("ended = run.id")
    return flows


@pytest.mark.parametrize(("source", "says"), BAD, ids=[source[:30] for source, _ in BAD])
def test_bad_input_is_one_line_and_starts_nothing(with_flows: Any, source: str, says: str) -> None:
    """Whatever cannot be read is one line that begins with the magic's name; no run is made."""
    before = len(with_flows.control("list")["runs"])
    ran = with_flows.run(source)
    assert ran["error"]["ename"] == "UsageError"
    told = ran["text"].strip()
    assert told.startswith(f"UsageError: {says}")
    assert "\n" not in told
    assert len(with_flows.control("list")["runs"]) == before


def test_an_ambiguous_id_is_refused(flows: Any) -> None:
    """An id that several runs begin with is refused, and none of them is touched."""
    flows.run(
        "from jupyter_flows import runs\n"
        "while len({r.id[0] for r in runs.list()}) == len(runs.list()):\n"
        "    get_ipython().run_cell_magic('flow', 'x --no-view', '1')\n"
        "from collections import Counter\n"
        "shared = Counter(r.id[0] for r in runs.list()).most_common(1)[0][0]"
    )
    assert "runs have an id that begins with" in flows.run("%flows cancel {shared}")["text"]


def test_a_syntax_error_is_shown_as_ipython_shows_it(flows: Any) -> None:
    """A cell that cannot be compiled fails with a SyntaxError at the cell's own line."""
    plain = flows.run("# first\nx = 1\ny = = 2")["error"]
    error = flows.run("%%flow broken\nx = 1\ny = = 2")["error"]
    assert error["ename"] == plain["ename"] == "SyntaxError"
    assert error["evalue"].endswith("line 3)")
    assert "magics.py" not in "".join(error["traceback"])
    assert flows.control("list")["runs"][0]["name"] != "broken"


def test_a_comment_may_follow_the_options(flows: Any) -> None:
    """What follows a # on the line of the magic is a comment, quotes and all."""
    flows.run("%%flow noted --tag a#b --no-view --wait   # it's --nonsense\n1")
    run = flows.control("list")["runs"][0]
    assert (run["name"], run["tags"]) == ("noted", ["a#b"])


def test_runs_are_listed_by_filters(flows: Any) -> None:
    """`%flows` lists runs by name, tag and state, one a line, newest first."""
    flows.run("%%flow red --tag t1 --no-view --wait\n1")
    flows.run("%%flow blue --tag t1 --tag t2 --no-view\nimport time; time.sleep(3600)")
    flows.until(flows.latest(), "RUNNING")
    rows = flows.run("%flows list --tag t1")["text"].splitlines()
    assert [row.split()[1] for row in rows] == ["name", "blue", "red"]
    assert "blue" not in flows.run("%flows list --name red")["text"]
    assert "red" not in flows.run("%flows list --state running --tag t1")["text"]
    assert flows.run("%flows --tag nothing")["text"].strip() == "No runs."


def test_runs_are_controlled_by_ids_and_filters(flows: Any) -> None:
    """`%flows pause`, `resume`, `cancel`, `logs` and `show` act on ids and on filters."""
    flows.run(
        "%%flow held --no-view\nimport time\n"
        "for i in range(10**6):\n    print(i); time.sleep(0.001)"
    )
    run = flows.latest()
    flows.until(run, "RUNNING")
    flows.run("%flows pause --name held")
    flows.until(run, "PAUSED")
    flows.run(f"%flows resume {run[:8]}")
    flows.until(run, "RUNNING")
    flows.run("%flows cancel --name held")
    flows.until(run, "CANCELLED")
    assert flows.run(f"%flows logs {run[:8]}")["text"].startswith("0\n1\n")
    shown = flows.run(f"%flows show {run[:8]}")["displays"]
    assert [each["data"]["text/plain"] for each in shown] == ["<FlowRun 'held'>"]


def test_runs_are_found_by_metadata_and_time(flows: Any) -> None:
    """`%%flow --meta` says what a run is about, and `%flows` finds it by that and by its age."""
    flows.run("%%flow a --meta customer=42 --meta kind=x=y --no-view --wait\n1")
    flows.run("%%flow b --meta customer=43 --no-view --wait\n1")
    assert flows.control("list", limit=2)["runs"][1]["metadata"] == {
        "customer": "42",
        "kind": "x=y",
    }

    def names(line: str) -> list[str]:
        rows = flows.run(f"%flows {line} --name a --name b")["text"].splitlines()
        return [row.split()[1] for row in rows[1:]]

    assert names("list --meta customer=42") == ["a"]
    assert names("list --meta customer=43 --meta kind=x=y") == []
    assert names("list --since 1h") == ["b", "a"]
    assert names("list --until 1h") == []
    assert names("list --since 2000-01-01T00:00") == ["b", "a"]


def test_runs_are_killed_and_replayed(flows: Any) -> None:
    """`%flows kill` stops by force, and `%flows replay` runs a cell again and lists the new run."""
    flows.run("%%flow again --no-view --wait\nbound = 1")
    first = flows.latest()
    told = flows.run(f"bound = 2\n%flows replay {first[:8]}")["text"]
    second = flows.latest()
    assert second[:8] in told
    assert flows.until(second, "COMPLETED")["replay_of"] == first
    assert flows.control("show", run=second)["run"]["attempt"] == 2
    assert flows.run("bound")["result"] == "1"
    flows.run("%%flow endless --meta kill=me --no-view\nimport time\nwhile True: time.sleep(0.01)")
    run = flows.latest()
    flows.until(run, "RUNNING")
    assert flows.run("%flows kill --meta kill=me")["error"] is None
    flows.until(run, "CANCELLED")


def test_what_could_not_be_done_is_listed(flows: Any) -> None:
    """`%flows` controls what it can, and prints a line for each run that it could not."""
    flows.run("%%flow over --no-view --wait\n1")
    over = flows.latest()
    flows.run(HOUR)
    run = flows.latest()
    flows.until(run, "RUNNING")
    told = flows.run(f"%flows pause {over[:8]} {run[:8]}")["text"]
    assert told == f"{over[:8]}: <FlowRun 'over'> is Completed: there is nothing to pause.\n"
    flows.until(run, "PAUSED")


def test_wait_is_a_barrier(flows: Any) -> None:
    """`%flows wait` returns when all runs have ended, fails as they did, and can time out."""
    flows.run("import threading\ngo = threading.Event()")
    flows.run("%%flow slow --no-view --out run\ngo.wait()")
    late = flows.run("%flows wait --timeout 0.05")
    assert "1 of 1 runs have not ended within 0.05 s; they go on" in late["text"]
    flows.run("go.set()\n%flows wait")
    assert flows.run("run.state.type.value")["result"] == "'COMPLETED'"
    flows.run("go.clear()")
    flows.run("%%flow fails --no-view\ngo.wait(0.2)\n1 / 0")
    assert flows.run("%flows wait")["error"]["ename"] == "ZeroDivisionError"


def test_help_tells_all(flows: Any) -> None:
    """`%%flow?` and `%flows?` show what they do, every option and examples."""
    for magic, words in (
        ("%%flow?", ("--on-rerun", "--no-log-prints", "--out NAME", "Examples")),
        ("%flows?", ("cancel", "--state", "Examples")),
        ("%flow?", ("etl(", "Examples")),
    ):
        text = flows.run(magic)["payload"][0]["data"]["text/plain"]
        assert all(word in text for word in words), text


def test_a_view_is_shown_only_where_it_is_wanted(flows: Any) -> None:
    """`--no-view` shows nothing and makes no widget; without it one view is shown."""
    before = len(flows.heard)
    assert not flows.run("%%flow unseen --no-view --wait\n1")["displays"]
    assert not [each for each in flows.heard[before:] if each["msg_type"] == "comm_open"]
    assert len(flows.run("%%flow seen\n1")["displays"]) == 1


def test_a_traceback_names_the_cell_as_the_notebook_does(flows: Any) -> None:
    """The number in a run's traceback is the one beside the cell that started it."""
    flows.run("%%flow fails --out run --no-view\n1 / 0")
    told = flows.run("run.wait(); 'In[%d]' % (len(In) - 2) in run.record().error.traceback")
    assert told["result"] == "True"
