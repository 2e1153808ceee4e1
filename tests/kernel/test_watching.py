"""What a kernel tells those who watch a run."""

import json
from typing import Any

from jupyter_flows.messages import CHANGED, CHANGES_PER_SECOND, MAX_PUSHED_LINES


def pushes(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["msg_type"] == CHANGED]


def test_a_tight_loop_of_prints_does_not_flood_a_watcher(flows: Any) -> None:
    """Whatever a run prints, watchers hear at most 20 times and 1 MB a second."""
    flows.run("%%flow flood --no-view\nwhile True: print('a line of some fifty characters ' * 2)")
    run = flows.latest()
    flows.control("watch", run=run)
    flows.control("watch", run=run)  # another tab hears the same pushes
    heard = pushes(flows.hear_for(2.0))
    flows.control("cancel", run=run)
    flows.until(run, "CANCELLED")
    assert 10 <= len(heard) <= 2 * CHANGES_PER_SECOND + 1
    assert sum(len(json.dumps(each["content"])) for each in heard) < 2_000_000
    assert all(len(each["content"]["lines"]) <= MAX_PUSHED_LINES for each in heard)


def test_wide_lines_do_not_flood_a_watcher(flows: Any) -> None:
    """Long lines are fewer in a push: 1 MB a second holds for them too."""
    flows.run("%%flow wide --no-view\nwhile True: print('x' * 19_000)")
    run = flows.latest()
    flows.control("watch", run=run)
    heard = pushes(flows.hear_for(1.0))
    flows.control("cancel", run=run)
    flows.until(run, "CANCELLED")
    assert heard
    assert sum(len(json.dumps(each["content"])) for each in heard) < 1_100_000


def test_a_watcher_hears_every_line_once_and_the_end(flows: Any) -> None:
    """A run that prints little is heard whole: each line once, in order, and its last state."""
    flows.run("import threading\ngo = threading.Event()")
    flows.run(
        "%%flow calm --no-view\nimport time\ngo.wait()\n"
        "for i in range(30):\n    print(i); time.sleep(0.01)"
    )
    run = flows.latest()
    flows.control("watch", run=run)
    begin = len(flows.heard)
    flows.run("go.set()")
    flows.hear_until(
        lambda message: (
            message["msg_type"] == CHANGED
            and message["content"]["run"]["id"] == run
            and message["content"]["run"]["state_type"] == "COMPLETED"
        )
    )
    heard = [each["content"] for each in pushes(flows.heard[begin:])]
    own = [each for each in heard if each["run"]["id"] == run]  # others' may come late
    assert [line[4] for each in own for line in each["lines"]] == [str(i) for i in range(30)]
    assert flows.hear_for(0.3) == []


def test_nothing_is_said_of_a_run_that_nobody_watches(flows: Any) -> None:
    """Without a watch, or after it has ended, a kernel publishes nothing of a run."""
    flows.run("%%flow unseen --no-view\nfor i in range(10**9): print(i)")
    run = flows.latest()
    assert pushes(flows.hear_for(0.3)) == []
    flows.control("watch", run=run, seconds=0.2)
    flows.hear_for(0.5)
    assert pushes(flows.hear_for(0.3)) == []
    flows.control("cancel", run=run)
    flows.until(run, "CANCELLED")


def test_a_watcher_that_fails_harms_no_other(flows: Any) -> None:
    """A watcher that can no longer be told is dropped, and the others are told on."""
    flows.run(
        "from jupyter_flows.kernel import extension\n"
        "def broken(content): raise OSError('closed')\n"
        "watcher = extension._loaded._watcher\nimport threading\ngo = threading.Event()"
    )
    flows.run("%%flow shared --no-view --out run\nprint(1); go.wait(); print(2)")
    flows.run("watcher.watch(run, 'broken', broken, 60)")
    run = flows.latest()
    flows.until(run, "RUNNING")
    flows.control("watch", run=run)
    flows.run("go.set()")
    flows.hear_until(
        lambda message: (
            message["msg_type"] == CHANGED
            and message["content"]["run"]["state_type"] == "COMPLETED"
        ),
        seconds=10,
    )
    assert flows.run("watcher._thread is None or watcher._thread.join(5)")["error"] is None
    assert flows.run("watcher._watches, watcher._thread")["result"] == "({}, None)"
