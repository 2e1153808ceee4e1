"""`%%flow --on process`: what travels to the process, and what comes back."""

import re
import textwrap

import pytest


def flow(kernel, source, options="", **details):
    """Run a cell in a process, wait for it, and return the id of its run."""
    seen = kernel.run(f"%%flow cell --on process {options}\n{textwrap.dedent(source)}", **details)
    assert seen["error"] is None, seen["error"]["evalue"]
    run = kernel.latest()
    kernel.until(run, "COMPLETED", "FAILED", "CANCELLED", "CRASHED")
    return run


def completed(kernel, source, options=""):
    """Run a cell in a process that must complete; returns the lines of its log."""
    run = flow(kernel, source, options)
    record = kernel.control("show", run=run)["run"]
    assert record["state_type"] == "COMPLETED", record["error"] or record["state_message"]
    return kernel.lines(run)


def value(kernel, expression):
    """Return the text of an expression in the notebook."""
    seen = kernel.run(expression)
    assert seen["error"] is None, seen["error"]
    return seen["result"]


def test_names_travel_there_and_back(flows):
    """The cell sees the notebook's names, runs elsewhere, and what it binds is published."""
    flows.run("import os\nbase = [1, 2]\ndef double(x): return [2 * each for each in x]")
    completed(flows, "doubled = double(base)\npid = os.getpid()")
    assert value(flows, "doubled, pid != os.getpid()") == "([2, 4], True)"


def test_the_last_expression_is_the_result(flows):
    """The last expression of a cell is its run's result, in a process too."""
    flow(flows, "6 * 7", "--out answer")
    assert value(flows, "answer.result()") == "42"


def test_what_it_defines_sees_the_notebooks_names(flows):
    """A function that the cell defined works on the notebook's names once published."""
    completed(flows, "level = 1\ndef get(): return level\nclass Kept:\n    at = level")
    assert value(flows, "level = 5\n(get(), Kept().at, Kept.__module__)") == "(5, 1, '__main__')"


def test_objects_of_the_notebooks_classes_come_back_as_such(flows):
    """An object that the process made of a class of the notebook is one of that class."""
    flows.run("class Point:\n    def __init__(self, x): self.x = x")
    completed(flows, "point = Point(3)")
    assert value(flows, "isinstance(point, Point), point.x") == "(True, 3)"


def test_deleting_is_published(flows):
    """What the cell deletes is deleted in the notebook."""
    flows.run("gone = 1")
    completed(flows, "del gone")
    assert value(flows, "'gone' in globals()") == "False"


def test_top_level_await(flows):
    """A cell that awaits runs on an event loop in its process."""
    completed(flows, "import asyncio\nawait asyncio.sleep(0.01)\nawaited = 1")
    assert value(flows, "awaited") == "1"


def test_what_cannot_be_pickled_is_named(flows):
    """A variable that cannot travel is named, and nothing is started."""
    flows.run("import threading\nmy_lock = threading.Lock()")
    count = len(flows.control("list")["runs"])
    seen = flows.run("%%flow --on process\nwith my_lock:\n    pass")
    assert "my_lock" in seen["error"]["evalue"] + seen["text"]
    runs = flows.control("list")["runs"]
    assert all(run["state_type"] != "RUNNING" for run in runs)
    assert len(runs) <= count + 1


def test_what_a_function_uses_is_named(flows):
    """A variable that a function of the notebook uses is named when it cannot travel."""
    flows.run("import threading\ninner = threading.Lock()\ndef locked():\n    with inner: pass")
    seen = flows.run("%%flow --on process\nlocked()")
    text = seen["error"]["evalue"] + seen["text"]
    assert "'inner'" in text
    assert "'locked'" in text


def test_what_is_not_used_stays(flows):
    """Variables that the code does not use may be anything, also if an attribute is called so."""
    flows.run("import threading\nmodel = threading.Lock()\nclass Box: model = 1\nbox = Box()")
    completed(flows, "seen = box.model")
    assert value(flows, "seen") == "1"


def test_what_cannot_come_back_is_said(flows):
    """A bound name that cannot be pickled is said in the log; the others are published."""
    lines = completed(flows, "import threading\nkept = 1\nstuck = threading.Lock()")
    assert any("'stuck' stays in its process" in line for line in lines)
    assert value(flows, "kept, 'stuck' in globals()") == "(1, False)"


def test_a_failed_cell_publishes_nothing(flows):
    """After a failure the names are looked at through the run, and not published."""
    run = flow(flows, "half = 1\n1 / 0", "--out failed")
    record = flows.control("show", run=run)["run"]
    assert record["state_type"] == "FAILED"
    assert record["error"]["type"] == "ZeroDivisionError"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", record["error"]["traceback"])
    assert "1 / 0" in shown
    assert "Cell In[" in shown
    assert value(flows, "failed['half'], 'half' in globals()") == "(1, False)"


def test_commands_and_magics(flows):
    """`!cmd`, `x = !cmd` and IPython's magics work in the process, and see its names."""
    flows.run("word = 'notebook'")
    lines = completed(
        flows,
        """
        own = "cell"
        !echo {own} $word
        listed = !echo captured
        %time timed = 3
        """,
    )
    assert "cell notebook" in lines
    assert value(flows, "list(listed), timed") == "(['captured'], 3)"


def test_a_magic_that_is_not_there(flows):
    """A magic that an extension of the notebook brought is refused by its name."""
    flows.run(
        "from IPython.core.magic import register_line_magic\n"
        "@register_line_magic\ndef homemade(line): pass"
    )
    run = flow(flows, "%homemade")
    record = flows.control("show", run=run)["run"]
    assert record["state_type"] == "FAILED"
    assert "homemade" in record["error"]["message"]


def test_displays_come_back(flows):
    """What the process displays is in the run's outputs."""
    run = flow(
        flows,
        """
        from IPython.display import HTML, display
        handle = display(HTML("<b>one</b>"), display_id=True)
        handle.update(HTML("<b>two</b>"))
        del handle
        """,
    )
    outputs = flows.control("outputs", run=run, since=0)["outputs"]
    assert [each["data"]["text/html"] for each in outputs] == ["<b>two</b>"]


def test_figures_come_back(flows):
    """A figure that the process draws is shown when the cell ends."""
    pytest.importorskip("matplotlib")
    run = flow(
        flows,
        """
        import matplotlib.pyplot as plt
        line = plt.plot([1, 2])
        del line
        """,
    )
    outputs = flows.control("outputs", run=run, since=0)["outputs"]
    assert ["image/png" in each["data"] for each in outputs] == [True]


def test_loops_show_bars(flows):
    """A cell's top-level loop has its bar, in a process too."""
    run = flow(flows, "for i in range(5): pass")
    bars = flows.control("show", run=run)["run"]["progress"]
    assert [(bar["label"], bar["done"]) for bar in bars] == [("i", 5)]


def test_a_look_inside(flows):
    """`run[name]` asks the process while it runs."""
    flows.run(
        "%%flow --on process --out inside\n"
        "import time\nwatched = 'live'\nwhile True: time.sleep(0.01)"
    )
    run = flows.latest()
    flows.until(run, "RUNNING")
    text = value(
        flows,
        "import time\nfound = None\n"
        "for _ in range(500):\n"
        "    try:\n        found = inside['watched']\n        break\n"
        "    except KeyError: time.sleep(0.01)\n"
        "inside.cancel(grace=0)\nfound",
    )
    assert text == "'live'"
    flows.until(run, "CANCELLED")


def test_retries_begin_anew(flows):
    """Each attempt is a fresh process, and what a failed one bound is forgotten."""
    completed(
        flows,
        """
        import os
        from jupyter_flows import current_run
        if current_run().attempt == 1:
            only_first = os.getpid()
            raise ValueError
        second = os.getpid()
        """,
        "--retries 1",
    )
    assert value(flows, "'only_first' in globals()") == "False"


def test_its_tasks_are_listed(flows):
    """Tasks of a process run are listed as those of any run."""
    run = flow(
        flows,
        """
        from jupyter_flows import task

        @task
        def step(x):
            return x

        stepped = [step(1), step.submit(2).result()]
        """,
    )
    tasks = flows.control("tasks", run=run, start=0, stop=10)["tasks"]
    assert [(each["number"], each["name"]) for each in tasks] == [(0, "step-0"), (1, "step-1")]
    assert {each["state_type"] for each in tasks} == {"COMPLETED"}
    assert value(flows, "stepped") == "[1, 2]"


def test_a_run_that_had_to_wait_and_cannot_travel(flows):
    """A queued run whose variable cannot travel when its turn comes has ended with that error."""
    source = "%%flow --on process\nimport time\ntime.sleep(turn)"
    flows.run("turn = 3600")
    flows.run(source, cell_id="waits")
    first = flows.latest()
    flows.until(first, "RUNNING")
    flows.run(source, cell_id="waits")
    second = flows.latest()
    flows.run("import threading; turn = threading.Lock()")
    flows.control("cancel", run=first)
    record = flows.until(second, "CRASHED")
    assert "'turn'" in record["error"]["message"]
    flows.until(first, "CANCELLED")


def test_the_kernel_works_on_while_c_code_holds_up_a_process(flows):
    """A process whose C code holds Python's lock holds up nothing else, and can be killed."""
    flows.run("%%flow --on process\nsum(range(10**12))")
    run = flows.latest()
    flows.until(run, "RUNNING")
    assert value(flows, "1 + 1") == "2"
    flows.control("kill", run=run)
    flows.until(run, "CANCELLED")
