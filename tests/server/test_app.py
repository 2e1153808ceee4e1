import inspect
import json
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import yaml
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.utils import validate_extension
from tornado import web
from traitlets.config import Config, Configurable

from jupyter_flows.records import RunRecord, TaskRecord
from jupyter_flows.server import app, handlers
from jupyter_flows.server.handlers import ROOT, ROUTES
from jupyter_flows.states import StateType

API = yaml.safe_load(files("jupyter_flows.server").joinpath("openapi.yaml").read_text())
VERBS = {"get", "post", "put", "patch", "delete", "head"}


def verbs(handler: type[APIHandler]) -> set[str]:
    """The verbs that a handler answers itself."""
    return {verb for verb in VERBS if getattr(handler, verb) is not getattr(APIHandler, verb)}


def test_openapi_paths() -> None:
    """The OpenAPI file and the handlers have the same paths and verbs."""
    described = {path: set(methods) & VERBS for path, methods in API["paths"].items()}
    handled = {path.replace("([^/]+)", "{run}"): verbs(handler) for path, handler in ROUTES}
    assert described == handled
    assert API["servers"] == [{"url": f"/{ROOT}"}]


def test_openapi_arguments() -> None:
    """The OpenAPI file describes the fields of the records and the states."""
    schemas = API["components"]["schemas"]
    assert list(schemas["Run"]["properties"]) == list(RunRecord.__dataclass_fields__)
    assert list(schemas["Task"]["properties"]) == list(TaskRecord._fields)
    assert schemas["StateType"]["enum"] == list(StateType)


def test_every_verb_is_guarded() -> None:
    """Every verb of every handler is authenticated and authorized, for a resource of ours."""
    plain = {web.authenticated, authorized}
    for _, handler in ROUTES:
        assert handler.auth_resource == "jupyter_flows"
        for verb in verbs(handler):
            source = inspect.getsource(getattr(handler, verb))
            assert source.split("async def")[0].split() == ["@web.authenticated", "@authorized"]
            assert {vars(handlers)["web"].authenticated, vars(handlers)["authorized"]} == plain


def test_extension_is_found() -> None:
    """Jupyter finds the extension by the package's name, and enables it when installed."""
    assert validate_extension("jupyter_flows")
    enabled = json.loads(files("jupyter_flows.server").joinpath("jupyter_flows.json").read_text())
    assert enabled == {"ServerApp": {"jpserver_extensions": {"jupyter_flows": True}}}


class FakeServer(Configurable):
    """As much of a server as loading the extension needs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.added: list[Any] = []
        self.web_app = SimpleNamespace(
            settings={"base_url": "/me/"},
            add_handlers=lambda host, routes: self.added.extend(routes),
        )
        self.kernel_manager = SimpleNamespace(untracked_message_types=["status"])


def test_loading() -> None:
    """Control requests count as no activity, and the store's path can be configured."""
    server: Any = FakeServer(config=Config(FlowsServer={"store_path": "/somewhere/flows.sqlite"}))
    app._load_jupyter_server_extension(server)
    app._load_jupyter_server_extension(server)
    assert server.kernel_manager.untracked_message_types == ["status", "flows_request"]
    path, _, options = server.added[0]
    assert path == "/me/jupyter-flows/api/v1/runs"
    assert options == {"store_path": "/somewhere/flows.sqlite"}
