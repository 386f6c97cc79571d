"""Captions of scenes: English, the rates asked for, and swaps that exchange exactly the two
clauses.
"""

import re
from collections import Counter
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.corpus.soundscapes import grammar
from aacstudy.corpus.soundscapes.events import EVENTS
from aacstudy.corpus.soundscapes.grammar import (
    GENERIC,
    MANNERS,
    PHRASES,
    PLACES,
    SUPERORDINATE,
    Caption,
    Rates,
    caption,
    captions,
)

PAIR = ("dog", "rain")
RATES = Rates()
VERBS = [
    *(phrase for phrases in grammar.ALL_PHRASES.values() for phrase in phrases),
    *grammar.ALL_SUPERORDINATE.values(),
]
# Subjects that take "bark" and "are"; all others take "barks" and "is".
PLURAL = {
    "dogs", "birds", "cattle", "crickets", "insects", "raindrops", "people", "many voices", "hands", "spectators",
    "footsteps", "shoes", "fingers", "chimes", "dishes", "rotor blades", "drops", "frogs",
    "hens", "chickens", "pigs", "lambs", "crows", "bees", "waves", "flames", "logs", "fireworks", "firecrackers",
    "hinges", "church bells", "bells",
}  # fmt: skip
# How each connective's sentence is built; the group named first is heard first.
READ = {
    "followed by": r"(?P<first>.+) followed by (?P<second>.+)",
    "then": r"(?P<first>.+)(?<! and) then (?P<second>.+)",
    "and then": r"(?P<first>.+) and then (?P<second>.+)",
    "before": r"(?P<first>.+) before (?P<second>.+)",
    "after": r"(?!after )(?P<second>.+) after (?P<first>.+)",
    "fronted after": r"after (?P<first>.+), (?P<second>.+)",
}
FORMS = {  # of the clause heard first, of the clause heard second
    "followed by": {"finite/gerund", "gerund/gerund"},
    "then": {"finite/finite"},
    "and then": {"finite/finite"},
    "before": {"finite/finite", "gerund/gerund"},
    "after": {"finite/finite"},
    "fronted after": {"fronted finite/finite"},
}


def many(kind: str, events: tuple[str, ...], n: int, seed: int = 0, rates: Rates = RATES) -> list[Caption]:
    rng = np.random.default_rng(seed)
    return [caption(kind, events, rng, rates) for _ in range(n)]


def meanings(clause: str, form: str) -> set[tuple]:
    """Every (subject, finite, gerund, adverbs, progressive) that reads as this clause."""
    found = set()
    adverbs = {""} | {f" {manner}" for manner in MANNERS} | {f" {place}" for place in PLACES}
    adverbs |= {f" {manner} {place}" for manner in MANNERS for place in PLACES}
    for subject, finite, gerund in set(VERBS):
        if not clause.startswith(subject):
            continue
        be = "are" if subject in PLURAL else "is"
        for progressive in (False, True):
            verb = gerund if form == "gerund" else f"{be} {gerund}" if progressive else finite
            head = f"{subject} {verb}"
            if clause.startswith(head) and clause[len(head) :] in adverbs:
                found.add((subject, finite, gerund, clause[len(head) :], progressive))
    return found


def clauses(text: str, connective: str) -> tuple[str, str]:
    """The clause heard first and the clause heard second."""
    assert text[0].isupper() and text[-1] == "."
    match = re.fullmatch(READ[connective], text[0].lower() + text[1:-1])
    assert match, (text, connective)
    return match["first"], match["second"]


# --- the words ----------------------------------------------------------------------------------


def test_every_event_has_words():
    assert set(PHRASES) == set(EVENTS) == set(SUPERORDINATE)
    assert min(map(len, PHRASES.values())) >= 3
    for phrases in PHRASES.values():
        assert len(set(phrases)) == len(phrases)
    assert len(set(GENERIC)) == len(GENERIC) >= 5


def gerund_of(finite: str) -> set[str]:
    """English spelling: barks -> barking, drones -> droning, hums -> humming, cries -> crying."""
    stem = finite[:-1] if finite.endswith("s") and not finite.endswith("ss") else finite
    stems = {finite, stem}
    if finite.endswith("ies"):
        stems.add(finite[:-3] + "y")
    if finite.endswith("es"):
        stems.add(finite[:-2])
    stems |= {one[:-1] for one in stems if one.endswith("e")}
    stems |= {one + one[-1] for one in stems if re.search(r"[^aeiou][aeiou][bmnpgtrv]$", one)}
    return {f"{one}ing" for one in stems}


@pytest.mark.parametrize(("subject", "finite", "gerund"), sorted(set(VERBS)))
def test_phrases_are_english(subject, finite, gerund):
    """Subject and verb agree, and the gerund is the same verb with the same words after it."""
    verb, *rest = finite.split()
    doing, *same = gerund.split()
    assert doing in gerund_of(verb)
    assert rest == same
    assert verb.endswith("s") is (subject not in PLURAL)
    article = re.match(r"(an?) (.)", subject)
    assert article is None or (article[1] == "an") is (article[2] in "aeiou")
    if subject in PLURAL:
        assert article is None
    clause = grammar._Clause(subject, finite, gerund, "", True)
    assert clause.render("finite") == f"{subject} {'are' if subject in PLURAL else 'is'} {gerund}"
    assert clause.render("gerund") == f"{subject} {gerund}"


def test_clauses():
    dogs = grammar._Clause("dogs", "bark", "barking", "loudly nearby", False)
    assert dogs.render("finite") == "dogs bark loudly nearby"
    assert dogs.render("gerund") == "dogs barking loudly nearby"


# --- one caption --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "events"),
    [("single", ("dog",)), ("sequence", PAIR), ("overlap", PAIR), ("sequence", PAIR[::-1])],
)
def test_sentences_and_fields(kind, events):
    seen = set()
    for one in many(kind, events, 1500):
        for text in filter(None, (one.text, one.swap)):
            assert re.fullmatch(r"[A-Z][a-z, ]*[a-z]\.", text) and "  " not in text, text
        seen.add(one.kind)
        if one.kind == "generic":
            assert one == Caption(one.text, "generic") and one.text in GENERIC
        elif one.kind in ("single", "partial"):
            assert (one.connective, one.swap, len(one.mentions)) == ("", "", 1)
            assert one.mentions[0] in events and one.form in ("finite", "gerund")
            assert meanings(one.text[0].lower() + one.text[1:-1], one.form)
        else:
            assert sorted(one.mentions) == sorted(events)
            assert one.connective and f"{one.connective} " in one.text.lower()
    two = {"generic", "partial", "unordered"}
    assert (
        seen
        == {
            "single": {"single", "generic"},
            "sequence": two | {"sequence", "misordered"},
            "overlap": two | {"overlap"},
        }[kind]
    )


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(
    seed=st.integers(0, 2**32),
    events=st.lists(st.sampled_from(EVENTS), min_size=2, max_size=2, unique=True).map(tuple),
)
def test_a_swap_exchanges_the_two_clauses_and_nothing_else(seed, events):
    """Read both texts back: same connective, same template, each clause in the form of its new
    place.

    A gerund does not tell whether the verb was progressive, so each side is a set of readings.
    """
    everything_ordered = Rates(
        generic=0, partial=0, unordered=0, misordered=0, adverb_pair=0.5, progressive=0.5
    )
    for one in many("sequence", events, 5, seed, everything_ordered):
        assert one.kind == "sequence" and one.mentions == events
        name = f"fronted {one.connective}" if one.form.startswith("fronted") else one.connective
        assert one.form in FORMS[name]
        forms = one.form.removeprefix("fronted ").split("/")
        first, second = clauses(one.text, name)
        allowed = {*PHRASES[events[0]], SUPERORDINATE[events[0]]}
        assert any(reading[:3] in allowed for reading in meanings(first, forms[0]))
        allowed = {*PHRASES[events[1]], SUPERORDINATE[events[1]]}
        assert any(reading[:3] in allowed for reading in meanings(second, forms[1]))
        if not one.swap:  # both clauses name the same thing, adverbs apart
            names = [
                {reading[:3] for reading in meanings(*one)} for one in ((first, forms[0]), (second, forms[1]))
            ]
            assert names[0] & names[1]
            continue
        assert one.swap != one.text
        now_first, now_second = clauses(one.swap, name)
        assert meanings(first, forms[0]) & meanings(now_second, forms[1])
        assert meanings(second, forms[1]) & meanings(now_first, forms[0])
        if forms[0] == forms[1]:  # then the clauses change places as they are, and back again
            assert (now_first, now_second) == (second, first)


def test_swaps_by_hand(monkeypatch):
    """The eight templates with two fixed clauses."""
    dog = grammar._Clause("a dog", "barks", "barking", "loudly", True)
    rain = grammar._Clause("rain", "falls", "falling", "", False)
    monkeypatch.setattr(grammar, "_clause", lambda event, *_: {"dog": dog, "rain": rain}[event])
    found = {}
    for template in grammar.SEQUENCE:
        monkeypatch.setattr(grammar, "_weighted", lambda rng, _, rare, template=template: template)
        one = grammar._relation("sequence", "dog", "rain", (), np.random.default_rng(0), Rates())
        found[one.text] = (one.connective, one.form, one.swap)
        back = grammar._relation("sequence", "rain", "dog", (), np.random.default_rng(0), Rates())
        assert (back.text, back.swap) == (one.swap, one.text)  # swapping back gives the original
    finite, gerund = "finite/finite", "gerund/gerund"
    assert found == {
        "A dog is barking loudly followed by rain falling.": (
            "followed by",
            "finite/gerund",
            "Rain falls followed by a dog barking loudly.",
        ),
        "A dog barking loudly followed by rain falling.": (
            "followed by",
            gerund,
            "Rain falling followed by a dog barking loudly.",
        ),
        "A dog is barking loudly then rain falls.": (
            "then",
            finite,
            "Rain falls then a dog is barking loudly.",
        ),
        "A dog is barking loudly and then rain falls.": (
            "and then",
            finite,
            "Rain falls and then a dog is barking loudly.",
        ),
        "A dog is barking loudly before rain falls.": (
            "before",
            finite,
            "Rain falls before a dog is barking loudly.",
        ),
        "A dog barking loudly before rain falling.": (
            "before",
            gerund,
            "Rain falling before a dog barking loudly.",
        ),
        "Rain falls after a dog is barking loudly.": (
            "after",
            finite,
            "A dog is barking loudly after rain falls.",
        ),
        "After a dog is barking loudly, rain falls.": (
            "after",
            f"fronted {finite}",
            "After rain falls, a dog is barking loudly.",
        ),
    }


def test_only_true_sequences_have_a_swap():
    found = [*many("sequence", PAIR, 3000), *many("overlap", PAIR, 1000), *many("single", ("dog",), 500)]
    with_swap = Counter(one.kind for one in found if one.swap)
    assert set(with_swap) == {"sequence"}
    # a dog is never rain
    assert with_swap["sequence"] == sum(one.kind == "sequence" for one in found)


def test_two_clauses_that_read_the_same_have_no_swap():
    """Dog and cat as "an animal makes a sound" on both sides: nothing to tell apart."""
    rates = Rates(generic=0, partial=0, unordered=0, misordered=0, superordinate=1, adverb_pair=0)
    found = many("sequence", ("dog", "cat"), 300, 0, rates)
    same = [one for one in found if len(set(clauses(one.text, _name(one)))) == 1]
    assert len(same) > 50 and not any(one.swap for one in same if one.form != "finite/gerund")
    assert not any(one.swap == one.text for one in found)


def _name(one: Caption) -> str:
    return f"fronted {one.connective}" if one.form.startswith("fronted") else one.connective


def test_misordered_captions_say_the_wrong_order():
    found = [one for one in many("sequence", PAIR, 4000) if one.kind in ("sequence", "misordered")]
    for one in found:
        assert one.mentions == (PAIR if one.kind == "sequence" else PAIR[::-1])
        first, _ = clauses(one.text, _name(one))
        form = one.form.removeprefix("fronted ").split("/")[0]
        said = {*PHRASES[one.mentions[0]], SUPERORDINATE[one.mentions[0]]}
        assert any(reading[:3] in said for reading in meanings(first, form))


# --- many captions ------------------------------------------------------------------------------


def share(found: list, condition, expected: float) -> None:
    """Within four standard errors of a binomial."""
    measured = sum(map(condition, found)) / len(found)
    assert abs(measured - expected) < 4 * sqrt(expected * (1 - expected) / len(found)), (measured, expected)


def test_rates_of_kinds():
    n, rates = 6000, Rates()
    ordered = 1 - rates.generic - rates.partial - rates.unordered
    for kind in ("sequence", "overlap"):
        found = many(kind, PAIR, n, seed=1)
        share(found, lambda one: one.kind == "generic", rates.generic)
        share(found, lambda one: one.kind == "partial", rates.partial)
        share(found, lambda one: one.kind == "unordered", rates.unordered)
        share(found, lambda one: one.kind in ("sequence", "misordered", "overlap"), ordered)
    sequences = many("sequence", PAIR, n, seed=2)
    share(sequences, lambda one: one.kind == "misordered", rates.misordered)
    share(sequences, lambda one: one.kind == "sequence", ordered - rates.misordered)
    unordered = [one for one in many("overlap", PAIR, n, seed=3) if one.kind in ("unordered", "overlap")]
    # neither event is mentioned first by habit
    share(unordered, lambda one: one.mentions == PAIR, 0.5)
    weights = {name: 0 for name in ("followed by", "then", "and then", "before", "after")}
    for name, *_, weight in grammar.SEQUENCE:
        weights[name] += weight
    ordered = [one for one in sequences if one.kind == "sequence"]
    for name, weight in weights.items():
        share(ordered, lambda one, name=name: one.connective == name, weight / sum(weights.values()))


def test_rates_of_words():
    found = many("single", ("dog",), 6000, seed=4, rates=Rates(generic=0))
    share(found, lambda one: "animal" in one.text.lower(), 0.06)
    share(found, lambda one: one.form == "finite", 0.6)
    share(
        [one for one in found if one.form == "finite"],
        lambda one: " is " in one.text or " are " in one.text,
        0.15,
    )
    share(found, lambda one: any(manner in one.text for manner in MANNERS), 0.6)
    share(found, lambda one: any(place in one.text for place in PLACES), 0.6)
    zipf = 1 / np.arange(1, 5)
    share(found, lambda one: one.text.startswith("A dog "), 0.94 * zipf[0] / zipf.sum())
    pairs = [one for one in many("overlap", PAIR, 6000, seed=5) if one.kind == "overlap"]
    share(pairs, lambda one: any(manner in one.text for manner in MANNERS), 1 - 0.85**2)


@pytest.mark.parametrize("kind", ["single", "sequence", "overlap"])
def test_captions_are_new(kind):
    """None is in ``taken``, none stands twice, and ``taken`` grows by them."""
    taken = {GENERIC[0], "A dog barks."}
    before = set(taken)
    found = [
        one.text
        for seed in range(10)
        for one in captions(kind, PAIR[: 1 if kind == "single" else 2], 5, np.random.default_rng(seed), taken)
    ]
    assert len(found) == len(set(found)) == 50
    assert not before & set(found) and taken == before | set(found)


def test_captions_follow_from_the_seed():
    def texts(seed: int) -> list[Caption]:
        return captions("sequence", PAIR, 5, np.random.default_rng(seed), set())

    assert texts(1) == texts(1) != texts(2)


def test_an_exhausted_grammar_says_so():
    with pytest.raises(RuntimeError, match=r"no unused caption left for single \('dog',\)"):
        captions("single", ("dog",), 9, np.random.default_rng(0), set(), Rates(generic=1))


# --- pairs and exchanged subjects ---------------------------------------------------------------


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    events=st.lists(st.sampled_from(EVENTS), min_size=2, max_size=2, unique=True).map(tuple),
)
def test_pair_captions(seed, events):
    triples = grammar.pair_captions(events, np.random.default_rng(seed))
    assert [first.connective for first, *_ in triples] == list(
        dict.fromkeys(name for name, *_ in grammar.SEQUENCE)
    )
    for before, after, both in triples:
        assert (before.swap, after.swap, both.swap) == (after.text, before.text, "")
        assert before.text != after.text
        assert before.mentions == both.mentions == events == after.mentions[::-1]
        assert (before.kind, after.kind, both.kind) == ("sequence", "sequence", "overlap")
        assert both.connective in ("while", "as") and f" {both.connective} " in both.text
        assert before.form == after.form


@pytest.mark.parametrize(
    ("text", "mentions", "expected"),
    [
        ("A dog barks while rain falls.", ("dog", "rain"), "Rain barks while a dog falls."),
        ("Rain falls while a dog barks.", ("dog", "rain"), "A dog falls while rain barks."),
        ("After a dog is barking, rain pours down.", ("dog", "rain"), "After rain is barking, a dog pours down."),
        ("A puppy yapping loudly followed by wind howling.", ("dog", "wind"), "Wind yapping loudly followed by a puppy howling."),
        ("Dogs bark while rain falls.", ("dog", "rain"), ""),  # "rain bark" would give it away
        ("Dogs bark while raindrops patter.", ("dog", "rain"), "Raindrops bark while dogs patter."),
        ("A man speaks while a woman talks.", ("man", "woman"), ""),  # as true the other way round
        ("A dog barks.", ("dog",), ""),
        ("A dog barks while a car passes.", ("dog", "car"), ""),  # no sound that is known
        ("An animal makes a sound while rain falls.", ("dog", "rain"), "Rain makes a sound while an animal falls."),
    ],
)  # fmt: skip
def test_exchange_subjects(text, mentions, expected):
    assert grammar.exchange_subjects(text, mentions) == expected


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    events=st.lists(st.sampled_from(EVENTS), min_size=2, max_size=2, unique=True).map(tuple),
)
def test_exchanged_subjects_keep_all_words_and_come_back(seed, events):
    for one in many("overlap", events, 5, seed):
        exchanged = grammar.exchange_subjects(one.text, one.mentions)
        if exchanged:
            assert sorted(exchanged.lower().split()) == sorted(one.text.lower().split())
            assert exchanged != one.text
