"""Searching with partial sums against sorting the whole reference matrix."""

import numpy as np
import pytest
import torch
from test_scoring import captioner, clips, some_captions

from aacstudy.scoring import search as module
from aacstudy.scoring.reference import nll_reference
from aacstudy.scoring.search import search


def confident(seed=0, **changes):
    """A captioner that prefers some audios early: losses spread as a trained one's."""
    network = captioner(seed=seed, **changes)
    with torch.no_grad():
        for layer in network.decoder.layers:
            layer.multihead_attn.out_proj.weight.mul_(3)
    return network


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize("step", [1, 2, 50])
def test_finds_the_references_best(k, step):
    network, captions = confident(frame_positions="sinusoidal"), some_captions(lengths=(1, 2, 5, 9, 20))
    heard = clips(lengths=(3, 9, 40, 3, 1, 7, 2, 5, 9))
    plain = nll_reference(network, heard, captions).numpy()
    found = search(network, heard, captions, k, step=step)
    order = np.argsort(plain, axis=0, kind="stable")[:k].T
    np.testing.assert_array_equal(found.audio, order)
    np.testing.assert_allclose(found.nll, np.take_along_axis(plain.T, order, axis=1), rtol=0, atol=1e-4)
    assert 0 <= found.skipped < 1
    if k == 9 or step == 50:
        assert found.skipped == 0  # everything is asked for, or comes at once


@pytest.mark.parametrize("memory", ["1KB", "60KB", "1GB"])
def test_memory_changes_nothing(memory):
    network, heard, captions = confident(), clips(lengths=[4] * 20), some_captions(lengths=(4, 8))
    found = search(network, heard, captions, 4, memory=memory)
    whole = search(network, heard, captions, 4)
    np.testing.assert_array_equal(found.audio, whole.audio)
    np.testing.assert_allclose(found.nll, whole.nll, rtol=0, atol=2e-5)


def test_equal_audios_stand_in_their_order():
    network, captions = confident(), some_captions(lengths=(3, 9))
    one, other = clips(lengths=(4, 4))
    found = search(network, [one, other, one, other, one], captions, 5)
    for row in found.audio.tolist():
        assert row in ([0, 2, 4, 1, 3], [1, 3, 0, 2, 4])


def test_skipped_tokens_are_those_not_computed(monkeypatch):
    network, heard, captions = confident(), clips(lengths=[4] * 30), some_captions(lengths=(6, 12, 18))
    computed = []
    advance = module._Walk.advance

    def counted(walk, tokens):
        before = walk.done
        advance(walk, tokens)
        computed.append(len(walk.row) * (walk.done - before))

    monkeypatch.setattr(module._Walk, "advance", counted)
    found = search(network, heard, captions, 2, step=1)
    total = len(heard) * sum(len(ids) - 1 for ids in captions)
    print(f"skipped {found.skipped:.0%} of {total} pair-tokens")
    assert found.skipped == pytest.approx(1 - sum(computed) / total)
    assert found.skipped > 0
    # no less than what a bound known from the start would leave
    plain = nll_reference(network, heard, captions).numpy()
    needed = 0
    for c, ids in enumerate(captions):
        bound = np.sort(plain[:, c])[1] + module.SLACK
        parts = np.stack(
            [nll_reference(network, heard, [ids[: n + 1]])[:, 0].numpy() for n in range(1, len(ids))], 1
        )
        needed += (np.concatenate([np.zeros((30, 1)), parts[:, :-1]], axis=1) <= bound - 1e-4).sum()
    assert needed <= sum(computed)


def test_wrong_requests():
    network, heard, captions = captioner(), clips(), some_captions()
    for k in (0, 5):
        with pytest.raises(ValueError, match="k must be in 1"):
            search(network, heard, captions, k)
    with pytest.raises(ValueError, match="step must be positive"):
        search(network, heard, captions, 1, step=0)
    assert search(network, heard, [], 2).audio.shape == (0, 2)
