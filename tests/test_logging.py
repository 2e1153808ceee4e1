"""What a run logs, who decides that, and how it is looked through and written out."""

import io
import json
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from jupyter_flows import current_run, flow, get_run_logger, task
from jupyter_flows.config import FlowsConfig
from jupyter_flows.engine import log_lines, logs, ports
from jupyter_flows.engine.texts import without_escapes
from jupyter_flows.kernel import log_options
from jupyter_flows.records import LogLine

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def said(run):
    return [(line.source, line.message) for line in run.logs]


# -- prints --------------------------------------------------------------------------------


def business():
    print("from a helper")


@task
def open_step():
    print("from a task")
    business()


@task(log_prints=False)
def secret_step():
    print("secret")
    business()


def greets():
    print("hello")
    open_step()
    secret_step()


def test_prints_of_a_flow_are_logged_where_it_says_so(capsys):
    """`log_prints=True` logs what a flow, its tasks and the functions that they call print."""
    state = flow(log_prints=True)(greets)(return_state=True)
    assert state.is_completed()
    out, err = capsys.readouterr()
    assert out == "secret\nfrom a helper\n"
    logged = [line.split(" - ")[1] for line in err.splitlines()]
    assert logged == ["hello", "from a task", "from a helper"]


def test_a_task_opts_out(capsys):
    """A task with `log_prints=False` prints where its caller prints, and nowhere else."""
    run = flow(greets).start().wait(20)
    assert said(run) == [
        ("stdout", "hello"),
        ("open_step-0", "from a task"),
        ("open_step-0", "from a helper"),
    ]
    assert capsys.readouterr().out == "secret\nfrom a helper\n"


def test_a_foreground_flow_prints_unless_it_is_told_to_log(capsys):
    """Without the option a foreground flow prints as any function; its logger logs all the same."""

    @flow
    def plain():
        print("printed")
        get_run_logger().info("logged")

    plain()
    out, err = capsys.readouterr()
    assert out == "printed\n"
    assert err.endswith("| INFO    | Flow run 'plain' - logged\n")


def test_a_line_says_whether_it_is_of_the_flow_or_of_a_task(capsys):
    """A foreground flow's log names the task run that logs or fails, as Prefect's does."""

    @task(retries=1)
    def flaky():
        get_run_logger().info("tries")
        if current_run().retry_count == 0:
            raise ValueError("once")

    @flow
    def calls():
        flaky()

    calls()
    told = [line.partition(" | ")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "INFO    | Task run 'flaky-0' - tries",
        "INFO    | Task run 'flaky-0' - Failed, retry 1 of 1 begins at once: ValueError: once",
        "INFO    | Task run 'flaky-0' - tries",
    ]


def test_a_subflow_and_a_task_may_decide_otherwise():
    """The nearest decision counts: a task's, a subflow's, else that of who calls."""

    @task(log_prints=True)
    def loud():
        print("loud task")

    @flow(log_prints=True)
    def inner():
        print("inner")

    @flow(log_prints=False)
    def outer():
        print("passes")
        loud()
        inner()

    run = outer.start().wait(20)
    assert said(run) == [("loud-0", "loud task")]
    assert said(run.tasks[1].run) == [("stdout", "inner")]


# -- loggers and levels ----------------------------------------------------------------------


@pytest.fixture
def config():
    """The configuration, in force."""
    FlowsConfig.clear_instance()
    config = FlowsConfig()
    log_options.apply(config)
    yield config
    log_options.withdraw(config)


@flow
def logs_all():
    for logger in (get_run_logger(), logging.getLogger("tests.library")):
        for level in ("debug", "info", "warning"):
            getattr(logger, level)(level)


def test_the_run_logger_keeps_info_and_above():
    """As in Prefect, `get_run_logger` leaves debug lines out; other loggers warn, as ever."""
    assert said(logs_all.start().wait(20)) == [
        ("flow", "info"),
        ("flow", "warning"),
        ("tests.library", "warning"),
    ]


def test_the_level_is_a_trait(config):
    """`FlowsConfig.log_level` decides what the run logger keeps, from the next line on."""
    config.log_level = "debug"
    assert ("flow", "debug") in said(logs_all.start().wait(20))
    config.log_level = "WARNING"
    assert said(logs_all.start().wait(20)) == [("flow", "warning"), ("tests.library", "warning")]
    with pytest.raises(TraitError):
        config.log_level = "LOUD"


def test_extra_loggers_are_kept_by_name(config):
    """A logger named in `extra_loggers` writes from `log_level` on, until it is named no more."""
    config.extra_loggers = ["tests"]
    kept = [message for source, message in said(logs_all.start().wait(20)) if source != "flow"]
    assert kept == ["info", "warning"]
    config.extra_loggers = []
    assert logging.getLogger("tests").level == logging.NOTSET
    kept = [message for source, message in said(logs_all.start().wait(20)) if source != "flow"]
    assert kept == ["warning"]


def test_a_level_that_the_user_has_set_stays(config):
    """`extra_loggers` and `log_level` change no logger that has a level of its own."""
    logger = logging.getLogger("tests.own")
    logger.setLevel(logging.ERROR)
    config.extra_loggers = ["tests.own"]
    assert logger.level == logging.ERROR
    config.extra_loggers = []
    assert logger.level == logging.ERROR


def logs_in_a_process():
    get_run_logger().debug("seen")
    logging.getLogger("tests.library").info("seen too")


def test_levels_hold_in_processes(config):
    """What is configured holds in a run's process, too."""
    config.log_level = "DEBUG"
    config.extra_loggers = ["tests"]
    run = flow(logs_in_a_process, on="process").start().wait(30)
    assert said(run) == [("flow", "seen"), ("tests.library", "seen too")]


def test_the_format_is_a_trait(config, capsys):
    """`FlowsConfig.log_format` decides how a foreground run's lines look; a bad one is refused."""
    config.log_format = "%(levelname)s %(flow_run_name)s/%(name)s #%(number)d: %(message)s"
    flow(lambda: get_run_logger().warning("careful"), name="f")()
    assert capsys.readouterr().err == "WARNING f/flow #0: careful\n"
    for bad in ("%(nonsense)s", "%(message)d", "%", "{message} %s"):
        with pytest.raises(TraitError, match="is no format of a line"):
            config.log_format = bad


# -- looking through -------------------------------------------------------------------------


@task
def extract():
    print("took 3 rows")
    get_run_logger().warning("1 row is odd")


@flow
def talks():
    print("begins")
    extract()
    logging.getLogger("library").error("\x1b[31mBAD\x1b[0m rows")
    get_run_logger().info("ends")


@pytest.fixture(scope="module")
def talk():
    """A run that has said something."""
    return talks.start().wait(20)


def test_a_log_is_a_list_of_lines(talk):
    """`run.logs` is a list, and each line says when, how grave, from where and what."""
    assert isinstance(talk.logs, list)
    line = talk.logs[0]
    assert (line.number, line.level, line.source, line.message) == (0, 20, "stdout", "begins")
    assert line.timestamp.tzinfo is UTC


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"level": "WARNING"}, [2, 3]),
        ({"level": logging.ERROR}, [3]),
        ({"source": "stdout"}, [0]),
        ({"source": "extract-0"}, [1, 2]),
        ({"source": "task"}, [2]),
        ({"source": ["library", "flow"]}, [3, 4]),
        ({"text": "ROW"}, [1, 2, 3]),
        ({"text": "bad rows"}, [3]),
        ({"text": "["}, []),
        ({"text": re.compile(r"\d rows?\b")}, [1, 2]),
        ({"text": "row", "level": "warning", "source": "extract-0"}, [2]),
        ({"since": 3600}, [0, 1, 2, 3, 4]),
        ({"until": timedelta(hours=1)}, []),
        ({"since": datetime(2000, 1, 1, tzinfo=UTC)}, [0, 1, 2, 3, 4]),
    ],
)
def test_a_log_is_filtered(talk, wanted, numbers):
    """Level, source, text and time choose lines, alone and together."""
    found = talk.logs.filter(**wanted)
    assert [line.number for line in found] == numbers
    assert found.left_off == 0


def test_odd_filters_are_refused(talk):
    """A level or a time that is none is an error."""
    with pytest.raises(ValueError, match="level must be a number or a name"):
        talk.logs.filter(level="LOUD")
    with pytest.raises(TypeError, match="since must be a datetime"):
        talk.logs.filter(since="yesterday")


def test_what_was_filtered_is_filtered_and_exported_on(talk):
    """The lines that a filter returns can be filtered again, and written out by themselves."""
    found = talk.logs.filter(source="extract-0").filter(level="WARNING")
    assert found.to_text(line_format="%(message)s") == "1 row is odd\n"
    assert talk.logs.filter(text="nothing").to_text() == ""


def test_a_filter_returns_a_bounded_number_of_lines(talk, monkeypatch):
    """Beyond `MOST` a filter keeps the newest lines, and says how many it has left off."""
    monkeypatch.setattr(log_lines, "MOST", 2)
    found = talk.logs.filter()
    assert [line.number for line in found] == [3, 4]
    assert found.left_off == 3


# -- writing out -----------------------------------------------------------------------------


def test_a_log_is_written_as_text(talk):
    """As text a log is a line each, in the configured format or another, without escapes."""
    first, *_ = talk.logs.to_text().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \| INFO    \| Flow run 'talks' - begins", first)
    text = talk.logs.to_text(line_format="%(levelname)s %(name)s %(message)s")
    assert text.splitlines()[3] == "ERROR library BAD rows"
    assert "\x1b[31mBAD\x1b[0m" in talk.logs.to_text(escapes=True)
    with pytest.raises(ValueError, match="is no format of a line"):
        talk.logs.to_text(line_format="%(nonsense)s")


def test_a_log_is_written_as_json_lines(talk):
    """As JSON lines each line is an object with the fields of a `LogLine`."""
    objects = [json.loads(line) for line in talk.logs.to_jsonl().splitlines()]
    assert [LogLine(**each) for each in objects[:3]] == talk.logs[:3]
    assert objects[3]["message"] == "BAD rows"
    kept = [json.loads(line) for line in talk.logs.to_jsonl(escapes=True).splitlines()]
    assert [LogLine(**each) for each in kept] == talk.logs


def test_a_log_is_exported_to_a_file(talk, tmp_path):
    """`export` writes to a path, whose ending chooses the format, or into an open file."""
    for name, expected in (
        ("x.log", talk.logs.to_text()),
        ("x.jsonl", talk.logs.to_jsonl()),
        ("x.NDJSON", talk.logs.to_jsonl()),
    ):
        talk.logs.export(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == expected
    talk.logs.export(str(tmp_path / "y.log"), format="jsonl")
    assert (tmp_path / "y.log").read_text() == talk.logs.to_jsonl()
    file = io.StringIO()
    talk.logs.export(file, line_format="%(message)s", escapes=True)
    assert file.getvalue().splitlines()[3] == "\x1b[31mBAD\x1b[0m rows"
    with pytest.raises(ValueError, match="format must be"):
        talk.logs.export(tmp_path / "z", format="xml")
    assert not (tmp_path / "z").exists()


@flow
def talks_long():
    for i in range(100):
        print(i)


@pytest.fixture
def short_memory(monkeypatch):
    """Runs keep few lines in memory."""
    monkeypatch.setattr(logs, "HELD", 10)


def test_lines_that_left_memory_come_from_the_store(short_memory, monkeypatch):
    """Filters and exports go through the whole log, what only the store has included."""
    kept = []

    class History(ports.NoHistory):
        @staticmethod
        def line(item):
            kept.append(LogLine._make(item[1]))

    monkeypatch.setattr(ports, "history", History())
    monkeypatch.setattr(ports, "kept_lines", lambda run_id, start, stop: kept[start:stop])
    run = talks_long.start().wait(20)
    assert run.logs[0].number > 0
    assert [line.message for line in run.logs.filter()] == [str(i) for i in range(100)]
    assert run.logs.to_text(line_format="%(message)s").split() == [str(i) for i in range(100)]
    assert len(run.logs.to_jsonl().splitlines()) == 100


def test_lines_that_nobody_kept_are_told_of(short_memory):
    """Where no store has the lines that left memory, the text says how many are missing."""
    run = talks_long.start().wait(20)
    first = run.logs[0].number
    lines = run.logs.to_text(line_format="%(message)s").splitlines()
    assert lines[:2] == [f"[{first} lines were not kept]", str(first)]
    assert [line.number for line in run.logs.filter()] == list(range(first, 100))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[1;31mred\x1b[0m and \x1b[4mplain\x1b[m", "red and plain"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("bell\x07 back\x08 tab\t é 漢", "bell back tab\t é 漢"),
        ("\x1b]52;c;unfinished", ""),
        ("\x9b31mC1", "31mC1"),
    ],
)
def test_escapes_are_left_out_whole(text, plain):
    """Colours, links, titles and control characters go; what a person reads stays."""
    assert without_escapes(text) == plain


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    """Whatever a line holds, no control character but tabs and line ends is left of it."""
    left = without_escapes(text)
    assert not set(left) & {*map(chr, range(32)), *map(chr, range(127, 160))} - {"\t", "\n"}
    assert without_escapes(left) == left
