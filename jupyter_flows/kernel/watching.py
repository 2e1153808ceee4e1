"""Telling those who watch a run what has changed.

Guarantees:

- `watch` may be called from any thread and never blocks. Whoever is told is told
  on the watcher's thread, at most `CHANGES_PER_SECOND` times a second a run, and
  only of what changed.
- A move to another state is told at once, unless a push has just gone out; that
  and what is printed wait for the next turn.
- A watch ends by itself after its seconds unless renewed, when its run's end was
  told, and when it cannot be told; without watches the thread ends.
- A push holds no more than `MAX_PUSHED_LINES` lines and `MAX_PUSHED_CHARACTERS`
  characters of them, the newest, shared by all that is watched: however many runs
  print however much, a browser is not flooded, nor the server's limit reached.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from jupyter_flows import messages
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.records import LogLine

Publish = Callable[[dict[str, Any]], None]
_TURN = 1 / messages.CHANGES_PER_SECOND


@dataclass(slots=True)
class _Watch:
    run: FlowRun
    publish: Publish
    until: float
    next_line: int
    seen: Any = None
    told: float = 0.0


class Watcher:
    """Tells watchers of the runs of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._moved = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, run: FlowRun, who: str, publish: Publish, seconds: float) -> None:
        """Tell `who`, through `publish`, of changes of `run` for `seconds` from now."""
        with self._lock:
            key = (run.id, who)
            known = self._watches.get(key)
            next_line = run.log.count if known is None else known.next_line
            watch = _Watch(run, publish, monotonic() + seconds, next_line)
            if known is not None:
                watch.seen, watch.told = known.seen, known.told
            self._watches[key] = watch
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._tell, name="jupyter_flows watcher", daemon=True
                )
                self._thread.start()
        self._moved.set()

    def moved(self, life: Life) -> None:
        """Hear of a change of state: a listener of the engine's."""
        if self._watches:
            self._moved.set()

    def _tell(self) -> None:
        while True:
            self._moved.wait(_TURN)
            self._moved.clear()
            now = monotonic()
            with self._lock:
                for key, watch in list(self._watches.items()):
                    if watch.until <= now:
                        del self._watches[key]
                if not self._watches:
                    self._thread = None
                    return
                watches = list(self._watches.values())
            room = messages.MAX_PUSHED_CHARACTERS // len(watches)
            for watch in watches:
                if now - watch.told >= _TURN and not self._tell_one(watch, now, room):
                    watch.until = now

    def _tell_one(self, watch: _Watch, now: float, room: int) -> bool:
        """Tell of what has changed; return whether there can be more to tell."""
        ended = watch.run.is_over()
        content = changes_of(watch.run, watch.next_line, room)
        seen = {**content["run"], "progress": _progress_seen(content["run"])}
        if seen == watch.seen and not content["lines"]:
            return not ended
        watch.seen = seen
        watch.next_line = content["run"]["log_count"]
        watch.told = now
        try:
            watch.publish(content)
        except Exception:  # whoever watched is gone, such as a widget that was closed
            return False
        return True


def _progress_seen(run: dict[str, Any]) -> Any:
    return [(bar["number"], bar["done"], bar["ended"]) for bar in run["progress"]]


def changes_of(run: FlowRun, next_line: int, room: int) -> dict[str, Any]:
    """Make the content of a push: the run, and the newest lines from `next_line` that fit."""
    record = run.record()
    start = max(next_line, record.log_count - messages.MAX_PUSHED_LINES)
    lines = run.log.read(start, record.log_count)
    return {
        "protocol": messages.PROTOCOL,
        "run": record.as_json(),
        "now": time(),
        "lines": newest_that_fit(lines, room),
    }


def newest_that_fit(lines: list[LogLine], characters: int) -> list[list[Any]]:
    """Return the last of `lines`, as they travel, that hold no more than `characters`."""
    fitting: list[list[Any]] = []
    for line in reversed(lines):
        message = messages.cut(line.message)
        characters -= len(message) + 40
        if characters < 0 and fitting:
            break
        fitting.append([line.number, line.time, line.level, line.source, message])
    return fitting[::-1]
