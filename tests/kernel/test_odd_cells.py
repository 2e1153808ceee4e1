"""Cells that would harm others do not."""

from typing import Any


def test_a_run_that_would_capture_the_kernels_output_fails_and_harms_nobody(flows: Any) -> None:
    """`%%capture` in a run is refused with a reason, and other cells go on."""
    flows.run("%%flow capturing --no-view --out run\n%%capture taken\nprint('x')")
    assert "cannot use them" in flows.run("print(run.wait().state)")["text"]
    assert flows.run("print('still here')")["text"] == "still here\n"


def test_a_cell_does_not_wait_for_what_it_would_block(flows: Any) -> None:
    """A waiting cell on the kernel's own loop is refused, and so is a wait for such a run."""
    refused = flows.run("%%flow own --on main --wait\nimport asyncio\nawait asyncio.sleep(0)")
    assert "add --no-wait" in refused["text"]
    flows.run(
        "%%flow own --on main --no-wait --no-view --out own\n"
        "import asyncio\nawait asyncio.sleep(0.2)\n5"
    )
    assert flows.run("own.result()")["error"]["ename"] == "WouldDeadlock"
    assert flows.run("print(await own)")["text"] == "5\n"


def test_text_that_cannot_be_sent_is_seen_as_its_escape(flows: Any) -> None:
    """A lone surrogate in a line or an error spoils no answer."""
    flows.run("%%flow odd --no-view --out odd\nprint('s\\ud800')\nraise ValueError('\\udfff')")
    flows.run("odd.wait()")
    answer = flows.control("list")
    assert answer["status"] == "ok"
    shown = flows.control("show", run=flows.latest())
    assert [line[4] for line in shown["lines"]] == ["s\\ud800"]
    assert shown["run"]["error"]["message"] == "\\udfff"


def test_exit_ends_the_run_alone(flows: Any) -> None:
    """`exit()` in a run ends that run, not the kernel."""
    flows.run("%%flow leaving --no-view --out leaving\nexit()")
    assert "SystemExit" in flows.run("print(leaving.wait().state)")["text"]
