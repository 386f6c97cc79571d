"""The set-up files agree with each other, and `make` does what it promises to a new clone."""

import json
import os
import re
import shutil
import stat
import subprocess
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()

# conda's name -> PyPI's, where they differ
CONDA_NAMES = {
    "pytorch": "torch",
    "pysoundfile": "soundfile",
    "snakemake-minimal": "snakemake",
    "playwright-python": "playwright",
}
NOTEBOOKS = [
    "00_start_here",
    "01_corpus",
    "02_encoder",
    "03_training",
    "04_captioning",
    "05_retrieval",
    "06_bias",
    "07_before_after",
    "08_ablations",
    "09_scorecard",
    "10_own_recordings",
    "11_explorer",
]


def project_requirements() -> dict[str, Requirement]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    requirements = [Requirement(line) for line in PROJECT["dependencies"] + extras]
    return {canonicalize_name(r.name): r for r in requirements}


def conda_lines() -> tuple[list[str], list[str]]:
    """The lines for conda and those for pip, `-e .` not among them."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in lines if isinstance(entry, dict)]
    assert "-e ." in pip
    return [line for line in lines if isinstance(line, str)], [line for line in pip if line != "-e ."]


# --- pyproject.toml, environment.yml, requirements.lock -----------------------------------------


def test_environment_lines_are_valid_for_conda():
    rattler = pytest.importorskip("rattler")
    for line in conda_lines()[0]:
        assert ";" not in line, f"conda knows no markers: {line}"
        rattler.MatchSpec(line, strict=True)
    with pytest.raises(Exception, match=r"(?i)parse|invalid|version|operator"):
        rattler.MatchSpec("torch=>2.1", strict=True)  # the check can fail


def test_environment_has_the_packages_of_pyproject():
    conda, pip = conda_lines()
    wanted = {name: requirement.specifier for name, requirement in project_requirements().items()}
    wanted |= {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}

    found = {}
    for line in conda:
        name, _, specifier = line.partition(" ")
        found[CONDA_NAMES.get(name, name)] = SpecifierSet(specifier)
    for requirement in map(Requirement, pip):
        assert canonicalize_name(requirement.name) not in found, f"{requirement.name} stands there twice"
        found[canonicalize_name(requirement.name)] = requirement.specifier
    assert found == wanted


def lock_pins() -> list[tuple[Requirement, int]]:
    """Each pin of the lock with the number of its hashes."""
    blocks = re.findall(r"^(\S.*?)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", LOCK, re.MULTILINE)
    return [(Requirement(pin), hashes.count("--hash")) for pin, hashes in blocks if not pin.startswith("#")]


def test_lock_has_a_hash_for_every_pin_and_no_address():
    pins = lock_pins()
    assert len(pins) > 200
    for pin, hashes in pins:
        assert hashes > 0, f"{pin.name} has no hash"
        assert len(pin.specifier) == 1 and str(pin.specifier).startswith("=="), pin
    assert "://" not in LOCK
    assert "make lock" in LOCK.splitlines()[1]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_lock_satisfies_pyproject(python, platform):
    system = {"linux": "Linux", "darwin": "Darwin"}[platform]
    here = {"python_version": python, "python_full_version": f"{python}.7", "sys_platform": platform}
    here |= {"platform_system": system, "os_name": "posix", "platform_machine": "x86_64"}
    pinned: dict[str, list[str]] = {}
    for pin, _ in lock_pins():
        if pin.marker is None or pin.marker.evaluate(here):
            (specifier,) = pin.specifier
            pinned.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    for name, requirement in project_requirements().items():
        assert len(pinned.get(name, [])) == 1, f"{name} is pinned as {pinned.get(name)}"
        assert requirement.specifier.contains(pinned[name][0], prereleases=True), (
            f"{requirement}: {pinned[name]}"
        )


def test_citation_names_software_and_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Labbé", "Pellegrini", "Pinquier"]
    assert paper["identifiers"][0]["value"] == "arXiv:2308.15090"


# --- notebooks ----------------------------------------------------------------------------------


def test_every_notebook_is_there():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == NOTEBOOKS


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_is_kept_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    for cell in code:
        assert cell.outputs == [], "outputs belong in reports/: nbstripout --keep-id takes them out"
        assert cell.execution_count is None
        # The parameters cell names every section of a study, one a line.
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 15, f"a long cell: {cell.source[:80]}"


# --- make ---------------------------------------------------------------------------------------


def make(*arguments: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    """Run make as from a fresh shell: without the variables of a make or conda that started this
    test.
    """
    private = [
        "MAKE",
        "MFLAGS",
        "CONDA_",
        "PYTHON",
        "VIRTUAL_ENV",
        "STUDY",
        "DATA",
        "ARGS",
        "CORES",
        "BOOTSTRAP",
    ]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(tuple(private))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=folder, env=clean | variables, capture_output=True, text=True, timeout=60
    )


def executable(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_ci_runs_make_test_and_nothing_else():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]


def test_help_is_the_default_and_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", text, re.MULTILINE)
    assert {"help", "study", "test", "lab", "bench", "lint", "lock", "clean"} <= set(targets)
    (phony,) = re.findall(r"^\.PHONY: (.*)", text, re.MULTILINE)
    assert set(phony.split()) == {*targets, "FORCE"}
    shown = make()
    assert shown.stdout == make("help").stdout
    assert re.findall(r"^  make (\S+)  +\S", shown.stdout, re.MULTILINE) == targets


def test_study_passes_on_its_variables():
    own = ("study", "STUDY=own", "DATA=my $(touch `x`) clips", "CAPTIONER=re'cordings")
    called = make("-s", *own, "CORES=3", "PYTHON=echo").stdout
    assert called.strip() == (
        "-m aacstudy run own --data my $(touch `x`) clips --captioner re'cordings --cores 3"
    )
    assert '"/opt/my python" -m aacstudy run' in make("-n", "study", "PYTHON=/opt/my python").stdout
    called = make("-s", "study", "PYTHON=echo", OMP_NUM_THREADS="1").stdout
    assert re.fullmatch(r"-m aacstudy run demo --cores [1-9]\d*", called.strip())


def test_conda_environment_with_the_packages_is_used(tmp_path):
    python = executable(tmp_path / "my env" / "bin" / "python", "exit 0")
    for target in ("study", "test", "lab", "bench", "lint"):
        shown = make("-n", target, CONDA_PREFIX=str(tmp_path / "my env")).stdout
        assert shown.startswith(f'"{python}" -m '), shown
        assert ".venv" not in shown


def test_conda_environment_without_them_is_not(tmp_path):
    executable(tmp_path / "bin" / "python", "exit 1")
    assert '".venv/bin/python" -m pytest' in make("-n", "test", CONDA_PREFIX=str(tmp_path)).stdout
    assert '".venv/bin/python" -m pytest' in make("-n", "test", CONDA_PREFIX=str(tmp_path / "gone")).stdout


@pytest.fixture
def clone(tmp_path):
    """A folder with our Makefile and stand-ins for python, pip and uv that only write down what
    they are asked.
    """
    folder = tmp_path / "a clone"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements.lock").write_text(
        "other==1 \\\n    --hash=x\nuv==2 \\\n    --hash=y\n    # via us\n"
    )
    log = folder / "log"
    executable(folder / "fake" / "uv", f'echo "uv $*" >>"{log}"', '[ ! -e fail ] || [ "$2" != sync ]')
    executable(
        folder / "fake" / "venv-python",
        f'echo "$*" >>"{log}"',
        'case "$*" in *uv.txt*) [ ! -e no-uv ] && cp fake/uv .venv/bin/uv;; esac',
        # pip is the way round a uv that fails, and fails along with it here
        'case "$*" in *requirements.lock*) [ ! -e fail ];; esac',
    )
    executable(
        folder / "fake" / "python",
        'case "$1" in -c) echo 3.12 ok; exit;; esac',
        f'echo "$*" >>"{log}"; mkdir -p .venv/bin; cp fake/venv-python .venv/bin/python',
    )
    return folder


def install(clone: Path, *arguments: str) -> tuple[int, list[str], str]:
    """`make setup`: its exit status, what python, pip and uv were asked, what was printed."""
    (clone / "log").write_text("")
    done = make("setup", *(arguments or ("BOOTSTRAP=fake/python",)), folder=clone)
    return done.returncode, (clone / "log").read_text().splitlines(), done.stdout + done.stderr


def test_venv_is_made_once(clone):
    status, asked, printed = install(clone)
    assert status == 0, printed
    assert "7 GB" in printed
    assert asked[0] == "-m venv .venv"
    assert "--require-hashes -r .venv/uv.txt" in asked[1]
    assert (clone / ".venv/uv.txt").read_text() == "uv==2 \\\n    --hash=y\n"
    assert asked[2].startswith("uv pip sync") and "--compile-bytecode requirements.lock" in asked[2]
    assert asked[3].startswith("uv pip install") and asked[3].endswith("--no-deps --no-build-isolation -e .")
    assert install(clone)[:2] == (0, [])


def test_venv_follows_the_lock(clone):
    install(clone)
    lock = clone / "requirements.lock"
    later = time.time() + 5
    os.utime(lock, (later, later))
    assert install(clone)[1] == [], "touched, but the same"
    lock.write_text(lock.read_text() + "more==1\n")
    os.utime(lock, (later, later))
    asked = install(clone)[1]
    assert "-m venv .venv" not in asked
    assert any("uv pip sync" in line for line in asked)


def test_unfinished_install_is_made_again(clone):
    (clone / "fail").touch()
    status, _, printed = install(clone)
    assert status != 0
    assert "pip" in printed
    (clone / ".venv" / "half").touch()
    (clone / "fail").unlink()
    status, asked, _ = install(clone)
    assert (status, asked[0]) == (0, "-m venv .venv")
    assert not (clone / ".venv" / "half").exists()


def test_moved_clone_is_made_again(clone):
    install(clone)
    moved = clone.rename(clone.parent / "moved")
    (moved / "fake" / "python").write_text(
        (moved / "fake" / "python").read_text().replace("a clone", "moved")
    )
    assert install(moved)[1][0] == "-m venv .venv"


def test_pip_takes_over_where_uv_cannot_be_had(clone):
    (clone / "no-uv").touch()
    status, asked, printed = install(clone)
    assert status == 0, printed
    assert asked[-2].endswith("--no-deps --require-hashes -r requirements.lock")
    assert asked[-1].endswith("--no-build-isolation -e .")


def test_foreign_venv_is_left_alone(clone):
    (clone / ".venv").mkdir()
    (clone / ".venv" / "precious").touch()
    status, asked, printed = install(clone)
    assert (status, asked) == (2, [])
    assert "was not made by this Makefile" in printed
    assert (clone / ".venv" / "precious").exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [("3.9 old", "needs Python 3.11 or newer"), ("3.12 bare", "apt install python3-venv")],
)
def test_unfit_python_is_named(clone, answer, message):
    executable(clone / "unfit", f"echo {answer}")
    status, asked, printed = install(clone, "BOOTSTRAP=./unfit")
    assert (status, asked) == (2, [])
    assert message in printed
    assert f"./unfit is {answer}" in printed
    assert not (clone / ".venv").exists()


def test_clean_keeps_what_is_not_ours(clone, tmp_path):
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    (recordings / "clip.wav").touch()
    for folder in [
        "reports/demo",
        "artifacts",
        ".snakemake",
        "aacstudy/__pycache__",
        ".venv/lib/__pycache__",
    ]:
        (clone / folder).mkdir(parents=True)
    (clone / "reports" / "README.md").touch()
    (clone / "reports" / "linked").symlink_to(recordings)
    assert make("clean", folder=clone).returncode == 0
    assert {path.name for path in (clone / "reports").iterdir()} == {"README.md", "linked"}
    assert not (clone / "artifacts").exists() and not (clone / "aacstudy/__pycache__").exists()
    assert (clone / ".venv/lib/__pycache__").exists()
    assert (recordings / "clip.wav").exists()


def test_the_notebooks_table_has_every_question():
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    for name in NOTEBOOKS:
        cell = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"][0]
        question = "".join(cell["source"]).splitlines()[0].removeprefix("# ")
        assert f"| [{name}]({name}.ipynb) | {question}" in text
