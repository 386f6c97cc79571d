"""Zero-shot tagging: phrases, the arithmetic by hand, and losses of a small captioner."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from aacstudy.analysis import zero_shot
from aacstudy.corpus import Corpus
from aacstudy.corpus.soundscapes import grammar
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames as frame_files
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import save_captioner, save_encoder
from aacstudy.models.encoder import build_encoder
from aacstudy.models.frames import encode
from aacstudy.options import DecoderOptions, EncoderOptions, FrontendOptions, StatisticsOptions
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


def test_losses_equal_the_reference(tmp_path):
    """The stage on two tagging clips and a training clip: losses, labels and the tagger's own
    logits.
    """
    torch.manual_seed(0)
    names = ["tagging_test/0", "tagging_test/1", "train/0"]
    rng = np.random.default_rng(0)
    for i in range(len(names)):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(8000), 8000)
    clips = pd.DataFrame({"clip": names, "split": [name.split("/")[0] for name in names]})
    clips["path"], clips["seconds"] = [f"{i}.wav" for i in range(3)], 1.0
    events = pd.DataFrame({"clip": names[:2], "event": ["rain", "dog"], "onset": 0.0, "offset": 1.0})
    Corpus(
        tmp_path, clips, pd.DataFrame({"clip": names[2:], "text": ["A dog barks and rain falls"]}), events
    ).save()
    frontend = FrontendOptions(sample_rate=8000, n_fft=256, hop=160, n_mels=16, f_min=50.0, f_max=4000.0)
    encoder = build_encoder(frontend, EncoderOptions(depths=(1,), dims=(6,), kernel=3), 2).eval()
    save_encoder(tmp_path / "encoder.safetensors", encoder, ("dog", "rain"))
    logits = pd.DataFrame({"dog": [0.1, 2.0], "rain": [1.0, 0.2]}, index=pd.Index(names[:2], name="clip"))
    logits.to_csv(tmp_path / "test_scores.csv")
    bank = torch.randn(4, 6)
    frame_files.save(tmp_path / "frames.safetensors", ["train/0"], [bank])
    vocabulary = Vocabulary.fit(grammar.class_phrases().values())
    network = Captioner(6, len(vocabulary), DecoderOptions(d_model=16, layers=2, heads=2, d_ff=32)).eval()
    save_captioner(tmp_path / "captioner.safetensors", network, vocabulary, {})
    inputs = tuple(SimpleNamespace(path=tmp_path) for _ in range(4))
    stage.build(
        SimpleNamespace(inputs=inputs, parameters={"split": "tagging_test", "bank_clips": 0}), tmp_path, 1
    )
    found = np.load(tmp_path / "zero_shot.npz")
    ids = [vocabulary.encode(grammar.class_phrases()[one]) for one in ("dog", "rain")]
    heard = list(encode(encoder, [tmp_path / "0.wav", tmp_path / "1.wav"]))
    expected = nll_reference(network, [*heard, bank], ids).numpy()
    np.testing.assert_allclose(found["nll"], expected[:2], atol=1e-4)
    np.testing.assert_allclose(found["bank"], expected[2:], atol=1e-4)
    assert found["tokens"].tolist() == [len(one) - 1 for one in ids]
    assert found["classes"].tolist() == ["dog", "rain"] and found["labels"].tolist() == [1, 0]
    np.testing.assert_allclose(found["tagger"], logits)
