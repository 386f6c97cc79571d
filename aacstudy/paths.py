"""Where things lie, and files that are written whole or not at all."""

import os
import re
from pathlib import Path

# A study's name becomes folders, an address and words of a command line.
NAME = re.compile(r"\w[\w .,+()@'&-]*(/\w[\w .,+()@'&-]*)*")
NAMED = "a name has letters and digits, then also . , + ( ) @ ' & - and spaces; / between folders"


def root() -> Path:
    """The project's folder: ``$AACSTUDY_ROOT``, or where ``studies/`` lies at or above the current
    or package folder.
    """
    if os.environ.get("AACSTUDY_ROOT"):
        return Path(os.environ["AACSTUDY_ROOT"]).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "studies").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise ValueError("no folder with studies/ and notebooks/ at or above the current one; set AACSTUDY_ROOT")


def data() -> Path:
    """Downloaded data sets, weights and metric files: ``$AACSTUDY_DATA`` or ``data/`` of the
    project.
    """
    return _place("AACSTUDY_DATA", "data")


def artifacts() -> Path:
    """What stages make: ``$AACSTUDY_ARTIFACTS`` or ``artifacts/`` of the project."""
    return _place("AACSTUDY_ARTIFACTS", "artifacts")


def reports() -> Path:
    """What a study leaves to read: ``$AACSTUDY_REPORTS`` or ``reports/`` of the project."""
    return _place("AACSTUDY_REPORTS", "reports")


def report(study: str) -> Path:
    """The report folder of a study, below ``reports()``; ValueError for a name that leads
    elsewhere.
    """
    folder = (reports() / study).resolve()
    if reports() not in folder.parents:
        raise ValueError(f"study {study!r} would write its reports to {folder}, outside of {reports()}")
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, below a folder made where it is missing."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; it wants the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def _place(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or root() / name).resolve()
