"""The names of a `%%flow` cell.

The cell starts from a snapshot of the notebook's namespace and works in a plain
dict of its own. When its run completes, `publish` binds in the notebook, in one
step, what the cell bound, and deletes what it deleted; when the run fails or is
cancelled nobody calls `publish`, and the dict still holds everything.

What counts as bound by the cell:

- each name whose value is not the very object of the snapshot, however it came
  to be bound: assignment, import, ``global``, ``exec``, a magic, ``x = !ls``;
- when the cell ran to its end, also each name that a statement at its top level
  binds in any case (``best = None`` binds, whatever was there before). A name
  bound only in a branch or loop to the object that it had already does not
  count: if the notebook has rebound it meanwhile, the notebook's value stays.

The names that IPython keeps for itself (``In``, ``Out``, ``_``, ``_i3``,
``_exit_code``, ``__name__``, …) are never published; a user's own ``_x`` is.

Not undone, whatever becomes of the run: changes made *inside* objects that the
notebook has too (an appended list, a trained model), and what a function of an
earlier cell does to the notebook's names, since it works on these as ever.

Threads: the dict belongs to the run's own code, and any thread may look into it.
`publish` may be called from any thread, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager

from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.kernel import routing
from jupyter_flows.kernel.rehoming import rehome
from jupyter_flows.kernel.routing import Names

# what a cell's own code is given by us
RESULT = "__flow_result__"  # takes the value of the cell's last expression
PROGRESS = "__flow_progress__"  # wraps what a top-level loop runs over

_NEVER_PUBLISHED = re.compile(
    r"In|Out|_{1,3}|_i{1,3}|_i?\d+|_[iod]h|_exit_code"
    r"|__(name|doc|package|loader|spec|file|builtins?|annotations|annotate"
    r"|warningregistry|session|nonzero|flow_result|flow_progress)__"
)


def is_published(name: str) -> bool:
    """Whether a name is the user's, and not one that IPython or we keep for ourselves."""
    return not _NEVER_PUBLISHED.fullmatch(name)


class CellNamespace:
    """What one run of a cell sees and binds."""

    def __init__(self, shell: InteractiveShell) -> None:
        routing.install(shell)
        self.notebook: Names = shell.user_ns  # where the names will be published
        self._ipythons = shell.user_ns_hidden  # `get_ipython` and its like
        self._snapshot = self.notebook.copy()
        self.names: Names = self._snapshot.copy()
        if "__annotations__" in self.names:  # or the cell would write into the notebook's
            self.names["__annotations__"] = dict(self.names["__annotations__"])
        self._route = routing.Route(shell, self.names)

    def followed(self) -> AbstractContextManager[None]:
        """Within it, IPython shows the cell's names to code of this context."""
        return self._route.followed()

    def bound(self, certain: Iterable[str] = ()) -> Names:
        """The names that the cell bound; `certain` count whatever their value."""
        now = self.names.copy()
        missing = object()
        surely = set(certain)
        return {
            name: value
            for name, value in now.items()
            if (name in surely or value is not self._snapshot.get(name, missing))
            and is_published(name)
        }

    def deleted(self) -> list[str]:
        """The names that the cell found and deleted."""
        return [name for name in self._snapshot if name not in self.names and is_published(name)]

    def publish(self, certain: Iterable[str] = (), used: Iterable[str] = ()) -> None:
        """Bind and delete in the notebook what the cell bound and deleted.

        What it defined works on the notebook's names from then on. That includes
        what it put into the objects behind the names that its code `used`, such
        as a callback in a list of the notebook.
        """
        bound = self.bound(certain)
        handled = [
            self.names[name] for name in used if name in self.names and name not in self._ipythons
        ]
        home = rehome([*bound.values(), *handled], self.names, self.notebook)
        published = {name: home(value) for name, value in bound.items()}
        deleted = self.deleted()
        previous = self.notebook.copy()  # or a value's __del__ would run between the names
        self.notebook.update(published)
        for name in deleted:
            self.notebook.pop(name, None)
        del previous
        self.names.update(published)
        self.close()

    def take(self, bound: Names, deleted: Iterable[str], home: Names) -> None:
        """Let the cell have bound and deleted this, elsewhere, and nothing before.

        Args:
            bound: the names and their values.
            deleted: what it found and deleted.
            home: the globals of the functions among them.
        """
        moved = rehome([*bound.values()], home, self.names)
        self.names.clear()
        self.names.update(self._snapshot)
        self.names.update({name: moved(value) for name, value in bound.items()})
        for name in deleted:
            self.names.pop(name, None)

    def close(self) -> None:
        """Show the notebook's names again, also to threads that outlive the cell."""
        self._route.close()

    def forget(self) -> None:
        """Close, and let go of all values."""
        self.close()
        self._snapshot = {}
        self.names = {}
