"""Stacks of threads and coroutines, as other threads see them."""

import asyncio
import sys

import pytest

from jupyter_flows.engine.stacks import suspended_frames


def names(awaiting):
    return [frame.f_code.co_name for frame in suspended_frames(awaiting)]


async def inner():
    await asyncio.sleep(0)


async def items():
    await inner()
    yield 1


async def outer():
    await inner()
    async for _ in items():
        pass


def test_a_suspended_coroutine_is_seen_through_its_awaits():
    """The frames of what a coroutine awaits are found, from the outermost in."""
    coroutine = outer()
    assert names(coroutine) == ["outer"]
    coroutine.send(None)
    assert names(coroutine)[:2] == ["outer", "inner"]
    coroutine.send(None)
    assert names(coroutine)[:3] == ["outer", "items", "inner"]
    coroutine.close()
    assert names(coroutine) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
def test_a_coroutine_can_be_looked_at_while_it_is_resumed():
    """A look at each instruction of a coroutine, that of its resumption too, does no harm."""
    monitoring, tool = sys.monitoring, 3
    seen = []

    def look(code, offset):
        seen.append(names(coroutine))

    coroutine = outer()
    monitoring.use_tool_id(tool, "tests")
    try:
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, look)
        for code in (outer.__code__, inner.__code__, items.__code__):
            monitoring.set_local_events(tool, code, monitoring.events.INSTRUCTION)
        for _ in range(2):
            coroutine.send(None)
        with pytest.raises(StopIteration):
            coroutine.send(None)
    finally:
        for code in (outer.__code__, inner.__code__, items.__code__):
            monitoring.set_local_events(tool, code, 0)
        monitoring.free_tool_id(tool)
    assert len(seen) > 20
    assert all(each == ["outer"] for each in seen)
