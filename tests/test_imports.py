"""Imports go down only, and other conventions that a test can hold."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jupyter_flows

ROOT = Path(jupyter_flows.__file__).parent
GROUND = {"states", "records", "messages", "errors", "turns"}
NO_FRONT_END = {
    "IPython",
    "ipykernel",
    "ipywidgets",
    "anywidget",
    "tornado",
    "jupyter_client",
    "jupyter_server",
    "zmq",
    "matplotlib",
}


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def _imports(module: str, *, at_import_time: bool = False) -> set[str]:
    """Return the modules that `module` imports, in functions and for type checkers too."""
    tree = ast.parse(MODULES[module].read_text())
    found: set[str] = set()
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
        elif at_import_time and _is_later(node):
            continue
        else:
            todo += ast.iter_child_nodes(node)
    return found


def _is_later(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return True
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def _in_layer(layer: str) -> list[str]:
    return [module for module in MODULES if _layer(module) == layer]


def _own(imports: set[str]) -> set[str]:
    return {name for name in imports if name.split(".")[0] == "jupyter_flows"}


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_floor_needs_the_standard_library_alone(name):
    """The ground floor imports nothing but Python's own and each other."""
    imports = _imports(f"jupyter_flows.{name}")
    assert {_layer(own) for own in _own(imports)} <= GROUND
    assert {other.split(".")[0] for other in imports - _own(imports)} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", _in_layer("engine"))
def test_the_engine_stands_on_the_ground_floor(module):
    """The engine imports the ground floor, itself and the standard library, no front end.

    What is about processes may look at them, and pickle what they are given.
    """
    imports = _imports(module)
    assert {_layer(own) for own in _own(imports)} <= GROUND | {"engine"}
    more = {"psutil", "cloudpickle"} if ".processes" in module else set()
    others = {other.split(".")[0] for other in imports - _own(imports)}
    assert others <= sys.stdlib_module_names | more


@pytest.mark.parametrize("module", _in_layer("history"))
def test_history_stands_beside_the_engine(module):
    """The store imports the ground floor and itself: never the engine, never an edge."""
    assert {_layer(own) for own in _own(_imports(module))} <= GROUND | {"history"}


@pytest.mark.parametrize(
    "module",
    [
        f"jupyter_flows.{name}"
        for name in (
            "annotations",
            "bars",
            "cache_policies",
            "context",
            "flows",
            "futures",
            "inputs",
            "methods",
            "names",
            "parameters",
            "tagging",
            "task_runners",
            "tasks",
            "worker_threads",
        )
    ],
)
def test_what_users_write_knows_no_front_end(module):
    """Flows and tasks import no edge and no front end: they work in plain Python."""
    imports = _imports(module)
    assert not {_layer(own) for own in _own(imports)} & {"kernel", "server", "history", "config"}
    assert not {name.split(".")[0] for name in imports} & NO_FRONT_END


@pytest.mark.parametrize(("one", "other"), [("kernel", "server"), ("server", "kernel")])
def test_kernel_and_server_meet_only_in_messages(one, other):
    """Neither edge imports the other, nor the server the engine: they share the protocol."""
    for module in _in_layer(one):
        layers = {_layer(own) for own in _own(_imports(module))}
        assert other not in layers, module
        if one == "server":
            assert "engine" not in layers, module


def test_no_cycles():
    """No module imports, at import time, one that imports it."""
    graph = {m: {i for i in _imports(m, at_import_time=True) if i in MODULES} for m in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in sorted(graph[module] - {"jupyter_flows"}):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_public_names_are_all_there():
    """`__all__` is sorted, names only what exists, and leaves out nothing public."""
    names = jupyter_flows.__all__
    assert names == sorted(names)
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for block in [tree, *(node for node in tree.body if isinstance(node, ast.If))]
        for node in block.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jupyter_flows")
        for alias in node.names
    }
    assert set(names) == imported
    assert all(hasattr(jupyter_flows, name) for name in names)


def test_importing_it_imports_no_front_end():
    """`import jupyter_flows` in plain Python loads neither IPython nor a server nor pydantic."""
    code = (
        "import sys, jupyter_flows\n"
        f"found = {NO_FRONT_END | {'pydantic', 'sqlite3'}!r} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT.parent)


@pytest.mark.parametrize("module", sorted(_in_layer("engine")))
def test_every_module_begins_with_its_rules(module):
    """Each module of the engine says at its top what it is for."""
    assert importlib.import_module(module).__doc__


def test_both_languages_agree_on_the_version():
    """The Python package and the labextension have one version."""
    package = ROOT.parent / "labextension" / "package.json"
    if not package.exists():
        pytest.skip("the labextension's sources are not part of an installed package")
    assert json.loads(package.read_text())["version"] == jupyter_flows.__version__
