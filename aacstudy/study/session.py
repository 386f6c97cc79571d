"""The first and the last cell of every notebook: which study, which artifacts, which page."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from aacstudy import paths
from aacstudy.report import figures, provenance
from aacstudy.report.page import Page
from aacstudy.scoring.matrix import Losses
from aacstudy.study import notebooks
from aacstudy.study.artifacts import Artifact
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan


class Session:
    """One notebook at work: ``study``, ``page``, and the artifacts it has used so far."""

    def __init__(self, name: str, study: Study):
        self.name, self.study = name, study
        self.page = Page(name, study.study)
        self.started = datetime.now(UTC)
        self._used: dict[str, Artifact] = {}

    def use(self, artifact: Artifact) -> Path:
        """The folder of an artifact; what is missing is made first, which may take minutes, and
        said.
        """
        if not artifact.stamp.exists():
            print(
                f"{artifact.stage} {artifact.name} is not there yet; making it and what it needs",
                file=sys.stderr,
            )
        path = artifact.make(cores=provenance.cores())
        self._used |= {f"{one.stage}/{one.name}": one for one in artifact.closure()}
        return path

    def each(self, stage: str, variant: str, *split: str) -> list[Path]:
        """Folders of one stage for all seeds of a variant, in the order of ``study.seeds``; of a
        split, where named.
        """
        make = plan.PER_CAPTIONER[stage]
        return [self.use(make(self.study, variant, seed, *split)) for seed in self.study.seeds]

    def losses(self, variant: str, *split: str) -> list[Losses]:
        """The loss matrices of all seeds of a variant."""
        return [Losses.read(path / "losses.zarr") for path in self.each("losses", variant, *split)]

    def tagging(self, variants: Sequence[str]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
        """Held-out scores and labels [clips, classes] of the encoders trained here, each by its
        first variant.
        """
        folders: dict[Path, str] = {}
        for variant in variants:
            folders.setdefault(self.use(plan.encoder(self.study.varied(variant))), variant)
        return {
            variant: tuple(
                pd.read_csv(folder / f"test_{name}.csv", index_col="clip") for name in ("scores", "labels")
            )
            for folder, variant in folders.items()
            if (folder / "test_scores.csv").exists()
        }

    def found(self) -> dict[str, float]:
        """The numbers that the study's other notebooks left behind when they last ran in a batch;
        none before that.
        """
        numbers: dict[str, float] = {}
        for name in self.study.notebooks:
            page = paths.report(self.study.study) / "pages" / f"{name}.json"
            if name != self.name and page.exists():
                numbers |= json.loads(page.read_text(encoding="utf-8"))["results"]
        return numbers

    def end(self) -> None:
        """Show where the page's numbers come from and, in a batch, write its record."""
        here = notebooks.file(self.name).exists()  # one that lies elsewhere declares nothing
        tops = plan.needed(self.study, notebooks.read(self.name).reads) if here else self._used.values()
        declared = {f"{one.stage}/{one.name}" for top in tops for one in top.closure()}
        if undeclared := sorted(self._used.keys() - declared):
            print(
                f"{self.name} used what its metadata does not declare, so a batch cannot plan it: "
                f"{', '.join(undeclared)}",
                file=sys.stderr,
            )
        records = [one.record() for one in self._used.values()]
        device = ", ".join(sorted({record["device"] for record in records})) or "cpu"
        seeds = list(self.study.seeds)
        self.page.provenance(
            provenance.collect(self.study.parameters(), records, self.started, device, seeds)
        )


def begin(name: str, variables: Mapping[str, Any]) -> Session:
    """Read the study from a notebook's ``globals()``, set the figure style, and open its page."""
    figures.style()
    return Session(name, Study.from_notebook(variables))
