"""Stored loss matrices come back as they were."""

from dataclasses import replace

import numpy as np
import pytest
import zarr

from aacstudy.scoring.matrix import BAND, Losses

AUDIOS = ["test/naïve café.wav", "test/<b>&amp;.wav", 'test/"q",\t1.wav']
CAPTIONS = ["a dog\nbarks, twice", "<script>alert('x')</script>", "雨が降る 🌧️", "", "null", "a" * 5000]


def losses(seed=0, audios=AUDIOS, captions=CAPTIONS, **changes):
    rng = np.random.default_rng(seed)
    fields = {
        "nll": rng.gamma(2.0, 10.0, (len(audios), len(captions))).astype(np.float32),
        "tokens": rng.integers(1, 20, len(captions)),
        "owners": rng.integers(0, len(audios), len(captions)),
        "audios": list(audios),
        "captions": list(captions),
        "parameters": {"seed": 3, "decoder": {"heads": 8, "dropout": 0.2}, "none": None, "name": "ünï"},
    }
    return Losses(**(fields | changes))


def assert_same(a, b):
    for name in ("nll", "tokens", "owners"):
        one, other = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(one, other)
        assert one.shape == other.shape
    assert a.nll.dtype == b.nll.dtype == np.float32
    assert (a.audios, a.captions, a.parameters) == (b.audios, b.captions, b.parameters)


def test_round_trip(tmp_path):
    written = losses()
    written.write(tmp_path / "losses.zarr")
    assert_same(Losses.read(tmp_path / "losses.zarr"), written)


def test_more_audios_than_a_band(tmp_path):
    names = [f"test/{i}" for i in range(2 * BAND + 3)]
    written = losses(audios=names)
    written.write(tmp_path / "losses.zarr")
    assert_same(Losses.read(tmp_path / "losses.zarr"), written)
    stored = zarr.open_group(tmp_path / "losses.zarr", mode="r")["nll"]
    assert stored.chunks == (BAND, len(CAPTIONS)) and stored.dtype == np.float32


def test_smallest(tmp_path):
    written = losses(audios=["a"], captions=["b"])
    written.write(tmp_path / "one.zarr")
    assert_same(Losses.read(tmp_path / "one.zarr"), written)


def test_writing_again_replaces(tmp_path):
    losses().write(tmp_path / "losses.zarr")
    fewer = losses(seed=1, audios=AUDIOS[:2], captions=CAPTIONS[:4], parameters={})
    fewer.write(tmp_path / "losses.zarr")
    assert_same(Losses.read(tmp_path / "losses.zarr"), fewer)


def test_torch_counts_and_lists_do(tmp_path):
    written = losses(tokens=np.array([2] * 6, dtype=np.int32), owners=np.array([0] * 6, dtype=np.uint8))
    written.write(tmp_path / "losses.zarr")
    again = Losses.read(tmp_path / "losses.zarr")
    assert again.tokens.tolist() == [2] * 6 and again.owners.tolist() == [0] * 6
    assert again.tokens.dtype == again.owners.dtype == np.int64


@pytest.mark.parametrize(
    "changes",
    [
        {"nll": np.zeros((6, 3), dtype=np.float32)},  # axes swapped
        {"nll": np.zeros(18, dtype=np.float32)},
        {"tokens": np.ones(5, dtype=int)},
        {"owners": np.zeros(3, dtype=int)},
        {"audios": AUDIOS[:2]},
        {"captions": CAPTIONS[:5]},
    ],
)
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(ValueError, match=r"do not fit \d audios and \d captions"):
        replace(losses(), **changes)


def test_mean_is_nats_per_token():
    nll = np.array([[6.0, 5.0], [3.0, 1.0]], dtype=np.float32)
    made = losses(
        nll=nll, tokens=np.array([3, 2]), owners=np.array([0, 1]), audios=["a", "b"], captions=["x", "y"]
    )
    np.testing.assert_array_equal(made.mean, [[2.0, 2.5], [1.0, 0.5]])


def test_missing_store_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.zarr: is no zarr group of losses"):
        Losses.read(tmp_path / "absent.zarr")
