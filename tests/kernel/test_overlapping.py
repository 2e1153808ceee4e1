"""Many runs at once in a real kernel: what each prints stays its own."""

from typing import Any

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


def test_a_progress_bar_is_one_live_line(flows: Any) -> None:
    """What tqdm draws over and over is one line of the log, as a terminal shows it."""
    flows.run(
        "%%flow bars --no-view\nfrom tqdm import tqdm\n"
        "for _ in tqdm(range(50), mininterval=0, desc='steps'): pass"
    )
    run = flows.latest()
    flows.until(run, "COMPLETED")
    (line,) = flows.lines(run)
    assert line.startswith("steps: 100%")
    assert "50/50" in line


def test_print_to_a_file_passes_through(flows: Any, tmp_path: Any) -> None:
    """`print(file=…)` goes where it says."""
    path = tmp_path / "out.txt"
    flows.run(f"%%flow files --no-view\nwith open({str(path)!r}, 'w') as f: print('there', file=f)")
    run = flows.latest()
    flows.until(run, "COMPLETED")
    assert path.read_text() == "there\n"
    assert flows.lines(run) == []
