"""The smoke study, run once for all tests that look at what a study leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

PROJECT = Path(__file__).resolve().parents[1]
FOLDERS = ("aacstudy", "notebooks", "studies", "workflow")

# The own-recordings study at smoke size: the captioner of the smoke study instead of the demo's.
OWN = """
study: own_smoke
extends: own
captioner_from: smoke
seeds: [1]
statistics: {resamples: 200}
encoder: {dims: [8, 16, 32]}
"""


# Fixtures that run a whole study: their tests stay in one process, and begin first, as they take
# longest.
STUDIES = ("smoke", "place")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests by the study that they share, for ``--dist loadgroup``."""
    for item in items:
        for name in STUDIES:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


class Copy:
    """A copy of the project in which a study may be run and code be changed, away from the user's
    own.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in FOLDERS:
            shutil.copytree(
                PROJECT / name,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
            )
        (folder / "studies" / "own_smoke.yml").write_text(OWN)
        changed = {"AACSTUDY_ROOT": str(folder), "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("AACSTUDY_ARTIFACTS", "AACSTUDY_REPORTS")
        } | changed
        self.reports = folder / "reports"
        self.artifacts = folder / "artifacts"

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start ``python -m aacstudy`` with these arguments in a process group of its own."""
        command = [sys.executable, "-m", "aacstudy", *arguments]
        pipes = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "start_new_session": True,
        }
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes)

    def aacstudy(self, *arguments: str) -> tuple[int, str]:
        """Run ``python -m aacstudy``: exit status and everything it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=1200)
        return process.returncode, output

    def kill_when(self, process: subprocess.Popen, exists: str, seconds: float = 300) -> None:
        """Kill the process and its children without warning once a file of this pattern exists."""
        end = time.monotonic() + seconds
        while not list(self.folder.glob(exists)):
            assert process.poll() is None and time.monotonic() < end, (
                f"{exists} never came: {process.communicate()[0]}"
            )
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def snakemake(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake on the workflow with these arguments; its output holds both streams."""
        command = [sys.executable, "-m", "snakemake", "-s", "workflow/Snakefile", "--nolock", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes)

    def planned(self, study: str = "smoke") -> list[str]:
        """Jobs that a run would do now by Snakemake's dry run: stage (or rule) and name."""
        triggers = ("--rerun-triggers", "mtime", "params", "input")
        run = self.snakemake("-n", "--cores", "1", *triggers, "--config", f"study={study}")
        text, _ = run.communicate(timeout=300)
        assert run.returncode == 0, text
        jobs, rule = [], None
        for line in text.splitlines():
            if line.startswith(("rule ", "localrule ")):
                rule = line.split()[1].rstrip(":")
                if rule == "index":
                    jobs.append(rule)
            elif line.strip().startswith("wildcards:"):
                chosen = dict(part.split("=") for part in line.split(":")[1].strip().split(", "))
                jobs.append(
                    " ".join((chosen.get("stage", rule), *[v for k, v in chosen.items() if k != "stage"]))
                )
        return sorted(jobs)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Copy:
    """The smoke study, run to its end after a kill in the middle of the encoder's training."""
    copy = Copy(tmp_path_factory.mktemp("project"))
    copy.kill_when(copy.start("run", "smoke", "--cores", "2"), "artifacts/encoder/*.part/resume.pt")
    status, output = copy.aacstudy("run", "smoke", "--cores", "2")
    assert status == 0, output
    copy.output = output
    return copy


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """Six small recordings of different rates and formats, with captions that hold HTML, commas and
    quotes.
    """
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    names = ("one.wav", "two.flac", "three.ogg", "four.wav", "five.wav", "six.wav")
    lines = ["file_name,caption_1,caption_2,caption_3"]
    for i, name in enumerate(names):
        rate = (44100, 16000, 22050)[i % 3]
        tone = np.sin(2 * np.pi * 200 * (i + 1) * np.arange(rate * (2 + i % 2)) / rate)
        soundfile.write(folder / name, 0.3 * tone + 0.01 * rng.standard_normal(tone.size), rate)
        lines.append(
            f'{name},"A tone, number {i}.",A <b>loud</b> <script>alert({i})</script> tone.,"A ""high"" sound '
            f'{i}"'
        )
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
