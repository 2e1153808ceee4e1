"""Many runs at once in a real kernel: what each prints stays its own."""

from typing import Any

import pytest

LINES = 1_000
PLAIN = "for i in range({lines}): print('{name}', i)"
AWAITING = (
    "import asyncio\nfor i in range({lines}):\n    print('{name}', i)\n    await asyncio.sleep(0)"
)
HELPER = (
    "import threading\ndef work():\n    for i in range({lines}): print('{name}', i)\n"
    "helper = threading.Thread(target=work); helper.start(); helper.join()"
)
POOL = (
    "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(1) as pool:\n"
    "    for i in range({lines}): pool.submit(print, '{name}', i)"
)
LOGGING = (
    "import logging\nfor i in range({lines}): logging.getLogger('{name}').warning('{name} %d', i)"
)
KINDS = (PLAIN, AWAITING, HELPER, POOL, LOGGING)


def test_twenty_overlapping_runs_keep_their_lines_apart(flows: Any) -> None:
    """Every line of 20 runs is in its own run, in order, none lost and none in a cell."""
    begin = len(flows.heard)
    names = [f"run{i}" for i in range(20)]
    for i, name in enumerate(names):
        source = KINDS[i % len(KINDS)].format(lines=LINES, name=name)
        assert flows.run(f"%%flow {name} --no-view\n{source}")["error"] is None
    assert flows.run("print('a cell')")["text"] == "a cell\n"
    for record in flows.control("list", limit=20)["runs"]:
        ended = flows.until(record["id"], "COMPLETED", "FAILED", seconds=60)
        assert ended["state_type"] == "COMPLETED", ended["error"]
        name = record["name"]
        assert flows.lines(record["id"]) == [f"{name} {i}" for i in range(LINES)]
    flows.hear_for(0.3)
    printed = [
        message["content"]["text"]
        for message in flows.heard[begin:]
        if message["msg_type"] == "stream"
    ]
    assert printed == ["a cell\n"]


@pytest.mark.parametrize("module", ["tqdm", "tqdm.auto", "tqdm.notebook"])
@pytest.mark.parametrize("on", ["thread", "process"])
def test_tqdm_is_a_bar_of_the_run(flows: Any, module: str, on: str) -> None:
    """A tqdm of a cell's run is a bar in its view: not text in its log, nor a widget."""
    flows.run(
        f"%%flow bars --no-view --on {on}\nfrom {module} import tqdm\n"
        "for _ in tqdm(range(50), mininterval=0, desc='steps'): pass\nprint('after')"
    )
    run = flows.latest()
    record = flows.until(run, "COMPLETED")
    shown = [(bar["label"], bar["done"], bar["total"]) for bar in record["progress"]]
    assert shown == [("steps", 50, 50)]
    assert flows.lines(run) == ["after"]
    assert record["output_count"] == 0


def test_tqdm_of_a_plain_cell_is_as_ever(flows: Any) -> None:
    """Outside of runs tqdm draws what it always drew: text, and a widget in a notebook."""
    flows.run("from tqdm import tqdm")
    assert "steps: 100%" in flows.run("for _ in tqdm(range(3), desc='steps'): pass")["text"]
    flows.run("from tqdm.notebook import tqdm as widget_tqdm")
    shown = flows.run("for _ in widget_tqdm(range(3), desc='steps'): pass")["displays"]
    assert "application/vnd.jupyter.widget-view+json" in shown[0]["data"]


def test_print_to_a_file_passes_through(flows: Any, tmp_path: Any) -> None:
    """`print(file=…)` goes where it says."""
    path = tmp_path / "out.txt"
    flows.run(f"%%flow files --no-view\nwith open({str(path)!r}, 'w') as f: print('there', file=f)")
    run = flows.latest()
    flows.until(run, "COMPLETED")
    assert path.read_text() == "there\n"
    assert flows.lines(run) == []
