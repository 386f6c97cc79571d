"""Clotho and AudioCaps by their own pages, on miniatures: the whole recipe, smaller sizes."""

import json
import shutil
from collections import Counter
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from conftest import Copy
from miniatures import make_audiocaps, make_clotho
from published_tensors import captioner_tensors, convnext_tensors
from safetensors.torch import save_file
from test_published_captioners import baseline_tokenizer, conette_tensors
from tiny_metrics import make_models

from aacstudy.corpus.clotho import check
from aacstudy.study.parameters import Study
from aacstudy.study.weights import WEIGHTS as WEIGHTS_OF

WEIGHTS = "convnext_tiny_465mAP_BL_AC_70kit"
SIZES = {
    "seeds": [1234],
    "decoder": {"d_model": 32, "layers": 2, "heads": 4, "d_ff": 64},
    "training": {"epochs": 2, "batch": 8},
    "scoring": {"bands": 2, "memory": "200MB"},
    "retrieval": {"bank_clips": 6, "bank_captions": 20, "tune_clips": 3},
    "before_after": {"other_clips": 3},
    "statistics": {"resamples": 100},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Copy:
    """A copy of the project with miniature data sets, weights of the published names, and tiny
    models for FENSE.
    """
    copy = Copy(tmp_path_factory.mktemp("paper"))
    data = copy.folder / "data"
    rng = np.random.default_rng(0)
    make_clotho(data / "clotho", rng)
    make_audiocaps(data / "audiocaps", rng)
    (data / "weights").mkdir()
    torch.save({"model": convnext_tensors()}, data / "weights" / f"{WEIGHTS}.pth")
    dcase = data / "weights" / "dcase2024"
    dcase.mkdir()
    tokenizer = baseline_tokenizer()
    (dcase / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    tensors = captioner_tensors(len(tokenizer["model"]["vocab"]), layers=6)
    # as Lightning keeps it: a path and a container's stand-in among the settings
    settings = {"root": PosixPath("/data"), "seen": Counter("ab"), "betas": (0.9, 0.999)}
    checkpoint = {"state_dict": tensors, "hyper_parameters": settings}
    torch.save(checkpoint, data / WEIGHTS_OF["dcase2024"][1].place)
    (data / "weights" / "conette").mkdir()
    save_file(conette_tensors(), data / WEIGHTS_OF["conette"][1].place)
    corpus, defects = check(data / "clotho")
    assert not defects
    make_models(data / "metrics", corpus.captions["text"])
    copy.environment["AACSTUDY_DATA"] = str(data)
    return copy


def run(place: Copy, study: str, **overrides) -> dict[str, float]:
    """Run a study on its miniature; its results."""
    data = str(place.folder / "data" / study)
    status, output = place.aacstudy(
        "run", study, "--data", data, "--overrides", json.dumps(SIZES | overrides), "--cores", "2"
    )
    assert status == 0, output
    return json.loads((place.reports / study / "results.json").read_text())


def test_only_sizes_are_overridden():
    paper, small = (Study.load("clotho", {"corpus": {"root": "x"}} | sizes) for sizes in ({}, SIZES))
    for name in (
        "mixup_alpha",
        "mask_stripes",
        "label_smoothing",
        "select",
        "schedule",
        "weight_decay",
        "clip_norm",
    ):
        assert getattr(paper.training, name) == getattr(small.training, name)
    assert (
        small.encoder == paper.encoder
        and small.training.select == "fense"
        and small.scoring.dtype == "bfloat16"
    )


def test_clotho_from_its_page(place):
    results = run(place, "clotho")
    assert results["n.audios"] == 6 and results["n.captions"] == 30
    assert {"t2a.hit@1", "a2t.raw.hit@1", "captioning.fense", "variance.caption"} <= set(results)
    history = next((place.artifacts / "captioner").glob("base-1234-*/history.csv")).read_text()
    assert "validation_fense" in history.splitlines()[0]


@pytest.mark.parametrize("study, corpus", [("dcase2024", "clotho"), ("conette", "audiocaps")])
def test_a_published_captioner_on_the_evaluation_split_alone(place, tmp_path, study, corpus):
    rng = np.random.default_rng(1)
    base = (make_clotho if corpus == "clotho" else make_audiocaps)(tmp_path, rng)
    for path in sorted(base.rglob("*")):
        if path.stem.rpartition("_")[2] in ("development", "validation", "train", "val"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    sizes = {name: SIZES[name] for name in ("scoring", "before_after", "statistics")}
    if study == "conette":  # the other runs whole
        sizes["notebooks"] = ["04_captioning", "05_retrieval", "06_bias"]
    status, output = place.aacstudy(
        "run", study, "--data", str(tmp_path), "--overrides", json.dumps(sizes), "--cores", "2"
    )
    assert status == 0, output
    assert "not here: train and validation; what needs them is left out" in output
    assert "left aside beside the weights, not run: collections.Counter, pathlib.PosixPath" in output or (
        study == "conette"
    )
    results = json.loads((place.reports / study / "results.json").read_text())
    assert {"t2a.hit@1", "a2t.raw.hit@1", "a2t.min_max.hit@1", "variance.caption"} <= set(results)
    # statistics of a bank of training clips are left out, those of the pool itself are not
    assert "a2t.grid.z.transductive.hit@1" in results and "a2t.grid.z.online.hit@1" not in results
    assert ("captioning.new_captions" not in results) and "captioning.cider_d" in results


def test_audiocaps_from_its_page(place):
    results = run(place, "audiocaps", notebooks=["01_corpus", "05_retrieval"])
    assert results["n.captions"] == 5 * results["n.audios"]
    missing = next((place.artifacts / "corpus").glob("audiocaps-*/missing.csv")).read_text().splitlines()
    assert len(missing) > 1
