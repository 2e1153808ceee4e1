"""The engine: what runs a flow, holds it, stops it, and listens to it.

It knows nothing of IPython, Jupyter or SQLite. From the bottom up:

    current        whose code is this? the one context variable
    waiting        how a thread waits so that a cancel or a resume can wake it
    ports          what the engine asks of others: keeping history, showing errors
    logs           the lines of a run, numbered
    safe_lines     where in a stack raising costs no cleanup
    life           states, asks and waiters: what flow runs and task runs share
    pausing        who is parked
    timers         the one thread that rings
    runs           FlowRun and TaskRun
    checkpoints    where an ask takes hold in running code
    capture        prints, logging, helper threads, sleep, input
    loops          an event loop that can be parked
    outcomes       from what code returned or raised to a state
    runner         attempts, from the first to the last
    executors/     where a run runs: one file a kind, one contract
"""
