import json
import sqlite3
from typing import Any

import pytest
import requests

from jupyter_flows.history import Store
from jupyter_flows.messages import MAX_LINE_CHARACTERS, MAX_LINES, MAX_TASKS
from jupyter_flows.records import ProgressRecord, lines_as_json
from tests.history.fakes import kernel_record, line, move, run_record, task_record

from .conftest import Server

PATHS = ["", "/run-1", "/run-1/logs", "/run-1/tasks", "/run-1/transitions"]


def refused(answer: requests.Response, status: int, ename: str) -> str:
    """The answer is an error of the protocol; return what it says."""
    assert answer.status_code == status, answer.text
    content = answer.json()
    assert set(content) == {"protocol", "status", "ename", "evalue"}
    assert (content["protocol"], content["status"]) == (1, "error")
    assert content["ename"] == ename
    assert "\n" not in content["evalue"]
    return str(content["evalue"])


def granted(answer: requests.Response) -> Any:
    """The answer is one of the protocol; return it."""
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content["protocol"], content["status"]) == (1, "ok")
    return content


def as_json(value: Any) -> Any:
    """What a value looks like after it has travelled."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_token(server: Server, store: Store, path: str, token: str | None) -> None:
    """Nobody reads anything without the server's token."""
    store.save(runs=[run_record()])
    refused(server.runs(path, token=token), 403, "Forbidden")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
def test_only_reading(server: Server, store: Store, path: str, verb: str) -> None:
    """Nothing can be changed here."""
    url = f"{server.url}jupyter-flows/api/v1/runs{path}"
    headers = {"Authorization": f"token {server.token}"}
    assert requests.request(verb, url, headers=headers, timeout=30).status_code in (403, 405)


@pytest.mark.parametrize("path", PATHS)
def test_headers(server: Server, store: Store, path: str) -> None:
    """Every answer is JSON that no browser takes for anything else, and is not cached."""
    store.save(runs=[run_record()])
    for answer in (server.runs(path), server.runs(path, token=None), server.runs("/nobody")):
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_run(server: Server, store: Store) -> None:
    """A run comes as its record, with whether its kernel is alive."""
    store.save_kernel(kernel_record())
    run = run_record(tags=("a", "b"), parameters={"day": "'2026-01-01'"})
    store.save(runs=[run])
    content = granted(server.runs("/run-1"))
    assert content["run"] == as_json(run.as_json())
    assert content["alive_kernels"] == ["kernel-1"]
    assert content["now"] > 1_700_000_000


def test_dead_kernel(server: Server, store: Store) -> None:
    """A run whose kernel was killed is CRASHED when it is shown."""
    store.save_kernel(kernel_record(process_started=1.0, host="elsewhere"))
    store._connection.execute("UPDATE kernels SET heartbeat = 2000")
    store.save(runs=[run_record()])
    content = granted(server.runs("/run-1"))
    assert content["run"]["state_type"] == "CRASHED"
    assert content["run"]["ended"] == 2_000
    assert content["alive_kernels"] == []
    assert granted(server.runs())["runs"][0]["state_type"] == "CRASHED"


def test_runs(server: Server, store: Store) -> None:
    """Runs are listed newest first, filtered by states and names, up to a limit."""
    store.save(
        runs=[
            run_record("a", created=1.0, name="train"),
            run_record("b", created=3.0, name="load", state_type="FAILED"),
            run_record("c", created=2.0, name="train", state_type="COMPLETED"),
        ]
    )

    def ids(**params: Any) -> list[str]:
        return [run["id"] for run in granted(server.runs(**params))["runs"]]

    assert ids() == ["b", "c", "a"]
    assert ids(limit=1) == ["b"]
    assert ids(state=["FAILED", "running"]) == ["b", "a"]
    assert ids(name="train") == ["c", "a"]
    assert ids(name=["train", "load"], state="COMPLETED") == ["c"]
    assert ids(name="nothing") == []


def test_lines(server: Server, store: Store) -> None:
    """Lines come by number, not more than the protocol allows in one answer."""
    said = [line(number, f"line {number}", 1.5) for number in range(MAX_LINES + 500)]
    store.save(runs=[run_record()], lines=[("run-1", one) for one in said])
    content = granted(server.runs("/run-1/logs"))
    assert content["lines"] == lines_as_json(said[:MAX_LINES])
    assert (content["first"], content["count"]) == (0, MAX_LINES + 500)
    content = granted(server.runs("/run-1/logs", start=MAX_LINES + 498, stop=2**53 - 1))
    assert content["lines"] == lines_as_json(said[-2:])
    assert granted(server.runs("/run-1/logs", start=10, stop=12))["lines"][0][0] == 10
    assert granted(server.runs("/run-1/logs", start=12, stop=10))["lines"] == []


def test_long_line(server: Server, store: Store) -> None:
    """A line that is too long for a screen is cut, and says so."""
    store.save(runs=[run_record()], lines=[("run-1", line(0, "x" * (MAX_LINE_CHARACTERS + 1_234)))])
    message = granted(server.runs("/run-1/logs"))["lines"][0][4]
    assert message == "x" * MAX_LINE_CHARACTERS + " … (1,234 more characters)"


def test_tasks(server: Server, store: Store) -> None:
    """Tasks come by number, not more than the protocol allows in one answer."""
    tasks = [task_record(number) for number in range(MAX_TASKS + 1)]
    store.save(runs=[run_record()], tasks=[("run-1", task) for task in tasks])
    content = granted(server.runs("/run-1/tasks"))
    assert content["tasks"] == as_json([task.as_json() for task in tasks[:MAX_TASKS]])
    content = granted(server.runs("/run-1/tasks", start=1, stop=3))
    assert [task["number"] for task in content["tasks"]] == [1, 2]


def test_transitions(server: Server, store: Store) -> None:
    """Every move comes, in order."""
    moves = [move("PENDING", 1.0), move("RUNNING", 2.0, "why"), move("PAUSED", 3.0)]
    store.save(
        runs=[run_record()], moves=[("run-1", number, one) for number, one in enumerate(moves)]
    )
    content = granted(server.runs("/run-1/transitions"))
    assert content["transitions"] == as_json([one.as_json() for one in moves])


@pytest.mark.parametrize("path", PATHS[1:])
def test_unknown_run(server: Server, store: Store, path: str) -> None:
    """Runs are named by their whole id; any other is unknown."""
    store.save(runs=[run_record("run-12")])
    assert "'run-1'" in refused(server.runs(path), 404, "UnknownRun")


@pytest.mark.parametrize(
    "id", ["..%2F..%2Fetc%2Fpasswd", "%27%20OR%201%3D1--", "%00", "%3Cscript%3E", "%F0%9F%90%99"]
)
def test_odd_ids(server: Server, store: Store, id: str) -> None:
    """An id is only looked up, whatever it holds."""
    refused(server.runs(f"/{id}"), 404, "UnknownRun")


@pytest.mark.parametrize(
    ("path", "params", "says"),
    [
        ("", {"limit": "many"}, "must be a whole number"),
        ("", {"limit": "1001"}, "between 0 and 1,000"),
        ("", {"limit": "-1"}, "must be a whole number"),
        ("", {"limit": "9" * 5_000}, "must be a whole number"),
        ("", {"limit": "1_0"}, "must be a whole number"),
        ("", {"limit": "१"}, "must be a whole number"),
        ("", {"state": "ASLEEP"}, "Unknown state 'ASLEEP'. Known: SCHEDULED, PENDING"),
        ("", {"stat": "RUNNING"}, "Unknown argument 'stat': this takes only limit, state, name"),
        ("/run-1", {"start": "0"}, "Unknown argument 'start': this takes none"),
        ("/run-1/logs", {"start": "-1"}, "must be a whole number"),
        ("/run-1/logs", {"start": "1.5"}, "must be a whole number"),
        ("/run-1/logs", {"stop": ""}, "must be a whole number"),
        ("/run-1/logs", {"stop": str(2**53)}, "between 0 and"),
        ("/run-1/logs", {"run": "run-2"}, "Unknown argument 'run'"),
        ("/run-1/tasks", {"action": "cancel"}, "Unknown argument 'action'"),
        ("/" + "x" * 65, {}, "no longer than 64"),
    ],
)
def test_junk(server: Server, store: Store, path: str, params: dict[str, str], says: str) -> None:
    """What makes no sense is refused in one line that says why."""
    store.save(runs=[run_record()])
    assert says in refused(server.runs(path, **params), 400, "BadRequest")


def test_bytes_that_are_no_text(server: Server, store: Store) -> None:
    """Bytes that are no text are refused too."""
    answer = server.get("jupyter-flows/api/v1/runs?name=%ff%fe")
    refused(answer, 400, "Bad Request")


def test_what_jupyterlab_adds(server: Server, store: Store) -> None:
    """What JupyterLab adds to an address to pass caches by is no junk."""
    store.save(runs=[run_record()])
    assert granted(server.get("jupyter-flows/api/v1/runs?1795294309592"))["runs"]
    address = f"jupyter-flows/api/v1/runs/run-1/logs?token={server.token}"
    assert granted(server.get(address, token=None))


def test_hostile_text(server: Server, store: Store) -> None:
    """Text is text: it comes back as it was printed, within JSON."""
    hostile = "<img src=x onerror=alert(1)></script>\x1b]8;;javascript:alert(1)\x07x\x00\u2028"
    store.save(
        runs=[run_record(name=hostile, parameters={hostile: hostile})],
        lines=[("run-1", line(0, hostile))],
        tasks=[("run-1", task_record(name=hostile))],
    )
    assert granted(server.runs("/run-1"))["run"]["name"] == hostile
    assert granted(server.runs())["runs"][0]["parameters"] == {hostile: hostile}
    assert granted(server.runs("/run-1/logs"))["lines"][0][4] == hostile
    assert granted(server.runs("/run-1/tasks"))["tasks"][0]["name"] == hostile


def test_numbers_that_json_lacks(server: Server, store: Store) -> None:
    """Where a number is none, or endless, browsers get null and not a syntax error."""
    bar = ProgressRecord(
        number=0,
        parent=None,
        label="x",
        done=float("nan"),
        total=float("inf"),
        started=1.0,
        ended=None,
        rate=None,
    )
    store.save(runs=[run_record(progress=(bar,))])
    answer = server.runs("/run-1")
    assert "NaN" not in answer.text
    assert "Infinity" not in answer.text
    (shown,) = granted(answer)["run"]["progress"]
    assert (shown["done"], shown["total"], shown["started"]) == (None, None, 1.0)


def test_damaged_store(server: Server, store: Store) -> None:
    """A store that cannot be read is said, and it is read again once it is repaired."""
    store.close()
    for file in server.store_path.parent.glob("flows.sqlite*"):
        file.unlink()
    server.store_path.write_bytes(b"no database" * 1_000)
    for path in PATHS:
        assert "move it away" in refused(server.runs(path), 503, "StoreUnavailable")
    server.store_path.unlink()
    assert granted(server.runs())["runs"] == []


def test_read_while_locked(server: Server, store: Store) -> None:
    """A kernel that is writing keeps nobody from reading."""
    store.save_kernel(kernel_record(host="elsewhere"))
    store._connection.execute("UPDATE kernels SET heartbeat = 2000")
    store.save(runs=[run_record()])
    lock = sqlite3.connect(server.store_path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        assert granted(server.runs("/run-1"))["run"]["state_type"] == "RUNNING"
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert granted(server.runs("/run-1"))["run"]["state_type"] == "CRASHED"


def test_no_activity(server: Server, store: Store) -> None:
    """A view that looks at runs does not keep an idle server up."""
    before = server.get("api/status", no_track_activity=1).json()["last_activity"]
    granted(server.runs())
    after = server.get("api/status", no_track_activity=1).json()["last_activity"]
    assert after == before
