"""Zero-shot tagging: phrases, the arithmetic by hand, and losses of a small captioner."""

import numpy as np
import pandas as pd
import pytest
import torch

from aacstudy.analysis import zero_shot
from aacstudy.corpus import Corpus
from aacstudy.corpus.soundscapes import grammar
from aacstudy.corpus.text import Vocabulary
from aacstudy.models.captioner import Captioner
from aacstudy.options import DecoderOptions, StatisticsOptions
from aacstudy.scoring.engine import Engine
from aacstudy.scoring.reference import nll_reference
from aacstudy.study.stages import zero_shot as stage

OPTIONS = StatisticsOptions(resamples=200)


def test_phrases_of_all_classes_differ():
    found = grammar.class_phrases()
    assert list(found) == list(grammar.PHRASES) and len(set(found.values())) == len(found)
    assert found["dog"] == "A dog barks." and found["knock"] == "Someone knocks on a door."


def test_phrases_that_are_equal_are_an_error():
    same = (("a bell", "rings", "ringing"),)
    with pytest.raises(ValueError, match="'bell' and 'gong' have the same phrase: 'A bell rings"):
        grammar.class_phrases({"bell": same, "gong": same})


def test_scores_by_hand():
    nll, tokens = np.array([[2.0, 6], [4, 5]]), np.array([2, 3])
    found = zero_shot.scores(nll, tokens, bank=np.array([[2.0, 5]]))
    np.testing.assert_allclose(found["raw"], [[-1, -2], [-2, -5 / 3]])
    np.testing.assert_allclose(found["raw_sum"], -nll)
    np.testing.assert_allclose(found["min_max"], [[1, 0], [0, 1]])
    np.testing.assert_allclose(found["z"], [[1, -1], [-1, 1]])
    np.testing.assert_allclose(found["pmi_bank"], [[0, -1], [-2, 0]])
    assert "pmi_bank" not in zero_shot.scores(nll, tokens)


def test_top1_by_hand():
    scores = np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(zero_shot.top1(scores, [0, 1, 2]), [1, 1 / 2, 1 / 3])
    second = np.array([[0.0, 1, 1], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(zero_shot.top1(scores, [0, 1, 2], second), [1, 1, 1])


def biased(seed, clips=90, classes=6):
    """Phrases of very different price; the sound in a clip makes its phrase cheaper by 2 nats."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % classes
    nll = 20 + 3 * np.arange(classes) + rng.normal(0, 0.3, (clips, classes))
    nll[np.arange(clips), labels] -= 2
    return nll, labels


def test_debiasing_finds_what_raw_losses_hide():
    of_seeds, tokens = [], np.full(6, 4)
    for seed in range(2):
        nll, labels = biased(seed)
        of_seeds.append(zero_shot.scores(nll, tokens, bank=biased(seed + 10)[0]))
    logits = np.eye(6)[labels]
    logits[:9] = 0  # the tagger guesses on a tenth of the clips
    found = zero_shot.accuracies(of_seeds, labels, logits)
    made = zero_shot.intervals(found, OPTIONS)
    assert made["raw"].value == pytest.approx(1 / 6, abs=0.05)
    assert min(made[name].value for name in ("min_max", "z", "pmi_bank")) > 0.95
    assert made["tagger"].value == pytest.approx(0.9 + 0.1 / 6)
    assert zero_shot.over(found, "raw", OPTIONS)["min_max"].interval.low > 0.6
    assert zero_shot.over(found, "tagger", OPTIONS)["raw"].interval.high < 0
    flat = zero_shot.results(found, OPTIONS)
    for name in ("raw", "min_max", "tagger", "min_max_minus_raw", "z_minus_tagger"):
        key = f"zero_shot.{name}.top1"
        assert flat[f"{key}.low"] <= flat[key] <= flat[f"{key}.high"] and flat[f"{key}.n"] == 90


def test_clips_of_a_single_sound():
    clips = pd.DataFrame({"clip": ["b", "a", "c", "d"], "split": "x", "path": "", "seconds": 1.0})
    events = pd.DataFrame({"clip": ["a", "a", "b", "c", "c"], "event": ["dog", "dog", "rain", "dog", "cat"]})
    part = Corpus(None, clips, pd.DataFrame({"clip": [], "text": []}), events)
    assert stage.single_sound(part).values.tolist() == [["b", "rain"], ["a", "dog"]]


def test_losses_equal_the_reference():
    torch.manual_seed(0)
    phrases = {"dog": "A dog barks.", "rain": "Rain falls.", "phone": "A telephone rings."}
    vocabulary = Vocabulary.fit(phrases.values())
    network = Captioner(6, len(vocabulary), DecoderOptions(d_model=16, layers=2, heads=2, d_ff=32)).eval()
    frames = [torch.randn(n, 6) for n in (3, 5, 4)]
    found = stage.score(Engine(network, []), vocabulary, frames[:2], phrases, bank=frames[2:])
    ids = [vocabulary.encode(text) for text in phrases.values()]
    expected = nll_reference(network, frames, ids).numpy()
    np.testing.assert_allclose(found["zero_shot_nll"], expected[:2], atol=1e-4)
    np.testing.assert_allclose(found["zero_shot_bank"], expected[2:], atol=1e-4)
    assert found["zero_shot_tokens"].tolist() == [len(one) - 1 for one in ids]
    assert found["zero_shot_classes"].tolist() == list(phrases)
