"""Matrices of other systems: checked against the corpus, put into its order, and taken by the
study.
"""

import json

import numpy as np
import pytest

from aacstudy.corpus import Corpus
from aacstudy.scoring.matrix import Losses, check, fingerprint, score

AUDIOS = ["a", "b"]
CAPTIONS = ["one", "same", "same", "four"]
OWNERS = [0, 0, 1, 1]
NLL = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.float32)


def losses(nll=NLL, tokens=(1, 2, 3, 4), owners=OWNERS, audios=AUDIOS, captions=CAPTIONS):
    return Losses(
        np.asarray(nll, dtype=np.float32), np.array(tokens), np.array(owners), list(audios), list(captions)
    )


def test_rows_and_columns_are_put_into_the_corpus_order():
    shuffled = losses(
        NLL[::-1][:, [3, 2, 0, 1]], (4, 3, 1, 2), [0, 0, 1, 1], ["b", "a"], ["four", "same", "one", "same"]
    )
    found = check(shuffled, AUDIOS, CAPTIONS, OWNERS, "x.zarr")
    # the two captions "same" are told apart by their owners
    np.testing.assert_array_equal(found.nll, NLL)
    assert (
        found.tokens.tolist() == [1, 2, 3, 4] and found.audios == AUDIOS and found.owners.tolist() == OWNERS
    )


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (losses(audios=["a", "c"]), "its 2 audios are not the corpus' 2; only one of the two has 'b'"),
        (
            losses(captions=["one", "same", "same", "five"]),
            "captions are not the corpus' 4; only one of the two has 'four'",
        ),
        (losses(NLL * np.nan), "finite"),
        (losses(-NLL), "not negative"),
        (losses(tokens=(1, 2, 3, 0)), "one token"),
        (losses(owners=[1, 0, 1, 1]), "no caption 'one' of audio a"),
    ],
)
def test_what_does_not_fit_is_named(matrix, said):
    with pytest.raises(ValueError, match=r"x\.zarr") as error:
        check(matrix, AUDIOS, CAPTIONS, OWNERS, "x.zarr")
    assert said in str(error.value)


def test_fingerprint_follows_the_numbers(tmp_path):
    losses().write(tmp_path / "x.zarr")
    before = fingerprint(tmp_path / "x.zarr")
    losses(NLL + 1).write(tmp_path / "x.zarr")
    assert fingerprint(tmp_path / "x.zarr") != before
    with pytest.raises(ValueError, match="no such zarr group"):
        fingerprint(tmp_path / "y.zarr")


class Lengths:
    """A scorer that hears only loudness and counts letters: the protocol in its smallest form."""

    def nll(self, frames, captions):
        lengths = np.array([len(text) for text in captions])
        loudness = np.array([float(np.abs(one).mean()) for one in frames])
        return lengths[None, :] ** 2 * (1 + 0.1 * loudness[:, None]), lengths


@pytest.mark.slow
def test_another_system_gets_retrieval_and_bias(smoke, tmp_path):
    listed = smoke.aacstudy("plan", "smoke")[1].splitlines()  # other tests make other corpora
    name = next(line.split()[-1] for line in listed if "corpus/soundscapes-" in line)
    part = Corpus.load(smoke.artifacts / name).split("test")
    frames = [np.full(3, i) for i in range(len(part.clips))]
    for seed in (1, 2):
        score(Lengths(), frames, part).write(tmp_path / f"{seed}.zarr")
    overrides = {
        "study": "other",
        "scoring": {"matrix": f"{tmp_path}/{{seed}}.zarr"},
        "notebooks": ["05_retrieval", "06_bias"],
    }
    status, output = smoke.aacstudy("run", "smoke", "--overrides", json.dumps(overrides), "--cores", "2")
    assert status == 0, output
    results = json.loads((smoke.reports / "other" / "results.json").read_text())
    assert results["t2a.hit@1"] == pytest.approx(
        results["chance.t2a.hit@1"]
    )  # every caption ranks audios alike
    assert results["variance.caption"] > 0.3
    assert str(tmp_path) not in (smoke.reports / "other" / "05_retrieval.html").read_text(encoding="utf-8")
