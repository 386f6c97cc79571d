"""Order in what is written and found, and its verdict: by hand, and on listeners of each kind."""

import numpy as np
import pandas as pd
import pytest

from aacstudy.analysis.heard_order import (
    HEARS,
    NOT_DETECTED,
    UNDECIDED,
    reversals,
    stated_orders,
    verdict,
    written,
)
from aacstudy.analysis.statistics import Interval, over_seeds
from aacstudy.corpus.audio import permute
from aacstudy.options import StatisticsOptions


def between(low, high):
    return Interval((low + high) / 2, low, high, 100, "audios, 3 seeds")


# --- the rule ---


@pytest.mark.parametrize(
    ("blind", "permuted", "answer", "by"),
    [
        ((0.1, 0.3), (0.2, 0.4), HEARS, "blind"),
        ((0.1, 0.3), (-0.1, 0.09), NOT_DETECTED, "permuted"),  # what sounds is heard, but not when
        ((-0.02, 0.05), (0.2, 0.4), NOT_DETECTED, "blind"),
        ((-0.02, 0.05), (-0.1, 0.01), NOT_DETECTED, "permuted"),
        ((0.1, 0.3), (0.0, 0.4), UNDECIDED, "permuted"),  # much may be there
        ((-0.2, 0.1), (0.2, 0.4), UNDECIDED, "blind"),
        ((0.1, 0.3), (0.0, 0.0), UNDECIDED, "permuted"),  # the control could change nothing
    ],
)
def test_verdict(blind, permuted, answer, by):
    found = verdict({"blind": between(*blind), "permuted": between(*permuted)})
    assert (found.answer, found.by) == (answer, by)
    deciding = blind if by == "blind" else permuted
    assert found.largest == deciding[1]


def test_what_is_not_detected_says_how_much_may_be_there():
    assert (
        str(verdict({"over blind": between(-0.03, 0.042)})) == "not detected, at most +4.2 points over blind"
    )
    assert str(verdict({"order": between(0.03, 0.042)})) == HEARS
    with pytest.raises(ValueError, match="at least one effect"):
        verdict({})


# --- listeners ---

RATE, PIECE = 1000, 0.1  # Hz, and seconds of a frame


def clips(n: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Sounds of two pitches one after the other, and whether the low one comes first."""
    time = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 40 * time), np.sin(2 * np.pi * 200 * time)
    low_first = rng.random(n) < 0.5
    noise = 0.3 * rng.normal(size=(n, 2 * RATE))
    return [
        np.concatenate([low, high] if one else [high, low]) + more for one, more in zip(low_first, noise)
    ], low_first


def encode(samples: np.ndarray, remembers: bool) -> np.ndarray:
    """Frames [time, 2]: how loud low and high are; with a memory, times the other one so far."""
    pieces = samples.reshape(-1, round(PIECE * RATE))
    spectrum = np.abs(np.fft.rfft(pieces)) / 50
    bands = spectrum[:, [4, 20]]
    if not remembers:
        return bands
    before = np.cumsum(bands, axis=0) - bands
    return bands * before[:, ::-1]


def losses(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A set decoder's losses of "low before high" and of the reverse: means over frames."""
    high_late, low_late = np.sort(frames[:, 1]).mean(), np.sort(frames[:, 0]).mean()
    return np.array([-high_late, -low_late]) + 0.01 * rng.normal(size=2)


def effects(remembers: bool, control, n: int = 60, seeds: int = 3) -> dict[str, Interval]:
    """A listener's accuracy minus that on other clips, and minus that of a control of its own."""
    heard, low_first = clips(n, np.random.default_rng(0))
    right = np.zeros((3, seeds, n))
    for seed in range(seeds):
        for clip, samples in enumerate(heard):
            audio = samples, heard[clip - 1 - seed], control(samples, 1000 * seed + clip)
            for row, one in enumerate(audio):
                # the same noise for all, so that a control that changes nothing differs by nothing
                cost = losses(encode(one, remembers), np.random.default_rng([seed, clip]))
                right[row, seed, clip] = (cost[0] < cost[1]) == low_first[clip]
    own, blind, controlled = right
    return {
        "over blind": over_seeds(own - blind, np.arange((own - blind).shape[-1]), OPTIONS),
        "over permuted": over_seeds(own - controlled, np.arange((own - controlled).shape[-1]), OPTIONS),
    }


def in_pieces(samples, seed):
    return permute(samples, RATE, PIECE, seed)


def test_frames_that_carry_order_are_heard_through_a_decoder_of_sets():
    samples = clips(1, np.random.default_rng(1))[0][0]
    frames, rng = encode(samples, True), np.random.default_rng(2)
    for drawn in (rng.permutation(len(frames)) for _ in range(3)):
        same = [losses(one, np.random.default_rng(3)) for one in (frames, frames[drawn])]
        assert (same[0] == same[1]).all()  # permuting its frames changes nothing at all
    assert verdict(effects(True, in_pieces)).answer == HEARS


def test_frames_that_carry_none_are_not():
    found = effects(False, in_pieces)
    assert verdict(found, margin=0.25).answer == NOT_DETECTED


def test_a_control_that_changes_nothing_decides_nothing():
    found = effects(True, lambda samples, seed: samples)
    assert found["over permuted"].low == found["over permuted"].high == 0
    assert verdict(found).answer == UNDECIDED


# --- in what it writes ---

EVENTS = pd.DataFrame(
    [
        ("a", "dog", 0.0, 2.0),
        ("a", "rain", 2.1, 4.0),
        ("b", "rain", 0.0, 2.0),
        ("b", "dog", 2.0, 4.0),
        ("c", "dog", 0.0, 4.0),
        ("c", "rain", 0.1, 4.0),  # at once: no order to say
        ("d", "dog", 0.0, 4.0),
    ],
    columns=["clip", "event", "onset", "offset"],
)
OPTIONS = StatisticsOptions()
CLIPS = ["a", "b", "c", "d"]


def test_stated_orders_by_hand():
    texts = [
        "a dog barks before rain falls",  # right
        "a dog barks and rain falls",  # none
        "a dog barks then rain falls",
        "a dog barks then rain falls",
    ]
    found = stated_orders(texts, CLIPS, EVENTS)
    assert found["possible"].tolist() == [True, True, False, False]
    assert found["stated"].tolist() == [True, False, False, False]
    assert found["right"].tolist() == [True, False, False, False]
    others = [
        "rain falls after a dog barks",
        "after rain falls a dog barks",
        "a cat meows then a dog barks",
        "rain falls",
    ]
    found = stated_orders(others, ["a", "b", "a", "a"], EVENTS)
    assert found["stated"].tolist() == [True, True, False, False]
    assert found["right"].tolist() == [True, True, False, False]


def test_written_counts_over_seeds():
    right, wrong, none = "a dog barks then rain falls", "rain falls then a dog barks", "a dog barks"
    seeds = [[right, right, none, none], [right, none, none, none], [right, wrong, right, right]]
    found = written(seeds, CLIPS, EVENTS, OPTIONS)
    # On a: right three times; on b, where rain comes first: wrong, none, right.
    assert found.captions == 5 and found.order.value == pytest.approx(4 / 5) and found.order.n == 2
    assert found.stated.value == pytest.approx(5 / 6) and found.stated.n == 2
    assert found.order.low >= 0 and found.order.high <= 1
    assert written([[none] * 4], CLIPS, EVENTS, OPTIONS) is None


def test_writers():
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(80)]
    first = rng.random(80) < 0.5
    rows = []
    for name, dog_first in zip(names, first):
        for event, onset in zip(("dog", "rain") if dog_first else ("rain", "dog"), (0.0, 2.0)):
            rows.append((name, event, onset, onset + 1.9))
    events = pd.DataFrame(rows, columns=EVENTS.columns)
    said = {True: "a dog barks before rain falls", False: "rain falls before a dog barks"}
    knows = [[said[one] for one in first] for _ in range(3)]
    guesses = [[said[bool(one)] for one in rng.random(80) < 0.5] for _ in range(3)]
    assert written(knows, names, events, OPTIONS).order.low == 1
    found = written(guesses, names, events, OPTIONS).order
    assert found.low < 0.5 < found.high


# --- in what it finds ---


def test_reversals_by_hand():
    names = ["p/0-ab", "p/0-ba", "p/1-ab", "p/1-ba"]
    owners = np.array([0, 1, 2, 3])
    nll = np.array(
        [  # captions of   ab   ba   ab   ba
            [1.0, 1.0, 5.0, 1.0],
            [2.0, 2.0, 5.0, 5.0],
            [5.0, 5.0, 3.0, 5.0],
            [5.0, 5.0, 3.0, 5.0],
        ]
    )  # right; right pair, wrong order; a tie of both orders; a wrong pair
    found = reversals([nll], owners, names, OPTIONS)
    assert found.hit.value == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert found.right_pair.value == pytest.approx(3 / 4)
    assert found.right_order.value == pytest.approx(1.5 / 3)
    assert found.hit.value == pytest.approx(found.right_pair.value * found.right_order.value)
    assert found.hit.n == 2 and found.hit.unit == "pairs, one seed"
    nowhere = reversals([np.roll(np.where(np.eye(4) > 0, 0.0, 9.0), 2, axis=0)], owners, names, OPTIONS)
    assert nowhere.hit.value == 0 and nowhere.right_order is None


def test_a_deaf_system_finds_the_pair_and_guesses_its_order():
    pairs, seeds = 40, 3
    names = [f"p/{i}-{one}" for i in range(pairs) for one in ("ab", "ba", "both")]
    owners = np.repeat([i for i, name in enumerate(names) if not name.endswith("both")], 5)
    rng = np.random.default_rng(0)
    pair = np.arange(len(names)) // 3
    other = np.arange(len(names)) != owners[:, None]
    matrices = [
        (9.0 * (pair[:, None] != pair[owners]) + rng.normal(size=(len(names), len(owners))))
        for _ in range(seeds)
    ]
    found = reversals(matrices, owners, names, OPTIONS)
    assert found.right_pair.value > 0.95 and found.right_order.low < 1 / 3 < found.right_order.high
    hearing = reversals([one + 5 * other.T for one in matrices], owners, names, OPTIONS)
    assert hearing.hit.low > 0.9
