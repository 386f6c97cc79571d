"""Things that a stage makes once and keeps on disk, keyed by all that made them.

A key covers the parameters that matter, the keys of the inputs, and the code of the stage: the
modules that the artifact names and every module of this package that they import, however deep, and
the C beside one. Comments, docstrings and the places and names of modules are left out, so that a
module may move; so are the versions of libraries, which the lock fixes. Nothing stale is reused,
and nothing whole is made twice. A folder appears under its name only when it is complete.
"""

import ast
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from aacstudy import paths

PACKAGE = Path(__file__).resolve().parents[1]
# Values in options.py stand in the parameters of a key; where and how results are kept changes
# none.
_NOT_CODE = {"aacstudy", "aacstudy.options", "aacstudy.paths", "aacstudy.study.artifacts"}


_hashed: set[Path] = set()  # folders whose files this process has read and found as they were made


@dataclass(frozen=True)
class Artifact:
    """One folder of results: what makes it and where it lies."""

    stage: str
    label: str
    parameters: dict[str, Any] = field(hash=False)
    inputs: tuple["Artifact", ...]
    code: tuple[
        str, ...
    ]  # the module whose ``build(artifact, folder, cores)`` makes it, then what that loads by name

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that stand for everything that made this artifact."""
        made_of = {
            "stage": self.stage,
            "parameters": self.parameters,
            "inputs": [one.key for one in self.inputs],
            "code": module_digest(self.code),
        }
        return _digest(json.dumps(made_of, sort_keys=True))

    @property
    def name(self) -> str:
        return f"{self.label}-{self.key}"

    @property
    def path(self) -> Path:
        return paths.artifacts() / self.stage / self.name

    @property
    def stamp(self) -> Path:
        """The file that says that the artifact is whole, and how it was made."""
        return self.path / "artifact.json"

    def make(self, cores: int = 1) -> Path:
        """Return the artifact's folder; make what is missing of its inputs and of itself first."""
        if self.stamp.exists():
            self.check()
            return self.path
        for one in self.inputs:
            one.make(cores)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        locks = paths.artifacts() / ".locks"
        locks.mkdir(exist_ok=True)
        with FileLock(locks / f"{self.stage}-{self.name}"):
            if not self.stamp.exists():
                self._make_locked(cores)
        return self.path

    def check(self) -> None:
        """ValueError naming a file that is missing, of another size or, read once a run or
        process, of other bytes than when this was made.
        """
        read = self.path in _hashed or "AACSTUDY_RUN" in os.environ
        try:
            files = self.record()["files"]
            for name, (size, digest) in files.items():
                file = self.path / name
                if not file.is_file() or file.stat().st_size != size:
                    raise ValueError(f"{name} is {'cut or changed' if file.is_file() else 'missing'}")
                if not read and _sha256(file) != digest:
                    raise ValueError(f"{name} is changed")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = error if type(error) is ValueError else "artifact.json is damaged"
            how = "remove the folder, and the next run makes it again"
            raise ValueError(f"{self.path}: {what}; {how}") from error
        _hashed.add(self.path)

    def _make_locked(self, cores: int) -> None:
        print(f"making {self.stage} {self.name}", file=sys.stderr, flush=True)
        part = self.path.with_name(f"{self.path.name}.part")
        part.mkdir(
            exist_ok=True
        )  # what a killed run left there is the builder's to resume from or to overwrite
        started = time.time()
        import_module(self.code[0]).build(self, part, cores)
        record = {
            "stage": self.stage,
            "label": self.label,
            "key": self.key,
            "inputs": [f"{one.stage}/{one.name}" for one in self.inputs],
            "parameters": self.parameters,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 1),
            "device": _device(),
            "files": {
                file.relative_to(part).as_posix(): (file.stat().st_size, _sha256(file))
                for file in sorted(part.rglob("*"))
                if file.is_file() and file.name not in ("artifact.json", "resume.pt")
            },
        }
        (part / "artifact.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        if self.path.exists():  # a folder without its stamp: somebody's hand was in it
            shutil.rmtree(self.path)
        os.replace(part, self.path)
        for left in self.path.glob("**/resume.pt"):  # until now a kill could go on from there
            left.unlink()

    def record(self) -> dict[str, Any]:
        """What ``artifact.json`` says of a finished artifact."""
        return json.loads(self.stamp.read_text(encoding="utf-8"))

    def closure(self) -> list["Artifact"]:
        """This artifact and everything it is made from, inputs first, each once."""
        found: dict[tuple[str, str], Artifact] = {}
        for one in self.inputs:
            found |= {(a.stage, a.name): a for a in one.closure()}
        found[(self.stage, self.name)] = self
        return list(found.values())


@cache
def module_digest(modules: tuple[str, ...]) -> str:
    """Digest of modules and all package modules that they import, however deep."""
    return _digest(json.dumps(sorted(_parsed(one)[0] for one in reached(modules))))


def reached(modules: Iterable[str]) -> set[str]:
    """Modules and all package modules that they import, however deep, whose code decides what they
    make.
    """
    found, queue = set(), list(modules)
    while queue:
        module = queue.pop()
        if module not in found and module not in _NOT_CODE:
            found.add(module)
            queue.extend(_parsed(module)[1])
    return found


def imported_modules(source: str) -> list[str]:
    """The package's modules that a piece of Python imports."""
    return sorted(_imports(ast.parse(source)))


def _device() -> str:
    """What this process computed on; a stage that never loaded torch used the processor."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and not os.environ.get("AACSTUDY_DEVICE", "").startswith("cpu"):
        return torch.cuda.get_device_name()
    return "cpu"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _module_file(module: str) -> Path | None:
    """The file of a module of the package, or of a stage that stands outside of it."""
    if module.split(".")[0] != "aacstudy":
        return Path(find_spec(module).origin)
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache  # a plan asks for the same modules once per artifact
def _parsed(module: str) -> tuple[str, frozenset[str]]:
    """Digest of a module's code, of the C beside it too, and what it imports."""
    file = _module_file(module)
    tree, beside = ast.parse(file.read_text(encoding="utf-8")), file.with_suffix(".c")
    text = beside.read_text(encoding="utf-8") if beside.exists() else ""
    imported = frozenset(_imports(tree, module))
    return _digest(_code_alone(tree) + text), imported


def _imports(tree: ast.AST, module: str = "") -> set[str]:
    """The package's modules that ``tree``, the code of ``module``, imports; relative imports
    included.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                is_package = _module_file(module).name == "__init__.py"
                parts = module.split(".")
                source = ".".join([*parts[: len(parts) + is_package - node.level], *filter(None, [source])])
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] == "aacstudy" and _module_file(name)}


def _code_alone(tree: ast.AST) -> str:
    """A module's code without docstrings and without the places of the package's modules that it
    imports.
    """
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            node.body = [statement for statement in body if not _is_text(statement)] or [ast.Pass()]
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").split(".")[0] == "aacstudy"
        ):
            node.module, node.level = "", 0
    return ast.dump(tree)


def _is_text(statement: ast.AST) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
