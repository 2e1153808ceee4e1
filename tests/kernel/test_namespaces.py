"""What a cell's names are while it runs, and what becomes of them."""

import asyncio
import contextvars
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.kernel import routing
from jupyter_flows.kernel.cells import CellBody

Cell = Callable[[str], None]
FlowCell = Callable[..., CellBody]
OnAThread = Callable[[Callable[[], Any]], Any]


class Cargo:
    """Something whose end can be noticed, and that holds what it is given."""

    def __init__(self, held: Any = None) -> None:
        self.held = held


# --- a namespace of its own ---------------------------------------------------


def test_starts_from_a_snapshot(shell: InteractiveShell, cell: Cell) -> None:
    """A cell sees the notebook as it was when it began, and not what is bound later."""
    cell("x = 1")
    body = CellBody(shell, "x, 'later' in globals()", name="cell")
    cell("x = 2; later = True")
    assert body.call() == (1, False)
    body.begin()
    assert body.call() == (2, True)


def test_names_stay_its_own(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Nothing that a cell binds, rebinds or deletes reaches the notebook while it runs."""
    shell.user_ns.update(x=1, gone=1)
    body = flow_cell("x = 2\nnew = 3\ndel gone")
    assert (shell.user_ns["x"], "new" in shell.user_ns, shell.user_ns["gone"]) == (1, False, 1)
    assert body.bound() == {"x": 2, "new": 3}


def test_loop_variables_never_trample(shell: InteractiveShell, cell: Cell) -> None:
    """Cells that run at the same time with the same loop variable each see their own."""
    barrier = threading.Barrier(3, timeout=30)
    shell.user_ns.update(barrier=barrier, i="notebook")
    source = """
seen = []
for i in range({0}, {0} + 3):
    barrier.wait()
    seen.append(i)
    barrier.wait()
seen
"""
    results: dict[int, Any] = {}
    bodies = {start: CellBody(shell, source.format(start), name="cell") for start in (10, 20)}
    threads = [
        threading.Thread(target=lambda s=s, b=b: results.update({s: b.call()}))
        for s, b in bodies.items()
    ]
    for thread in threads:
        thread.start()
    for _ in range(3):
        barrier.wait()
        cell("i = 'still the notebook'")
        barrier.wait()
    for thread in threads:
        thread.join(30)
    assert results == {10: [10, 11, 12], 20: [20, 21, 22]}
    assert shell.user_ns["i"] == "still the notebook"


def test_live_peek(shell: InteractiveShell) -> None:
    """The namespace shows a variable's present value while the cell runs."""
    there, on = threading.Event(), threading.Event()
    shell.user_ns.update(there=there, on=on)
    body = CellBody(shell, "loss = 0.5\nthere.set()\non.wait(30)\nloss = 0.1", name="cell")
    thread = threading.Thread(target=body.call)
    thread.start()
    there.wait(30)
    assert body.namespace["loss"] == 0.5
    assert body.bound() == {"loss": 0.5}
    on.set()
    thread.join(30)
    assert body.namespace["loss"] == 0.1


def test_names_are_a_plain_dict(flow_cell: FlowCell) -> None:
    """A loop in a cell costs what it costs in a plain one: the namespace is an exact dict."""
    body = flow_cell("kind = type(globals())\nsame = globals() is locals()")
    assert type(body.namespace) is dict
    assert body.bound() == {"kind": dict, "same": True}


def test_shared_objects_stay_shared(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """A change made inside an object that the notebook has too is seen at once, and stays."""
    shell.user_ns["items"] = items = []
    flow_cell("items.append(1)")
    assert items == [1]


# --- publishing ---------------------------------------------------------------


def test_publishes_in_one_step(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Publishing binds what the cell bound, and leaves all else in the notebook alone."""
    shell.user_ns.update(kept=1, changed=1)
    body = flow_cell("changed = 2\nnew = 3")
    shell.user_ns.update(kept="notebook's", meanwhile=4)
    body.publish()
    names = shell.user_ns
    assert (names["kept"], names["changed"], names["new"], names["meanwhile"]) == (
        "notebook's",
        2,
        3,
        4,
    )


def test_failed_cell_keeps_its_names(shell: InteractiveShell, on_a_thread: OnAThread) -> None:
    """A cell that failed has published nothing, and its namespace still holds everything."""
    body = CellBody(shell, "x = 1\ny = x / 0", name="cell")
    with pytest.raises(ZeroDivisionError):
        on_a_thread(body.call)
    body.close()
    assert "x" not in shell.user_ns
    assert body.bound() == {"x": 1}
    assert body.namespace["x"] == 1


def test_cancelled_async_cell_keeps_its_names(shell: InteractiveShell) -> None:
    """A cell that was cancelled at an await has published nothing, and shows its names."""
    body = CellBody(shell, "import asyncio\nx = 1\nawait asyncio.sleep(60)\ny = 2", name="cell")

    async def cancel() -> None:
        task = asyncio.create_task(body.acall())
        while "x" not in body.bound():
            await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    assert "x" not in shell.user_ns
    assert body.bound().keys() == {"asyncio", "x"}


@pytest.mark.parametrize(
    ("source", "bound"),
    [
        ("x = 1", {"x": 1}),
        ("a, (b, *c) = 1, (2, 3, 4)", {"a": 1, "b": 2, "c": [3, 4]}),
        ("one += 1", {"one": 2}),
        ("x: int = 1\ny: str", {"x": 1}),
        ("(x := 1)", {"x": 1}),
        ("[y for x in range(3) if (y := x)]", {"y": 2}),
        ("{x for x in range(3)}", {}),
        ("for x in range(3): pass", {"x": 2}),
        ("with open('/dev/null') as f: text = f.read()\ndel f", {"text": ""}),
        ("try: 1/0\nexcept ZeroDivisionError as e: text = str(e)", {"text": "division by zero"}),
        ("import os.path", {"os": __import__("os")}),
        ("import os.path as p", {"p": __import__("os").path}),
        ("from string import *", None),
        ("exec('x = 1')", {"x": 1}),
        ("globals()['x'] = 1", {"x": 1}),
        ("vars()['x'] = 1", {"x": 1}),
        ("import __main__\n__main__.x = 1\ndel __main__.one; del __main__", {"x": 1}),
        ("match [1, 2]:\n    case [x, *rest]: pass", {"x": 1, "rest": [2]}),
        ("_mine = 1\n__also = 2", {"_mine": 1, "__also": 2}),
        ("_ = 1\n__ = 2\n_i = 3\n_3 = 4\nIn = Out = 5\n__name__ = 'x'\n__doc__ = 'd'", {}),
        ("for _ in range(3): pass", {}),
        ("'a docstring'\nx = 1", {"x": 1}),
    ],
)
def test_what_counts_as_bound(
    shell: InteractiveShell, flow_cell: FlowCell, source: str, bound: dict[str, Any] | None
) -> None:
    """Every way of binding a name publishes it, except the names that IPython keeps itself."""
    shell.user_ns["one"] = 1
    body = flow_cell(source)
    if bound is None:
        import string

        bound = {name: getattr(string, name) for name in string.__all__}
    assert body.bound() == bound
    before = dict(shell.user_ns)
    body.publish()
    before.update(bound)
    if "del __main__.one" in source:
        del before["one"]
    assert shell.user_ns == before


def test_global_and_nonlocal(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """`global` in a function of the cell binds the cell's name; `nonlocal` binds none."""
    body = flow_cell(
        """
def outer():
    inside = 1
    def inner():
        nonlocal inside
        global outside
        inside += 1
        outside = inside
    inner()
    return inside
got = outer()
"""
    )
    assert "outside" not in shell.user_ns
    body.publish()
    assert shell.user_ns["got"] == shell.user_ns["outside"] == 2
    assert "inside" not in shell.user_ns


def test_deleting_publishes(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """A name that the cell deletes is deleted in the notebook when it is published."""
    shell.user_ns.update(x=1, y=1)
    body = flow_cell("del x\ny = 2\ndel y\nz = 1\ndel z")
    shell.user_ns["z"] = "the notebook's own"
    assert shell.user_ns["x"] == 1
    body.publish()
    assert "x" not in shell.user_ns
    assert "y" not in shell.user_ns
    assert shell.user_ns["z"] == "the notebook's own"


def test_name_that_the_notebook_changed(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Of names changed meanwhile only those the cell bound are published, whatever their value."""
    shell.user_ns.update(read=None, bound=None, branch=None)
    body = flow_cell("seen = read\nbound = None\nif seen:\n    branch = None")
    shell.user_ns.update(read=1, bound=1, branch=1)
    body.publish()
    assert (shell.user_ns["read"], shell.user_ns["bound"], shell.user_ns["branch"]) == (1, None, 1)


def test_names_of_an_earlier_cells_function(shell: InteractiveShell, cell: Cell) -> None:
    """An earlier cell's function works on the notebook's names, and a NameError explains that."""
    cell("def count():\n    global counter\n    counter = 1\ndef look(): return mine")
    body = CellBody(shell, "count()\nmine = 1\nlook()", name="cell")
    with pytest.raises(NameError) as caught:
        body.call()
    assert shell.user_ns["counter"] == 1
    assert "'mine' is a name of the running %%flow cell" in caught.value.__notes__[0]


# --- what the cell defined, when published --------------------------------------

DEFINITIONS = {
    "function": ("def f(): return x", "f()"),
    "lambda": ("f = lambda: x", "f()"),
    "default": ("def f(g=lambda: x, *, h=lambda: x): return {g(), h()}.pop()", "f()"),
    "closure": ("def make():\n    def f(): return x\n    return f\nf = make()", "f()"),
    "closed over": (
        "def g(): return x\ndef make(g):\n    return lambda: g()\nf = make(g)",
        "f()",
    ),
    "generator": ("def f():\n    yield x", "next(f())"),
    "async": ("async def f(): return x", "__import__('asyncio').run(f())"),
    "calls a sibling": ("def g(): return x\ndef f(): return g()", "f()"),
    "method": ("class A:\n    def f(self): return x\na = A()", "(a.f(), A().f())[0]"),
    "bound method": ("class A:\n    def f(self): return x\nf = A().f", "f()"),
    "super": (
        (
            "class A:\n    def f(self): return x\n"
            "class B(A):\n    def f(self): return super().f()\nb = B()"
        ),
        "b.f()",
    ),
    "static": ("class A:\n    @staticmethod\n    def f(): return x", "A.f()"),
    "class method": ("class A:\n    @classmethod\n    def f(cls): return x", "A.f()"),
    "property": ("class A:\n    @property\n    def f(self): return x\na = A()", "a.f"),
    "cached property": (
        "import functools\nclass A:\n    @functools.cached_property\n    def f(self): return x",
        "A().f",
    ),
    "partial": ("import functools\nf = functools.partial(lambda y: x, 1)", "f()"),
    "partial method": (
        (
            "import functools\nclass A:\n    def g(self, y): return x\n"
            "    f = functools.partialmethod(g, 1)"
        ),
        "A().f()",
    ),
    "lru_cache": ("import functools\n@functools.lru_cache(7)\ndef f(): return x\nf()", "f()"),
    "wraps": (
        (
            "import functools\ndef deco(g):\n    @functools.wraps(g)\n"
            "    def w(*a): return g(*a)\n    return w\n@deco\ndef f(): return x"
        ),
        "(f(), f.__wrapped__())[0]",
    ),
    "library decorator": (
        (
            "import contextlib\n@contextlib.contextmanager\ndef cm():\n    yield x\n"
            "def f():\n    with cm() as y: return y"
        ),
        "f()",
    ),
    "single dispatch": (
        (
            "import functools\n@functools.singledispatch\ndef f(y): return x\n"
            "@f.register\ndef _(y: int): return x"
        ),
        "(f(1), f('a'))[0]",
    ),
    "nested class": ("class A:\n    class B:\n        def f(self): return x", "A.B().f()"),
    "inherited": (
        (
            "def make():\n    class A:\n        def f(self): return x\n    return A\n"
            "class B(make()): pass"
        ),
        "B().f()",
    ),
    "metaclass": (
        "class M(type):\n    def f(cls): return x\nclass A(metaclass=M): pass\ndel M",
        "A.f()",
    ),
    "only an instance": ("class A:\n    def f(self): return x\na = A()\ndel A", "a.f()"),
    "enum": (
        "import enum\nclass A(enum.Enum):\n    ONE = 1\n    def f(self): return x",
        "A.ONE.f()",
    ),
    "dataclass": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass A:\n"
            "    y: int = dataclasses.field(default_factory=lambda: x)"
        ),
        "A().y",
    ),
    "frozen slots": (
        (
            "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass A:\n"
            "    g: object\na = A(lambda: x)"
        ),
        "a.g()",
    ),
    "attribute": ("class A: pass\na = A()\na.f = lambda: x", "a.f()"),
    "slot": ("class A:\n    __slots__ = ('f',)\na = A()\na.f = lambda: x", "a.f()"),
    "list": ("fs = [lambda: x]", "fs[0]()"),
    "dict": ("fs = {'f': [lambda: x]}", "fs['f'][0]()"),
    "dict key": ("fs = {(lambda: x): 1}", "next(iter(fs))()"),
    "tuple": ("fs = ([(lambda: x,)],)", "fs[0][0][0]()"),
    "named tuple": (
        "import collections\nP = collections.namedtuple('P', 'f')\np = P(lambda: x)",
        "p.f()",
    ),
    "set": ("fs = {lambda: x}\nfz = frozenset(fs)", "(list(fs)[0](), list(fz)[0]())[0]"),
    "deque": ("import collections\nfs = collections.deque([lambda: x])", "fs[0]()"),
    "cycle": ("fs = []\nfs.append((fs, lambda: x))", "fs[0][1]()"),
    "function attribute": ("def f(): pass\nf.g = lambda: x", "f.g()"),
    "foreign object": ("flow = Cargo([lambda: x])", "flow.held[0]()"),
    "notebook's list": ("callbacks.append(lambda: x)", "callbacks[-1]()"),
    "notebook's class": ("Old.f = lambda self: x", "Old().f()"),
    "exec": ("exec('def f(): return x')", "f()"),
    "cell magic": ("get_ipython().run_cell_magic('time', '', 'def f(): return x')", "f()"),
}


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_definitions_see_later_globals(
    shell: InteractiveShell, cell: Cell, flow_cell: FlowCell, kind: str
) -> None:
    """Once published, what a cell defined works on the notebook's names of that time."""
    definition, use = DEFINITIONS[kind]
    shell.user_ns.update(Cargo=Cargo, callbacks=[])
    cell("class Old: pass")
    body = flow_cell("x = 'the run'\n" + definition)
    assert eval(use, body.namespace) == "the run"
    if kind in ("cached property", "lru_cache"):
        body = flow_cell("x = 'the run'\n" + definition)
    body.publish()
    shell.user_ns["x"] = "later"
    assert eval(use, shell.user_ns) == "later"


def test_identities_are_kept(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Names of one function stay names of one, and objects that can change stay themselves."""
    body = flow_cell(
        "def f(): pass\ng = f\nclass A:\n    def m(self): pass\n    n = m\na = A()\nfs = [f, g]"
    )
    a, cls, fs = (body.namespace[name] for name in ("a", "A", "fs"))
    body.publish()
    names = shell.user_ns
    assert names["f"] is names["g"] is names["fs"][0] is names["fs"][1]
    assert (names["a"], names["A"], names["fs"]) == (a, cls, fs)
    assert cls.m is cls.n
    assert isinstance(names["a"], names["A"])
    assert body.namespace["f"] is names["f"]


def test_functions_keep_their_properties(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """A published function has its name, docs, defaults, annotations, attributes and closure."""
    body = flow_cell(
        """
def make():
    count = 0
    def add(n: int, /, m: "int" = 1, *, k: float = 2) -> int:
        "Adds."
        nonlocal count
        count += n
        return count
    def get():
        return count
    add.tag = "t"
    return add, get
add, get = make()
add(1)
"""
    )
    before = body.namespace["add"]
    body.publish()
    add = shell.user_ns["add"]
    assert add is not before
    for name in (
        *("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__dict__"),
        *("__defaults__", "__kwdefaults__", "__code__", "__closure__"),
    ):
        assert getattr(add, name) == getattr(before, name)
    assert add.__module__ == "__main__"
    assert add(1) == shell.user_ns["get"]() == 2


def test_objects_of_other_cells_are_left_alone(
    shell: InteractiveShell, cell: Cell, flow_cell: FlowCell
) -> None:
    """What the notebook had before keeps its identity, when the cell's objects hold it too."""
    cell("def old(): return 1\npair = (old,)")
    old, pair = shell.user_ns["old"], shell.user_ns["pair"]
    body = flow_cell("mine = [old, pair]\ndef f(): return mine")
    body.publish()
    assert shell.user_ns["mine"][0] is shell.user_ns["old"] is old
    assert shell.user_ns["mine"][1] is pair


def test_proxies_and_strange_objects(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Publishing asks nothing of objects that answer attribute access with an error."""
    body = flow_cell(
        """
class Proxy:
    def __getattribute__(self, name):
        raise RuntimeError("nobody may look")
class Keys(dict):
    def __iter__(self): raise RuntimeError("nobody may look")
    items = keys = values = __iter__
def f(): return x
proxy, keys, loop = Proxy(), Keys(f=f), []
loop.append(loop)
"""
    )
    body.publish()
    assert dict.__getitem__(shell.user_ns["keys"], "f") is shell.user_ns["f"]


def test_functions_come_before_data(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """However much data a cell binds before its functions, these are published as they should."""
    body = flow_cell(
        "data = [[[object()] for _ in range(1_000)] for _ in range(200)]\n"
        "class A:\n    def m(self): return x\ndef f(): return x"
    )
    body.publish()
    shell.user_ns["x"] = 1
    assert (shell.user_ns["f"](), shell.user_ns["A"]().m()) == (1, 1)


def test_large_data_is_not_searched(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Publishing does not look through a container of more than 10,000 items."""
    body = flow_cell("def f(): pass\nmany = [f] * 10_001\nfew = [f] * 10_000")
    before = body.namespace["f"]
    body.publish()
    assert shell.user_ns["many"][0] is before
    assert shell.user_ns["few"][0] is shell.user_ns["f"] is not before


# --- pickling, type hints ---------------------------------------------------------

PICKLED = """
import dataclasses, typing
class A:
    class B:
        pass
    def __eq__(self, other): return type(self) is type(other)
@dataclasses.dataclass
class D:
    other: "A"
    me: "D | None" = None
def f(x: "A") -> "D": return D(x)
things = [A(), A.B, D(A()), f, A]
"""


def test_pickles_while_it_runs_and_after(
    shell: InteractiveShell, on_a_thread: OnAThread, cell: Cell
) -> None:
    """What a cell defines is pickled by name while it runs, read back then, and afterwards."""
    body = CellBody(
        shell,
        PICKLED + "import pickle\ndata = pickle.dumps(things)\npickle.loads(data) == things",
        name="cell",
    )
    assert on_a_thread(body.call)
    body.publish()
    assert pickle.loads(shell.user_ns["data"]) == shell.user_ns["things"]
    assert pickle.loads(pickle.dumps(shell.user_ns["things"])) == shell.user_ns["things"]


def test_pickles_when_it_runs_again(
    shell: InteractiveShell, flow_cell: FlowCell, on_a_thread: OnAThread
) -> None:
    """A cell that defines anew what the notebook has pickles its own, on its helper threads too."""
    flow_cell(PICKLED).publish()
    body = CellBody(
        shell,
        PICKLED
        + """
import contextvars, pickle, threading
found = []
def look():
    found.append(pickle.loads(pickle.dumps(things)) == things)
look()
threading.Thread(target=contextvars.copy_context().run, args=(look,)).start()
while len(found) < 2: pass
found
""",
        name="cell",
    )
    assert on_a_thread(body.call) == [True, True]
    assert pickle.loads(pickle.dumps(shell.user_ns["things"])) == shell.user_ns["things"]


@pytest.mark.filterwarnings("ignore:.* multi-threaded, use of fork:DeprecationWarning")
def test_process_pool_while_it_runs(shell: InteractiveShell, on_a_thread: OnAThread) -> None:
    """A pool of forked processes calls a function of the cell while the cell runs."""
    body = CellBody(
        shell,
        """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
factor = 3
class Box:
    def __init__(self, n): self.n = n
def times(box): return Box(box.n * factor)
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    found = [box.n for box in pool.map(times, [Box(1), Box(2)])]
found
""",
        name="cell",
    )
    assert on_a_thread(body.call) == [3, 6]


def test_cloudpickle_sends_by_value(flow_cell: FlowCell) -> None:
    """cloudpickle, as in joblib and Dask, sends a cell's function with the names it uses."""
    pytest.importorskip("cloudpickle")
    body = flow_cell(
        "import cloudpickle\nk = 2\ndef f(n): return n * k\ndata = cloudpickle.dumps(f)"
    )
    copy = pickle.loads(body.namespace["data"])
    assert copy is not body.namespace["f"]
    assert copy(4) == 8


def test_type_hints_while_it_runs_and_after(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """`typing.get_type_hints` resolves a cell's names while it runs and when it is published."""
    body = flow_cell(
        PICKLED + "def hints(): return typing.get_type_hints(D), typing.get_type_hints(f)"
    )
    ran = flow_cell(
        PICKLED
        + "ok = typing.get_type_hints(D) == {'other': A, 'me': D | None}\n"
        + "ok = ok and typing.get_type_hints(f) == {'x': A, 'return': D}"
    )
    assert ran.namespace["ok"]
    body.publish()
    names = shell.user_ns
    a, d = names["A"], names["D"]
    assert names["hints"]() == ({"other": a, "me": d | None}, {"x": a, "return": d})


def test_main_is_main(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """In a cell `__name__` is `"__main__"`, and `__main__` is the cell's namespace."""
    body = flow_cell(
        """
import __main__
x = 1
if __name__ == "__main__":
    found = __main__.x, __main__.__dict__ is globals(), __main__.f if hasattr(__main__, "f") else 0
from __main__ import x as y
"""
    )
    assert body.namespace["found"] == (1, True, 0)
    assert body.namespace["y"] == 1
    assert not hasattr(sys.modules["__main__"], "found")


def test_another_threads_main_is_the_notebooks(
    shell: InteractiveShell, on_a_thread: OnAThread
) -> None:
    """While a cell runs, others see of its names only definitions that they miss themselves."""
    shell.user_ns["old"] = shell.user_ns["get_ipython"]
    there, on = threading.Event(), threading.Event()
    shell.user_ns.update(there=there, on=on)
    body = CellBody(
        shell, "x = 1\ndef old(): ...\ndef new(): ...\nthere.set()\non.wait(30)", name="cell"
    )
    thread = threading.Thread(target=body.call)
    thread.start()
    there.wait(30)
    main = sys.modules["__main__"]
    try:
        assert not hasattr(main, "x")
        assert main.old is shell.user_ns["get_ipython"]
        assert main.new is body.namespace["new"]
        assert main.__dict__ is shell.user_ns
        assert "new" not in shell.user_ns
    finally:
        on.set()
        thread.join(30)
        body.close()
    assert not hasattr(main, "new")


# --- nothing is left behind -------------------------------------------------------


def test_published_function_lets_the_snapshot_go(
    shell: InteractiveShell, flow_cell: FlowCell
) -> None:
    """A published function does not keep alive what the notebook had when the cell began."""
    shell.user_ns["big"] = cargo = Cargo()
    noticed = weakref.ref(cargo)
    body = flow_cell(
        "import functools\ndef f(): return 1\nclass A:\n    def m(self): return 2\n"
        "@functools.lru_cache\ndef c(): return 3\na = A()"
    )
    body.publish()
    body.release()
    del body, cargo, shell.user_ns["big"]
    gc.collect()
    assert noticed() is None
    names = shell.user_ns
    assert (names["f"](), names["a"].m(), names["c"]()) == (1, 2, 3)


def test_released_body_holds_nothing(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """A released body, even if somebody keeps it, holds no value of its run."""
    shell.user_ns["Cargo"] = Cargo
    body = flow_cell("big = Cargo()")
    noticed = weakref.ref(body.namespace["big"])
    body.release()
    gc.collect()
    assert noticed() is None
    assert body.namespace == {}


def test_collected_body_leaves_no_trace(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """A body that nobody released is collected with its namespace and its route."""
    shell.user_ns["Cargo"] = Cargo
    body = flow_cell("big = Cargo()\ndef f(): ...")
    noticed = weakref.ref(body.namespace["big"])
    assert len(routing._open) == 1
    del body
    gc.collect()
    assert noticed() is None
    assert len(routing._open) == 0


def test_threads_that_outlive_the_run(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """Once a run is over, its context shows the notebook's names again."""
    shell.user_ns["keep"] = kept = []
    body = flow_cell("import contextvars\nx = 'run'\nkeep.append(contextvars.copy_context())")
    context: contextvars.Context = kept[0]
    shell.user_ns["x"] = "notebook"
    assert context.run(lambda: shell.user_ns["x"]) == "run"
    body.close()
    assert context.run(lambda: shell.user_ns["x"]) == "notebook"
    assert context.run(lambda: sys.modules["__main__"].x) == "notebook"


def test_uninstalling_restores_the_shell(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """After `uninstall` the shell and `__main__` are as they were before."""
    routing.uninstall(shell)
    before = (type(shell.user_module), vars(type(shell)).get("user_ns"))
    names = shell.user_ns
    flow_cell("x = 1")
    routing.install(shell)
    assert (type(shell.user_module), vars(type(shell)).get("user_ns")) != before
    routing.uninstall(shell)
    assert (type(shell.user_module), vars(type(shell)).get("user_ns")) == before
    assert shell.user_ns is names
