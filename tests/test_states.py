"""The table of states is total, and nothing moves but by it."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest

from jupyter_flows import states
from jupyter_flows.errors import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    IllegalTransition,
    MissingResult,
)
from jupyter_flows.states import MOVES, TERMINAL, State, StateType, as_mermaid, check_move

LEGAL = [(source, target) for source in StateType for target in MOVES[source]]
ILLEGAL = [(s, t) for s in StateType for t in StateType if t not in MOVES[s]]

FACTORIES = {
    "Scheduled": "SCHEDULED",
    "AwaitingRetry": "SCHEDULED",
    "AwaitingConcurrencySlot": "SCHEDULED",
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Retrying": "RUNNING",
    "Paused": "PAUSED",
    "Cancelling": "CANCELLING",
    "Completed": "COMPLETED",
    "Failed": "FAILED",
    "TimedOut": "FAILED",
    "Cancelled": "CANCELLED",
    "Crashed": "CRASHED",
}


def test_the_types_are_prefects_nine():
    """A state has one of the nine types that Prefect has, spelled alike."""
    names = "SCHEDULED PENDING RUNNING PAUSED CANCELLING COMPLETED FAILED CANCELLED CRASHED"
    assert [kind.value for kind in StateType] == names.split()
    assert all(kind.name == kind.value for kind in StateType)


def test_the_table_is_total():
    """Every type has its row in the table, and every target is a type."""
    assert set(MOVES) == set(StateType)
    assert all(targets <= set(StateType) for targets in MOVES.values())


@pytest.mark.parametrize(("source", "target"), LEGAL)
def test_a_legal_move_passes(source, target):
    """What the table has may happen."""
    check_move(source, target)


@pytest.mark.parametrize(("source", "target"), ILLEGAL)
def test_an_illegal_move_is_refused(source, target):
    """What the table does not have raises one error that names both states."""
    with pytest.raises(IllegalTransition, match=rf"{source}.*{target}"):
        check_move(source, target)


@pytest.mark.parametrize("kind", sorted(TERMINAL))
def test_a_terminal_state_is_never_left(kind):
    """A run that has ended stays as it ended."""
    assert not MOVES[kind]


def test_every_state_can_end():
    """From every state that is not terminal a run can fail, be cancelled or crash."""
    for kind in set(StateType) - TERMINAL:
        assert MOVES[kind] >= {StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}


def test_every_state_can_be_reached():
    """No row of the table is dead: each state is a first one or some state leads to it."""
    reached = {StateType.PENDING, StateType.SCHEDULED}.union(*MOVES.values())
    assert reached == set(StateType)


def test_the_diagram_is_the_table():
    """The diagram has an arrow for every move of the table and no other."""
    arrows = [line.split(" --> ") for line in as_mermaid().splitlines()[1:]]
    drawn = {(source.strip(), target) for source, target in arrows}
    ends = {(kind.value, "[*]") for kind in TERMINAL}
    begins = {("[*]", "PENDING"), ("[*]", "SCHEDULED")}
    assert drawn == {(s.value, t.value) for s, t in LEGAL} | ends | begins
    assert len(arrows) == len(drawn)


@pytest.mark.parametrize(("name", "kind"), FACTORIES.items())
def test_a_factory_makes_the_state_of_its_name(name, kind):
    """Each factory of a state gives its type and its own name, and keeps message and data."""
    state = getattr(states, name)("because", data=7)
    assert (state.type.value, state.name, state.message, state.data) == (kind, name, "because", 7)


def test_a_predicate_for_each_type():
    """`is_<type>()` is true of that type alone, and `is_final` of the terminal ones."""
    for kind in StateType:
        state = State(kind)
        answers = {other: getattr(state, f"is_{other.value.lower()}")() for other in StateType}
        assert [other for other, answer in answers.items() if answer] == [kind]
        assert state.is_final() == (kind in TERMINAL)
        assert state.name == kind.value.capitalize()


def test_a_state_cannot_be_changed():
    """A state that was taken is a record: nobody changes it afterwards."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        states.Completed().name = "Failed"


def test_a_states_time_is_when_it_was_made():
    """States made one after another have times that do not go back, in UTC."""
    made = [states.Running() for _ in range(5)]
    assert all(earlier.time <= later.time for earlier, later in pairwise(made))
    assert made[0].timestamp.utcoffset().total_seconds() == 0
    assert made[0].timestamp.timestamp() == pytest.approx(made[0].time, abs=1e-5)


def test_the_result_of_a_completed_state():
    """A completed state's result is its data."""
    assert states.Completed(data={"loss": 1}).result() == {"loss": 1}


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (states.Cancelled("by me"), CancelledRun),
        (states.Crashed("gone"), CrashedRun),
        (states.Failed("oh"), FailedRun),
        (states.Failed(data=ValueError("mine")), ValueError),
        (states.Failed(data=states.Failed(data=KeyError("inner"))), KeyError),
        (states.TimedOut(data=TimeoutError("slow")), TimeoutError),
        (states.Running(), MissingResult),
        (states.Paused(), MissingResult),
    ],
)
def test_the_result_of_another_state(state, error):
    """Any other state's result raises what says why there is none, or returns it if so asked."""
    with pytest.raises(error):
        state.result()
    assert isinstance(state.result(raise_on_failure=False), error)


def test_a_states_text_is_constant():
    """The text of a state holds no time and no address, so that notebooks stay stable."""
    assert repr(states.Completed()) == "Completed()"
    assert repr(states.Cancelled("by me")) == "Cancelled('by me')"


def test_guide_has_the_diagram():
    """The diagram in the guide is the one that is drawn from the table."""
    guide = json.loads((Path(__file__).parents[1] / "notebooks" / "cancelling.ipynb").read_text())
    texts = ["".join(cell["source"]) for cell in guide["cells"]]
    assert any(f"```mermaid\n{as_mermaid()}```" in text for text in texts)
