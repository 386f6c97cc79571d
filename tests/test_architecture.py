"""Who may know whom in the package (docs/architecture.md), read from every import, those inside of functions included."""

import ast
import graphlib
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "aacstudy"
# What stands for a model or knows one.
MODELS = ("models", "training", "scoring", "generation", "frames", "bank", "splits", "attribution", "device")
PURE = ("retrieval", "perturb", "priors", "statistics")
OUTSIDE = ("torch", "torchaudio", "torchvision", "timm")
# Modules and calls by which a file is opened; pathlib alone would do, but a path that is never opened harms nobody.
READERS = {"io", "os", "pathlib", "shutil", "tempfile", "subprocess", "urllib", "requests", "zarr", "soundfile", "safetensors"}  # fmt: skip
OPENING = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "read_csv", "to_csv", "read_json", "to_json"} | {"load", "loadtxt", "savez", "savetxt", "fromfile", "tofile", "memmap"}  # fmt: skip


class Import(NamedTuple):
    """A module that is imported, by its full name, and whether by the whole module or inside of a function."""

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


def of(*parts: str) -> list[str]:
    found = [name for name in GRAPH if part(name) in parts]
    assert {part(name) for name in found} == set(parts), f"modules are gone: {parts}"
    return found


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


def test_corpus_knows_nothing_but_itself_and_the_options():
    for name in of("corpus"):
        ours = {part(one.name) for one in GRAPH[name] if one.name.startswith("aacstudy")}
        assert ours <= {"corpus", "options"}, f"{name} imports {ours}"


@pytest.mark.parametrize("name", of(*PURE))
def test_arithmetic_knows_no_model_and_opens_no_file(name):
    for one in GRAPH[name]:
        assert one.name.split(".")[0] not in READERS, f"{name} imports {one.name}"
    for loaded, by in (reached(name) | {one.name: name for one in GRAPH[name]}).items():
        assert part(loaded) not in MODELS, f"{by}, which {name} loads, imports {loaded}"
        assert loaded.split(".")[0] not in OUTSIDE, f"{by}, which {name} loads, imports {loaded}"
    assert opened((PACKAGE.parent / name.replace(".", "/")).with_suffix(".py")) == []


def opened(path: Path) -> list[str]:
    """Calls in a file that read or write one."""
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]  # fmt: skip
    names = [getattr(call, "id", getattr(call, "attr", "")) for call in calls]
    return [name for name in names if name in OPENING]


def test_models_know_no_corpus_but_its_text():
    for name in of("models"):
        for one in GRAPH[name]:
            if one.name.startswith("aacstudy"):
                allowed = part(one.name) in ("models", "options") or one.name == "aacstudy.corpus.text"
                assert allowed, f"{name} imports {one.name}"


def test_scoring_knows_no_training_and_no_study():
    for name in of("scoring"):
        ours = {part(one.name) for one in GRAPH[name] if one.name.startswith("aacstudy")}
        assert ours <= {"scoring", "models", "corpus", "options"}, f"{name} imports {ours}"


@pytest.mark.parametrize("name", ["options", "study", "artifacts", "stages"])
def test_planning_loads_no_torch(name):
    found = reached(f"aacstudy.{name}")
    assert not {one.split(".")[0] for one in found} & set(OUTSIDE), found


def test_nothing_imports_the_command_line_and_pages_know_no_stage():
    for name, found in GRAPH.items():
        assert "aacstudy.__main__" not in {one.name for one in found}, name
    for name in ("aacstudy.page", "aacstudy.plots"):
        assert not {part(one) for one in reached(name)} & {"stages", "study", "artifacts", *MODELS}, name


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
