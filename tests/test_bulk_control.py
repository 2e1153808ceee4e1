"""Many runs at once: chosen by ids or by filters, controlled together."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_flows import (
    AmbiguousRun,
    NotPaused,
    UnknownRun,
    checkpoint,
    flow,
    runs,
    shield,
)
from jupyter_flows.errors import NotActive

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@flow
def waits(go):
    while not go.wait(0.001):
        checkpoint()


@pytest.fixture
def go():
    """Lets every waiting run of a test end, at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()
    runs.resume(name="waits")


@pytest.fixture
def start(go, until):
    """Starts runs that wait, with options of a flow, and sees them run."""

    def start(**options):
        run = waits.with_options(**options).start(go)
        until(lambda: run.state.is_running())
        return run

    return start


def ended(**options):
    """Return a run that has ended."""
    return flow(lambda: 1, **({"name": "quick"} | options)).start().wait()


def test_runs_are_cancelled_by_ids(start):
    """Every run whose id, or a unique beginning of it, is given is cancelled, and no other."""
    first, second, other = start(), start(), start()
    assert runs.cancel(ids=[second.id, first.id[:18]]) == [first, second]
    assert [run.wait(20).state.type for run in (first, second)] == ["CANCELLED", "CANCELLED"]
    assert other.state.is_running()
    assert runs.cancel(other.id[:20]) == [other]


def test_a_run_named_twice_is_acted_on_once(start):
    """Ids that name the same run, and the run itself, count as one."""
    run = start()
    assert runs.cancel(run.id, run, ids=[run.id[:20]]) == [run]


@pytest.mark.parametrize("act", [runs.cancel, runs.kill, runs.pause, runs.resume, runs.replay])
@pytest.mark.parametrize("bad", ["no such run", ""])
def test_of_unknown_ids_nothing_is_done(start, act, bad):
    """If one of the ids is unknown, no run is touched, those before it included."""
    run = start()
    with pytest.raises(UnknownRun):
        act(ids=[run.id, bad])
    assert run.state.is_running()
    assert run.asked is None


def test_of_ambiguous_ids_nothing_is_done(start):
    """If one of the ids is the beginning of several, no run is touched."""
    made = [start()]
    while len({run.id[0] for run in made}) == len(made):
        made.append(start())
    shared = made[-1].id[0]
    with pytest.raises(AmbiguousRun):
        runs.cancel(ids=[made[0].id, shared])
    assert all(run.asked is None for run in made)


@pytest.mark.parametrize("act", [runs.cancel, runs.kill, runs.pause, runs.resume, runs.replay])
def test_ids_and_filters_exclude_each_other(start, act):
    """Ids together with filters, and neither of them, are errors, and nothing is done."""
    run = start(tags=["chosen"])
    with pytest.raises(ValueError, match="not both"):
        act(run.id, tag="chosen")
    with pytest.raises(ValueError, match="not both"):
        act(ids=[], tag="chosen")
    for nothing in ({}, {"tags": None}, {"limit": 3}, {"tags": []}, {"metadata": {}}):
        with pytest.raises(ValueError, match="Say which runs"):
            act(**nothing)
    assert run.state.is_running()
    assert run.asked is None


def test_an_empty_list_of_ids_is_no_run():
    """A selection that came out empty acts on nothing, rather than on everything."""
    assert runs.cancel(ids=[]) == []
    assert runs.cancel(names=[]) == []


def test_runs_are_controlled_by_filters(start, until):
    """Pause, resume, kill and cancel act on the runs that the filters choose."""
    red = start(name="red", tags=["mine"])
    blue = start(name="blue", tags=["mine"])
    other = start(name="red", tags=["other"])
    assert runs.pause(tag="mine") == [red, blue]
    until(lambda: red.state.is_paused() and blue.state.is_paused())
    assert other.state.is_running()
    assert runs.resume(names=["red", "blue"], tag="mine") == [red, blue]
    until(lambda: red.state.is_running() and blue.state.is_running())
    assert runs.cancel(name="red", tag="mine", reason="too slow") == [red]
    assert red.wait(20).state.message == "Cancelled: too slow"
    assert runs.kill(tag="mine") == [blue]
    assert blue.wait(20).state.is_cancelled()
    assert other.state.is_running()


def test_what_could_not_be_done_is_told(start):
    """A run that has ended meanwhile is told of as refused, and the others are controlled."""
    active, over = start(), ended()
    done = runs.pause(ids=[over.id, active.id])
    assert done == [active]
    [(run, error)] = done.refused
    assert run is over
    assert "Completed" in str(error)
    late = runs.cancel(over.id)
    assert (late, [run for run, _ in late.refused]) == ([], [over])
    assert runs.kill(over.id).refused[0][0] is over


def test_where_nothing_can_be_done_to_what_was_named_it_is_raised(start):
    """If none of the named runs can be paused or resumed, the reason is raised."""
    over, active = ended(), start()
    with pytest.raises(NotActive):
        runs.pause(over.id)
    with pytest.raises(NotPaused):
        runs.resume(over.id, active.id)
    with pytest.raises(NotActive):
        runs.replay(active.id)
    assert runs.resume(name="waits") == []


def test_cancelling_again_is_harmless(start):
    """A run that is being cancelled counts as acted on, and the first reason stands."""
    go_on = threading.Event()

    @flow
    def shielded():
        with shield():
            go_on.wait(20)

    run = shielded.start()
    while run.thread is None:
        pass
    assert runs.cancel(run, reason="first") == [run]
    assert runs.cancel(run, reason="second") == [run]
    go_on.set()
    assert run.wait(20).cancel_reason == "first"


def test_a_subflow_follows_the_run_that_called_it(go, until):
    """Where filters choose a run and its subflow, the calling run alone is acted on."""

    @flow(tags=["family"])
    def calls():
        return inner()

    @flow(tags=["family"])
    def inner():
        while not go.wait(0.001):
            checkpoint()

    outer = calls.start()
    until(lambda: outer.tasks and outer.tasks[0].run.state.is_running())
    assert runs.cancel(tag="family") == [outer]
    assert outer.wait(20).state.is_cancelled()
    assert outer.tasks[0].run.cancel_reason == "parent"


def test_metadata_finds_runs(start):
    """Runs are found by all of the given values; one run may have some of its own."""
    one = start(metadata={"customer": "42", "kind": "nightly"})
    two = start(metadata={"customer": "43", "kind": "nightly"})
    assert runs.list(metadata={"kind": "nightly"}, state="RUNNING") == [two, one]
    assert runs.list(metadata={"customer": "42", "kind": "nightly"}) == [one]
    assert runs.list(metadata={"customer": "42", "kind": "other"}) == []
    assert one.record().metadata == {"customer": "42", "kind": "nightly"}
    assert runs.cancel(metadata={"customer": "43"}) == [two]


@pytest.mark.parametrize(
    "metadata",
    ["text", {"a": 1}, {1: "a"}, {"a": "x" * 1_001}, {str(i): "" for i in range(101)}],
)
def test_odd_metadata_is_refused_where_it_is_written(metadata):
    """Metadata is a bounded dict of texts, or the flow is not made."""
    with pytest.raises(ValueError, match="metadata m"):
        flow(lambda: 1, name="x", metadata=metadata)


def test_an_odd_filter_is_refused():
    """A limit below 0, and words and metadata that no run can have, are errors."""
    for limit in (-1, "5", 1.5):
        with pytest.raises(ValueError, match="limit must be 0 or more"):
            runs.list(limit=limit)
    for act in (runs.list, runs.cancel):
        with pytest.raises(TypeError, match="A filter is a text or a list of texts, not 5"):
            act(tags=5)
    with pytest.raises(ValueError, match="metadata must be a dict"):
        runs.list(metadata="customer")


def test_times_find_runs():
    """`since` and `until` take a datetime, with a zone or without, and how long ago."""
    run = ended(name="timed")
    at = datetime.fromtimestamp(run.created, UTC)
    just, hour = timedelta(milliseconds=1), timedelta(hours=1)
    for since in (
        at - just,
        at - hour,
        (at - hour).astimezone(),
        (at - just).astimezone().replace(tzinfo=None),
    ):
        assert run in runs.list(name="timed", since=since)
    assert run not in runs.list(name="timed", since=at + timedelta(seconds=1))
    assert run in runs.list(name="timed", until=at + just)
    assert run not in runs.list(name="timed", until=at - timedelta(seconds=1))
    assert run in runs.list(name="timed", since=3600)
    assert run in runs.list(name="timed", since=hour, until=0)
    assert run not in runs.list(name="timed", until=3600.5)
    for odd in ("yesterday", True):
        with pytest.raises(TypeError, match="since must be a datetime"):
            runs.list(since=odd)


def test_each_filter_takes_one_word_or_several():
    """Singular and plural spellings mean the same; several tags must all be there."""
    one, two = ended(name="one", tags=["a"]), ended(name="two", tags=["a", "b"])
    mine = {one, two}

    def found(**filters):
        return mine & set(runs.list(**filters, limit=None))

    assert found(name=["one", "two"]) == found(names={"one", "two"}) == mine
    assert found(names="one") == found(name="one") == {one}
    assert found(tags=["a", "b"], names=["one", "two"]) == {two}
    assert found(tag="a", name="one", state=["COMPLETED", "FAILED"]) == {one}
    assert found(states="FAILED") == set()


WORDS = st.sampled_from(["a", "b", "c"])
MADE = st.fixed_dictionaries(
    {
        "name": WORDS,
        "tags": st.frozensets(WORDS),
        "metadata": st.dictionaries(WORDS, WORDS, max_size=2),
    }
)
CHOSEN = st.fixed_dictionaries(
    {},
    optional={
        "names": st.frozensets(WORDS, min_size=1),
        "tags": st.frozensets(WORDS, min_size=1),
        "metadata": st.dictionaries(WORDS, WORDS, min_size=1, max_size=1),
        "states": st.just(["COMPLETED"]) | st.just(["RUNNING"]),
    },
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=st.lists(MADE, max_size=4), chosen=CHOSEN)
def test_filters_choose_what_they_say(made, chosen):
    """Any combination of filters chooses the runs that fit all of them, newest first."""
    all_of_them = [ended(**each) for each in made]
    expected = [
        run
        for run, each in zip(all_of_them, made, strict=True)
        if each["name"] in chosen.get("names", {each["name"]})
        and chosen.get("tags", frozenset()) <= each["tags"]
        and chosen.get("metadata", {}).items() <= each["metadata"].items()
        and chosen.get("states") != ["RUNNING"]
    ]
    found = [run for run in runs.list(**chosen, limit=None) if run in all_of_them]
    assert found == expected[::-1]
