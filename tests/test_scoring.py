"""Loss matrices by hand, of the plain reference and the engine, and the engine where it stands in
for the reference.
"""

import math

import numpy as np
import pytest
import torch

from aacstudy.corpus.text import BOS, EOS, UNK
from aacstudy.models.captioner import Captioner
from aacstudy.options import DecoderOptions
from aacstudy.scoring.engine import Engine, nll_pairs
from aacstudy.scoring.reference import nll_reference

SMALL = {"d_model": 32, "layers": 2, "heads": 4, "d_ff": 48, "max_positions": 40}
TOLERANCE = 1e-4  # nats: float32 sums in another order differ by less


def nll_engine(network, heard, captions, progress=iter):
    return Engine(network, captions).nll(heard, progress)


def captioner(words=30, width=12, seed=0, **changes):
    """A random captioner with logits as spread as a trained one's."""
    torch.manual_seed(seed)
    network = Captioner(width, words, DecoderOptions(**(SMALL | changes)))
    with torch.no_grad():
        network.decoder.classifier.weight.mul_(4)
    return network.eval()


def clips(width=12, lengths=(1, 5, 9, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(n, width, generator=generator) for n in lengths]


def some_captions(words=30, seed=0, lengths=range(1, 21)):
    """Captions of 1 to 20 words in random order, two of them twice, some with unknown words."""
    rng = np.random.default_rng(seed)
    made = [[BOS, *rng.integers(4, words, n).tolist(), EOS] for n in lengths]
    made += [list(made[0]), list(made[-1]), [BOS, UNK, EOS], [BOS, 5, UNK, UNK, 6, EOS]]
    return [made[i] for i in rng.permutation(len(made))]


SIZES = {
    "small": {},
    "one head, one layer": {"heads": 1, "layers": 1, "d_model": 16},
    "eight heads, four layers": {"heads": 8, "layers": 4, "d_model": 64, "d_ff": 256},
    "as published": {"d_model": 256, "layers": 6, "heads": 8, "d_ff": 2048},
}


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned"])
@pytest.mark.parametrize("size", SIZES)
def test_engine_equals_reference(size, positions):
    network = captioner(**SIZES[size], frame_positions=positions)
    heard = clips(lengths=(3, 8)) if size == "as published" else clips()
    captions = some_captions(lengths=(1, 4, 11, 20) if size == "as published" else range(1, 21))
    plain = nll_reference(network, heard, captions).numpy()
    fast = nll_engine(network, heard, captions)
    difference = np.abs(fast - plain).max()
    print(f"{size}, frame positions {positions}: max |difference| {difference:.1e} of {plain.max():.1f} nats")
    assert fast.shape == plain.shape == (len(heard), len(captions))
    assert fast.dtype == plain.dtype == np.float32
    assert difference <= TOLERANCE
    # or the frames were not heard and the comparison is empty
    assert plain.std(axis=0).min() > 1e-3


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned"])
def test_frame_order_matters_with_positions_only(positions):
    network = captioner(frame_positions=positions)
    (clip,) = clips(lengths=(9,))
    captions = some_captions()
    both = nll_engine(network, [clip, clip.flip(0)], captions)
    same = np.abs(both[0] - both[1]).max() < TOLERANCE
    assert same == (positions == "none")


@pytest.mark.parametrize("score", [nll_engine, nll_reference])
def test_known_probabilities(score):
    network = captioner(words=8)
    chances = torch.tensor([0.01, 0.01, 0.2, 0.08, 0.3, 0.2, 0.15, 0.05])
    with torch.no_grad():
        network.decoder.classifier.weight.zero_()
        network.decoder.classifier.bias.copy_(chances.log())
    found = score(network, clips(lengths=(2, 3)), [[BOS, 4, 4, 7, EOS], [BOS, UNK, EOS], [BOS, EOS]])
    by_hand = [-math.log(0.3 * 0.3 * 0.05 * 0.2), -math.log(0.08 * 0.2), -math.log(0.2)]
    np.testing.assert_allclose(np.asarray(found), [by_hand] * 2, atol=1e-5)


@pytest.mark.parametrize("score", [nll_engine, nll_reference])
@torch.inference_mode()
def test_sum_of_log_softmax_of_growing_prefixes(score):
    network, heard, ids = captioner(), clips(lengths=(4, 6)), [BOS, 9, 4, UNK, 17, EOS]
    expected = []
    for clip in heard:
        total = 0.0
        for n in range(1, len(ids)):
            logits = network(clip[None], None, torch.tensor([ids[:n]]))[0, -1].double()
            total -= float(logits[ids[n]] - torch.logsumexp(logits, dim=0))
        expected.append([total])
    np.testing.assert_allclose(np.asarray(score(network, heard, [ids])), expected, atol=1e-4)


@pytest.mark.parametrize("score", [nll_engine, nll_reference])
def test_n_words_are_n_plus_one_terms(score):
    network = captioner(words=30)
    with torch.no_grad():
        network.decoder.classifier.weight.zero_()
        network.decoder.classifier.bias.zero_()
    captions = some_captions()
    counts = np.array([len(ids) - 2 + 1 for ids in captions])
    found = np.asarray(score(network, clips(), captions))
    np.testing.assert_allclose(found, [(counts * math.log(30)).tolist()] * 4, rtol=1e-6)


def test_order_and_company_change_nothing():
    network, heard, captions = captioner(), clips(), some_captions()
    whole = nll_engine(network, heard, captions)
    order = np.random.default_rng(3).permutation(len(captions))
    turned = nll_engine(network, heard, [captions[i] for i in order])
    np.testing.assert_allclose(turned, whole[:, order], rtol=0, atol=2e-5)
    for c in (0, 5, len(captions) - 1):  # alone, without longer ones beside it
        alone = nll_engine(network, heard, [captions[c]])
        np.testing.assert_allclose(alone[:, 0], whole[:, c], rtol=0, atol=2e-5)
    rows = [3, 0]
    np.testing.assert_array_equal(nll_engine(network, [heard[a] for a in rows], captions), whole[rows])
    same = [i for i, ids in enumerate(captions) if ids == captions[captions.index(ids)]]
    twins = [(captions.index(captions[i]), i) for i in same if captions.index(captions[i]) != i]
    assert len(twins) == 2
    for a, b in twins:
        np.testing.assert_allclose(whole[:, a], whole[:, b], rtol=0, atol=2e-5)


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned"])
def test_pairs_are_matrix_entries(positions):
    network, heard, captions = captioner(frame_positions=positions), clips(), some_captions()
    matrix = nll_engine(network, heard, captions)
    rng = np.random.default_rng(1)
    audio, caption = rng.integers(0, 4, 50), rng.integers(0, len(captions), 50)
    audio[audio == 2] = 3  # one clip that nobody asks for
    found = nll_pairs(network, heard, captions, audio, caption)
    print(f"pairs: max |difference| {np.abs(found - matrix[audio, caption]).max():.1e}")
    assert found.shape == (50,) and found.dtype == np.float32
    np.testing.assert_allclose(found, matrix[audio, caption], rtol=0, atol=2e-5)
    one = nll_pairs(network, heard, captions, [1], [2])
    np.testing.assert_allclose(one, [matrix[1, 2]], rtol=0, atol=2e-5)


def test_more_pairs_of_a_clip_than_a_block_holds():
    network, heard, captions = captioner(layers=1), clips(lengths=(2, 3)), some_captions(lengths=(1, 2, 3))
    caption = np.random.default_rng(0).integers(0, len(captions), 1100)
    found = nll_pairs(network, heard, captions, np.ones(1100, dtype=int), caption)
    np.testing.assert_allclose(found, nll_engine(network, heard, captions)[1, caption], rtol=0, atol=2e-5)


@pytest.mark.parametrize("score", [nll_engine, nll_reference])
def test_dropout_is_off(score):
    network = captioner(dropout=0.5, projection_dropout=0.5)
    expected = np.asarray(score(network, clips(), some_captions()))
    found = np.asarray(score(network.train(), clips(), some_captions()))
    assert not network.training
    np.testing.assert_array_equal(found, expected)
    network.train()
    nll_pairs(network, clips(), some_captions(), [0], [0])
    assert not network.training


def test_progress_sees_every_audio():
    seen = []
    nll_engine(
        captioner(), clips(), some_captions(), progress=lambda loop: (seen.append(a) or a for a in loop)
    )
    assert seen == [0, 1, 2, 3]
