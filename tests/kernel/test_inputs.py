"""`input()` and `getpass()` in a background run of a real kernel."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from jupyter_flows.kernel.display import MIME


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


ASKS = """%%flow shirts --no-view
from typing import Literal
from pydantic import Field
from jupyter_flows import RunInput, pause_flow_run

class Order(RunInput):
    size: Literal["S", "M"]
    count: int = Field(default=1, gt=0, description="How many")

order = pause_flow_run(wait_for_input=Order.with_initial_data(description="Which?"), key="shirt")
f"{order.count} {order.size}"
"""


@pytest.mark.parametrize("on", ["thread", "process"])
def test_what_is_asked_for_can_be_read_and_answered_from_outside(flows: Any, on: str) -> None:
    """The schema travels; bad input is refused with the names of the fields; good input goes on."""
    flows.run(ASKS.replace("--no-view", f"--no-view --on {on}"))
    run = flows.latest()
    waiting = flows.until(run, "PAUSED")["waiting"]
    assert (waiting["kind"], waiting["key"]) == ("input", "shirt")
    assert (waiting["description"], waiting["initial"]) == ("Which?", {"count": 1})
    assert waiting["schema"]["required"] == ["size"]
    assert waiting["schema"]["properties"]["count"]["description"] == "How many"
    wrong = {"protocol": 1, "action": "resume", "run": run, "input": {"size": "XL", "count": 0}}
    refused = flows.ask(wrong)
    assert (refused["status"], refused["ename"]) == ("error", "InvalidInput")
    assert "size: " in refused["evalue"]
    assert "count: " in refused["evalue"]
    assert "\n" not in refused["evalue"]
    assert flows.ask({**wrong, "input": None})["evalue"].startswith("The input does not fit: size:")
    assert flows.ask({**wrong, "question": 2})["ename"] == "NotPaused"
    assert flows.ask({**wrong, "input": ["x" * 100_000]})["ename"] == "BadRequest"
    assert flows.state(run) == "PAUSED"
    flows.control("resume", run=run, input={"size": "M"}, question=waiting["number"])
    assert flows.until(run, "COMPLETED")["result"] == "'1 M'"


def test_a_reason_in_words_is_kept(flows: Any) -> None:
    """A run that is rejected is cancelled, and says why."""
    flows.run(ASKS)
    run = flows.latest()
    flows.until(run, "PAUSED")
    flows.control("cancel", run=run, reason="Rejected")
    record = flows.until(run, "CANCELLED")
    assert (record["reason"], record["state_message"]) == ("Rejected", "Cancelled: Rejected")


def test_the_magic_answers(flows: Any) -> None:
    """`%flows resume ID --input` gives JSON to a run that waits for input, and text as it is."""
    flows.run(ASKS)
    run = flows.latest()
    flows.until(run, "PAUSED")
    for given, says in (
        ("{size: M}", "--input is not JSON"),
        ('{"size":"L"}', "The input does not fit: size: "),
    ):
        told = flows.run(f"%flows resume {run[:8]} --input '{given}'")["text"].strip()
        assert told.startswith(f"UsageError: %flows resume: {says}")
        assert "\n" not in told
    assert "--input is for resume" in flows.run(f"%flows cancel {run[:8]} --input 1")["text"]
    assert flows.state(run) == "PAUSED"
    flows.run(f"""%flows resume {run[:8]} --input '{{"size":"S","count":5}}'""")
    assert flows.until(run, "COMPLETED")["result"] == "'5 S'"
    flows.run("%%flow asks --no-view\ninput('how many? ')")
    run = flows.latest()
    flows.until(run, "PAUSED")
    flows.run(f"%flows resume {run[:8]} --input 5")
    assert flows.until(run, "COMPLETED")["result"] == "'5'"


def test_the_store_keeps_what_was_asked_for(flows: Any) -> None:
    """What a run waits for is in the store with its schema, for who cannot ask the kernel."""
    flows.run(ASKS)
    run = flows.latest()
    waiting = flows.until(run, "PAUSED")["waiting"]
    store = sqlite3.connect(f"file:{flows.store}?mode=ro", uri=True)
    deadline = time.monotonic() + 10
    kept = None
    while kept is None and time.monotonic() < deadline:
        rows = store.execute("SELECT waiting FROM runs WHERE id = ?", (run,)).fetchall()
        kept = json.loads(rows[0][0]) if rows and rows[0][0] else None
    store.close()
    assert kept == waiting
    flows.control("cancel", run=run)
    flows.until(run, "CANCELLED")


def test_a_validator_that_takes_long_holds_up_nobody_else(flows: Any) -> None:
    """While a validator thinks, the kernel answers other requests after a few seconds."""
    flows.run(
        "from jupyter_flows.kernel import control\ncontrol._RESUME_SECONDS = 0.05\n"
        "import threading\ngo = threading.Event()"
    )
    flows.run(
        "%%flow slow --no-view\n"
        "from pydantic import field_validator\nfrom jupyter_flows import RunInput, pause_flow_run\n"
        "class Slow(RunInput):\n    n: int\n"
        "    @field_validator('n')\n    @classmethod\n"
        "    def wait(cls, n):\n        go.wait()\n        return n\n"
        "pause_flow_run(wait_for_input=Slow).n"
    )
    run = flows.latest()
    flows.until(run, "PAUSED")
    late = flows.ask({"protocol": 1, "action": "resume", "run": run, "input": {"n": 3}})
    assert "still being checked" in late["evalue"]
    assert flows.state(run) == "PAUSED"
    flows.run("go.set()\ncontrol._RESUME_SECONDS = 6.0")
    assert flows.until(run, "COMPLETED")["result"] == "3"


def test_a_validator_that_raises_what_ends_threads_is_told(flows: Any) -> None:
    """Whatever a validator raises the client gets a reply, and the kernel goes on answering."""
    flows.run(
        "%%flow odd --no-view\n"
        "from pydantic import field_validator\nfrom jupyter_flows import RunInput, pause_flow_run\n"
        "class Odd(RunInput):\n    n: int\n"
        "    @field_validator('n')\n    @classmethod\n"
        "    def check(cls, n):\n        if n == 1: raise KeyboardInterrupt\n        return n\n"
        "pause_flow_run(wait_for_input=Odd).n"
    )
    run = flows.latest()
    flows.until(run, "PAUSED")
    refused = flows.ask({"protocol": 1, "action": "resume", "run": run, "input": {"n": 1}})
    assert (refused["status"], refused["ename"]) == ("error", "KeyboardInterrupt")
    flows.control("resume", run=run, input={"n": 2})
    assert flows.until(run, "COMPLETED")["result"] == "2"


def test_a_called_flow_that_asks_is_shown_and_can_be_answered(flows: Any) -> None:
    """A flow that a cell calls shows its view there when it asks, and is answered in that view."""
    cell = flows.begin(
        "from jupyter_flows import flow, pause_flow_run\n"
        "@flow\ndef called():\n"
        "    return [pause_flow_run(wait_for_input=int), pause_flow_run(wait_for_input=int)]\n"
        "called()"
    )
    shown = []

    def is_shown(message: dict[str, Any]) -> bool:
        found = message["msg_type"] == "display_data" and MIME in message["content"]["data"]
        shown.extend([message["content"]["metadata"][MIME]["run"]["id"]] if found else [])
        return found

    flows.hear_until(is_shown)
    (run,) = shown
    for answer in (1, 2):
        waiting = flows.until(run, "PAUSED")["waiting"]
        flows.control("resume", run=run, input=answer, question=waiting["number"])
    ran = flows.finish(cell)
    assert ran["result"] == "[1, 2]"
    assert [MIME in each["data"] for each in ran["displays"]] == [True, False]  # shown once
