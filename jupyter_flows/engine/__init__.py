"""The engine: what runs a flow, holds it, stops it, and listens to it.

It knows nothing of IPython, Jupyter or SQLite. From the bottom up:

    current        whose code is this? the one context variable
    waiting        how a thread waits so that a cancel or a resume can wake it
    ports          what the engine asks of others: keeping history, showing errors
    logs           the lines of a run, numbered
    outputs        what a run displayed
    progress       its bars
    texts          values and errors as text
    timers         the one thread that rings
    threads        threads that belong to one run
    safe_lines     where in a stack raising costs no cleanup
    pausing        who is parked
    checkpoints    where an ask takes hold in running code
    life           states, asks and waiters: what flow runs and task runs share
    task_runs      TaskRun, and subflows as their callers list them
    runs           FlowRun
    registry       all runs of the process
    asking         a run that waits for a person
    capture        prints, logging, helper threads, sleep, input
    console        a foreground run's log on stderr
    loops          an event loop that can be parked
    outcomes       from what code returned or raised to a state
    ending         what becomes of runs when the process ends
    runner         attempts, from the first to the last
    executors/     where a run runs: one file a kind, one contract
"""
