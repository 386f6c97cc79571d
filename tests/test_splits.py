"""A captioner at work on a small corpus made by hand: losses, captions, Before-After losses."""

import numpy as np
import pandas as pd
import pytest
import torch

from aacstudy.corpus import NO_EVENTS, Corpus
from aacstudy.corpus.perturb.controls import majority, trigram_losses
from aacstudy.corpus.perturb.items import other_clips, perturbations
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import save_captioner
from aacstudy.options import DecoderOptions, DecodingOptions
from aacstudy.scoring.reference import nll_reference
from aacstudy.scoring.store import join
from aacstudy.study.stages import splits

CPU = torch.device("cpu")
EVENTS = ("dog", "car", "bell", "rain", "door", "bird")
SPLITS = {"train": 5, "validation": 1, "test": 4}


def tables(swaps=True):
    """Clips of three splits, interleaved; each with one plain caption and one with an order."""
    clips, captions = [], []
    for i in range(max(SPLITS.values())):
        for split in (name for name, n in SPLITS.items() if i < n):
            clip, a, b = f"{split}/{i}", EVENTS[i], EVENTS[(i + 2) % 6]
            clips.append({"clip": clip, "split": split, "path": "none.wav", "seconds": 1.0})
            plain = {"kind": "single", "connective": "", "form": "", "mentions": a, "swap": ""}
            captions.append({"clip": clip, "text": f"A {a}, and no unicorn {i}!"} | plain)
            order = {"kind": "sequence", "connective": "then", "form": "x", "mentions": f"{a} {b}"}
            swap = f"a {b} then a {a}" if swaps else ""
            captions.append({"clip": clip, "text": f"a {a} then a {b}", "swap": swap} | order)
    # A caption whose writer had the order wrong: no swap, no item
    captions.append({"clip": "test/0", "text": "a bell then a dog", "swap": ""} | order)
    return pd.DataFrame(clips), pd.DataFrame(captions).fillna("")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with corpus, frames and a captioner whose weights are random."""
    folder = tmp_path_factory.mktemp("splits")
    clips, captions = tables()
    Corpus(folder, clips, captions, NO_EVENTS).save()
    torch.manual_seed(0)
    lengths = [4 + i % 3 for i in range(len(clips))]
    frames.save(folder / "frames.safetensors", list(clips["clip"]), [2 * torch.randn(n, 6) for n in lengths])
    words = [
        word for word in Vocabulary.fit(captions["text"]).words if word != "unicorn"
    ]  # one word is unknown
    network = Captioner(
        6, len(words), DecoderOptions(d_model=16, layers=2, heads=2, d_ff=32, max_positions=30)
    )
    with torch.no_grad():
        network.decoder.classifier.weight.mul_(5)
    (folder / "seed_7").mkdir()
    save_captioner(
        folder / "seed_7" / "captioner.safetensors", network, Vocabulary(tuple(words)), {"seed": 7}
    )
    return folder


def arguments(folder):
    return folder, folder / "frames.safetensors", folder / "seed_7" / "captioner.safetensors"


def score(files, folder, of=1):
    """The whole matrix of split test from its bands."""
    bands = [folder / f"band_{band}_of_{of}.npz" for band in range(of)]
    for band, file in enumerate(bands):
        splits.score_band(*files, file, "test", band, of, CPU)
    part = Corpus.load(files[0]).split("test")
    return join(
        bands, part.owners(), list(part.clips["clip"]), list(part.captions["text"]), {"split": "test"}
    )


@pytest.fixture(scope="module")
def matrix(place, tmp_path_factory):
    return score(arguments(place), tmp_path_factory.mktemp("bands"))


@pytest.mark.parametrize("of", [2, 3, 7])
def test_bands_make_up_the_same_matrix(place, matrix, tmp_path, of):
    # 7 bands of 4 clips: three of them are empty.
    np.testing.assert_array_equal(score(arguments(place), tmp_path, of).nll, matrix.nll)


@pytest.fixture(scope="module")
def before_after(place):
    """The items whose clauses are exchanged."""
    table, _ = splits.score_before_after(*arguments(place), place, "test", 2, 2, CPU)
    return table[table["test"] == "order"]


def loaded(place):
    part, clips, network, vocabulary = splits._load(*arguments(place), "test", CPU)
    return part, clips, network, vocabulary


def test_loss_matrix_of_a_split(place, matrix):
    part, clips, network, vocabulary = loaded(place)
    assert matrix.nll.shape == (4, 9) and matrix.audios == [f"test/{i}" for i in range(4)]
    assert matrix.captions == list(part.captions["text"])
    assert [matrix.audios[row] for row in matrix.owners] == list(part.captions["clip"])
    ids = [vocabulary.encode(text) for text in matrix.captions]
    assert matrix.tokens.tolist() == [len(one) - 1 for one in ids]
    assert matrix.tokens[0] == 7  # a dog and no unicorn 0, and EOS
    plain = nll_reference(network, clips, ids).numpy()
    assert np.abs(matrix.nll - plain).max() <= 1e-4
    by_clip = frames.load(place / "frames.safetensors")
    assert all(torch.equal(by_clip[clip], one) for clip, one in zip(matrix.audios, clips))


def test_matrix_survives_its_store(matrix, tmp_path):
    matrix.write(tmp_path / "losses.zarr")
    again = type(matrix).read(tmp_path / "losses.zarr")
    assert np.array_equal(again.nll, matrix.nll) and again.captions == matrix.captions


def test_captions_of_a_split(place):
    options = DecodingOptions(beam=3, min_tokens=2, max_tokens=6)
    table = splits.caption_split(*arguments(place), "test", options, CPU)
    assert list(table) == ["clip", "rank", "caption", "score"]
    assert table["clip"].drop_duplicates().tolist() == [f"test/{i}" for i in range(4)]
    for _, rows in table.groupby("clip"):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1)) and 1 <= len(rows) <= 3
        assert rows["score"].is_monotonic_decreasing and (rows["score"] < 0).all()
    counts = table["caption"].str.split().str.len()
    assert counts.between(2, 6).all() and not table["caption"].str.contains("<").any()


def test_padding_in_a_batch_changes_no_caption(place):
    """Clips of different lengths are captioned together; alone they must say the same."""
    options = DecodingOptions(beam=2, min_tokens=1, max_tokens=5)
    together = splits.caption_split(*arguments(place), "test", options, CPU)
    alone = splits.caption_split(*arguments(place), "validation", options, CPU)
    assert set(alone["clip"]) == {"validation/0"}
    from aacstudy.models.decoding import beam_search, forbidden_repeats

    part, clips, network, vocabulary = loaded(place)
    forbidden = forbidden_repeats(list(vocabulary.words), options.forbid_repeats)
    for clip, one in zip(part.clips["clip"], clips):
        (found,) = beam_search(network, one[None], None, options, forbidden)
        rows = together[together["clip"] == clip]
        assert rows["caption"].tolist() == [vocabulary.decode(h.tokens) for h in found]
        assert rows["score"].tolist() == pytest.approx([h.score for h in found], abs=1e-5)


def test_before_after_table(place, before_after):
    sources = ("own", "other", "shuffled", "null", "ngram")
    losses = [f"{source}_{side}" for side in ("text", "swap") for source in sources]
    items = ["test", "clip", "connective", "form", "text", "swap"]
    assert list(before_after) == [*items, *losses, "majority"]
    assert before_after["clip"].tolist() == [f"test/{i}" for i in range(4)]  # not the one without a swap
    values = before_after[losses].to_numpy(dtype=float)
    assert np.isfinite(values).all() and (values > 0).all()
    table, left_out = splits.score_before_after(*arguments(place), place, "test", 2, 2, CPU)
    expected, reasons = perturbations(Corpus.load(place).split("test").captions)
    pd.testing.assert_frame_equal(table[items], expected)
    pd.testing.assert_frame_equal(left_out, reasons)
    assert {"order", "then_as", "words"} <= set(table["test"])


def test_own_losses_are_those_of_the_matrix(place, matrix, before_after):
    found = {
        (clip, text): before_after["own_text"][i]
        for i, (clip, text) in enumerate(zip(before_after["clip"], before_after["text"]))
    }
    for (clip, text), value in found.items():
        cell = matrix.mean[matrix.audios.index(clip), matrix.captions.index(text)]
        assert value == pytest.approx(float(cell), abs=1e-5)
    _, clips, network, vocabulary = loaded(place)
    ids = [vocabulary.encode(text) for text in before_after["swap"]]
    plain = nll_reference(network, clips, ids).numpy() / np.array([len(one) - 1 for one in ids])
    rows = [matrix.audios.index(clip) for clip in before_after["clip"]]
    assert before_after["own_swap"].tolist() == pytest.approx(plain[rows, range(4)].tolist(), abs=1e-5)


@pytest.mark.parametrize("n_others", [1, 2, 3, 99])
def test_other_never_is_the_own_clip(place, n_others):
    table, _ = splits.score_before_after(*arguments(place), place, "test", n_others, 1, CPU)
    items = len(table)
    _, clips, network, vocabulary = loaded(place)
    own = np.array([int(clip.removeprefix("test/")) for clip in table["clip"]])
    others = other_clips(own, 4, n_others, seed=0)
    assert others.shape == (items, min(n_others, 3))
    assert not (others == own[:, None]).any()
    assert all(len(set(row)) == len(row) for row in others.tolist())
    for side in ("text", "swap"):
        ids = [vocabulary.encode(text) for text in table[side]]
        loss = nll_reference(network, clips, ids).numpy() / np.array([len(one) - 1 for one in ids])
        expected = [loss[others[i], i].mean() for i in range(items)]
        assert table[f"other_{side}"].tolist() == pytest.approx(expected, abs=1e-5)
        if n_others >= 3:  # then it is the mean of all the rest
            rest = [(loss[:, i].sum() - loss[own[i], i]) / 3 for i in range(items)]
            assert table[f"other_{side}"].tolist() == pytest.approx(rest, abs=1e-5)


def test_without_positions_the_order_of_frames_is_not_heard(before_after):
    for side in ("text", "swap"):
        own, shuffled = before_after[f"own_{side}"], before_after[f"shuffled_{side}"]
        assert shuffled.tolist() == pytest.approx(own.tolist(), abs=1e-5)


def test_shuffled_frames_are_the_own_frames_in_other_orders(place, tmp_path):
    """With positions they give other losses: those of the drawn orders, averaged."""
    corpus, made, _ = arguments(place)
    _, clips, _, vocabulary = loaded(place)
    torch.manual_seed(1)
    options = DecoderOptions(
        d_model=16, layers=1, heads=2, d_ff=32, max_positions=30, frame_positions="sinusoidal"
    )
    network = Captioner(6, len(vocabulary), options)
    save_captioner(tmp_path / "captioner.safetensors", network, vocabulary, {})
    table, _ = splits.score_before_after(
        corpus, made, tmp_path / "captioner.safetensors", corpus, "test", 1, 2, CPU
    )
    permuted = splits._permuted(clips, 2)
    assert [sorted(one.flatten().tolist()) for one in permuted] == [
        sorted(one.flatten().tolist()) for one in clips * 2
    ]
    own = np.array([int(clip.removeprefix("test/")) for clip in table["clip"]])
    ids = [vocabulary.encode(text) for text in table["text"]]
    loss = nll_reference(network, permuted, ids).numpy() / np.array([len(one) - 1 for one in ids])
    expected = [(loss[row, i] + loss[4 + row, i]) / 2 for i, row in enumerate(own)]
    assert table["shuffled_text"].tolist() == pytest.approx(expected, abs=1e-5)
    assert np.abs(table["shuffled_text"] - table["own_text"]).max() > 1e-4


def test_null_audio_is_the_mean_frame(place, before_after):
    _, clips, network, vocabulary = loaded(place)
    mean = torch.cat(clips).mean(dim=0)
    for side in ("text", "swap"):
        ids = [vocabulary.encode(text) for text in before_after[side]]
        # Without frame positions any number of equal frames is the same.
        plain = nll_reference(network, [mean.expand(11, -1)], ids).numpy()[0]
        expected = plain / np.array([len(one) - 1 for one in ids])
        assert before_after[f"null_{side}"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_ngram_and_majority_are_of_the_training_captions(place, before_after):
    _, captions = tables()
    training = captions[captions["clip"].str.startswith("train/")].reset_index(drop=True)
    texts = list(training["text"])
    for side in ("text", "swap"):
        expected = trigram_losses(texts, list(before_after[side]))
        assert before_after[f"ngram_{side}"].tolist() == pytest.approx(expected.tolist())
    expected = majority(before_after, perturbations(training)[0], texts)
    assert before_after["majority"].tolist() == expected.tolist()


def test_without_training_captions_there_is_no_ngram(place, tmp_path):
    """A captioner whose training corpus is not there, on recordings of one split."""
    clips, captions = tables()
    Corpus(tmp_path, clips[clips["split"] == "test"], captions).save()
    table, _ = splits.score_before_after(*arguments(place), tmp_path, "test", 2, 1, CPU)
    assert not {"ngram_text", "ngram_swap", "majority"} & set(table) and "shuffled_text" in table


def test_same_again(place, before_after):
    again, _ = splits.score_before_after(*arguments(place), place, "test", 2, 2, CPU)
    pd.testing.assert_frame_equal(again[again["test"] == "order"], before_after)


def test_corpus_without_swaps_is_swapped_by_rules(place, tmp_path):
    """As a folder of recordings has them: clips and texts, no more."""
    clips, captions = tables()
    Corpus(tmp_path, clips, captions[["clip", "text"]], NO_EVENTS).save()
    _, made, captioner = arguments(place)
    table, left_out = splits.score_before_after(tmp_path, made, captioner, place, "test", 2, 1, CPU)
    order = table[table["test"] == "order"]
    assert order["clip"].tolist() == ["test/0", "test/1", "test/2", "test/3", "test/0"]
    assert order["swap"][0] == "a bell then a dog" and "no connective" in set(left_out["reason"])
    assert score((tmp_path, made, captioner), tmp_path).nll.shape == (4, 9)


def test_pairs_are_scored_in_all_four_cells(place, tmp_path):
    """Two sounds in both orders and at once, on the frames of four clips."""
    _, made, captioner = arguments(place)
    by_clip = frames.load(made)
    names = [f"pairs/0000-{order}" for order in ("ab", "ba", "both")]
    clips = pd.DataFrame({"clip": names, "split": "pairs", "path": "none.wav", "seconds": 1.0})
    texts = ["a dog then a bell", "a bell then a dog", "a dog and a bell"]
    captions = pd.DataFrame({"clip": names, "text": texts, "connective": "then", "form": "x", "swap": ""})
    Corpus(tmp_path, clips, captions, NO_EVENTS).save()
    heard = [by_clip[f"test/{i}"] for i in range(3)]
    frames.save(tmp_path / "frames.safetensors", names, heard)
    table = splits.score_pairs(tmp_path, tmp_path / "frames.safetensors", captioner, "pairs", 2, CPU)
    assert table["comparison"].tolist() == ["reversed", "overlap"]
    *_, network, vocabulary = loaded(place)
    ids = [vocabulary.encode(text) for text in texts]
    loss = nll_reference(network, heard, ids).numpy() / np.array(
        [len(one) - 1 for one in ids]
    )  # [clips, captions]
    for row, other in zip(table.itertuples(), (1, 2)):
        cells = {"aa": loss[0, 0], "ab": loss[other, 0], "ba": loss[0, other], "bb": loss[other, other]}
        assert {cell: getattr(row, f"own_{cell}") for cell in cells} == pytest.approx(cells, abs=1e-5)
        assert {cell: getattr(row, f"shuffled_{cell}") for cell in cells} == pytest.approx(cells, abs=1e-5)


def test_unknown_split_names_those_there_are(place):
    with pytest.raises(ValueError, match=r"no clip of split 'tset'.*'test'"):
        splits.score_band(*arguments(place), place / "band.npz", "tset", 0, 1, CPU)
