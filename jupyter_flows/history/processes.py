"""Whether the process that ran a run is still there.

A pid alone says little: it is used again. So the process's start time is
compared too; but that is worked out from the system's clock, which may have been
set since, so a process that gave a sign of life just now is believed.
"""

import socket

import psutil

from jupyter_flows.records import KernelRecord

FRESH_SECONDS = 15.0  # a heartbeat comes every 5 s
SILENT_SECONDS = 60.0  # on another host, whose processes cannot be seen
START_TOLERANCE_SECONDS = 2.0  # how exactly a start time is known


def is_gone(kernel: KernelRecord, heartbeat: float, now: float) -> bool:
    """Say whether the kernel's process has ended, as far as can be seen from here."""
    silent = now - heartbeat
    if kernel.host != socket.gethostname():
        return silent > SILENT_SECONDS
    try:
        process = psutil.Process(kernel.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        started = process.create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return silent > SILENT_SECONDS
    same = abs(started - kernel.process_started) <= START_TOLERANCE_SECONDS
    return not same and silent > FRESH_SECONDS
