"""Who may know whom in the package (docs/architecture.md), read from every import, those inside of
functions included.
"""

import ast
import graphlib
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "aacstudy"
# Who may know whom: each room, and the rooms it may import. ``corpus.text`` stands for that module
# alone.
ROOMS = {
    "options": set(),
    "paths": set(),
    "corpus": {"options", "paths"},
    "models": {"options", "corpus.text", "corpus.audio"},
    "training": {"options", "corpus", "models"},
    "scoring": {"options", "corpus", "models"},
    "analysis": {"options", "paths", "corpus"},
    "report": {"paths"},
    "study": {"options", "paths", "corpus", "models", "training", "scoring", "analysis", "report"},
    "__main__": {"options", "paths", "corpus", "analysis", "report", "study"},
}
PURE = (
    "aacstudy.analysis.retrieval",
    "aacstudy.analysis.statistics",
    *(f"aacstudy.analysis.{name}" for name in ("ablation", "bias", "order", "scorecard", "tagging")),
    "aacstudy.corpus.perturb",
    "aacstudy.corpus.ngram",
)
PLANNING = ("options", "paths", "study.parameters", "study.artifacts", "study.stages.plan")
OUTSIDE = ("torch", "torchaudio", "torchvision", "timm")
# Modules and calls by which a file is opened; pathlib alone would do, but a path that is never
# opened harms nobody.
READERS = {"io", "os", "pathlib", "shutil", "tempfile", "subprocess", "urllib", "requests", "zarr",
    "soundfile", "safetensors"}  # fmt: skip
OPENING = {
    "open",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "read_csv",
    "to_csv",
    "read_json",
    "to_json",
} | {"load", "loadtxt", "savez", "savetxt", "fromfile", "tofile", "memmap"}


class Import(NamedTuple):
    """A module that is imported, by its full name, and whether by the whole module or inside of a
    function.
    """

    name: str
    always: bool


def named(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, modules: set[str], package: Path = PACKAGE) -> list[Import]:
    """What a file imports; ``from a import b`` is the module a.b where there is one, else a."""
    own = named(path, package).split(".")
    folder = own if path.name == "__init__.py" else own[:-1]
    found = []

    def visit(node: ast.AST, always: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, always) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append(Import(whole if whole in modules else base, always))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, always and not inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def graph(package: Path = PACKAGE) -> dict[str, list[Import]]:
    files = {named(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: imports(path, set(files), package) for name, path in files.items()}


GRAPH = graph()


def part(name: str) -> str:
    """``aacstudy.models.decoder`` belongs to ``models``, ``torch.nn`` to nothing of ours."""
    return name.split(".")[1] if name.startswith("aacstudy.") else ""


def reached(name: str) -> dict[str, str]:
    """Everything that loading a module loads, each with the module that asks for it."""
    found, waiting = {}, [name]
    while waiting:
        asking = waiting.pop()
        for one in (one.name for one in GRAPH.get(asking, []) if one.always):
            packages = one.split(".")
            for whole in (
                ".".join(packages[: i + 1]) for i in range(len(packages))
            ):  # a.b.c loads a and a.b, too
                if whole not in found:
                    found[whole] = asking
                    waiting.append(whole)
    return found


def circle(of_graph: dict[str, list[Import]]) -> list[str]:
    ours = {name: {one.name for one in found} & set(of_graph) - {name} for name, found in of_graph.items()}
    try:
        list(graphlib.TopologicalSorter(ours).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_there_are_no_circles():
    assert len(GRAPH) > 50 and circle(GRAPH) == []


def test_the_root_has_ten_entries():
    found = {path.stem for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert found == set(ROOMS) and len(ROOMS) <= 10


def test_rooms_know_only_what_stands_below_them():
    for name, found in GRAPH.items():
        for one in (one.name for one in found if part(one.name) not in ("", part(name))):
            allowed = ROOMS[part(name)]
            near = ".".join(one.split(".")[1:3])
            assert {part(one), near} & allowed, f"{name} imports {one}"


def test_rooms_stand_on_at_most_seven_levels():
    below = {room: {one for one in allowed if "." not in one} for room, allowed in ROOMS.items()}
    sorter, levels = graphlib.TopologicalSorter(below), 0
    sorter.prepare()
    while ready := sorter.get_ready():
        sorter.done(*ready)
        levels += 1
    assert levels <= 7


@pytest.mark.parametrize("name", [name for name in GRAPH if name.startswith(PURE)])
def test_arithmetic_knows_no_model_and_opens_no_file(name):
    for one in GRAPH[name]:
        assert one.name.split(".")[0] not in READERS, f"{name} imports {one.name}"
    for loaded, by in (reached(name) | {one.name: name for one in GRAPH[name]}).items():
        assert part(loaded) not in ("models", "training"), f"{by}, which {name} loads, imports {loaded}"
        assert loaded.split(".")[0] not in OUTSIDE, f"{by}, which {name} loads, imports {loaded}"
    assert opened((PACKAGE.parent / name.replace(".", "/")).with_suffix(".py")) == []


def opened(path: Path) -> list[str]:
    """Calls in a file that read or write one."""
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    calls = [
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    names = [getattr(call, "id", getattr(call, "attr", "")) for call in calls]
    return [name for name in names if name in OPENING]


@pytest.mark.parametrize("name", PLANNING)
def test_planning_loads_no_torch(name):
    found = reached(f"aacstudy.{name}")
    assert not {one.split(".")[0] for one in found} & set(OUTSIDE), found


def test_the_reading_itself(tmp_path):
    """A package with a circle inside of functions, a relative import and a file that is opened."""
    package = tmp_path / "p"
    (package / "inner").mkdir(parents=True)
    texts = {
        "__init__.py": "",
        "a.py": "import os.path\nfrom p import b",
        "b.py": "def late():\n    from .inner import c",
        "inner/__init__.py": "",
        "inner/c.py": "from ..a import thing\nopen('x')",
    }
    for name, text in texts.items():
        (package / name).write_text(text)
    found = graph(package)
    assert found["p.a"] == [("os.path", True), ("p.b", True)]
    assert found["p.b"] == [("p.inner.c", False)] and found["p.inner.c"] == [("p.a", True)]
    assert set(circle(found)) == {"p.a", "p.b", "p.inner.c"}
    assert opened(package / "inner" / "c.py") == ["open"] and opened(package / "a.py") == []
