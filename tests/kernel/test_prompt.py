"""IPython in a terminal, whose prompt waits while runs go on."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

from tests.conftest import wait_until

from .conftest import REPOSITORY

SOURCE = """import os, time
while not os.path.exists({go!r}): time.sleep(0.01)
print("said", "meanwhile")
open({said!r}, "w").close()
"""


@pytest.mark.parametrize("options", [["--simple-prompt"], []], ids=["simple", "prompt_toolkit"])
def test_what_is_printed_while_the_prompt_waits_is_in_the_log(
    tmp_path: Path, options: list[str]
) -> None:
    """Prints of a run in the background are lines of its log, and do not disturb the prompt."""
    go, said = tmp_path / "go", tmp_path / "said"
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_FLOWS_STORE": str(tmp_path / "flows.sqlite"),
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    command = ["-m", "IPython", "--no-banner", "--quick", "--colors=nocolor", *options]
    session = pexpect.spawn(sys.executable, command, env=environment, timeout=30)
    try:
        session.expect(r"In \[1\]")
        session.send("%load_ext jupyter_flows\r")
        session.expect(r"In \[2\]")
        source = SOURCE.format(go=str(go), said=str(said))
        file = tmp_path / "cell.py"
        file.write_text(source)
        cell = f"open({str(file)!r}).read()"
        session.send(f"get_ipython().run_cell_magic('flow', 'x --out r', {cell})\r")
        session.expect(r"In \[3\]")
        go.touch()
        wait_until(said.exists)
        session.send("'said ' + 'to ' + str([each.message for each in r.wait().logs])\r")
        assert session.expect([r"said to \['said meanwhile'\]", r"said to \[\]"]) == 0
        assert b"said meanwhile" not in session.before
    finally:
        session.close(force=True)
