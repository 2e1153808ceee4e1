"""The REST API: what is asked is checked here and looked up in `reading`.

Every answer, an error too, is a JSON object as in `jupyter_flows.messages`. The
store is read on a thread, never on the server's event loop. Asking is no user's
activity: a view that looks every second must not keep an idle server up.
"""

import asyncio
from collections.abc import Callable, Mapping
from http.client import responses
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from jupyter_flows.errors import BadRequest, FlowsError, StoreUnavailable, UnknownRun
from jupyter_flows.messages import (
    PROTOCOL,
    ListRuns,
    Logs,
    Request,
    Show,
    Tasks,
    Transitions,
    parse,
    refused,
)
from jupyter_flows.server import reading
from jupyter_flows.states import StateType

ROOT = "jupyter-flows/api/v1"

STATUS: Mapping[type[FlowsError], int] = {BadRequest: 400, UnknownRun: 404, StoreUnavailable: 503}

# Arguments that JupyterLab and Jupyter's authentication add to any request.
NOT_OURS = frozenset({"token", "no_track_activity"})

MOST_DIGITS = 16  # 2**53 has so many


class FlowsHandler(APIHandler):
    """What all handlers share."""

    auth_resource = "jupyter_flows"
    _track_activity = False

    def initialize(self, store_path: str) -> None:
        """Take the store's path; opening it is left to each request."""
        self.store_path = store_path

    def set_default_headers(self) -> None:
        """Let nothing be cached."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    async def reply(self, ask: Callable[[], reading.Question]) -> None:
        """Check what is asked and answer it."""
        try:
            text = await asyncio.to_thread(reading.answer, self.store_path, ask())
        except FlowsError as error:
            self.set_status(STATUS[type(error)])
            text = reading.as_text(refused(error))
        await self.finish(text)

    def request_for(self, action: str, *, run: str | None = None, fields: str = "") -> Request:
        """Read a request of the protocol from the query; `fields` are those it may hold.

        Raises:
            BadRequest: says what is wrong with it.
        """
        content: dict[str, Any] = {"protocol": PROTOCOL, "action": action}
        if run is not None:
            content["run"] = run
        for name in fields.split():
            for value in self.get_query_arguments(name):
                content[name] = int(value) if _is_number(value) else value
        return parse(content)

    def refuse_unknown(self, *known: str) -> None:
        """Raise `BadRequest` where the query holds an argument that means nothing here."""
        for name in self.request.query_arguments:
            # A name of digits is how JupyterLab passes caches by.
            if name not in known and name not in NOT_OURS and not _is_number(name):
                allowed = f"only {', '.join(known)}" if known else "none"
                raise BadRequest(f"Unknown argument {name[:60]!r}: this takes {allowed}.")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer in the protocol's form to what never reached a handler's own code."""
        error = kwargs.get("exc_info", (None, None))[1]
        reason = responses.get(status_code, "Error")
        said = error.log_message if isinstance(error, web.HTTPError) else None
        content = {
            "protocol": PROTOCOL,
            "status": "error",
            "ename": reason,
            "evalue": said or f"{reason}. The server's log may say more.",
        }
        self.finish(reading.as_text(content))


class RunsHandler(FlowsHandler):
    """The runs, newest first, filtered."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        await self.reply(self._question)

    def _question(self) -> reading.Question:
        self.refuse_unknown("limit", "state", "name")
        request = self.request_for("list", fields="limit")
        assert isinstance(request, ListRuns)
        states = [state.upper() for state in self.get_query_arguments("state")]
        for state in states:
            if state not in StateType.__members__:
                known = ", ".join(StateType)
                raise BadRequest(f"Unknown state {state[:60]!r}. Known: {known}.")
        names = self.get_query_arguments("name", strip=False)
        return lambda store: reading.runs(store, request.limit, states or None, names or None)


class RunHandler(FlowsHandler):
    """One run."""

    @web.authenticated
    @authorized
    async def get(self, run: str) -> None:
        await self.reply(lambda: self._question(run))

    def _question(self, run: str) -> reading.Question:
        self.refuse_unknown()
        request = self.request_for("show", run=run)
        assert isinstance(request, Show)
        return lambda store: reading.run(store, request.run)


class LogsHandler(FlowsHandler):
    """Lines of a run's log, by number."""

    @web.authenticated
    @authorized
    async def get(self, run: str) -> None:
        await self.reply(lambda: self._question(run))

    def _question(self, run: str) -> reading.Question:
        self.refuse_unknown("start", "stop")
        request = self.request_for("logs", run=run, fields="start stop")
        assert isinstance(request, Logs)
        return lambda store: reading.lines(store, request.run, request.start, request.stop)


class TasksHandler(FlowsHandler):
    """Tasks of a run, by number."""

    @web.authenticated
    @authorized
    async def get(self, run: str) -> None:
        await self.reply(lambda: self._question(run))

    def _question(self, run: str) -> reading.Question:
        self.refuse_unknown("start", "stop")
        request = self.request_for("tasks", run=run, fields="start stop")
        assert isinstance(request, Tasks)
        return lambda store: reading.tasks(store, request.run, request.start, request.stop)


class TransitionsHandler(FlowsHandler):
    """Every move of a run."""

    @web.authenticated
    @authorized
    async def get(self, run: str) -> None:
        await self.reply(lambda: self._question(run))

    def _question(self, run: str) -> reading.Question:
        self.refuse_unknown()
        request = self.request_for("transitions", run=run)
        assert isinstance(request, Transitions)
        return lambda store: reading.transitions(store, request.run)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS


ROUTES: list[tuple[str, type[FlowsHandler]]] = [
    (r"/runs", RunsHandler),
    (r"/runs/([^/]+)", RunHandler),
    (r"/runs/([^/]+)/logs", LogsHandler),
    (r"/runs/([^/]+)/tasks", TasksHandler),
    (r"/runs/([^/]+)/transitions", TransitionsHandler),
]
