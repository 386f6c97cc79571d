"""Banks, tuning pools, null audio and token losses of a small captioner: shapes, samples, and the
reference's numbers.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from aacstudy.corpus import NO_EVENTS, Corpus
from aacstudy.corpus.ngram import NGram
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_captioner, load_encoder, save_captioner, save_encoder
from aacstudy.models.encoder import build_encoder
from aacstudy.options import DecoderOptions, EncoderOptions, FrontendOptions, RetrievalOptions
from aacstudy.scoring.engine import Engine
from aacstudy.scoring.matrix import Losses
from aacstudy.scoring.reference import nll_reference
from aacstudy.study import pools
from aacstudy.study.attribution import token_losses
from aacstudy.study.stages import bank
from aacstudy.study.stages.inputs import Source, training_captions

CPU = torch.device("cpu")
WIDTH = 6
OPTIONS = RetrievalOptions(bank_clips=4, bank_captions=5, tune_clips=2)
EVENTS = ("dog", "car", "bell", "rain", "door", "bird")


def build(folder, splits, seed):
    """A corpus of two captions a clip and random frames."""
    folder.mkdir()
    clips = [
        {"clip": f"{split}/{i}", "split": split, "path": "none.wav", "seconds": 1.0}
        for split, n in splits.items()
        for i in range(n)
    ]
    captions = [
        {
            "clip": clip["clip"],
            "text": f"a {EVENTS[(i + j) % 6]} {'and' if j else 'then'} a {EVENTS[(i * j) % 6]}",
        }
        for i, clip in enumerate(clips)
        for j in range(2)
    ]
    Corpus(folder, pd.DataFrame(clips), pd.DataFrame(captions), NO_EVENTS).save()
    generator = torch.Generator().manual_seed(seed)
    made = [2 * torch.randn(3 + i % 3, WIDTH, generator=generator) for i in range(len(clips))]
    frames.save(folder / "frames.safetensors", [clip["clip"] for clip in clips], made)
    return Source(folder, folder)


def score(folder, scored, trained, split, options, captioner="captioner.safetensors"):
    encoder, _ = load_encoder(folder / "encoder.safetensors")
    network, vocabulary, _ = load_captioner(folder / captioner)
    return bank.score(scored, trained, encoder, Engine(network, []), vocabulary, split, options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus that the captioner is trained on, another that is scored, an encoder and a
    captioner, both random.
    """
    folder = tmp_path_factory.mktemp("bank")
    trained = build(folder / "trained", {"train": 7, "validation": 3, "test": 2}, 0)
    scored = build(folder / "scored", {"test": 4}, 1)
    torch.manual_seed(0)
    frontend = FrontendOptions(sample_rate=8000, n_fft=256, hop=160, n_mels=16, f_min=50.0, f_max=4000.0)
    encoder = build_encoder(frontend, EncoderOptions(depths=(1,), dims=(WIDTH,), kernel=3), 2)
    save_encoder(folder / "encoder.safetensors", encoder, ("a", "b"))
    vocabulary = Vocabulary.fit(Corpus.load(trained.corpus).captions["text"])
    network = Captioner(WIDTH, len(vocabulary), DecoderOptions(d_model=16, layers=2, heads=2, d_ff=32)).eval()
    with torch.no_grad():
        network.decoder.classifier.weight.mul_(5)
    save_captioner(folder / "captioner.safetensors", network, vocabulary, {})
    np.savez(folder / "bank.npz", **score(folder, scored, trained, "test", OPTIONS))
    return folder, scored, trained, network, vocabulary


def reference(network, clips, captions):
    return nll_reference(network, clips, captions).numpy()


def test_everything_is_scored_as_by_the_reference(place):
    folder, scored, trained, network, vocabulary = place
    with np.load(folder / "bank.npz") as file:
        stored = {name: file[name] for name in file.files}
    part, _ = scored.part("test")
    ids = [vocabulary.encode(text) for text in part.captions["text"]]
    whole, heard = trained.part("train")
    rows = [list(whole.clips["clip"]).index(clip) for clip in stored["bank_clips"]]
    assert len(rows) == 4 and rows == sorted(set(rows))
    expected = reference(network, [heard[row] for row in rows], ids)
    np.testing.assert_allclose(stored["pool_audio_bank"], expected, atol=1e-4)
    assert stored["pool_caption_bank"].shape == (4, 5) and stored["tune_caption_bank"].shape == (2, 5)
    assert stored["tune_nll"].shape == (2, 4) and stored["tune_owners"].tolist() == [0, 0, 1, 1]
    assert set(stored["tune_clips"]) <= {f"validation/{i}" for i in range(3)}
    assert stored["pool_null"].shape == (3, 8) and stored["tune_audio_bank"].shape == (4, 4)
    mean = torch.cat([heard[row] for row in rows]).mean(dim=0).expand(4, -1)
    np.testing.assert_allclose(stored["pool_null"][2], reference(network, [mean], ids)[0], atol=1e-4)
    model = NGram([vocabulary.encode(text) for text in whole.captions["text"]], len(vocabulary))
    np.testing.assert_allclose(stored["pool_trigram"], [model.nll(one) for one in ids])


def test_sample_is_the_same_for_every_captioner_and_zero_takes_all(place):
    folder, scored, trained, network, vocabulary = place
    save_captioner(folder / "other.safetensors", network, vocabulary, {"another": True})
    again = score(folder, scored, trained, "test", OPTIONS, "other.safetensors")
    every = RetrievalOptions(bank_clips=0, bank_captions=0, tune_clips=0)
    whole = score(folder, scored, trained, "test", every)
    first = np.load(folder / "bank.npz")
    for name in first.files:
        np.testing.assert_array_equal(first[name], again[name])
    assert len(whole["bank_clips"]) == 7 and len(whole["bank_tokens"]) == 14 and len(whole["tune_nll"]) == 3


def test_null_audio_is_of_the_clips_length_and_without_chance(place):
    folder, _, trained, *_ = place
    heard = trained.part("train")[1]
    encoder, _ = load_encoder(folder / "encoder.safetensors")
    first, second = (bank.null_frames(encoder, heard, 0.8) for _ in range(2))
    for one, other in zip(first, second):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    silence, noise, mean = first
    assert silence.shape == noise.shape and silence.shape[1] == WIDTH and not torch.equal(silence, noise)
    assert len(mean) == 4 and torch.equal(mean[0], mean[-1])
    longer = bank.null_frames(encoder, heard, 1.6)[0]
    assert len(longer) > len(silence)


def test_pools_are_what_was_stored(place, tmp_path):
    folder, scored, _, network, vocabulary = place
    part, clips = scored.part("test")
    ids = [vocabulary.encode(text) for text in part.captions["text"]]
    nll = reference(network, clips, ids)
    tokens = np.array([len(one) - 1 for one in ids])
    matrix = Losses(
        nll, tokens, np.array(part.owners()), list(part.clips["clip"]), list(part.captions["text"])
    )
    pool, tune = pools.read(folder / "bank.npz", matrix)
    assert set(pool.priors) == set(tune.priors) == {"silence", "noise", "mean_frame", "trigram"}
    assert all((prior < 0).all() and prior.shape == (8,) for prior in pool.priors.values())
    np.testing.assert_allclose(pool.scores(), -nll / tokens, rtol=1e-6)
    np.testing.assert_allclose(pool.scores(sums=True), -nll, rtol=1e-6)
    audios, captions = pool.banks()
    np.testing.assert_allclose(audios * tokens, pool.banks(sums=True)[0])
    assert captions.shape == (4, 5) and tune.banks()[0].shape == (4, 4)
    assert pools.alone(matrix).banks() == (None, None)
    other = Losses(nll[:, :6], tokens[:6], matrix.owners[:6], matrix.audios, matrix.captions[:6])
    with pytest.raises(ValueError, match="made for 8 captions, not 6"):
        pools.read(folder / "bank.npz", other)


def test_token_losses_sum_to_the_captions(place):
    folder, scored, trained, network, vocabulary = place
    table = token_losses(scored, trained.corpus, folder, "test", [5, 0], CPU)
    part, clips = scored.part("test")
    assert list(dict.fromkeys(table["caption"])) == [5, 0]
    for caption, rows in table.groupby("caption"):
        ids = vocabulary.encode(part.captions["text"][caption])
        assert rows["word"].tolist() == [vocabulary.words[token] for token in ids[1:]]
        sums = reference(network, clips, [ids])[:, 0]
        assert rows["own"].sum() == pytest.approx(sums[part.owners()[caption]], abs=1e-4)
        assert rows["mean"].sum() == pytest.approx(sums.mean(), abs=1e-4)
        assert (rows["trigram"] > 0).all() and math.isfinite(rows["sd"].sum())


def test_without_the_training_data_only_silence_and_noise_are_scored(place, tmp_path):
    folder, scored, _, network, vocabulary = place
    without = RetrievalOptions(bank="train", tune_on="validation")
    np.savez(tmp_path / "x.npz", **score(folder, scored, scored, "test", without))
    part, clips = scored.part("test")
    ids = [vocabulary.encode(text) for text in part.captions["text"]]
    nll = reference(network, clips, ids)
    tokens = np.array([len(one) - 1 for one in ids])
    matrix = Losses(
        nll, tokens, np.array(part.owners()), list(part.clips["clip"]), list(part.captions["text"])
    )
    pool, tune = pools.read(tmp_path / "x.npz", matrix)
    assert tune is None and pool.banks() == (None, None) and set(pool.priors) == {"silence", "noise"}
    with np.load(folder / "bank.npz") as file:
        np.testing.assert_allclose(-pool.priors["silence"], file["pool_null"][0], rtol=1e-5)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_bank_and_tuning_pool_are_never_the_scored_split(place, split):
    folder, _, trained, *_ = place
    with pytest.raises(ValueError, match=f"the scored split, {split}, cannot be either"):
        score(folder, trained, trained, split, OPTIONS)


def test_training_captions_are_all_where_there_is_no_training_split(place):
    _, scored, trained, *_ = place
    assert len(training_captions(Corpus.load(trained.corpus))) == 14
    assert len(training_captions(Corpus.load(scored.corpus))) == 8
