"""Runs in processes, for their tests."""

import time

from jupyter_flows import flow


def start(body, *args, **options):
    """Start a body in a process."""
    return flow(body, name=body.__name__, on="process", **options).start(*args)


def ended(body, *args, **options):
    """Run a body in a process to its end, and return the run."""
    run = start(body, *args, **options)
    run.wait(30)
    assert run.state_is_final(), run.state
    return run


def lines(run, source=None):
    """Return what a run's log says, of one source or of all."""
    return [line.message for line in run.logs if source in (None, line.source)]


def sleeping():
    try:
        print("begun")
        time.sleep(3600)
    finally:
        print("cleaned up")
