"""A package whose import is interrupted can be imported afterwards."""

import subprocess
import sys

import pytest

SCRIPT = """
import random, sys, threading
from jupyter_flows import flow

begun = threading.Event()

@flow
def imports():
    begun.set()
    import numpy
    import pandas
    while True:
        pass

made_random = random.Random(int(sys.argv[1]))
run = imports.start()
begun.wait(20)
threading.Event().wait(made_random.uniform(0, 0.6))
run.cancel(grace=0)
run.wait(60)
assert run.state.is_cancelled(), run.state
import numpy, pandas
assert pandas.DataFrame({"a": numpy.arange(3)})["a"].sum() == 3
print("whole")
"""


@pytest.mark.timeout(900)
def test_numpy_and_pandas_survive_the_interruption_of_their_import(times, figure):
    """Interrupted at random while they are imported, numpy and pandas can be imported after."""
    pytest.importorskip("pandas")
    broken = []
    repeats = times(3, 100)
    for seed in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(seed)], capture_output=True, text=True, timeout=120
        )
        if done.stdout.strip() != "whole":
            broken.append((seed, done.stderr[-500:]))
    figure(f"imports of numpy and pandas interrupted {repeats} times: {len(broken)} broken")
    assert broken == []
