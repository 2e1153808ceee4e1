"""What must hold whatever goes wrong: shown by breaking it, again and again.

Each file shows one promise with few repeats, as CI runs it; with ``JUPYTER_FLOWS_FULL=1``
it repeats as often as the promise says. The figures are printed at the end:

    JUPYTER_FLOWS_FULL=1 pytest tests/faults
"""
