"""A captioner at work on a small corpus made by hand: losses, captions, Before-After losses."""

from dataclasses import asdict
from types import SimpleNamespace

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
from aacstudy.scoring.matrix import join
from aacstudy.scoring.reference import nll_reference
from aacstudy.study import notebooks, run
from aacstudy.study.artifacts import PACKAGE, imported_modules, reached
from aacstudy.study.parameters import Study
from aacstudy.study.stages import bands, before_after, captions, inputs, plan

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


def made(folder, training=None):
    """Corpus, frames and captioner of a folder, as a stage is given them; the captioner learnt from
    ``training``.
    """
    learnt = (SimpleNamespace(path=training or folder),)
    return tuple(SimpleNamespace(path=path, inputs=learnt) for path in (folder, folder, folder / "seed_7"))


def with_permuted(inputs, out, orders=1):
    """The same and frames of the test clips in drawn orders."""
    by_clip = frames.load(inputs[1].path)
    clips = [clip for clip in by_clip if clip.startswith("test/")]
    names = [f"{clip}#{n}" for n in range(orders) for clip in clips]
    (out / "permuted").mkdir()
    drawn = permuted([by_clip[clip] for clip in clips], orders)
    frames.save(out / "permuted" / "frames.safetensors", names, drawn)
    return (*inputs, SimpleNamespace(path=out / "permuted"))


def build(stage, inputs, out, **parameters):
    stage.build(SimpleNamespace(inputs=inputs, parameters=parameters), out, 1)


def score(inputs, out, of=1):
    """The whole matrix of split test from its bands."""
    files = []
    for band in range(of):
        files.append(out / f"{band}_of_{of}" / "band.npz")
        files[-1].parent.mkdir()
        build(bands, inputs, files[-1].parent, split="test", band=band, of=of)
    part = Corpus.load(inputs[0].path).split("test")
    return join(
        files, part.owners(), list(part.clips["clip"]), list(part.captions["text"]), {"split": "test"}
    )


def written(place, out, split, options):
    build(captions, made(place), out, split=split, **asdict(options))
    return pd.read_csv(out / "captions.csv")


def permuted(clips, orders=2):
    """Every clip with its frames in a drawn order, then every clip in another."""
    generator = torch.Generator().manual_seed(0)
    return [clip[torch.randperm(len(clip), generator=generator)] for _ in range(orders) for clip in clips]


def items(place, n_others=2, permutations=2, network=None, learnt=None):
    """Losses of the items of split test; of another captioner, or learnt from other captions, where
    given.
    """
    part, clips, own, vocabulary = loaded(place)
    drawn = permuted(clips, permutations)
    if learnt is None:
        learnt = Corpus.load(place).split("train").captions
    return before_after.score_items(network or own, vocabulary, part, clips, drawn, learnt, n_others)


@pytest.fixture(scope="module")
def matrix(place, tmp_path_factory):
    return score(made(place), tmp_path_factory.mktemp("bands"))


@pytest.mark.parametrize("of", [2, 3, 7])
def test_bands_make_up_the_same_matrix(place, matrix, tmp_path, of):
    # 7 bands of 4 clips: three of them are empty.
    np.testing.assert_array_equal(score(made(place), tmp_path, of).nll, matrix.nll)


@pytest.fixture(scope="module")
def table(place):
    """The items whose clauses are exchanged."""
    found, _ = items(place)
    return found[found["test"] == "order"]


def loaded(place):
    network, vocabulary, _ = inputs.captioner(place / "seed_7", CPU)
    return *inputs.Source(place, place).part("test"), network, vocabulary


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
    by_clip = frames.load(place)
    assert all(torch.equal(by_clip[clip], one) for clip, one in zip(matrix.audios, clips))


def test_matrix_survives_its_store(matrix, tmp_path):
    matrix.write(tmp_path / "losses.zarr")
    again = type(matrix).read(tmp_path / "losses.zarr")
    assert np.array_equal(again.nll, matrix.nll) and again.captions == matrix.captions


def test_captions_of_a_split(place, tmp_path):
    options = DecodingOptions(beam=3, min_tokens=2, max_tokens=6)
    table = written(place, tmp_path, "test", options)
    assert list(table) == ["clip", "rank", "caption", "score"]
    assert table["clip"].drop_duplicates().tolist() == [f"test/{i}" for i in range(4)]
    for _, rows in table.groupby("clip"):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1)) and 1 <= len(rows) <= 3
        assert rows["score"].is_monotonic_decreasing and (rows["score"] < 0).all()
    counts = table["caption"].str.split().str.len()
    assert counts.between(2, 6).all() and not table["caption"].str.contains("<").any()


def test_padding_in_a_batch_changes_no_caption(place, tmp_path):
    """Clips of different lengths are captioned together; alone they must say the same."""
    options = DecodingOptions(beam=2, min_tokens=1, max_tokens=5)
    together = written(place, tmp_path, "test", options)
    alone = written(place, tmp_path, "validation", options)
    assert set(alone["clip"]) == {"validation/0"}
    from aacstudy.models.decoding import beam_search, forbidden_repeats

    part, clips, network, vocabulary = loaded(place)
    forbidden = forbidden_repeats(list(vocabulary.words), options.forbid_repeats)
    for clip, one in zip(part.clips["clip"], clips):
        (found,) = beam_search(network, one[None], None, options, forbidden)
        rows = together[together["clip"] == clip]
        assert rows["caption"].tolist() == [vocabulary.decode(h.tokens) for h in found]
        assert rows["score"].tolist() == pytest.approx([h.score for h in found], abs=1e-5)


def test_before_after_table(place, table):
    sources = ("own", "other", "permuted", "null", "ngram")
    losses = [f"{source}_{side}" for side in ("text", "swap") for source in sources]
    about = ["test", "clip", "connective", "form", "text", "swap"]
    assert list(table) == [*about, *losses, "majority"]
    assert table["clip"].tolist() == [f"test/{i}" for i in range(4)]  # not the one without a swap
    values = table[losses].to_numpy(dtype=float)
    assert np.isfinite(values).all() and (values > 0).all()
    whole, left_out = items(place)
    expected, reasons = perturbations(Corpus.load(place).split("test").captions)
    pd.testing.assert_frame_equal(whole[about], expected)
    pd.testing.assert_frame_equal(left_out, reasons)
    assert {"order", "then_as", "words"} <= set(whole["test"])


def test_own_losses_are_those_of_the_matrix(place, matrix, table):
    found = {
        (clip, text): table["own_text"][i] for i, (clip, text) in enumerate(zip(table["clip"], table["text"]))
    }
    for (clip, text), value in found.items():
        cell = matrix.mean[matrix.audios.index(clip), matrix.captions.index(text)]
        assert value == pytest.approx(float(cell), abs=1e-5)
    _, clips, network, vocabulary = loaded(place)
    ids = [vocabulary.encode(text) for text in table["swap"]]
    plain = nll_reference(network, clips, ids).numpy() / np.array([len(one) - 1 for one in ids])
    rows = [matrix.audios.index(clip) for clip in table["clip"]]
    assert table["own_swap"].tolist() == pytest.approx(plain[rows, range(4)].tolist(), abs=1e-5)


@pytest.mark.parametrize("n_others", [1, 2, 3, 99])
def test_other_never_is_the_own_clip(place, n_others):
    table, _ = items(place, n_others, 1)
    _, clips, network, vocabulary = loaded(place)
    own = np.array([int(clip.removeprefix("test/")) for clip in table["clip"]])
    others = other_clips(own, 4, n_others, seed=0)
    assert others.shape == (len(table), min(n_others, 3))
    assert not (others == own[:, None]).any()
    assert all(len(set(row)) == len(row) for row in others.tolist())
    for side in ("text", "swap"):
        ids = [vocabulary.encode(text) for text in table[side]]
        loss = nll_reference(network, clips, ids).numpy() / np.array([len(one) - 1 for one in ids])
        expected = [loss[others[i], i].mean() for i in range(len(table))]
        assert table[f"other_{side}"].tolist() == pytest.approx(expected, abs=1e-5)
        if n_others >= 3:  # then it is the mean of all the rest
            rest = [(loss[:, i].sum() - loss[own[i], i]) / 3 for i in range(len(table))]
            assert table[f"other_{side}"].tolist() == pytest.approx(rest, abs=1e-5)


def test_without_positions_the_order_of_frames_is_not_heard(table):
    for side in ("text", "swap"):
        own, shuffled = table[f"own_{side}"], table[f"permuted_{side}"]
        assert shuffled.tolist() == pytest.approx(own.tolist(), abs=1e-5)


def test_shuffled_frames_are_the_own_frames_in_other_orders(place):
    """With positions they give other losses: those of the drawn orders, averaged."""
    _, clips, _, vocabulary = loaded(place)
    torch.manual_seed(1)
    options = DecoderOptions(
        d_model=16, layers=1, heads=2, d_ff=32, max_positions=30, frame_positions="sinusoidal"
    )
    network = Captioner(6, len(vocabulary), options)
    table, _ = items(place, 1, 2, network.eval())
    own = np.array([int(clip.removeprefix("test/")) for clip in table["clip"]])
    ids = [vocabulary.encode(text) for text in table["text"]]
    loss = nll_reference(network, permuted(clips), ids).numpy() / np.array([len(one) - 1 for one in ids])
    expected = [(loss[row, i] + loss[4 + row, i]) / 2 for i, row in enumerate(own)]
    assert table["permuted_text"].tolist() == pytest.approx(expected, abs=1e-5)
    assert np.abs(table["permuted_text"] - table["own_text"]).max() > 1e-4


def test_null_audio_is_the_mean_frame(place, table):
    _, clips, network, vocabulary = loaded(place)
    mean = torch.cat(clips).mean(dim=0)
    for side in ("text", "swap"):
        ids = [vocabulary.encode(text) for text in table[side]]
        # Without frame positions any number of equal frames is the same.
        plain = nll_reference(network, [mean.expand(11, -1)], ids).numpy()[0]
        expected = plain / np.array([len(one) - 1 for one in ids])
        assert table[f"null_{side}"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_ngram_and_majority_are_of_the_training_captions(place, table):
    _, captions = tables()
    training = captions[captions["clip"].str.startswith("train/")].reset_index(drop=True)
    texts = list(training["text"])
    for side in ("text", "swap"):
        expected = trigram_losses(texts, list(table[side]))
        assert table[f"ngram_{side}"].tolist() == pytest.approx(expected.tolist())
    expected = majority(table, perturbations(training)[0], texts)
    assert table["majority"].tolist() == expected.tolist()


def test_without_training_captions_there_is_no_ngram(place, tmp_path):
    """A captioner whose training corpus is not there, on recordings of one split."""
    clips, captions = tables()
    Corpus(tmp_path, clips[clips["split"] == "test"], captions).save()
    chosen = {"split": "test", "other_clips": 2, "permutations": 1, "pairs": 0}
    build(before_after, with_permuted(made(place, training=tmp_path), tmp_path), tmp_path, **chosen)
    table = pd.read_csv(tmp_path / "before_after.csv")
    assert not {"ngram_text", "ngram_swap", "majority"} & set(table) and "permuted_text" in table


def test_same_again(place, table):
    again, _ = items(place)
    pd.testing.assert_frame_equal(again[again["test"] == "order"], table)


def test_corpus_without_swaps_is_swapped_by_rules(place, tmp_path):
    """As a folder of recordings has them: clips and texts, no more."""
    clips, captions = tables()
    Corpus(tmp_path, clips, captions[["clip", "text"]], NO_EVENTS).save()
    files = (SimpleNamespace(path=tmp_path), *made(place)[1:])
    build(
        before_after,
        with_permuted(files, tmp_path),
        tmp_path,
        split="test",
        other_clips=2,
        permutations=1,
        pairs=0,
    )
    table, left_out = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("before_after", "left_out"))
    order = table[table["test"] == "order"]
    assert order["clip"].tolist() == ["test/0", "test/1", "test/2", "test/3", "test/0"]
    assert order["swap"][0] == "a bell then a dog" and "no connective" in set(left_out["reason"])
    assert score(files, tmp_path).nll.shape == (4, 9)


def test_pairs_are_scored_in_all_four_cells(place, tmp_path):
    """Two sounds in both orders and at once, on the frames of four clips."""
    by_clip = frames.load(place)
    names = [f"pairs/0000-{order}" for order in ("ab", "ba", "both")]
    clips = pd.DataFrame({"clip": names, "split": "pairs", "path": "none.wav", "seconds": 1.0})
    texts = ["a dog then a bell", "a bell then a dog", "a dog and a bell"]
    captions = pd.DataFrame({"clip": names, "text": texts, "connective": "then", "form": "x", "swap": ""})
    Corpus(tmp_path, clips, captions, NO_EVENTS).save()
    heard = [by_clip[f"test/{i}"] for i in range(3)]
    frames.save(tmp_path / "frames.safetensors", names, heard)
    *_, network, vocabulary = loaded(place)
    source = inputs.Source(tmp_path, tmp_path).part("pairs")
    table = before_after.score_pairs(network, vocabulary, *source, permuted(source[1]))
    assert table["comparison"].tolist() == ["reversed", "overlap"]
    *_, network, vocabulary = loaded(place)
    ids = [vocabulary.encode(text) for text in texts]
    loss = nll_reference(network, heard, ids).numpy() / np.array(
        [len(one) - 1 for one in ids]
    )  # [clips, captions]
    for row, other in zip(table.itertuples(), (1, 2)):
        cells = {"aa": loss[0, 0], "ab": loss[other, 0], "ba": loss[0, other], "bb": loss[other, other]}
        assert {cell: getattr(row, f"own_{cell}") for cell in cells} == pytest.approx(cells, abs=1e-5)
        assert {cell: getattr(row, f"permuted_{cell}") for cell in cells} == pytest.approx(cells, abs=1e-5)


def test_unknown_split_names_those_there_are(place, tmp_path):
    with pytest.raises(ValueError, match=r"no clip of split 'tset'.*'test'"):
        build(bands, made(place), tmp_path, split="tset", band=0, of=1)


# --- what a stage may reach ---------------------------------------------------------------------

READ = {"corpus", "corpus.text", "corpus.audio"}
NETWORKS = {f"models.{name}" for name in ("captioner", "decoder", "checkpoint", "device", "frames")}
ENCODER = {f"models.{name}" for name in ("encoder", "tagger", "frontend")}
SCORING = {f"scoring.{name}" for name in ("engine", "compiled", "layers", "trie")}
TRAINING = {f"training.{name}" for name in ("loop", "augment", "captioning")}
PERTURB = {f"corpus.perturb.{name}" for name in ("controls", "items", "swaps", "words")}
LISTENS = READ | NETWORKS | ENCODER | {"study.stages.inputs"}
REACHES = {
    "corpus": set(),
    "encoder": READ | NETWORKS | ENCODER | {"training.tagging", "training.loop"},
    "encoder_published": READ
    | NETWORKS
    | ENCODER
    | {
        "models.published.encoders",
        "models.published.files",
        "models.cnn14",
        "models.yamnet",
        "models.published.tflite",
    },
    "frames": READ | NETWORKS | ENCODER,
    "frames_permuted": READ | NETWORKS | ENCODER,
    "zero_shot": LISTENS | SCORING | {"corpus.soundscapes.grammar", "corpus.soundscapes.esc50"},
    "peer": {
        "corpus",
        "corpus.text",
        "corpus.audio",
        "models.frames",
        "models.dual",
        "models.tagger",
        "models.frontend",
        "training.loop",
        "training.contrastive",
    },
    "captioner": READ | NETWORKS | ENCODER | TRAINING,
    "captioner_finetuned": READ | NETWORKS | ENCODER | TRAINING | {"training.finetuning"},
    "captions": LISTENS | {"models.decoding"},
    "bands": LISTENS | SCORING | {"scoring.matrix"},
    "losses": {"corpus", "scoring.matrix"},
    "losses_given": {"corpus", "scoring.matrix"},
    "bank": LISTENS | SCORING | {"corpus.ngram"},
    "before_after": LISTENS
    | SCORING
    | PERTURB
    | {"corpus.ngram", "corpus.soundscapes.grammar", "corpus.soundscapes.esc50"},
}


@pytest.mark.parametrize("stage", REACHES)
def test_a_stage_reaches_what_it_uses_alone(stage):
    """A change elsewhere makes nothing of the stage stale."""
    found = {name.removeprefix("aacstudy.") for name in reached([f"aacstudy.study.stages.{stage}"])}
    packages = {"corpus.soundscapes", "models", "scoring", "training", "study.stages", "models.published"}
    assert found - packages <= REACHES[stage] | {f"study.stages.{stage}"}


def stale(module: str, study: str = "demo") -> dict[str, int]:
    """Artifacts of a study that a change of one module makes stale, by stage: they reach it, or an
    input does.
    """
    changed, counts = set(), {}
    for one in run.everything(Study.load(study)):
        own = any(module in reached([name]) for name in one.code)
        if own or any((given.stage, given.key) in changed for given in one.inputs):
            changed.add((one.stage, one.key))
            counts[one.stage] = counts.get(one.stage, 0) + 1
    return counts


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("analysis.statistics", set()),
        ("analysis.retrieval.metrics", set()),
        ("analysis.captions", set()),
        ("report.figures", set()),
        ("models.cnn14", set()),  # the encoder of another study
        ("models.published.encoders", set()),
        ("study.download", set()),
        ("study.session", set()),
        ("study.run", set()),
        ("corpus.describe", set()),
        ("models.decoding", {"captions"}),
        ("corpus.perturb.swaps", {"before_after"}),
        ("corpus.ngram", {"before_after", "bank"}),
        (
            "training.captioning",
            {"captioner", "captions", "bands", "losses", "bank", "before_after", "zero_shot"},
        ),
    ],
)
def test_one_changed_line_makes_only_what_uses_it_stale(module, stages):
    assert (PACKAGE / module.replace(".", "/")).with_suffix(".py").exists() or (
        PACKAGE / module.replace(".", "/")
    ).is_dir()
    assert set(stale(f"aacstudy.{module}")) == stages


def test_a_notebook_may_read_another_split_and_other_variants():
    study = Study.load("demo")
    found = plan.needed(study, ["losses/pairs:first_variants"])
    assert [one.stage for one in found] == ["corpus", *["losses"] * 6]
    assert {one.parameters["split"] for one in found[1:]} == {"pairs"}
    assert {one.label.rsplit("-", 2)[0] for one in found[1:]} == {"base", study.variants[1]}
    assert plan.losses(study, "base", 1).key != plan.losses(study, "base", 1, "pairs").key
    none = Study.load("demo", {"corpus": {"pairs": 0}})
    assert [one.stage for one in plan.needed(none, ["losses/pairs", "captions"])][1:] == ["captions"] * 3
    for wrong in ("loses", "losses:variant"):
        with pytest.raises(ValueError, match="for a notebook to read; there are"):
            plan.needed(study, [wrong])


@pytest.mark.parametrize("name", Study.load("demo").notebooks)
def test_a_change_of_a_command_executes_no_notebook(name):
    """A notebook's key covers what its cells import, and none of them imports what is a command's
    alone.
    """
    found = reached(imported_modules(notebooks.read(name).code))
    commands = (
        "download",
        "doctor",
        "search",
        "compare",
        "summary",
        "run",
        "bat",
        "retrieve",
        "matrix_files",
    )
    assert not found & {f"aacstudy.study.{one}" for one in commands}
