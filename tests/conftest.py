"""What every test may use."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jupyter_flows.engine import registry
from jupyter_flows.engine.executors import callers_loop
from jupyter_flows.engine.threads import EngineThread
from tests.repeats import FULL

DEADLINE = 20.0  # seconds after which a test that waits for something has failed
_figures: list[str] = []


def wait_until(condition: Callable[[], Any], what: str = "", seconds: float = DEADLINE) -> None:
    """Wait for another thread to bring `condition` about; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"this has not come about in {seconds} s: {what or condition}")
        pause.wait(0.001)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait for a condition that another thread or process brings about."""
    return wait_until


def run_threads() -> list[threading.Thread]:
    """Return the threads of runs that are alive: all of the engine's but its timer."""
    threads = [thread for thread in threading.enumerate() if isinstance(thread, EngineThread)]
    return [thread for thread in threads if "timer" not in thread.name]


@pytest.fixture(scope="session")
def alive() -> Callable[[], list[threading.Thread]]:
    """Return the threads of runs that are alive."""
    return run_threads


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """No test leaves a run that has not ended, nor a thread of one."""
    yield
    wait_until(lambda: not registry.active(), f"all runs have ended: {registry.active()}")
    wait_until(lambda: not run_threads(), f"all threads have ended: {run_threads()}")


@pytest.fixture
def kernel_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own, as a kernel's is, that `on="main"` runs on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kernel loop")
    thread.start()
    callers_loop.main_loop = loop
    yield loop
    callers_loop.main_loop = None
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Print a line at the end of the session."""
    return _figures.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        version = sys.version.split()[0]
        counts = "full counts" if FULL else "short counts; JUPYTER_FLOWS_FULL=1 for the full ones"
        terminalreporter.section(f"figures on Python {version}, {counts}")
        for line in _figures:
            terminalreporter.write_line(line)
