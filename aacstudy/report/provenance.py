"""Where a page comes from: commit, versions, parameters, artifacts, times; not who ran it."""

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path, PurePath

PACKAGES = (
    "aacstudy",
    "torch",
    "torchaudio",
    "timm",
    "numpy",
    "pandas",
    "scipy",
    "zarr",
    "papermill",
    "nbconvert",
)
# absolute paths within a text, all but their last part
FOLDERS = re.compile(r"(?<![\w.:/])(?:~|/[\w.@+-]+)(?:/[\w.@+-]+)*/(?=[\w.@+-]+)")


def collect(
    parameters: dict, artifacts: list[dict], started: datetime, device: str, seeds: list[int]
) -> dict:
    """The record for page.provenance, made of plain JSON types.

    `artifacts` are dicts with stage, key and seconds; `started`, with its zone, is when it began.
    Absolute paths keep their last part only.
    """
    now = datetime.now(UTC)
    fields = ("stage", "key", "seconds", "reused")
    return {
        "commit": commit(),
        "time": now.isoformat(timespec="seconds"),
        "seconds": round((now - started).total_seconds(), 1),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": cores(),
        "device": device,
        "versions": versions(),
        "seeds": seeds,
        "parameters": private(parameters),
        "artifacts": [private({f: artifact[f] for f in fields if f in artifact}) for artifact in artifacts],
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit(folder: Path | None = None) -> str:
    """The commit of the code in a folder, '+ changes' where it differs, 'unknown' outside git."""
    folder = Path(__file__).parent if folder is None else folder

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # an installed copy may lie in a folder that some other repository ignores
    head = git("ls-files", ".") and git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return f"{head} + changes" if git("status", "--porcelain") else head


def versions() -> dict[str, str]:
    """Installed versions of the main packages, without importing them."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def private(value):
    """The value in plain JSON types, absolute paths cut to '…/<last part>'."""
    if isinstance(value, dict):
        return {str(key): private(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [private(inner) for inner in value]
    if isinstance(value, str | PurePath):
        text = str(value)
        absolute = re.match(r"(/|~|[A-Za-z]:[\\/]|\\\\|file:)", text)
        return "…/" + re.split(r"[\\/]", text.rstrip("/\\"))[-1] if absolute else text
    return value.item() if hasattr(value, "item") else value
