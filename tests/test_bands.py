"""Bands of the loss matrix: killed at any moment, nothing is lost but the band in progress, and the
bytes are the same.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from builders import stage

from aacstudy.corpus import NO_EVENTS, Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames as frame_files
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import save_captioner
from aacstudy.options import DecoderOptions
from aacstudy.scoring.matrix import Losses
from aacstudy.study.artifacts import Artifact
from aacstudy.study.run import config
from aacstudy.study.stages import bands

BANDS, CLIPS = 100, 100


def _write_corpus(artifact, folder, cores):
    import pandas as pd

    clips = pd.DataFrame(
        {"clip": [f"test/{i}" for i in range(CLIPS)], "split": "test", "path": "none.wav", "seconds": 1.0}
    )
    texts = [f"sound {i} {'and ' * (i % 7)}then sound {i // 2}" for i in range(CLIPS)]
    Corpus(folder, clips, pd.DataFrame({"clip": clips["clip"], "text": texts}), NO_EVENTS).save()


def _write_frames(artifact, folder, cores):
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(5 + i % 3, 8, generator=generator) for i in range(CLIPS)]
    frame_files.save(folder / "frames.safetensors", [f"test/{i}" for i in range(CLIPS)], clips)


def _write_captioner(artifact, folder, cores):
    torch.manual_seed(0)
    vocabulary = Vocabulary.fit(Corpus.load(artifact.inputs[0].path).captions["text"])
    network = Captioner(8, len(vocabulary), DecoderOptions(d_model=64, layers=3, heads=2, d_ff=256))
    save_captioner(folder / "captioner.safetensors", network, vocabulary, {})


def _build_logged(artifact, folder, cores):
    with open(os.environ["BAND_LOG"], "a") as log:
        log.write(json.dumps({"band": artifact.parameters["band"], "what": "start"}) + "\n")
    time.sleep(0.02)  # so that some kills fall between the start of a band and its end
    bands.build(artifact, folder, cores)


def matrix() -> Artifact:
    """A loss matrix of many bands with everything it needs, outside any study."""
    corpus = Artifact("corpus", "c", {}, (), stage(_write_corpus))
    frames = Artifact("frames", "f", {}, (), stage(_write_frames))
    captioner = Artifact("captioner", "n", {}, (corpus,), stage(_write_captioner))
    parts = [
        Artifact(
            "bands",
            str(i),
            {"split": "test", "band": i, "of": BANDS},
            (corpus, frames, captioner),
            stage(_build_logged),
        )
        for i in range(BANDS)
    ]
    return Artifact("losses", "m", {"split": "test"}, (corpus, *parts), ("aacstudy.study.stages.losses",))


def _starts(log) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def _make() -> None:
    torch.set_num_threads(1)
    matrix().make()


def test_twenty_kills_give_the_same_bytes(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("BAND_LOG", str(log))
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path / "whole"))
    whole = Losses.read(matrix().make() / "losses.zarr")
    log.unlink()
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path / "killed"))
    rng, fork = random.Random(0), multiprocessing.get_context("fork")
    for kill in range(20):
        process = fork.Process(target=_make)
        begun = _starts(log)
        process.start()
        several = rng.randint(1, 4)  # bands that this run may begin
        while process.is_alive() and _starts(log) < begun + several:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.06))  # in the band, in its writing, or in the next one
        assert process.is_alive(), f"the matrix was whole before kill {kill + 1}"
        process.kill()
        process.join()
    whole_bands = {path.parent.name for path in (tmp_path / "killed" / "bands").glob("*/artifact.json")}
    assert 0 < len(whole_bands) < BANDS
    again = Losses.read(matrix().make() / "losses.zarr")
    assert again.nll.tobytes() == whole.nll.tobytes()
    assert (again.audios, again.captions, again.tokens.tolist()) == (
        whole.audios,
        whole.captions,
        whole.tokens.tolist(),
    )
    starts = [json.loads(line)["band"] for line in log.read_text().splitlines()]
    # A band is started again only where a kill fell into it: bands come in order, and none is begun
    # twice once whole.
    assert starts == sorted(starts) and len(starts) - BANDS <= 20 and set(starts) == set(range(BANDS))


def test_a_changed_captioner_never_uses_old_bands(tmp_path, monkeypatch):
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path))
    first = matrix()
    corpus, band = first.inputs[0], first.inputs[1]
    other = Artifact("captioner", "n", {"seed": 2}, (corpus,), stage(_write_captioner))
    changed = Artifact("bands", "0", band.parameters, (*band.inputs[:2], other), stage(_build_logged))
    assert changed.path != band.path


@pytest.mark.slow
def test_a_killed_job_is_named_and_only_it_runs_again(smoke):
    """Several local processes through the workflow, one killed midway; then the same command goes
    on.
    """
    overrides = {"scoring": {"bands": 5}}
    target = smoke.aacstudy("plan", "smoke", "--overrides", json.dumps(overrides))[1]
    name = next(line.split()[-1] for line in target.splitlines() if "losses/base-1-" in line)
    arguments = ["--cores", "2", "--keep-going", "--rerun-triggers", "mtime", "params", "input"]
    arguments += ["--quiet", "rules", "host", "--config", *config("smoke", overrides), "--"]
    arguments += [str(smoke.artifacts / name / "artifact.json")]
    run = smoke.snakemake(*arguments)
    victim = None
    while victim is None and run.poll() is None:
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
        ).stdout
        jobs = [line.split(maxsplit=1) for line in listed.splitlines() if "bands/base-1-3of5" in line]
        # not its shell
        mine = [pid for pid, command_line in jobs if command_line.startswith(sys.executable)]
        victim = int(mine[0]) if mine else time.sleep(0.05)
    assert victim, run.communicate()[0]
    os.kill(victim, signal.SIGKILL)
    output, _ = run.communicate(timeout=300)
    assert run.returncode != 0 and "bands/base-1-3of5" in output
    whole = {one.parent.name for one in (smoke.artifacts / "bands").glob("base-1-*of5-*/artifact.json")}
    assert len(whole) == 4 and not any(one.startswith("base-1-3of5") for one in whole)
    again = smoke.snakemake(*arguments)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert said.count("making bands") == 1 and "making bands base-1-3of5" in said
    joined = Losses.read(smoke.artifacts / name / "losses.zarr")
    plan = smoke.aacstudy("plan", "smoke")[1]
    usual = next(line.split()[-1] for line in plan.splitlines() if "losses/base-1-" in line)
    assert usual != name
    np.testing.assert_array_equal(joined.nll, Losses.read(smoke.artifacts / usual / "losses.zarr").nll)
