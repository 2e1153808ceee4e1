"""What the Jupyter server calls when it loads the extension.

The package's `_jupyter_server_extension_points` leads it here.
"""

from typing import Any

from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from traitlets import Unicode, default
from traitlets.config import Configurable

from jupyter_flows.history import default_path
from jupyter_flows.messages import REQUEST
from jupyter_flows.server.handlers import ROOT, ROUTES


class FlowsServer(Configurable):
    """How the server reads runs."""

    store_path = Unicode(
        help="""
        The file that holds past runs: the same as the kernels'. By default that of
        the environment variable JUPYTER_FLOWS_STORE, else one in Jupyter's data directory.
        """
    ).tag(config=True)

    @default("store_path")
    def _default_store_path(self) -> str:
        return str(default_path())


def _load_jupyter_server_extension(serverapp: ServerApp) -> None:
    """Add the REST API, and keep control requests from counting as a user's activity.

    A view that asks a kernel for news must not make it look busy, nor keep it from
    being culled.
    """
    options: dict[str, Any] = {"store_path": FlowsServer(parent=serverapp).store_path}
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(  # type: ignore[no-untyped-call]
        ".*$",
        [(url_path_join(base, ROOT, route), handler, options) for route, handler in ROUTES],
    )
    manager = serverapp.kernel_manager
    if REQUEST not in manager.untracked_message_types:
        manager.untracked_message_types = [*manager.untracked_message_types, REQUEST]
