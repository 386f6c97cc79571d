"""Pairs of texts for one audio, one true and one not: what each test of perturbed captions consists
of.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd

from aacstudy.corpus.perturb.swaps import clause_swap
from aacstudy.corpus.perturb.words import REPLACEMENTS, replaced, shuffled
from aacstudy.corpus.soundscapes.grammar import exchange_subjects

ORDER = "order"  # the Before-After Test: two clauses change places
TESTS = {
    ORDER: "clauses exchanged",
    "before_after": "before ↔ after",
    "then_as": "then → as",
    "as_then": "as → then",
    "nouns": "nouns exchanged",
    "words": "words shuffled",
    "related": "caption of a clip with one sound in common",
    "unrelated": "caption of a clip with no sound in common",
}
COLUMNS = ["test", "clip", "connective", "form", "text", "swap"]
# The kind of caption, where it is known, of which a replacement makes a false one.
_FALSE_OF = {"before_after": "sequence", "then_as": "sequence", "as_then": "overlap"}


def perturbations(captions: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items of all tests from a split's captions (``clip``, ``text``), and how many captions give
    none, and why.

    Items: ``test`` (see ``TESTS``), ``clip``, ``connective``, ``form``, ``text`` (true), ``swap``
    (false). Left out: ``test``, ``reason``, ``captions``. Where captions come with their swap
    (soundscapes), it is taken, and captions whose writer had the order wrong are no items; others
    are swapped by rules (see swaps.py). Exchanged nouns and related captions need the sounds that a
    caption mentions; other corpora have no such items. The last four tests take one caption per
    clip, drawn by ``seed``.
    """
    annotated = "swap" in captions
    rng = np.random.default_rng(seed)
    drawn = captions.iloc[rng.permutation(len(captions))].drop_duplicates("clip").sort_index()
    rows, left_out = [], Counter()
    for item in _clauses(captions) if annotated else _clauses_by_rule(captions["clip"], captions["text"]):
        _sort(ORDER, item, rows, left_out)
    for test in REPLACEMENTS:
        for item in _replacements(captions, test, annotated):
            _sort(test, item, rows, left_out)
    others = [
        ("words", ((row.clip, "", "", row.text, shuffled(row.text, rng)) for row in drawn.itertuples()))
    ]
    if annotated:
        others += [("nouns", _nouns(captions, rng)), *_company(captions, rng)]
    for test, items in others:
        for item in items:
            _sort(test, item, rows, left_out)
    counts = [{"test": test, "reason": reason, "captions": n} for (test, reason), n in left_out.items()]
    items = pd.DataFrame(rows, columns=COLUMNS)
    order = items["test"].map(list(TESTS).index)
    return items.loc[order.sort_values(kind="stable").index].reset_index(drop=True), pd.DataFrame(
        counts, columns=["test", "reason", "captions"]
    )


def other_clips(owners: np.ndarray, n_clips: int, n_others: int, seed: int) -> np.ndarray:
    """For each item rows of other clips [items, others], drawn without repetition; never the item's
    own clip.

    Fewer than asked for where there are not that many clips.
    """
    rng = np.random.default_rng(seed)
    count = min(n_others, n_clips - 1)
    drawn = np.stack([rng.choice(n_clips - 1, size=count, replace=False) for _ in owners])
    return drawn + (drawn >= np.asarray(owners)[:, None])


def scene_pairs(captions: pd.DataFrame) -> pd.DataFrame:
    """Two captions and two clips of the same two sounds, from the captions of a split of pairs.

    Clips are named ``<pair>-ab``, ``-ba`` and ``-both``. Columns: ``pair``, ``comparison``,
    ``connective``, ``form``, ``clip_a``, ``clip_b``, ``text_a`` (true of a, false of b), ``text_b``
    (the other way round). Comparisons: ``reversed`` (a before b, b before a) and ``overlap`` (one
    after the other, both at once).
    """
    part = captions.assign(
        pair=captions["clip"].str.rpartition("-")[0],
        order=captions["clip"].str.rpartition("-")[2],
        item=captions.groupby("clip").cumcount(),
    )
    rows = []
    for (pair, _), item in part.groupby(["pair", "item"], sort=False):
        by_order = item.set_index("order")
        for comparison, other in (("reversed", "ba"), ("overlap", "both")):
            a, b = by_order.loc["ab"], by_order.loc[other]
            rows.append(
                {
                    "pair": pair,
                    "comparison": comparison,
                    "connective": a["connective"],
                    "form": a["form"],
                    "clip_a": a["clip"],
                    "clip_b": b["clip"],
                    "text_a": a["text"],
                    "text_b": b["text"],
                }
            )
    return pd.DataFrame(rows)


def _sort(test: str, item: tuple, rows: list, left_out: Counter) -> None:
    clip, connective, form, text, swap, *reason = item
    if swap:
        rows.append((test, clip, connective, form, text, swap))
    else:
        left_out[test, reason[0] if reason else "nothing to change"] += 1


def _clauses(captions: pd.DataFrame) -> Iterator[tuple]:
    for row in captions.itertuples():
        swap = row.swap if row.kind == "sequence" else ""
        told = {"sequence": "same halves", "misordered": "order told wrong"}.get(row.kind, "no connective")
        yield row.clip, row.connective, row.form, row.text, swap, told


def _clauses_by_rule(clips, texts) -> Iterator[tuple]:
    for clip, text in zip(clips, texts):
        found = clause_swap(text)
        yield clip, found.connective, found.form, text, found.swap, found.reason


def _replacements(captions: pd.DataFrame, test: str, annotated: bool) -> Iterator[tuple]:
    for row in captions.itertuples():
        swap, connective = replaced(row.text, test)
        if swap and annotated and row.kind != _FALSE_OF[test]:
            yield row.clip, "", "", row.text, "", "order told wrong or not known"
        elif swap and row.text.lower().startswith(connective):
            yield row.clip, connective, "fronted", row.text, swap
        else:
            yield row.clip, connective, "", row.text, swap, "not one connective of two clauses"


def _nouns(captions: pd.DataFrame, rng: np.random.Generator) -> Iterator[tuple]:
    two = captions[captions["mentions"].str.contains(" ") & ~captions["kind"].eq("misordered")]
    exchanged = two.assign(
        swap=[exchange_subjects(row.text, tuple(row.mentions.split())) for row in two.itertuples()]
    )
    shuffle = exchanged.iloc[rng.permutation(len(exchanged))]
    chosen = (
        shuffle.assign(none=shuffle["swap"] == "").sort_values("none", kind="stable").drop_duplicates("clip")
    )
    for row in chosen.sort_index().itertuples():
        yield row.clip, row.connective, row.form, row.text, row.swap, "subjects that cannot change places"


def _company(captions: pd.DataFrame, rng: np.random.Generator) -> list[tuple[str, list[tuple]]]:
    """A true caption beside another clip's, of the same kind, that shares one sound or none."""
    told = captions[captions["mentions"].str.contains(" ") & ~captions["kind"].eq("misordered")]
    sounds = captions.groupby("clip")["mentions"].agg(lambda column: frozenset(" ".join(column).split()))
    found: dict[str, list[tuple]] = {"related": [], "unrelated": []}
    of_kind = dict(list(told.groupby("kind")))
    shuffle = told.iloc[rng.permutation(len(told))]
    for row in shuffle.drop_duplicates("clip").sort_index().itertuples():
        own = sounds[row.clip]
        # enough to find both
        others = of_kind[row.kind].iloc[rng.permutation(len(of_kind[row.kind]))[:200]]
        others = others[others["clip"] != row.clip]
        shared = np.array([len(own & sounds[clip]) for clip in others["clip"]])
        for test, wanted in (("related", 1), ("unrelated", 0)):
            fit = np.flatnonzero(shared == wanted)
            swap = others["text"].iloc[rng.choice(fit)] if len(fit) else ""
            found[test].append((row.clip, row.connective, row.form, row.text, swap, "no such clip"))
    return list(found.items())
