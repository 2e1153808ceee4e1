"""Processes that run one run each, and surely die with it.

    tree         which processes descend from which
    wire         messages over a socket
    pickling     code and values that travel; what cannot is named
    clock        time that stands still while a process is suspended
    supervisor   a small program beside the kernel: forks, suspends, kills, reaps
    child        what a forked process does: one attempt of a run
    images       what the kernel shows of tasks, bars and lines that live in a child
    attempts     one process of one run: from its first byte to the end of all below it
    inquiries    what other threads want of the thread that minds it
    link         the kernel's end of the conversation with the supervisor

Theory. A kernel has one supervisor, started when its first process run begins. It is
single-threaded and runs no user code, so it may fork at any time and nothing can
block it. It keeps one child forked in advance. To begin a run it hands that child's
socket and pipes to the kernel, and from then on the two talk directly; the
supervisor is asked only to suspend, continue or kill, and tells the end.

Guarantees:

- A run has ended when its process, and all that this one started, is gone: what
  left its session or its parent included, as each child adopts the orphans below it
  and the supervisor adopts the child's (Linux; elsewhere what left its parent may
  escape).
- When the kernel ends, in whatever way, the supervisor kills everything below it and
  ends too. It is in a session of its own, so what interrupts or kills the kernel's
  process group does not reach it.
- A cancel is a message; the child's own engine raises it where that costs no
  cleanup. SIGTERM from outside asks the kernel for the same. Nothing but SIGKILL
  ends a child that does not heed it.

There are no such processes on Windows.
"""
