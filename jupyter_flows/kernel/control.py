"""Answers control requests, whoever brings them.

`Control.answer` takes the content of a ``flows_request`` and returns the content
of its reply; it never raises and never blocks on a run. It is called on the
kernel's control thread while a cell may be busy, and on the main thread for
requests that come through a widget's comm.

Runs and lines that have left memory are read from the store, through `Archive`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import time
from typing import Any, Protocol

from jupyter_flows import messages
from jupyter_flows.engine import registry
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import (
    BadRequest,
    FlowsError,
    InvalidInput,
    NotReplayable,
    UnknownRun,
)
from jupyter_flows.kernel import reruns
from jupyter_flows.kernel.barrier import stopped_by_people
from jupyter_flows.kernel.watching import Publish, Watcher, newest_that_fit
from jupyter_flows.records import KernelRecord, LogLine, RunRecord, TaskRecord, Transition

_RESUME_SECONDS = 6.0  # a little longer than a process may take to check an input
TAIL = 50  # lines that come with an answer to Show or Watch, as many as a screen shows
_REPLY_CHARACTERS = 2_000_000  # of the lines in one answer


class Archive(Protocol):
    """What is read of runs that are no longer in memory."""

    def run(self, run_id: str) -> RunRecord | None: ...

    def lines(self, run_id: str, start: int, stop: int) -> list[LogLine]: ...

    def first_line(self, run_id: str) -> int | None: ...

    def tasks(self, run_id: str, start: int, stop: int) -> list[TaskRecord]: ...

    def transitions(self, run_id: str) -> list[Transition]: ...


class Control:
    """Answers control requests for the runs of this kernel."""

    def __init__(self, kernel: KernelRecord, watcher: Watcher, archive: Archive) -> None:
        self._kernel = kernel
        self._watcher = watcher
        self._archive = archive
        self._actions: dict[type, Callable[..., dict[str, Any]]] = {
            messages.Hello: self._hello,
            messages.ListRuns: self._list,
            messages.Show: self._show,
            messages.Logs: self._logs,
            messages.Tasks: self._tasks,
            messages.Outputs: self._outputs,
            messages.Transitions: self._transitions,
            messages.Cancel: self._cancel,
            messages.Kill: self._kill,
            messages.Abandon: self._abandon,
            messages.Where: self._where,
            messages.Pause: self._pause,
            messages.Resume: self._resume,
            messages.Replace: self._replace,
            messages.Replay: self._replay,
        }

    def answer(self, content: Any, who: str, publish: Publish) -> dict[str, Any]:
        """Do what is asked, and return the content of the reply.

        Args:
            content: the content of the request.
            who: whose request it is; one watch is kept for each.
            publish: how `who` is told of changes of a run that it watches.
        """
        try:
            request = messages.parse(content)
            if isinstance(request, messages.Watch):
                run = self._find(request.run)
                self._watcher.watch(run, who, publish, request.seconds)
                return self._shown(run)
            return self._actions[type(request)](request)
        except FlowsError as error:
            return messages.refused(error)
        except BaseException as error:  # whosever fault: the client hears of it, too
            return messages.refused(error)

    def _find(self, run_id: str) -> FlowRun:
        run = registry.find(run_id)
        if run is None:
            raise UnknownRun("This kernel has no such run in memory.")
        return run

    def _shown(self, run: FlowRun) -> dict[str, Any]:
        record = run.record()
        lines = run.log.read(record.log_count - TAIL, record.log_count)
        return messages.ok(
            run=record.as_json(),
            now=time(),
            kernel=self._kernel.id,
            lines=newest_that_fit(lines, messages.MAX_PUSHED_CHARACTERS),
        )

    def _hello(self, request: messages.Hello) -> dict[str, Any]:
        from jupyter_flows import __version__

        return messages.ok(version=__version__, kernel=self._kernel.id, now=time())

    def _list(self, request: messages.ListRuns) -> dict[str, Any]:
        runs = registry.known()[: request.limit]
        return messages.ok(runs=[run.record().as_json() for run in runs], now=time())

    def _show(self, request: messages.Show) -> dict[str, Any]:
        run = registry.find(request.run)
        if run is not None:
            return self._shown(run)
        record = self._archived(request.run)
        return messages.ok(run=record.as_json(), now=time(), kernel=self._kernel.id, lines=[])

    def _archived(self, run_id: str) -> RunRecord:
        record = self._archive.run(run_id)
        if record is None:
            raise UnknownRun("Neither this kernel nor the store has such a run.")
        return record

    def _logs(self, request: messages.Logs) -> dict[str, Any]:
        run = registry.find(request.run)
        stop = min(request.stop, request.start + messages.MAX_LINES)
        if run is not None:
            first, count = run.log.first, run.log.count
        else:
            first = count = self._archived(request.run).log_count  # none is in memory
        lines: list[LogLine] = []
        if request.start < first:
            lines = self._archive.lines(request.run, request.start, min(stop, first))
        if run is not None:
            lines += run.log.read(max(request.start, first), stop)
        if first > 0:
            archived = self._archive.first_line(request.run)
            first = first if archived is None else min(first, archived)
        shown: list[list[Any]] = []
        room = _REPLY_CHARACTERS
        for line in lines:
            message = messages.cut(line.message)
            room -= len(message)
            if room < 0 and shown:
                break
            shown.append([line.number, line.time, line.level, line.source, message])
        return messages.ok(lines=shown, first=first, count=count)

    def _tasks(self, request: messages.Tasks) -> dict[str, Any]:
        stop = min(request.stop, request.start + messages.MAX_TASKS)
        run = registry.find(request.run)
        if run is not None:
            tasks = [task.record() for task in run.task_runs[request.start : stop]]
        else:
            self._archived(request.run)
            tasks = self._archive.tasks(request.run, request.start, stop)
        return messages.ok(tasks=[task.as_json() for task in tasks], now=time())

    def _transitions(self, request: messages.Transitions) -> dict[str, Any]:
        run = registry.find(request.run)
        if run is not None:
            moves = run.transitions()
        else:
            self._archived(request.run)
            moves = self._archive.transitions(request.run)
        return messages.ok(transitions=[move.as_json() for move in moves])

    def _outputs(self, request: messages.Outputs) -> dict[str, Any]:
        changed, numbers = self._find(request.run).outputs.since(
            request.since, messages.MAX_OUTPUTS
        )
        return messages.ok(outputs=[output.as_json() for output in changed], numbers=numbers)

    def _cancel(self, request: messages.Cancel) -> dict[str, Any]:
        run = self._find(request.run)
        if run.cancel(reason=request.reason or "user"):
            stopped_by_people.add(run)
        return self._shown(run)

    def _kill(self, request: messages.Kill) -> dict[str, Any]:
        run = self._find(request.run)
        if run.kill():
            stopped_by_people.add(run)
        return self._shown(run)

    def _abandon(self, request: messages.Abandon) -> dict[str, Any]:
        run = self._find(request.run)
        run.abandon()
        return self._shown(run)

    def _where(self, request: messages.Where) -> dict[str, Any]:
        run = self._find(request.run)
        stacks = run.where()
        shown = [stack.as_json() for stack in stacks[: messages.MAX_STACKS]]
        return messages.ok(run=run.record().as_json(), stacks=shown, count=len(stacks))

    def _pause(self, request: messages.Pause) -> dict[str, Any]:
        run = self._find(request.run)
        run.pause()
        return self._shown(run)

    def _resume(self, request: messages.Resume) -> dict[str, Any]:
        run = self._find(request.run)
        _in_time(lambda: run.resume(request.input, question=request.question))
        return self._shown(run)

    def _replace(self, request: messages.Replace) -> dict[str, Any]:
        run = self._find(request.run)
        if not reruns.replace(run):
            raise BadRequest("This run does not wait for an earlier one of its cell.")
        return self._shown(run)

    def _replay(self, request: messages.Replay) -> dict[str, Any]:
        run = registry.find(request.run)
        if run is None:
            self._archived(request.run)
            raise NotReplayable(
                "Only its history is left of this run: its flow is not defined in a live kernel. "
                "Start the flow again with its parameters."
            )
        return self._shown(run.replay())


def _in_time(call: Callable[[], object]) -> None:
    """Make a call that may run a validator of the user's, which is not to hold up this thread."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="jupyter_flows input", daemon=True)
    thread.start()
    thread.join(_RESUME_SECONDS)
    if failure:
        raise failure[0]
    if thread.is_alive():
        raise InvalidInput(
            "The input is still being checked: a validator of what the run waits for takes long. "
            "The run goes on if it fits."
        )
