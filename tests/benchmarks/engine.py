"""Figures of the engine, with a real store behind it."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any
from uuid import uuid4

import psutil

from jupyter_flows import checkpoint, flow, task
from jupyter_flows.engine import ports
from jupyter_flows.history.writer import Writer
from jupyter_flows.records import KernelRecord
from tests.benchmarks.measuring import Row, in_turns, paired_ratio, seconds


@contextmanager
def store() -> Iterator[None]:
    """Keep runs in a store of its own meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = KernelRecord(
            id=str(uuid4()),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            host="here",
            connection_file=None,
        )
        writer = Writer(Path(folder) / "flows.sqlite", kernel, print)
        before, ports.history = ports.history, writer
        try:
            yield
        finally:
            ports.history = before
            writer.close(30)


@task
def noop() -> None:
    """Do nothing."""


@task
async def anoop() -> None:
    """Do nothing."""


def starts() -> Iterator[Row]:
    """Compare an empty flow with a bare thread."""

    @flow
    def empty() -> None:
        pass

    def bare() -> None:
        for _ in range(200):
            thread = threading.Thread(target=empty.fn)
            thread.start()
            thread.join()

    def ours() -> None:
        for _ in range(200):
            empty.start().wait()

    with store():
        mine, yardstick = in_turns(ours, bare)
    yield Row(
        what="empty flow, start() to COMPLETED, kept",
        ours=mine / 200 * 1e6,
        yardstick=yardstick / 200 * 1e6,
        unit="µs",
        bar="≤ 10 × thread",
        met=mine <= 10 * yardstick,
    )


def tasks() -> Iterator[Row]:
    """Count task calls a second."""

    @flow
    def many() -> None:
        for _ in range(20_000):
            noop()

    def ours() -> None:
        many.start().wait()

    with store():
        ours()
        rate = 20_000 / median(seconds(ours) for _ in range(5))
    yield Row(
        what="sync task called in a flow, kept",
        ours=rate,
        unit="/s",
        bar="≥ 40,000/s",
        met=rate >= 40_000,
    )


def submits() -> Iterator[Row]:
    """Compare submit and result with a bare pool."""

    @flow
    def many() -> None:
        for future in [noop.submit() for _ in range(5_000)]:
            future.result()

    def bare() -> None:
        with ThreadPoolExecutor() as pool:
            for future in [pool.submit(noop.fn) for _ in range(5_000)]:
                future.result()

    with store():
        mine, yardstick = in_turns(lambda: many.start().wait(), bare)
    yield Row(
        what="submit and result, kept",
        ours=5_000 / mine,
        yardstick=5_000 / yardstick,
        unit="/s",
        bar="≥ 1/3 pool",
        met=yardstick / mine >= 1 / 3,
    )


def gathers() -> Iterator[Row]:
    """Compare gathered async tasks with bare `create_task`."""

    @flow
    async def many() -> None:
        await asyncio.gather(*[anoop() for _ in range(10_000)])

    async def bare() -> None:
        await asyncio.gather(*[asyncio.create_task(anoop.fn()) for _ in range(10_000)])

    with store():
        mine, yardstick = in_turns(lambda: many.start().wait(), lambda: asyncio.run(bare()))
    yield Row(
        what="async tasks gathered, kept",
        ours=10_000 / mine,
        yardstick=10_000 / yardstick,
        unit="/s",
        bar="≥ 1/3 create_task",
        met=yardstick / mine >= 1 / 3,
    )


def _spin() -> int:
    total = 0
    for i in range(1_000_000):
        total += i
    return total


def loops() -> Iterator[Row]:
    """Compare a loop in a run with the same loop in a bare thread or event loop."""

    async def aspin() -> int:
        return _spin()

    def in_thread() -> None:
        thread = threading.Thread(target=_spin)
        thread.start()
        thread.join()

    sync_flow, async_flow = flow(_spin), flow(aspin)
    for what, ours, bare in (
        ("a pure-Python loop in a sync run", sync_flow, in_thread),
        ("a pure-Python loop in an async run", async_flow, lambda: asyncio.run(aspin())),
    ):
        ratio = paired_ratio(lambda ours=ours: ours.start().wait(), bare)
        yield Row(what=what, ours=ratio, unit="×", bar="≤ 1.02 ×", met=ratio <= 1.02)


async def _awaits() -> None:
    for _ in range(20_000):
        await asyncio.sleep(0)


def awaits() -> Iterator[Row]:
    """Compare awaits in a run with awaits outside."""
    ours = flow(_awaits)
    ratio = paired_ratio(lambda: ours.start().wait(), lambda: asyncio.run(_awaits()))
    yield Row(what="an await in a run", ours=ratio, unit="×", bar="≤ 1.10 ×", met=ratio <= 1.10)

    async def on_the_callers_loop() -> None:
        await ours()

    ratio = paired_ratio(lambda: asyncio.run(on_the_callers_loop()), lambda: asyncio.run(_awaits()))
    yield Row(
        what="an await in a run on the caller's loop",
        ours=ratio,
        unit="×",
        bar="≤ 1.10 ×",
        met=ratio <= 1.10,
    )


def cancels() -> Iterator[Row]:
    """Time a cancel until the code has stopped."""
    stopped: list[float] = []

    @flow
    async def waits(begun: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(time.perf_counter())

    @flow
    def checks(begun: Any) -> None:
        begun.set()
        try:
            while True:
                checkpoint()
        finally:
            stopped.append(time.perf_counter())

    @flow
    def sleeps(begun: Any) -> None:
        begun.set()
        try:
            time.sleep(60)
        finally:
            stopped.append(time.perf_counter())

    for what, body in (("await", waits), ("checkpoint", checks), ("time.sleep", sleeps)):
        took = []
        for _ in range(100):
            begun = Event()
            run = body.start(begun)
            begun.wait()
            asked = time.perf_counter()
            run.cancel()
            run.wait()
            took.append(stopped[-1] - asked)
        middle = median(took) * 1e3
        yield Row(
            what=f"cancel to stopped code: {what}",
            ours=middle,
            unit="ms",
            bar="p50 ≤ 1 ms" if what == "await" else "",
            met=middle <= 1 if what == "await" else None,
        )


def memory() -> Iterator[Row]:
    """Weigh ended and waiting runs."""
    process = psutil.Process()

    @flow
    def short() -> None:
        pass

    @flow
    def waits(go: Any) -> None:
        go.wait()

    with store():
        for _ in range(1_000):
            short.start().wait()
        gc.collect()
        before = process.memory_info().rss
        for _ in range(10_000):
            short.start().wait()
        gc.collect()
        ended = (process.memory_info().rss - before) / 1e6
        yield Row(what="10,000 ended runs", ours=ended, unit="MB", bar="≤ 20 MB", met=ended <= 20)

        go = Event()
        before = process.memory_info().rss
        runs = [waits.start(go) for _ in range(200)]
        each = (process.memory_info().rss - before) / 200 / 1e3
        go.set()
        for run in runs:
            run.wait()
        yield Row(
            what="a waiting thread run", ours=each, unit="kB", bar="≤ 150 kB", met=each <= 150
        )
