"""A part of a run that is stopped by itself: a block under a timeout, a call of a hook.

A section is a life without a record: what is asked of it, and how it is stopped, is
as for a task that is called, but nobody lists it. A block's body is entered by no
function of the engine; it ends at the frame that its ``with`` is in.
"""

from __future__ import annotations

from types import FrameType

from jupyter_flows.engine.life import Life
from jupyter_flows.engine.logs import LineWriter
from jupyter_flows.states import Pending, State


class Section(Life):
    """A block of a run's sync code, or, without a frame, code beside its body."""

    parent: Life
    frame: FrameType | None

    __slots__ = ("frame", "parent")

    def __init__(self, owner: Life, frame: FrameType | None) -> None:
        super().__init__(owner.name, Pending(), owner.flow_run._lock)
        self.flow_run = owner.flow_run
        self.parent = owner
        self.frame = frame

    @property
    def id(self) -> str:
        """The id of what it is a part of."""
        return self.parent.id

    @property
    def listed(self) -> Life:
        """What it is a part of."""
        return self.parent.listed

    @property
    def caller(self) -> Life | None:
        """What it is a part of."""
        return self.parent

    @property
    def retries(self) -> int:
        """None: what it is a part of may be tried again."""
        return 0

    @property
    def captures(self) -> bool:
        """Whether what it prints becomes log lines."""
        return self.parent.captures

    def stream(self, level: int) -> LineWriter | None:
        """Return where its prints go."""
        return self.parent.stream(level)

    def __repr__(self) -> str:
        return f"<a block of {self.parent!r}>"

    def _changed(self, state: State) -> None:
        """Nobody keeps its moves."""
