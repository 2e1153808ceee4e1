"""The engine: what runs a flow, holds it, stops it, and listens to it.

It knows nothing of IPython, Jupyter or SQLite. From the bottom up:

    current        whose code is this? the one context variable
    late_imports   what is done to a module when it is imported
    waiting        how a thread waits so that a cancel or a resume can wake it
    leases         slots of limits that have a name, in this process
    ports          what the engine asks of others: keeping history, showing errors
    numbers        numbers as users write them
    moments        times as users write them
    whole_logs     a log with what has left memory
    log_lines      a log to look through and to write out
    logs           the lines of a run, numbered
    outputs        what a run displayed
    progress       its bars
    texts          values and errors as text
    helping        other threads that run code of a run
    stacks         the frames of threads and suspended coroutines
    threads        threads that belong to one run
    timers         the one thread that rings
    safe_lines     where in a stack raising costs no cleanup
    shielding      code that is left to end
    pausing        who is parked
    checkpoints    where an ask takes hold in running code
    monitoring     calls back at every instruction of watched code
    injecting      raises in another thread, wherever that is
    timeouts       the clock of an attempt
    limits         how many runs at once: what an author says
    options        what a flow's or task's author decided about its runs
    life           states, asks and waiters: what flow runs and task runs share
    admission      who may begin: runs that wait for a slot
    task_runs      TaskRun, and subflows as their callers list them
    sections       blocks that are stopped by themselves
    hooks          what is called when a run begins and when it ends
    loops          an event loop that can be parked
    interrupting   stops or holds code that reaches no checkpoint
    hangs          well-known ways to hang, and what to write instead
    whereabouts    where a run is, for people
    questions      what a run asks a person, and how an answer is read
    pausable       what holds a flow run still, and what it asks people
    ladder         what is done, and when, to stop what was asked to stop
    runs           FlowRun
    registry       all runs of the process
    slots          code that waits for slots of limits that have a name
    asking         a run that waits for a person
    tqdm_bars      tqdm's bars are the run's
    capture        prints, logging, helper threads, sleep, input
    console        a foreground run's log on stderr
    outcomes       from what code returned or raised to a state
    prerequisites  what a run waits for before it begins
    ending         what becomes of runs when the process ends
    leaving        what a life waits for as it leaves its body
    runner         attempts, from the first to the last
    generators     the same where the body is a generator
    processes/     children of a supervisor that leaves none behind
    executors/     where a run runs: one file a kind, one contract
"""
