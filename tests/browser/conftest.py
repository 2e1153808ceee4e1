"""Real JupyterLab and Notebook 7 servers, and a real Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize, sync_playwright

from tests.browser.pages import NotebookPage
from tests.browser.servers import Server

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
NO_CHROMIUM = (
    "No Chromium was found, which the browser tests drive. Get it with `apt-get install chromium` "
    "on Debian, or your system's way, so that `chromium`, `chromium-browser` or `google-chrome` "
    "is on PATH."
)
VIEWPORT: ViewportSize = {"width": 1200, "height": 1000}
SCREENSHOTS = Path(__file__).parent / "screenshots"


# Playwright runs an event loop in this thread: it ends with the package, before other tests begin.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def profile(browser: Browser) -> BrowserContext:
    """A browser's profile, whose cache the tests share: JupyterLab is large."""
    return browser.new_context(viewport=VIEWPORT)


def _server(factory: pytest.TempPathFactory, app: str, *, labextension: bool) -> Iterator[Server]:
    server = Server(factory.mktemp(app) / "server", app, labextension=labextension)
    yield server
    server.stop()


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(tmp_path_factory, "lab", labextension=True)


@pytest.fixture(scope="package")
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(tmp_path_factory, "notebook", labextension=True)


@pytest.fixture(scope="package")
def lab_without_labextension(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(tmp_path_factory, "lab", labextension=False)


@pytest.fixture(params=["lab", "notebook7"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each front end in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


Opener = Callable[..., NotebookPage]


@pytest.fixture
def open_notebook(
    browser: Browser, profile: BrowserContext, request: pytest.FixtureRequest
) -> Iterator[Opener]:
    """Opens notebooks in pages of their own; at the end closes them and ends their kernels."""
    pages: list[NotebookPage] = []

    def open_one(
        server: Server,
        name: str,
        *,
        kernel: bool = True,
        scale: float = 1,
    ) -> NotebookPage:
        if scale == 1:
            page = profile.new_page()
        else:
            page = browser.new_page(viewport=VIEWPORT, device_scale_factor=scale)
        page.set_default_timeout(20_000)
        notebook = NotebookPage(page, server, name)
        pages.append(notebook)
        return notebook.open(kernel=kernel)

    yield open_one
    errors = []
    for number, page in enumerate(pages):
        SCREENSHOTS.mkdir(exist_ok=True)
        if not page.page.is_closed():
            page.page.screenshot(path=SCREENSHOTS / f"{request.node.name}-{number}.png")
            page.page.close()
        errors += page.errors
    for server in {page.server for page in pages}:
        server.shut_down_kernels()
    assert not errors, errors
