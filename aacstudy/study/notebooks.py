"""The notebooks of the project: the folder ``notebooks/`` is the list, and each says in its
metadata what it reads.

``metadata.aacstudy`` of a notebook may hold ``reads``, a list of stages of whose artifacts it needs
(``losses``, ``losses:variants``; see ``stages/plan.py``) and ``results``, the numbers of all other
pages; and ``captions``, the number of captions below which it has nothing to say.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aacstudy import paths

RESULTS = "results"


@dataclass(frozen=True)
class Notebook:
    """What a study has to know of a notebook."""

    name: str
    cells: tuple[tuple[str, str], ...]  # kind and source
    reads: tuple[str, ...]  # stages
    reads_results: bool
    captions: int

    @property
    def title(self) -> str:
        """The notebook's question: its first heading."""
        lines = (line for kind, text in self.cells if kind == "markdown" for line in text.splitlines())
        return next((line[2:].strip() for line in lines if line.startswith("# ")), self.name)

    @property
    def code(self) -> str:
        return "\n".join(source for kind, source in self.cells if kind == "code")


def file(name: str) -> Path:
    return paths.root() / "notebooks" / f"{name}.ipynb"


def read(name: str) -> Notebook:
    """Read a notebook's cells and metadata; ValueError names file and field."""
    return _read(file(name), name)


@cache  # every job of a study asks for all
def _read(path: Path, name: str) -> Notebook:
    # Plain JSON: nbformat takes a second to import, and every job reads this.
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple((cell["cell_type"], "".join(cell["source"])) for cell in page["cells"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a notebook ({error})") from error
    about = page.get("metadata", {}).get("aacstudy", {})
    reads, captions = about.get("reads", []), about.get("captions", 0)
    if not isinstance(reads, list) or not all(isinstance(one, str) for one in reads):
        raise ValueError(f"{path}, metadata aacstudy.reads: wants a list of stages, got {reads!r}")
    if not isinstance(captions, int):
        raise ValueError(f"{path}, metadata aacstudy.captions: wants a number, got {captions!r}")
    stages = tuple(one for one in reads if one != RESULTS)
    return Notebook(name, cells, stages, RESULTS in reads, captions)
