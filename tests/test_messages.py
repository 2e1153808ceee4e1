"""The control protocol: what is understood, and how everything else is refused."""

import json
from dataclasses import MISSING, fields

import pytest

from jupyter_flows import messages
from jupyter_flows.errors import BadRequest, UnknownRun
from jupyter_flows.messages import ACTIONS, PROTOCOL, parse
from jupyter_flows.records import Transition


def _request(action, **content):
    return {"protocol": PROTOCOL, "action": action, **content}


def _smallest(action):
    needed = [spec.name for spec in fields(ACTIONS[action]) if spec.default is MISSING]
    return _request(action, **dict.fromkeys(needed, "3f2a"))


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_understood(action):
    """A request that holds what an action needs becomes that action."""
    assert isinstance(parse(_smallest(action)), ACTIONS[action])


@pytest.mark.parametrize("action", ACTIONS)
def test_every_field_is_checked(action):
    """No field of any action takes text without end; only what a person answers is any JSON."""
    for spec in fields(ACTIONS[action]):
        structures = [] if (action, spec.name) == ("resume", "input") else [{}, [1]]
        for wrong in (*structures, "x" * 2_000_000, object()):
            with pytest.raises(BadRequest, match=spec.name):
                parse(_smallest(action) | {spec.name: wrong})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "JSON object"),
        ([], "JSON object"),
        ("x" * 1_000_000, "JSON object"),
        ({}, "protocol"),
        ({"protocol": True, "action": "hello"}, "protocol"),
        ({"protocol": 2, "action": "hello"}, "protocol 1"),
        ({"protocol": 1}, "Unknown action"),
        ({"protocol": 1, "action": "shutdown"}, "Known: hello"),
        ({"protocol": 1, "action": ["hello"]}, "Unknown action"),
        (_request("show"), "needs the field 'run'"),
        (_request("show", run=7), "'run' of 'show' must be text"),
        (_request("show", run="x" * 65), "no longer than 64"),
        (_request("hello", run="x"), "no field 'run'"),
        (_request("logs", run="x", start=-1), "between 0 and"),
        (_request("logs", run="x", start=True), "whole number"),
        (_request("logs", run="x", stop=1.5), "whole number"),
        (_request("watch", run="x", seconds="soon"), "number of seconds"),
        (_request("watch", run="x", seconds=float("nan")), "between"),
        (_request("resume", run="x", input={"x": ["y" * 100_000]}), "no longer than 100,000"),
        (_request("resume", run="x", question=-1), "between 0 and"),
        (_request("cancel", run="x", reason=""), "in words"),
        (_request("show", run="x", **{"y" * 1_000_000: 1}), "no field"),
    ],
)
def test_bad_requests_say_what_is_wrong(content, says):
    """What cannot be read is refused in one short line that says why."""
    with pytest.raises(BadRequest, match=says) as caught:
        parse(content)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400


def test_defaults_are_filled_in():
    """A field that is left out has its default."""
    assert parse(_request("logs", run="x")).start == 0
    assert parse(_request("resume", run="x")).input is None


def test_replies_are_json():
    """Both kinds of reply, and records in them, can be sent as JSON."""
    moved = Transition(time=1.0, type="RUNNING", name="Retrying", message="again")
    reply = messages.ok(transitions=[moved.as_json()])
    assert json.loads(json.dumps(reply))["transitions"][0]["name"] == "Retrying"
    refused = messages.refused(UnknownRun("No run has this id."))
    assert refused == {
        "protocol": PROTOCOL,
        "status": "error",
        "ename": "UnknownRun",
        "evalue": "No run has this id.",
    }
