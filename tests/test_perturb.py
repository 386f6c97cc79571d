"""Perturbed captions: the swap rules on sixty captions by hand, replacements, items, and listeners
without ears.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.corpus.perturb.controls import majority, trigram_losses
from aacstudy.corpus.perturb.items import TESTS, other_clips, perturbations, scene_pairs
from aacstudy.corpus.perturb.swaps import CONNECTIVES, REASONS, STRICT, clause_swap
from aacstudy.corpus.perturb.words import replaced, shuffled
from aacstudy.corpus.soundscapes.scenes import plan, plan_pair, write_captions
from aacstudy.options import CorpusOptions

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "published-outputs"

# caption -> its swap, or the reason why it has none
SWAPS = {
    "A dog barks before rain falls.": "Rain falls before a dog barks.",
    "A dog barks after a man speaks": "A man speaks after a dog barks",
    "A dog barks then a man speaks": "A man speaks then a dog barks",
    "A dog barks, then a man speaks.": "A man speaks, then a dog barks.",
    "A dog barks and then a man speaks.": "A man speaks and then a dog barks.",
    "A dog barks, and then a man speaks": "A man speaks, and then a dog barks",
    "A dog barks followed by a man speaking": "A man speaking followed by a dog barks",
    "After a dog barks, a man speaks.": "After a man speaks, a dog barks.",
    "Before a dog barks, a man speaks.": "Before a man speaks, a dog barks.",
    "after the rain stops, birds sing": "after birds sing, the rain stops",
    "a dog barks before a man speaks": "a man speaks before a dog barks",
    "DOGS bark before a man speaks": "A man speaks before DOGS bark",
    "TV plays then a man speaks": "A man speaks then TV plays",
    "I speak before a dog barks": "A dog barks before I speak",
    "A man speaks followed by loud laughing": "Loud laughing followed by a man speaks",
    "A man speaks followed by laughing loudly": "Laughing loudly followed by a man speaks",
    "Rain falls then thunder rumbles": "Thunder rumbles then rain falls",
    "A bell rings then several people talk": "Several people talk then a bell rings",
    "Water flows then footsteps approach": "Footsteps approach then water flows",
    "An engine idles before two horns honk": "Two horns honk before an engine idles",
    "A car passes next to a house then birds sit next to it": "anaphora",
    "Birds chirp then a car passes next to a house": "A car passes next to a house then birds chirp",
    "A man  speaks\n before a   dog barks!": "A dog barks before a man speaks!",
    "A door opens Before a man speaks": "A man speaks Before a door opens",
    "A dog barks while a man speaks": "no connective",
    "A man talks afterwards": "no connective",
    "Rain falls": "no connective",
    "": "no connective",
    "Different noises happen one after another": "idiom",
    "Bells ring one after the other": "idiom",
    "A man speaks before and after a gunshot": "idiom",
    "A car passes shortly after a man speaks": "idiom",
    "A dog barks right before a man speaks": "idiom",
    "A man speaks, after which music plays": "idiom",
    "Wave after wave hits the shore": "idiom",
    "It is quiet and even then a bird sings": "idiom",
    "A dog barks, and after a while a man speaks": "idiom",
    "A child runs after a ball": "idiom",
    "A dog barks then a cat meows then a man speaks": "several connectives",
    "A dog barks before a cat meows followed by rain falling": "several connectives",
    "After a dog barks, a cat meows and then rain falls": "several connectives",
    "A man speaks then followed by a dog barking": "several connectives",
    "After a dog barks a man speaks": "no comma",
    "Before the train passes": "no comma",
    "Laughing then a man speaks": "short half",
    "A man speaks then laughs": "short half",
    "A man speaks before": "short half",
    "Then a man speaks": "short half",
    "After rain, a man speaks": "short half",
    "A man speaks then another man speaks": "anaphora",
    "A man speaks before he laughs loudly": "anaphora",
    "A dog barks then the same dog whines": "anaphora",
    "Rain falls then it stops": "anaphora",
    "A dog barks then its owner speaks": "anaphora",
    "A dog barks then a truck blows its horn": "A truck blows its horn then a dog barks",
    "A dog barks and then more dogs bark": "anaphora",
    "A man speaks, then a woman speaks again": "anaphora",
    "A car idles followed by louder revving": "anaphora",
    "A man speaks then laughs loudly": "elided subject",
    "A man speaks before laughing loudly": "elided subject",
    "An engine idles and then quickly revs up": "elided subject",
    "A car passes then is gone": "elided subject",
    "A toilet flushes then faded music plays": "elided subject",
    "A man speaks then a man speaks": "same halves",
    "A man speaks, then A Man Speaks.": "same halves",
}  # fmt: skip


def test_sixty_captions_and_every_reason():
    assert len(SWAPS) >= 60
    assert {reason for reason in SWAPS.values() if reason in REASONS} == set(REASONS)


@pytest.mark.parametrize("caption", SWAPS)
def test_clause_swap(caption):
    found, expected = clause_swap(caption), SWAPS[caption]
    assert (found.reason or found.swap) == expected
    assert bool(found.swap) != bool(found.reason)
    if found.swap:
        assert found.connective in CONNECTIVES and found.form in ("infix", "fronted")


@pytest.mark.parametrize("caption", [caption for caption, swap in SWAPS.items() if swap not in REASONS])
def test_a_swap_keeps_every_word_and_swapped_back_gives_the_caption(caption):
    found = clause_swap(caption)
    words = sorted(re.findall(r"\w+", caption.lower()))
    assert sorted(re.findall(r"\w+", found.swap.lower())) == words
    back = clause_swap(found.swap)
    if back.swap:  # some first halves could not begin a caption
        assert back.swap.lower() == " ".join(caption.lower().split())


def test_rules_read_the_grammars_captions_as_the_grammar_does():
    """On soundscapes both are known: where halves have one form, the rules give the grammar's swap,
    or none.
    """
    options = CorpusOptions()
    captions = write_captions([plan("test", number, options) for number in range(150)], options)
    told = captions[(captions["kind"] == "sequence") & (captions["swap"] != "")]
    alike = told[~told["form"].str.contains("finite/gerund")]
    found = [clause_swap(text) for text in alike["text"]]
    kept = [(one.swap, swap) for one, swap in zip(found, alike["swap"]) if one.swap]
    assert len(kept) > 0.8 * len(alike) > 100
    assert all(rule == grammar for rule, grammar in kept)
    assert {one.reason for one in found if one.reason} <= {
        "elided subject"
    }  # "glass", "chimes", "cattle" are in no list


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "caption", "expected", "connective"),
    [
        ("before_after", "A dog barks before rain.", "A dog barks after rain.", "before"),
        ("before_after", "After a dog barks, rain falls.", "Before a dog barks, rain falls.", "after"),
        ("before_after", "A dog before and after rain.", "", ""),
        ("before_after", "One after another.", "", ""),
        ("before_after", "A dog afterwards.", "", ""),
        ("then_as", "A dog barks then rain falls.", "A dog barks as rain falls.", "then"),
        ("then_as", "A dog barks and then rain falls.", "A dog barks as rain falls.", "and then"),
        ("then_as", "A dog, then rain, then wind.", "", ""),
        ("as_then", "A dog barks as rain falls.", "A dog barks then rain falls.", "as"),
        ("as_then", "As rain falls, a dog barks.", "Then rain falls, a dog barks.", "as"),
        ("as_then", "A dog as well.", "", ""),
        ("as_then", "As loud as rain.", "", ""),
    ],
)
def test_replaced(test, caption, expected, connective):
    assert replaced(caption, test) == (expected, connective)


@settings(deadline=None)
@given(
    words=st.lists(st.sampled_from(["dog", "rain", "falls", "a"]), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_shuffled_has_the_same_words_in_another_order(words, seed):
    caption = " ".join(words).capitalize() + "."
    found = shuffled(caption, np.random.default_rng(seed))
    if len(set(words)) == 1:
        assert found == ""
        return
    assert found != caption and found[0].isupper() and found.endswith(".")
    assert sorted(found[:-1].lower().split()) == sorted(words)


# --- items --------------------------------------------------------------------------------------

OPTIONS = CorpusOptions()


@pytest.fixture(scope="module")
def annotated():
    return write_captions([plan("test", number, OPTIONS) for number in range(120)], OPTIONS)


def test_items_of_soundscapes(annotated):
    items, left_out = perturbations(annotated)
    assert list(items) == ["test", "clip", "connective", "form", "text", "swap"]
    assert list(items["test"].unique()) == list(TESTS)
    assert (items["text"] != items["swap"]).all() and (items["swap"] != "").all()
    kinds = annotated.set_index(["clip", "text"])["kind"]
    kind = pd.Series([kinds[row.clip, row.text] for row in items.itertuples()])
    by_test = kind.groupby(items["test"]).agg(set).to_dict()
    for test in ("order", "before_after", "then_as"):
        assert by_test[test] == {"sequence"}  # never a caption whose writer had the order wrong
    assert by_test["as_then"] == {"overlap"}
    for test in ("words", "nouns", "related", "unrelated"):
        assert items["clip"][items["test"] == test].is_unique
    counted = left_out.groupby("test")["captions"].sum() + items["test"].value_counts()
    for test in ("order", "before_after", "then_as", "as_then"):
        assert counted[test] == len(annotated)  # every caption is an item or has a reason
    pd.testing.assert_frame_equal(items, perturbations(annotated)[0])


def test_exact_swaps_are_taken_where_they_are_known(annotated):
    items, _ = perturbations(annotated)
    told = annotated[(annotated["kind"] == "sequence") & (annotated["swap"] != "")]
    order = items[items["test"] == "order"]
    assert order[["clip", "text", "swap"]].values.tolist() == told[["clip", "text", "swap"]].values.tolist()


def test_company_shares_one_sound_or_none(annotated):
    items, _ = perturbations(annotated)
    sounds = {
        clip: set(" ".join(mentions).split()) for clip, mentions in annotated.groupby("clip")["mentions"]
    }
    owners = annotated.groupby("text")["clip"].agg(list)
    for row in items[items["test"].isin(["related", "unrelated"])].itertuples():
        shared = {len(sounds[row.clip] & sounds[clip]) for clip in owners[row.swap]}
        assert (1 if row.test == "related" else 0) in shared


def test_corpora_without_annotation_use_the_rules():
    captions = pd.DataFrame({"clip": list("aabc"), "text": list(SWAPS)[:4]})
    items, left_out = perturbations(captions)
    assert set(items["test"]) == {
        "order",
        "before_after",
        "then_as",
        "words",
    }  # no sounds known, no nouns, no company
    assert items["swap"][items["test"] == "order"].tolist() == list(SWAPS.values())[:4]
    hard = pd.DataFrame({"clip": range(len(SWAPS)), "text": list(SWAPS)})
    hard = hard[hard["text"] != ""]
    _, left_out = perturbations(hard)
    counts = left_out[left_out["test"] == "order"].set_index("reason")["captions"].to_dict()
    values = [swap for caption, swap in SWAPS.items() if caption]
    assert counts == {reason: values.count(reason) for reason in REASONS}


def test_scene_pairs():
    captions = write_captions([scene for n in range(3) for scene in plan_pair(n, OPTIONS)], OPTIONS)
    table = scene_pairs(captions)
    assert table["pair"].unique().tolist() == [f"pairs/{n:04d}" for n in range(3)]
    assert table.groupby(["pair", "comparison"]).size().tolist() == [5] * 6
    owner = captions.set_index(["clip", "text"])
    for row in table.itertuples():
        assert (row.clip_a, row.text_a) in owner.index and (row.clip_b, row.text_b) in owner.index
        assert row.clip_b.endswith("-ba" if row.comparison == "reversed" else "-both")
        if row.comparison == "reversed":
            assert owner.loc[(row.clip_a, row.text_a), "swap"] == row.text_b


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(
    owners=st.lists(st.integers(0, 11), min_size=1, max_size=20),
    n_others=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_other_clips_are_others_and_distinct(owners, n_others, seed):
    others = other_clips(np.array(owners), 12, n_others, seed)
    assert others.shape == (len(owners), min(n_others, 11))
    for own, row in zip(owners, others):
        assert own not in row and len(set(row)) == len(row)
        assert row.min() >= 0 and row.max() < 12
    np.testing.assert_array_equal(others, other_clips(np.array(owners), 12, n_others, seed))


def test_all_other_clips_when_all_are_asked_for():
    others = other_clips(np.array([0, 2, 3]), 4, 20, 0)
    assert [sorted(row) for row in others.tolist()] == [[1, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_other_clips_are_drawn_evenly():
    """Each of the 4 others half of the time: 4000 draws of 2, standard error 32."""
    others = other_clips(np.full(4000, 2), 5, 2, seed=1)
    counts = np.bincount(others.ravel(), minlength=5)
    assert counts[2] == 0 and np.abs(counts[[0, 1, 3, 4]] - 2000).max() < 160


def test_two_clips_and_one():
    assert other_clips(np.array([0, 1]), 2, 20, 0).tolist() == [[1], [0]]
    assert other_clips(np.array([0, 0]), 1, 20, 0).shape == (2, 0)


# --- listeners without ears ---------------------------------------------------------------------


def test_majority_prefers_what_training_has_more_of():
    training = ["a dog barks before rain falls"] * 3 + ["a dog barks after rain falls"]
    learnt, _ = perturbations(pd.DataFrame({"clip": range(4), "text": training}))
    texts = ["a cat cries before a man speaks", "a cat cries after a man speaks"]
    items = pd.DataFrame(
        {"test": "before_after", "clip": [0, 1], "connective": ["before", "after"], "form": "", "text": texts,
            "swap": texts[::-1]}
    )  # fmt: skip
    assert majority(items, learnt, training).tolist() == [1, 0]
    without = majority(items, learnt[:0], training)
    assert without.tolist() == [0.5, 0.5]  # nothing learnt, nothing preferred


def test_majority_is_one_rule_for_both_directions(annotated):
    items, _ = perturbations(annotated)
    found = pd.Series(majority(items, items, list(annotated["text"]))).groupby(items["test"]).mean()
    assert {found["then_as"], found["as_then"]} == {0.0, 1.0}
    assert found.between(0, 1).all()
    assert abs(found["order"] - 0.5) < 0.1  # the grammar leaves no such trace


def test_trigram_prefers_the_usual_order_of_words():
    training = ["a dog barks loudly", "a cat meows loudly"]
    usual, odd = trigram_losses(training, ["a dog barks loudly", "loudly barks dog a"])
    assert usual < odd


needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="public captions are not here")


@needs_published
def test_blind_trigram_on_audiocaps():
    """Counts and the blind accuracy that public captions give: chance of such items is about 61 %,
    not 50 %.
    """
    captions = pd.read_csv(PUBLISHED / "audiocaps_test_captions.csv")["caption"]
    training = pd.read_csv(PUBLISHED / "audiocaps_train_captions.csv")["caption"][
        ::4
    ]  # a quarter: seconds, not minutes
    found = [(text, clause_swap(text)) for text in captions]
    candidates = [one for _, one in found if one.reason != "no connective"]
    kept = [(text, one.swap) for text, one in found if one.swap]
    assert len(candidates) == 1851 and 950 <= len(kept) <= 1150
    assert sum(one.connective in STRICT for one in candidates if one.swap) < 0.05 * len(kept)
    text, swap = (trigram_losses(list(training), list(side)) for side in zip(*kept))
    assert 0.57 < np.mean(text < swap) < 0.66
