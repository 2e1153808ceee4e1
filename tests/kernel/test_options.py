"""Reading what is written after a magic."""

import pytest
from IPython.core.error import UsageError

from jupyter_flows.kernel.options import FLOW_CELL, FLOWS


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("", "cell"),
        ("train", "train"),
        ("'two words'", "two words"),
        ('"it\'s"', "it's"),
        ("train # it's a comment", "train"),
        ("'a # b' # c", "a # b"),
        ("a#b", "a#b"),
        ("a\\ b", "a b"),
        ("# all of it", "cell"),
        ("<img/onerror=x>", "<img/onerror=x>"),
    ],
)
def test_names_are_read_as_a_shell_reads_them(line: str, name: str) -> None:
    """A name may be quoted, and a comment may follow it."""
    assert FLOW_CELL.read(line).name == name


def test_switches_are_unset_unless_they_are_given() -> None:
    """What is not said on the line is left to the configured default."""
    options = FLOW_CELL.read("x --no-wait --view")
    assert (options.wait, options.view, options.log_prints) == (False, True, None)
    assert (options.on, options.timeout, options.retries) == (None, None, None)


def test_options_repeat_where_that_makes_sense() -> None:
    """Tags and states add up."""
    assert FLOW_CELL.read("--tag a x --tag b").tag == ["a", "b"]
    assert FLOW_CELL.read("x").tag == []
    assert FLOWS.read("list --state failed --state CRASHED").state == ["FAILED", "CRASHED"]


@pytest.mark.parametrize("line", ["'x", '"x', "x\\", "--o thread", "--timeout inf", "--help", "-h"])
def test_what_cannot_be_read_is_one_line(line: str) -> None:
    """Any other line is a one-line error that says where to look."""
    with pytest.raises(UsageError) as caught:
        FLOW_CELL.read(line)
    assert str(caught.value).startswith("%%flow: ")
    assert str(caught.value).endswith("See %%flow? for its options.")
    assert "\n" not in str(caught.value)
