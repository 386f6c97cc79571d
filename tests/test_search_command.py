"""Asking a study's captioner: texts and sounds. Networks are drawn at random, all else is real."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from aacstudy import paths
from aacstudy.__main__ import main
from aacstudy.corpus import Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.models import frames
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import load_captioner, save_captioner, save_encoder
from aacstudy.models.encoder import build_encoder
from aacstudy.report import figures
from aacstudy.scoring.reference import nll_reference
from aacstudy.study import search
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

PROJECT = Path(__file__).resolve().parents[1]


def put(artifact, write) -> None:
    """Lay down an artifact by hand, as if it had been made."""
    artifact.path.mkdir(parents=True)
    write(artifact.path)
    artifact.stamp.write_text(json.dumps({"seconds": 0, "device": "cpu", "files": {}}))


@pytest.fixture(scope="module")
def study(tmp_path_factory, recordings) -> Study:
    """Six recordings, and a captioner of another study whose random weights were made large enough
    to differ.
    """
    root = tmp_path_factory.mktemp("asked")
    shutil.copytree(PROJECT / "studies", root / "studies")
    (root / "notebooks").symlink_to(PROJECT / "notebooks")
    (root / "studies" / "mine.yml").write_text("extends: own\ncaptioner_from: smoke\nseeds: [1, 2]\n")
    patch = pytest.MonkeyPatch()
    patch.setenv("AACSTUDY_ROOT", str(root))
    patch.delenv("AACSTUDY_ARTIFACTS", raising=False)
    patch.delenv("AACSTUDY_REPORTS", raising=False)
    smoke, made = Study.load("smoke"), Study.load("mine", {"corpus": {"root": str(recordings)}})
    torch.manual_seed(0)
    encoder = build_encoder(smoke.frontend, smoke.encoder, 2)
    put(plan.encoder(smoke), lambda path: save_encoder(path / "encoder.safetensors", encoder, ("a", "b")))
    words = Vocabulary.fit(["a tone number 0 1 2 3 4 5 loud high sound dog barks"])
    for seed in smoke.seeds:
        captioner = Captioner(smoke.encoder.dims[-1], len(words), smoke.decoder)
        for weight in captioner.parameters():
            weight.data *= 2
        put(
            plan.captioner(smoke, "base", seed),
            lambda path, made=captioner: save_captioner(path / "captioner.safetensors", made, words, {}),
        )
    yield made
    patch.undo()


def reference(study: Study, text: str, seed: int = 1) -> np.ndarray:
    """Losses [clips] of a text, pair by pair."""
    captioner, words, _ = load_captioner(plan.captioner(study, "base", seed).path / "captioner.safetensors")
    part = Corpus.load(plan.corpus(study).make()).split("test")
    by_clip = frames.load(plan.frames(study).make())
    return nll_reference(captioner, [by_clip[clip] for clip in part.clips["clip"]], [words.encode(text)])[
        :, 0
    ].numpy()


def test_text_ranks_clips_as_the_reference_does(study, capsys):
    found = search.search(study, "a loud tone", k=4)
    assert "corpus folder" in capsys.readouterr().err  # what was missing was made, and said
    nll = reference(study, "a loud tone")
    table = found.table
    assert list(table["rank"]) == [1, 2, 3, 4] and len(found.scores) == 6
    best = np.argsort(nll)[:4]
    clips = Corpus.load(plan.corpus(study).path).split("test").clips["clip"]
    assert list(table["clip"]) == list(clips[best])
    np.testing.assert_allclose(table["score"], -nll[best] / 4, atol=1e-4)  # three words and the end
    z = (nll.mean() - nll) / nll.std()
    np.testing.assert_allclose(table["z"], z[best], atol=1e-3)
    np.testing.assert_allclose(table["percentile"], [100, 80, 60, 40])
    odds = np.exp(-nll.astype(float))
    np.testing.assert_allclose(table["posterior"], (odds / odds.sum())[best], atol=1e-4)
    assert found.unknown == () and "<script>" in "".join(table["captions"])


def test_every_seed_has_its_captioner(study):
    one, two = (search.search(study, "a dog", k=6, seed=seed) for seed in (1, 2))
    assert one.table["posterior"].sum() == pytest.approx(1)
    assert not np.allclose(one.scores, two.scores)
    np.testing.assert_allclose(-two.scores * 3, np.sort(reference(study, "a dog", 2)), atol=1e-4)


def test_a_long_recording_is_searched_in_windows(study, monkeypatch):
    """Its score is its best window's, and the answer says where that begins."""
    whole = search.search(study, "a loud tone", k=6).table
    assert "from" not in whole
    monkeypatch.setattr(search, "WINDOW", 2.4)  # the recordings have 2 and 3 s
    table = search.search(study, "a loud tone", k=6).table.set_index("clip")
    captioner, words, _ = load_captioner(plan.captioner(study, "base", 1).path / "captioner.safetensors")
    part = Corpus.load(plan.corpus(study).make()).split("test")
    by_clip = frames.load(plan.frames(study).make())
    for clip, seconds in zip(part.clips["clip"], part.clips["seconds"]):
        cut = search._windows(by_clip[clip], seconds)
        assert (len(cut) > 1) == (seconds > 2.4) and cut[0][0] == 0
        assert len(cut) == 1 or len(cut[-1][1]) == len(cut[0][1]) == round(2.4 * len(by_clip[clip]) / 3)
        assert len(cut) == 1 or cut[-1][0] == pytest.approx(seconds - 2.4, abs=0.1)
        ids = words.encode("a loud tone")
        losses = nll_reference(captioner, [window for _, window in cut], [ids])[:, 0].numpy()
        assert table.loc[clip, "score"] == pytest.approx(-losses.min() / (len(ids) - 1), abs=1e-4)
        assert table.loc[clip, "from"] == cut[losses.argmin()][0]


def test_unknown_words_are_named(study):
    found = search.search(study, "a zebra Barks, zebra")
    assert found.unknown == ("zebra",)
    assert "never taught these words and reads each as one unknown word: zebra." in search.text(found)


@pytest.mark.parametrize(
    "query, options, words",
    [
        ("", {}, "has no word; ask in a few"),
        (" ?! ", {}, "has no word"),
        ("zebra", {}, r"knows no word of 'zebra'; it knows 14 words, such as 0, 1"),
        ("bark", {}, r"knows no word of 'bark'; it knows 14 words, nearest to it: barks"),
        ("<unk> <bos>", {}, "has no word"),
        ("a dog", {"k": 0}, "k must be at least 1, got 0"),
        ("a dog", {"seed": 9}, "study mine has no captioner of seed 9; it has 1, 2"),
    ],
)
def test_what_cannot_be_asked(study, query, options, words):
    with pytest.raises(ValueError, match=words):
        search.search(study, query, **options)


def test_a_study_of_given_matrices_has_nobody_to_ask(study):
    given = Study.load("mine", {"scoring": {"matrix": "mine/{seed}.zarr"}})
    with pytest.raises(ValueError, match="it has no captioner to ask"):
        search.search(given, "a dog")


def test_sound_ranks_captions_raw_and_debiased(study, recordings):
    """A clip of the split itself: its scores are a row of the loss matrix."""
    from aacstudy.scoring.matrix import Losses

    found = search.describe(study, recordings / "three.ogg", k=2)
    losses = Losses.read(plan.losses(study, "base", 1).make() / "losses.zarr")
    (row,) = [i for i, audio in enumerate(losses.audios) if "three" in audio]
    score = dict(zip(losses.captions, -losses.mean[row]))
    z = dict(zip(losses.captions, (losses.mean.mean(axis=0) - losses.mean[row]) / losses.mean.std(axis=0)))
    assert len(found.scores) == len(score)
    for entry in found.table.to_dict("records"):
        assert entry["score"] == pytest.approx(score[entry["caption"]], abs=1e-4)
        assert entry["z"] == pytest.approx(z[entry["caption"]], abs=1e-2)
    for name, values in (("score", score), ("z", z)):
        best = found.table.sort_values(f"rank by {name}")["caption"].head(2)
        assert list(best) == sorted(values, key=values.get, reverse=True)[:2]
    assert 2 <= len(found.table) <= 4


def test_bad_sound_is_named(study, tmp_path):
    with pytest.raises(ValueError, match=r"none\.wav: no such file"):
        search.describe(study, tmp_path / "none.wav")


def test_page_is_whole_and_safe(study, recordings):
    folder = paths.report(study.study)
    found = search.search(study, "a <b>loud</b> tone", k=3)
    page = search.write_page(found, folder)
    text = page.read_text()
    assert page.parent == folder / "search" and re.fullmatch(r"a-b-loud-b-tone-[0-9a-f]{8}\.html", page.name)
    assert "<h1>a &lt;b&gt;loud&lt;/b&gt; tone</h1>" in text and text.count("<script") == 1
    assert "&lt;script&gt;alert(" in text and text.count("<audio") == 3 and text.count("image/webp") == 3
    assert str(recordings) not in text and 'href="../index.html"' not in text and len(text) < 1_000_000
    (folder / "index.html").write_text("")
    assert 'href="../index.html"' in search.write_page(found, folder).read_text()
    (folder / "index.html").unlink()
    sound = search.write_page(search.describe(study, recordings / "one.wav", 2), folder).read_text()
    assert sound.count("<audio") == 1 and str(recordings) not in sound and "rank by score" in sound


def test_command(study, recordings, capsys):
    where = ["--study", "mine", "--data", str(recordings)]
    assert main(["search", "a dog barks", "--k", "2", *where]) == 0
    output = capsys.readouterr().out
    assert "The best 2 of 6 clips of split test of study mine" in output and "percentile" in output
    assert "cannot change their order" in output and "search/a-dog-barks.html" in output
    assert main(["search", "--audio", str(recordings / "two.flac"), *where]) == 0
    assert "whatever is heard" in capsys.readouterr().out
    assert main(["search", *where]) == 2
    assert "give either a text or --audio FILE" in capsys.readouterr().err


def test_figure_shows_every_clip_and_numbers_the_best():
    ax = figures.standing(np.linspace(-1, -5, 30), 3, plt.figure().gca(), "score (nats)")
    rest, best = (points.get_offsets() for points in ax.collections)
    assert len(rest) == 27 and list(best[:, 0]) == list(np.linspace(-1, -5, 30)[:3])
    assert (
        sorted(text.get_text() for text in ax.texts) == ["1", "2", "3"] and ax.get_xlabel() == "score (nats)"
    )
    plt.close("all")
