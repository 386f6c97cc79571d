"""A study as a batch: plan, run through Snakemake, execute notebooks, build the index."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
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

# Captioners for recordings of one's own, the best first, and how each is had.
CAPTIONERS = {
    "conette": "python -m aacstudy download conette, and AudioCaps at hand",
    "dcase2024": "python -m aacstudy download dcase2024 clotho",
    "recordings": "python -m aacstudy download esc50 yamnet, then make study STUDY=recordings",
    "demo": "make study",
}

RUN = "AACSTUDY_RUN"  # environment variable of jobs: the process whose end is theirs
SIZES = {"clips": "n.clips", "evaluation clips": "n.audios", "evaluation captions": "n.captions"}


def best_captioner() -> tuple[str, str]:
    """The study whose captioner is the best at hand, and a line that says so and what is better."""
    for better, name in enumerate(CAPTIONERS):
        if name == "demo" or _at_hand(Study.load(name)):
            said = f"captioner: that of study {name} (--captioner chooses another)"
            others = [f"{one} ({how})" for one, how in list(CAPTIONERS.items())[:better]]
            return name, f"{said}; better ones: {'; '.join(others)}" if others else said
    raise AssertionError("the demo's captioner can always be trained")


def _at_hand(study: Study) -> bool:
    """Whether a study's captioners are trained, or its corpus and published weights are here."""
    try:
        made = [plan.captioner(study, "base", seed) for seed in study.seeds]
    except (ValueError, FileNotFoundError):  # neither its corpus nor its weights are here
        return False
    return bool(study.training.weights) or all(one.stamp.exists() for one in made)


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
        module_digest(("aacstudy.study.findings",)),
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
    from aacstudy.report import execute  # here, as what it needs takes two seconds to import
    from aacstudy.report.provenance import private

    out, key = paths.report(study.study), notebook_key(study, name)
    executed = out / "notebooks" / f"{name}.ipynb"
    execute.execute(notebooks.file(name), executed, study.parameters(), out)
    text = executed.read_text(encoding="utf-8")
    for path in (study.corpus.root, study.scoring.matrix):
        # a page may be published: it names the folder, not where it lies
        if Path(path).is_absolute():
            text = text.replace(json.dumps(path)[1:-1], json.dumps(private(path))[1:-1])
    paths.write_whole(executed, text.encode("utf-8"))
    pages = [(f"{one}.html", notebooks.read(one).title) for one in study.notebooks]
    execute.to_html(executed, out / f"{name}.html", study.study, pages)
    paths.write_whole(out / "pages" / f"{name}.key", key.encode())


def build_index(study: Study) -> Path:
    """Merge the pages' numbers into results.json and write index.html."""
    from aacstudy.report import index
    from aacstudy.study import findings

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
    titles = [(name, notebooks.read(name).title) for name in study.notebooks]
    found = (findings.sentences(results), findings.measured(results))
    made = index.index(out, about, titles, *found, _citation())
    paths.write_whole(out / "pages" / "index.key", _of_plan(study)["index"].encode())
    return made


def _of_plan(study: Study) -> dict[str, str]:
    """The key of each page and of the index as the study is now."""
    pages = {name: notebook_key(study, name) for name in study.notebooks}
    return pages | {
        "index": hashlib.sha256("".join([index_key(study), *pages.values()]).encode()).hexdigest()
    }


def unfinished(study: Study) -> list[str]:
    """What of a study's report is missing or not of this plan: notebooks, ``index``.

    A key is written last, so this holds whatever Snakemake was told of, or died of.
    """
    out = paths.report(study.study)

    def whole(name: str, key: str) -> bool:
        others = ("results.json",) if name == "index" else (f"pages/{name}.json", f"notebooks/{name}.ipynb")
        stamp = out / "pages" / f"{name}.key"
        there = all((out / one).is_file() for one in (f"{name}.html", *others)) and stamp.is_file()
        return there and stamp.read_text(encoding="utf-8") == key

    return [name for name, key in _of_plan(study).items() if not whole(name, key)]


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
    Snakemake's would outlive a kill, and its jobs end with it. What is there is checked once, by
    size and bytes.
    """
    look_at_weights(study)
    if study.corpus.name == "folder":
        plan.corpus(study).make(cores)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.root() / "workflow" / "Snakefile")]
    where = ["--profile", profile] if profile else ["--cores", str(cores)]
    command += ["--directory", str(paths.root()), *where, "--nolock", "--keep-going"]
    # Our stamps and keys say what is whole: Snakemake, once killed, would remove and make it anew.
    command += ["--ignore-incomplete", "--keep-incomplete"]
    command += ["--rerun-triggers", "mtime", "params", "input", "--quiet", "rules", "host"]
    lock = FileLock(paths.artifacts() / ".locks" / "run")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(timeout=0):
            for artifact in everything(study):
                if artifact.stamp.exists():
                    artifact.check()
            out = paths.report(study.study)
            left = [out / ("" if one == "index" else "pages") / one for one in unfinished(study)]
            forced = [f"{one}{'.html' if one.name == 'index' else '.json'}" for one in left]
            command += ["--forcerun", *forced] if forced else []
            command += ["--config", *config(name, overrides)]
            status = _with_children(command, _environment() | ({} if profile else {RUN: str(os.getpid())}))
            if status == 0 and (left := unfinished(study)):
                print(f"missing or not of this study as it is now: {', '.join(left)}", file=sys.stderr)
                return 1
            return status
    except Timeout:
        raise ValueError(
            f"another run is at work in {paths.artifacts()}; wait for it, or set AACSTUDY_ARTIFACTS"
        ) from None


def _with_children(command: list[str], environment: dict[str, str]) -> int:
    """Run a command in a group of its own, all of which ends with it, however it ends."""
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.default_int_handler)
    process = subprocess.Popen(command, env=environment, process_group=0)
    try:
        return process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end_with_run() -> None:
    """In a job, and in Snakemake: end soon after a run that was killed.

    What they would still write or remove could be the next run's.
    """

    def watch(run: int) -> None:
        while _lives(run):
            time.sleep(0.5)
        os._exit(1)

    if RUN in os.environ:
        threading.Thread(target=watch, args=(int(os.environ[RUN]),), daemon=True).start()


def _lives(process: int) -> bool:
    """Whether a process is at work; one that ended may wait as a zombie for its parent to look."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # there is no /proc, or its entry went this moment
        return True
    return state not in "ZX"


def _environment() -> dict[str, str]:
    defaults = {"OMP_NUM_THREADS": "1"}  # see device.py
    if not sys.stderr.isatty():
        defaults["TQDM_MININTERVAL"] = "10"  # a log file wants few lines
    return defaults | dict(os.environ)
