"""Tags: of flows and tasks, and of all that a block of code starts."""

import asyncio

import pytest

from jupyter_flows import current_run, flow, runs, runtime, tags, task

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@task(tags=["own"])
def look():
    return sorted(runtime.task_run.tags)


@flow(tags=["flow"])
def calls():
    with tags("inner"):
        return look(), look.submit().result()


def test_a_block_tags_what_is_started_in_it():
    """Runs started within `tags` have its tags beside their own; tasks and subflows too."""
    with tags("a", "b") as all_of_them:
        assert all_of_them == {"a", "b"}
        with tags("c"):
            run = calls.start()
        other = calls.start()
    outside = calls.start()
    assert run.result(20) == (["a", "b", "c", "inner", "own"],) * 2
    assert other.result(20) == (["a", "b", "inner", "own"],) * 2
    assert outside.result(20) == (["inner", "own"],) * 2
    assert run.tags == {"flow", "a", "b", "c"}
    assert run.tasks[0].record().tags == ("a", "b", "c", "inner", "own")
    assert [each.id for each in runs.list(tag="c", name="calls")] == [run.id]


def test_tags_in_async_code():
    """`tags` is the block's own in async code: what runs beside it is not tagged."""

    @task
    async def look_async():
        await asyncio.sleep(0)
        return sorted(runtime.task_run.tags)

    async def tagged(*words):
        with tags(*words):
            await asyncio.sleep(0)
            return await look_async()

    @flow
    async def gathers():
        return await asyncio.gather(tagged("a"), look_async(), tagged("b"))

    assert gathers.start().result(20) == [["a"], [], ["b"]]


def test_tags_reach_a_process():
    """Tasks of a flow in a process have the tags of the block that started it."""
    with tags("a"):
        run = calls.with_options(on="process").start()
    assert run.result(20) == (["a", "inner", "own"],) * 2
    assert run.tags == {"flow", "a"}


def test_a_task_called_alone_is_tagged():
    """A task called outside of a flow has its own tags and the block's."""

    @task(tags=["own"])
    def alone():
        return current_run().tags

    with tags("a"):
        assert alone() == {"own", "a"}


@pytest.mark.parametrize("decorate", [flow, task])
def test_tags_are_texts(decorate):
    """One text in the place of many tags, or what is no text, is refused."""
    with pytest.raises(TypeError, match=r"such as \['nightly'\], not one"):
        decorate(tags="nightly")(lambda: None)
    with pytest.raises(TypeError, match="A tag is a text, not 3"):
        decorate(tags=[3])(lambda: None)
    with pytest.raises(TypeError, match="A tag is a text, not 3"), tags(3):
        pass
