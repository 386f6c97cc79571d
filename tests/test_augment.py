"""Mixup, stripes and shuffled frames: cases by hand, and what must hold whatever is drawn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from aacstudy.training import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Mixup


@pytest.mark.parametrize("alpha", [0.4, 1.0, 5.0])
def test_mixup_weight_is_the_larger_side_of_a_beta(alpha):
    source = generator()
    drawn = np.array([augment.mixup_weight(alpha, source) for _ in range(3000)])
    assert drawn.min() >= 0.5 and drawn.max() <= 1.0
    # density of max(l, 1 - l): twice that of l on the upper half
    expected, _ = integrate.quad(lambda x: 2 * x * stats.beta.pdf(x, alpha, alpha), 0.5, 1)
    print(f"alpha {alpha}: mean weight {drawn.mean():.4f}, expected {expected:.4f}")
    assert drawn.mean() == pytest.approx(expected, abs=0.01)
    assert stats.kstest(drawn, lambda x: 2 * stats.beta.cdf(x, alpha, alpha) - 1).pvalue > 1e-3


def test_mixup_weight_follows_the_generator():
    weights = [augment.mixup_weight(0.4, generator(seed)) for seed in (3, 3, 4)]
    assert weights[0] == weights[1] != weights[2]
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        augment.mixup_weight(0.0, generator())


@settings(deadline=None, derandomize=True, max_examples=50)
@given(batch=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_partners_are_others_and_each_once(batch, seed):
    partner = augment.partners(batch, generator(seed)).tolist()
    assert sorted(partner) == list(range(batch))
    assert all(a != b for a, b in enumerate(partner))
    assert partner == augment.partners(batch, generator(seed)).tolist()


def test_one_example_is_its_own_partner():
    partner = augment.partners(1, generator())
    values = torch.randn(1, 3)
    torch.testing.assert_close(augment.mix(values, partner, 0.6), values)


def test_mix_by_hand():
    values = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]], [[-1.0], [4.0]]])
    mixed = augment.mix(values, torch.tensor([1, 2, 0]), 0.75)
    assert mixed.tolist() == [[[1.5], [1.5]], [[2.0], [1.0]], [[-0.5], [3.5]]]
    assert torch.equal(augment.mix(values, torch.tensor([1, 2, 0]), 1.0), values)


def test_mixed_clips_end_where_both_have_ended():
    padding = torch.tensor([[False, False, True], [False, True, True], [False, False, False]])
    mixed = augment.mix_padding(padding, torch.tensor([1, 2, 0]))
    assert mixed.tolist() == [[False, False, True], [False] * 3, [False] * 3]
    assert augment.mix_padding(None, torch.tensor([1, 0])) is None


# Stripes


def test_stripes_by_hand(monkeypatch):
    # two clips, one stripe an axis: widths on time, starts on time, the same on dimensions
    draws = iter([[[0.5], [0.5]], [[0.9], [0.9]], [[0.0], [0.99]], [[0.5], [0.0]]])
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.tensor(next(draws)))
    padding = torch.tensor([[False] * 10, [False] * 4 + [True] * 6])
    out = augment.mask_stripes(torch.ones(2, 10, 4), padding, 1, 0.5, generator())
    # clip 0: widths 0..4, half of 5 is 2; starts 0..7, 0.9 of 8 is 7. Its stripe of dimensions has
    # width 0.
    assert out[0, :, 0].tolist() == [1.0] * 7 + [0.0] * 2 + [1.0]
    assert torch.equal(out[0], out[0, :, :1].expand(10, 4))
    # clip 1 of four frames: widths 0..1, so 1; starts 0..2, so 2. Dimensions: widths 0..1, so 1,
    # from 0 on.
    assert out[1, :, 3].tolist() == [1.0] * 2 + [0.0] + [1.0] * 7
    assert out[1, 0].tolist() == [0.0, 1.0, 1.0, 1.0]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    dim=st.integers(1, 40),
    stripes=st.integers(1, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_stripes_are_whole_few_and_inside(lengths, dim, stripes, share, seed):
    longest = max(lengths)
    frames = torch.rand(len(lengths), longest, dim, generator=generator(1)) + 1  # never 0
    padding = torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
    before = frames.clone()
    out = augment.mask_stripes(frames, padding, stripes, share, generator(seed))
    assert torch.equal(frames, before)  # stored frames stay
    masked = out == 0
    assert torch.equal(out[~masked], frames[~masked])
    for clip, length in enumerate(lengths):
        times, dims = masked[clip].all(dim=1), masked[clip].all(dim=0)
        if not times.all():  # else every cell is masked, by whichever axis
            assert torch.equal(masked[clip], times[:, None] | dims[None])
            assert times.sum() <= stripes * max(0, round(share * length) - 1)
            assert dims.sum() <= stripes * max(0, round(share * dim) - 1)
            assert not times[length - 1 :].any() and not dims[-1]


def published_shares(time: int, stripes: int, share: float) -> np.ndarray:
    """How often each frame is covered, exactly: widths among randint(0, round(share * time)),
    starts among randint(0, time - width), upper ends out.
    """
    free = np.zeros(time)
    most = round(share * time)
    for width in range(max(most, 1)):
        for start in range(time - width):
            covered = (np.arange(time) >= start) & (np.arange(time) < start + width)
            free += ~covered / ((time - width) * max(most, 1))
    return 1 - free**stripes


@pytest.mark.parametrize("time", [4, 5, 15, 25, 31, 94])
def test_stripes_lie_where_the_published_ones_do(time):
    clips, expected = 6000, published_shares(time, 2, 0.1)
    out = augment.mask_stripes(torch.ones(clips, time, 3), None, 2, 0.1, generator())
    found = (out[:, :, 0] == 0).float().mean(dim=0).numpy()
    print(f"{time} frames: {found.mean():.4f} covered, expected {expected.mean():.4f}")
    assert found == pytest.approx(expected, abs=4 * np.sqrt(0.25 / clips))
    assert found[-1] == 0 and abs(expected[-1]) < 1e-9
    if time <= 5:  # round(0.4) and round(0.5) are 0
        assert not found.any()


def test_one_stripe_of_31_frames_is_of_none_one_or_two():
    clips = 4000
    out = augment.mask_stripes(torch.ones(clips, 31, 20), None, 1, 0.1, generator())
    times, dims = ((out == 0).all(dim=axis).sum(dim=1) for axis in (2, 1))
    assert (torch.bincount(times) / clips).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert (torch.bincount(dims) / clips).tolist() == pytest.approx([0.5] * 2, abs=0.03)


def test_nothing_is_masked_at_a_share_of_nothing():
    frames = torch.randn(3, 9, 5)
    assert torch.equal(augment.mask_stripes(frames, None, 2, 0.0, generator()), frames)


# Order


@settings(deadline=None, derandomize=True, max_examples=30)
@given(time=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_shuffled_frames_are_the_same_frames(time, seed):
    frames = torch.arange(time * 2.0).view(time, 2)
    out = augment.shuffle_time(frames, generator(seed))
    assert sorted(map(tuple, out.tolist())) == list(map(tuple, frames.tolist()))
    assert torch.equal(out, augment.shuffle_time(frames, generator(seed)))
    if time > 12:
        assert not torch.equal(out, frames)
