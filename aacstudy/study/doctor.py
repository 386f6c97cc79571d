"""What is here, what is missing, and what each missing thing switches off. Asks no network."""

import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aacstudy import paths
from aacstudy.report.provenance import cores
from aacstudy.study import parameters
from aacstudy.study.weights import WEIGHTS, find_weights

CHROMIUM = Path("/usr/bin/chromium")  # where the browser tests look
LEAST_DISK = 2_000_000_000  # bytes; the demo leaves 600 MB
# Imported, not only looked up: these can be installed and still not load (CUDA builds, shared
# libraries).
LOADED = ("torch", "torchaudio", "torchvision", "timm", "soundfile", "zarr", "spacy", "pandas")


class Finding(NamedTuple):
    """One line: ``state`` is ok, missing (something is switched off) or broken (nothing runs)."""

    state: str
    text: str


def report() -> int:
    """Print every finding, group by group; 1 where something essential is broken, else 0."""
    count = {"ok": 0, "missing": 0, "broken": 0}
    for about, check in CHECKS.items():
        print(about)
        for finding in check():
            print(f"  {finding.state:8s} {finding.text}", flush=True)
            count[finding.state] += 1
        print()
    print(", ".join(f"{n} {state}" for state, n in count.items()))
    return 1 if count["broken"] else 0


def _packages() -> Iterator[Finding]:
    yield Finding("ok", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    try:
        lines = importlib.metadata.requires("aacstudy") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("missing", "aacstudy is not installed, so versions are unchecked: make setup")
        lines = []
    wrong: dict[str, list[str]] = {}
    for requirement in map(Requirement, lines):
        extra = next(
            (e for e in ("dev", "cluster") if _asks(requirement, e) and not _asks(requirement, "")), ""
        )
        if not _asks(requirement, extra):
            continue
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong.setdefault(extra, []).append(
                f"{requirement.name}{requirement.specifier} ({found or 'absent'})"
            )
    uses = {"dev": "tests and make lint", "cluster": "runs on Slurm or Kubernetes"}
    for extra, names in wrong.items():
        what = f"; without them no {uses[extra]}" if extra else ": make setup"
        yield Finding("missing" if extra else "broken", ", ".join(names) + what)
    if lines and not wrong:
        yield Finding("ok", "all packages of pyproject.toml, in versions that it allows")
    for name in LOADED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            yield Finding("broken", f"{name} does not load: {str(error).splitlines()[0]}")


def _machine() -> Iterator[Finding]:
    yield Finding("ok", f"{cores()} processor cores")
    try:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
        text = f"torch {torch.__version__} computes on "
        yield Finding(
            "ok", text + (device or "the processor; no CUDA device, so paper-size training takes days")
        )
        from aacstudy.scoring.compiled import why_not

        text = f"scoring in bfloat16 on the processor: {why_not() or 'compiled C'}"
        yield Finding(
            "missing" if why_not() else "ok", text + ("; torch alone is slower" if why_not() else "")
        )
    except (ImportError, OSError, RuntimeError):
        pass  # said among the packages
    try:
        import soundfile

        yield Finding("ok", f"libsndfile {soundfile.__libsndfile_version__} reads audio")
    except (ImportError, OSError):
        pass
    places = {"artifacts": paths.artifacts(), "reports": paths.reports()}
    for name, folder in (places | {"data": paths.data()}).items():
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free
        text = f"{name}: {folder}, {free / 1e9:.1f} GB free"
        if not os.access(there, os.W_OK):
            yield Finding("missing" if name == "data" else "broken", f"{text}, but it cannot be written")
        elif free < LEAST_DISK:
            yield Finding("missing", f"{text}: the demo leaves 600 MB, Clotho 21 GB while it is unpacked")
        else:
            yield Finding("ok", text)


def _metrics() -> Iterator[Finding]:
    from aacstudy.analysis.captions import METRICS, assets

    found = assets.find()
    if found.java:
        yield Finding("ok", f"Java {found.java_version} ({found.java})")
    names = {"ptb": "PTB tokenizer (ours stands in for it)"} | {
        name: METRICS[name] for name in assets.NEEDS if name in METRICS
    }
    for name, label in names.items():
        lacking = found.missing(name)
        yield Finding("missing" if lacking else "ok", f"{label} {lacking}".strip())


def _weights() -> Iterator[Finding]:
    for name in WEIGHTS:
        try:
            yield Finding("ok", f"{name}: {find_weights(name)}")
        except FileNotFoundError as error:
            yield Finding("missing", f"{error}; studies that name them cannot run")


def _corpora() -> Iterator[Finding]:
    homes = {
        "clotho": ("CLOTHO_v2.1", "clotho"),
        "audiocaps": ("AUDIOCAPS", "audiocaps-captions"),
        "recordings": ("ESC-50", "esc50"),
    }
    own = 0
    for name in parameters.available():
        try:
            corpus = parameters.Study.load(name).corpus
        except ValueError as error:
            yield Finding("missing", f"study {name} cannot be read: {error}")
            continue
        place, brought_by = homes.get(corpus.name, ("", ""))
        fetched = paths.data() / place
        if corpus.name == "soundscapes":
            own += 1
        elif corpus.root:
            root = (paths.root() / corpus.root).resolve()
            there = root.is_dir()
            text = f"study {name}: {root}{'' if there else ' is not there'}"
            yield Finding("ok" if there else "missing", text)
        elif place and fetched.is_dir():
            yield Finding("ok", f"study {name}: {fetched} (make study STUDY={name} DATA={fetched.parent})")
        else:
            how = f" or `python -m aacstudy download {brought_by}`" if brought_by else ""
            yield Finding("missing", f"study {name} wants a folder: make study STUDY={name} DATA=folder{how}")
    yield Finding("ok", f"{own} studies make their own corpus")


def _browser() -> Iterator[Finding]:
    if CHROMIUM.exists():
        yield Finding("ok", f"{CHROMIUM}, for the tests of the reports")
    else:
        text = f"no {CHROMIUM}: the browser tests of the reports are skipped (apt install chromium)"
        yield Finding("missing", text)


CHECKS = {
    "Python packages": _packages,
    "Machine": _machine,
    "Caption metrics": _metrics,
    "Published weights": _weights,
    "Data sets": _corpora,
    "Browser": _browser,
}


def _asks(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(canonicalize_name(name))
    except importlib.metadata.PackageNotFoundError:
        return None
