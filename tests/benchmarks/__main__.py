"""``python -m tests.benchmarks``: each figure beside its yardstick, measured in the same run.

Timings of a shared machine are noisy, so each figure is the median of several
rounds in which ours and the yardstick take turns, and what counts is their ratio.
``python -m tests.benchmarks prints tasks`` runs only those.
"""

from __future__ import annotations

import sys

from tests.benchmarks import engine, kernels
from tests.benchmarks.measuring import Row

GROUPS = {
    "starts": engine.starts,
    "tasks": engine.tasks,
    "submits": engine.submits,
    "gathers": engine.gathers,
    "loops": engine.loops,
    "awaits": engine.awaits,
    "cancels": engine.cancels,
    "memory": engine.memory,
    "prints": kernels.prints,
    "loads": kernels.loads,
    "traffic": kernels.traffic,
    "prompt": kernels.prompt,
}


def main() -> None:
    """Measure what is named on the command line, or everything."""
    chosen = sys.argv[1:] or list(GROUPS)
    print(f"Python {sys.version.split()[0]}")
    print(f"{'what':44} {'ours':>14} {'yardstick':>14} {'ratio':>8}  bar")
    for name in chosen:
        for row in GROUPS[name]():
            show(row)


def show(row: Row) -> None:
    """Print one figure."""
    yardstick = "" if row.yardstick is None else f"{row.yardstick:,.6g} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = "" if row.met is None else ("met" if row.met else "NOT MET")
    ours = f"{row.ours:,.6g} {row.unit}"
    print(f"{row.what:44} {ours:>14} {yardstick:>14} {ratio:>8}  {row.bar} {met}", flush=True)


if __name__ == "__main__":
    main()
