"""`task_runner`: how many of the tasks that a flow submits run at once."""

import threading

import pytest

from jupyter_flows import flow, task
from jupyter_flows.task_runners import ConcurrentTaskRunner, ThreadPoolTaskRunner

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Meter:
    """Counts how many are at work at once, and lets each wait for as many as there may be."""

    def __init__(self, expected):
        self.together = threading.Barrier(expected)
        self.lock = threading.Lock()
        self.now = self.most = 0

    def work(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.together.wait(20)
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("workers", [1, 3])
def test_it_bounds_the_tasks_at_work(workers, kind):
    """With `max_workers=n` there are n of the submitted tasks at work at once, and never more."""

    @task
    def works(i):
        meter.work()
        return i

    @task
    async def works_async(i):
        meter.work()
        return i

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))
    def submits():
        return (works if kind == "sync" else works_async).map(range(12)).result()

    meter = Meter(workers)
    assert submits.start().result(20) == list(range(12))
    assert meter.most == workers


def test_a_task_that_waits_for_its_own_is_not_stuck():
    """A task that submits tasks and waits for them gets them done, with one worker too."""

    @task
    def depth(n):
        return 0 if n == 0 else 1 + depth.submit(n - 1).result()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def submits():
        return depth.map([5, 5]).result()

    assert submits.start().result(20) == [5, 5]


def test_tasks_that_wait_for_each_other():
    """Tasks that wait for others submitted before them get through with one worker."""

    @task
    def add(x, y):
        return x + y

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def submits():
        total = add.submit(0, 0)
        for i in range(20):
            total = add.submit(total, i)
        return total.result()

    assert submits.start().result(20) == sum(range(20))


def test_without_a_bound():
    """A task runner without `max_workers` bounds nothing; options keep the task runner."""

    @task
    def works():
        meter.work()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def submits():
        for future in [works.submit() for _ in range(20)]:
            future.result()

    meter = Meter(20)
    submits.with_options(task_runner=ThreadPoolTaskRunner()).start().result(20)
    assert meter.most == 20
    meter = Meter(1)
    submits.with_options(name="other").start().result(20)
    assert meter.most == 1


def test_in_a_process():
    """A flow in a process has its task runner there."""

    @task
    def look():
        return threading.get_ident()

    @flow(on="process", task_runner=ThreadPoolTaskRunner(max_workers=1))
    def submits():
        return len({future.result() for future in [look.submit() for _ in range(20)]})

    assert submits.start().result(20) == 1


@pytest.mark.parametrize(("workers", "error"), [(0, ValueError), ("4", TypeError)])
def test_a_bad_number_is_refused(workers, error):
    """`max_workers` is a whole number, 1 or more."""
    with pytest.raises(error, match="max_workers must be"):
        ThreadPoolTaskRunner(max_workers=workers)


def test_what_is_no_task_runner_is_refused():
    """A `task_runner` that is none is refused where it is written."""
    with pytest.raises(TypeError, match="task_runner must be"):
        flow(task_runner=4)(lambda: None)
