"""`input()` and `getpass()` in a background run of a real kernel."""

from pathlib import Path
from typing import Any


def test_input_becomes_a_question_that_a_person_answers(flows: Any) -> None:
    """A run that calls `input()` is PAUSED with its prompt, and goes on with the answer."""
    flows.run("%%flow asks --no-view\nname = input('Your name? ')\nf'hello {name}'")
    run = flows.latest()
    waiting = flows.until(run, "PAUSED")["waiting"]
    assert (waiting["kind"], waiting["text"]) == ("input", "Your name? ")
    flows.control("resume", run=run, input="Ada")
    assert flows.until(run, "COMPLETED")["result"] == "'hello Ada'"


def test_the_notebook_can_answer_too(flows: Any) -> None:
    """`run.resume("text")` answers a run that waits for input."""
    flows.run("%%flow asks --no-view --out run\ninput() * 2")
    flows.until(flows.latest(), "PAUSED")
    assert flows.run("run.resume('ab'); run.result()")["result"] == "'abab'"


def test_a_question_that_begins_while_a_cell_runs_is_not_that_cells(flows: Any) -> None:
    """A run that asks while another cell runs opens no prompt there."""
    flows.run("import threading\ngo = threading.Event()")
    flows.run("%%flow asks --no-view --out run\ngo.wait()\ninput('who? ')")
    flows.run("go.set()\nimport time\nwhile run.waiting is None: time.sleep(0.001)")
    assert flows.until(flows.latest(), "PAUSED")["waiting"]["text"] == "who? "
    flows.control("cancel", run=flows.latest())
    flows.until(flows.latest(), "CANCELLED")


def test_a_question_that_begins_while_no_cell_runs_is_asked(flows: Any, tmp_path: Path) -> None:
    """A run that asks long after its cell has ended is PAUSED with its prompt too."""
    go = tmp_path / "go"
    flows.run(
        f"%%flow asks --no-view\nfrom pathlib import Path\nimport time\n"
        f"while not Path({str(go)!r}).exists(): time.sleep(0.001)\ninput('who? ')"
    )
    go.touch()
    run = flows.latest()
    assert flows.until(run, "PAUSED")["waiting"]["text"] == "who? "
    flows.control("resume", run=run, input="Ada")
    assert flows.until(run, "COMPLETED")["result"] == "'Ada'"


def test_a_cells_own_input_is_the_front_ends(flows: Any) -> None:
    """Outside of runs `input()` goes to the front end as ever, here one that has no prompt."""
    assert flows.run("input()")["error"]["ename"] == "StdinNotImplementedError"


def test_passwords_are_not_asked_for(flows: Any) -> None:
    """`getpass()` in a run is a clear error, however it was imported."""
    for source in (
        "import getpass\ngetpass.getpass()",
        "from getpass import getpass\ngetpass('x')",
    ):
        flows.run(f"%%flow secret --no-view\n{source}")
        assert flows.until(flows.latest(), "FAILED")["error"]["type"] == "NobodyToAsk"
