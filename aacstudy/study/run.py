"""A study as a batch: plan, run through Snakemake, execute notebooks, build the index."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote

from filelock import FileLock, Timeout

from aacstudy import paths
from aacstudy.study import notebooks
from aacstudy.study.artifacts import Artifact, imported_modules, module_digest
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

# Label, key in results.json, kind, and what to know beside it; rows of the index whose key was
# measured.
HEADLINES = (
    ("Encoder: mAP on held-out tagging clips", "tagging.map", "percent", "one encoder; interval over clips"),
    ("Text-to-audio hit@1", "t2a.hit@1", "percent", "each caption searches all audios"),
    ("Audio-to-text hit@1, raw losses", "a2t.raw.hit@1", "percent", "any of the audio's captions on top"),
    ("Audio-to-text hit@1, min-max", "a2t.min_max.hit@1", "percent", "per caption; ties broken by raw loss"),
    ("Audio-to-text hit@1, z-score", "a2t.z.hit@1", "percent", "per caption"),
    ("Min-max minus raw", "a2t.min_max_minus_raw.hit@1", "percent", "paired difference in points"),
    ("Audio-to-text hit@1, PMI", "a2t.grid.pmi.online.hit@1", "percent", "prior from a bank, not from the "
        "test pool"),
    ("Share of loss variance between captions", "variance.caption", "percent", "the audio explains little of "
        "it"),
    ("… of their mean losses explained without audio", "bias.r2", "percent", "R² on words, n-grams and "
        "syntax"),
    ("Before-After accuracy, as published", "bat.accuracy", "percent", "no positions on the audio frames"),
    ("… its blind control", "bat.blind", "percent", "the same captioner on other clips' audio"),
    ("Before-After accuracy, frame positions", "bat.positions.accuracy", "percent", "sinusoids added to the "
        "frames"),
    ("… its blind control", "bat.positions.blind", "percent", ""),
    ("… its own sound in drawn orders", "bat.positions.permuted_audio", "percent", "what is heard, but not "
        "when"),
)  # fmt: skip

SIZES = {"clips": "n.clips", "evaluation clips": "n.audios", "evaluation captions": "n.captions"}


def wanting_more_captions(study: Study) -> list[str]:
    """The study's notebooks that its folder of recordings has too few captions for."""
    wanted = {name: notebooks.read(name).captions for name in study.notebooks}
    if study.corpus.name != "folder" or not any(wanted.values()):
        return []
    from aacstudy.corpus.folder import check  # here, as planning reads no audio

    corpus, defects = check(Path(plan.corpus(study).parameters["root"]), decode=False)
    return [name for name, least in wanted.items() if len(corpus.captions) < least and not defects]


def config(name: str, overrides: Mapping[str, Any]) -> list[str]:
    """Snakemake's ``--config`` for a study.

    The overrides travel quoted, because Snakemake reads a value that looks like JSON itself and
    makes every number text.
    """
    return [f"study={name}"] + ([f"overrides=json:{quote(json.dumps(overrides))}"] if overrides else [])


def configured(config: Mapping[str, str]) -> Study:
    """The study that such a configuration names."""
    return Study.load(config["study"], json.loads(_overrides(config)))


def arguments(config: Mapping[str, str]) -> str:
    """The same choice of a study as shell arguments of this package's commands."""
    return f"{shlex.quote(config['study'])} --overrides {shlex.quote(_overrides(config))}"


def _overrides(config: Mapping[str, str]) -> str:
    return unquote(config.get("overrides", "json:{}").removeprefix("json:"))


def needed(study: Study, name: str) -> list[Artifact]:
    """The artifacts that a notebook declares to read."""
    return plan.needed(study, notebooks.read(name).reads)


def everything(study: Study) -> Iterator[Artifact]:
    """Every artifact of a study's notebooks and all that they are made from, inputs first, each
    once.
    """
    seen = set()
    for name in study.notebooks:
        for wanted in needed(study, name):
            for artifact in wanted.closure():
                if (artifact.stage, artifact.name) not in seen:
                    seen.add((artifact.stage, artifact.name))
                    yield artifact


def look_at_weights(study: Study) -> None:
    """Import published weights for a look, before anything is encoded: what is wrong is said at
    once.
    """
    for one in everything(study):
        if one.code[0].endswith(plan.PUBLISHED) and not one.stamp.exists():
            with TemporaryDirectory() as folder:
                import_module(one.code[0]).build(one, Path(folder), 1)


def find(study: Study, name: str) -> Artifact:
    """The artifact ``stage/label-key`` (or ``stage/label``) of a study; an unknown name raises and
    lists all.
    """
    every = list(everything(study))
    for artifact in every:
        if name in (f"{artifact.stage}/{artifact.name}", f"{artifact.stage}/{artifact.label}"):
            return artifact
    known = ", ".join(f"{a.stage}/{a.name}" for a in every)
    raise KeyError(
        f"no artifact {name} (has code or a parameter changed since it was planned?); there are {known}"
    )


def notebook_key(study: Study, name: str) -> str:
    """Digest of what a notebook's page depends on: its cells, parameters, inputs and the package
    code it imports.
    """
    notebook = notebooks.read(name)
    made_of = {
        "cells": notebook.cells,
        "parameters": study.parameters(),
        "inputs": [one.key for one in needed(study, name)],
        "code": module_digest(tuple(imported_modules(notebook.code))),
        "page": _package_digest(),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


def index_key(study: Study) -> str:
    """Digest of what the index depends on beside the pages."""
    cite = _citation()
    made_of = [
        study.parameters(),
        HEADLINES,
        cite.read_text(encoding="utf-8") if cite else "",
        _package_digest(),
    ]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


def _package_digest() -> str:
    templates = Path(__file__).parents[1] / "report" / "templates"
    files = sorted(
        path for path in templates.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    return (
        module_digest(("aacstudy.report.execute", "aacstudy.report.index"))
        + hashlib.sha256(text.encode()).hexdigest()[:12]
    )


def run_notebook(study: Study, name: str) -> None:
    """Execute a notebook into the study's report folder and convert it to HTML."""
    from aacstudy.paths import write_whole
    from aacstudy.report import execute  # here, as what it needs takes two seconds to import
    from aacstudy.report.provenance import private

    out = paths.report(study.study)
    executed = out / "notebooks" / f"{name}.ipynb"
    execute.execute(notebooks.file(name), executed, study.parameters(), out)
    text = executed.read_text(encoding="utf-8")
    for path in (study.corpus.root, study.scoring.matrix):
        # a page may be published: it names the folder, not where it lies
        if Path(path).is_absolute():
            text = text.replace(json.dumps(path)[1:-1], json.dumps(private(path))[1:-1])
    write_whole(executed, text.encode("utf-8"))
    pages = [(f"{one}.html", notebooks.read(one).title) for one in study.notebooks]
    execute.to_html(executed, out / f"{name}.html", study.study, pages)


def build_index(study: Study) -> Path:
    """Merge the pages' numbers into results.json and write index.html."""
    from aacstudy.report import index

    out = paths.report(study.study)
    for page in (out / "pages").glob("*.json"):
        if page.stem not in study.notebooks:
            page.unlink()
    results = index.gather_results(out)
    about = {
        "name": study.study,
        "description": study.description,
        "parameters": study.parameters(),
        "seeds": list(study.seeds),
        "corpus": {label: results[key] for label, key in SIZES.items() if key in results},
    }
    headlines = [row for row in HEADLINES if row[1] in results]
    titles = [(name, notebooks.read(name).title) for name in study.notebooks]
    return index.index(out, about, titles, headlines, _citation())


def _citation() -> Path | None:
    """The page that says how to cite, which an installed package or a copy of the studies may be
    without.
    """
    file = paths.root() / "CITATION.cff"
    return file if file.exists() else None


def run(study: Study, name: str, overrides: dict[str, Any], cores: int, profile: str | None = None) -> int:
    """Run a whole study through Snakemake, on this machine or as its ``profile`` says; returns its
    exit status.

    Weights and a folder of recordings are checked here, before anything is encoded or trained. One
    run at a time in a folder of artifacts: our lock ends with the process that holds it, where
    Snakemake's would outlive a kill.
    """
    look_at_weights(study)
    if study.corpus.name == "folder":
        plan.corpus(study).make(cores)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.root() / "workflow" / "Snakefile")]
    where = ["--profile", profile] if profile else ["--cores", str(cores)]
    command += ["--directory", str(paths.root()), *where, "--nolock", "--rerun-incomplete", "--keep-going"]
    command += ["--rerun-triggers", "mtime", "params", "input", "--quiet", "rules", "host"]
    command += ["--config", *config(name, overrides)]
    lock = FileLock(paths.artifacts() / ".locks" / "run")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(timeout=0):
            return subprocess.run(command, env=_environment(), check=False).returncode
    except Timeout:
        raise ValueError(
            f"another run is at work in {paths.artifacts()}; wait for it, or set AACSTUDY_ARTIFACTS"
        ) from None


def _environment() -> dict[str, str]:
    defaults = {"OMP_NUM_THREADS": "1"}  # see device.py
    if not sys.stderr.isatty():
        defaults["TQDM_MININTERVAL"] = "10"  # a log file wants few lines
    return defaults | dict(os.environ)
