"""From losses of true and false captions to accuracies, controls, scores of pairs and verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aacstudy.analysis import heard_order
from aacstudy.analysis.statistics import Difference, holm, keyed, over_seeds, paired
from aacstudy.corpus.perturb.items import ORDER, TESTS
from aacstudy.corpus.perturb.swaps import STRICT
from aacstudy.options import StatisticsOptions

# What is measured of an item, by the columns that hold its losses; the first is the test, the
# others hear nothing of the order: other clips' audio, the mean frame, the own sound in pieces of a
# frame's length in drawn orders, a trigram model.
SOURCES = {
    "accuracy": "own",
    "blind": "other",
    "null audio": "null",
    "permuted audio": "permuted",
    "trigram": "ngram",
}
# Scores of a pair, and what two captions and two clips give that are told apart by chance (arXiv
# 2204.03162).
CHANCE = {"text": 1 / 4, "audio": 1 / 4, "group": 1 / 6, "matching": 1 / 2}


def accuracy(tables: Sequence[pd.DataFrame], text: str, swap: str) -> np.ndarray:
    """Items [seeds, items]: 1 where ``text`` is less than ``swap``, ½ where they are equal."""
    pairs = [(table[text].to_numpy(), table[swap].to_numpy()) for table in tables]
    return np.stack([(a < b) + 0.5 * (a == b) for a, b in pairs])


def corrected(tables: Sequence[pd.DataFrame], prior: str = "other") -> np.ndarray:
    """As ``accuracy`` of log p(c|a) − log p(c): a prior's loss is subtracted [seeds, items].

    prior: ``other`` (the mean log-probability on other clips' audio), ``permuted``, or ``ngram``.
    """
    result = []
    for table in tables:
        own, blind = (table[f"{kind}_text"] - table[f"{kind}_swap"] for kind in ("own", prior))
        gain = (own - blind).to_numpy()
        result.append((gain < 0) + 0.5 * (gain == 0))
    return np.stack(result)


def right(tables: Sequence[pd.DataFrame]) -> dict[str, np.ndarray]:
    """Share right of every item [seeds, items]: the accuracy, each control, the corrected scores.

    What the tables have no columns for is left out.
    """
    has = tables[0].columns
    sources = {what: source for what, source in SOURCES.items() if f"{source}_text" in has}
    found = {what: accuracy(tables, f"{source}_text", f"{source}_swap") for what, source in sources.items()}
    if "majority" in has:
        found["majority"] = np.stack([table["majority"].to_numpy(dtype=float) for table in tables])
    priors = {"corrected": "other", "corrected by trigram": "ngram"}
    return found | {what: corrected(tables, one) for what, one in priors.items() if f"{one}_text" in has}


def rows(items: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Masks [items] of a report's rows (test, part): ``all``, ``strict``, a connective or its form.

    ``strict`` are the clause exchanges around before and after alone.
    """
    found = {}
    for test in items["test"].unique():
        of_test = (items["test"] == test).to_numpy()
        found[test, "all"] = of_test
        if test == ORDER:
            found[test, "strict"] = of_test & items["connective"].isin(STRICT).to_numpy()
        if test not in (ORDER, "before_after", "then_as", "as_then"):
            continue
        fronted = items["form"].astype(str).str.startswith("fronted")
        labels = items["connective"].where(~fronted, items["connective"] + ", fronted")
        for label in labels[of_test].value_counts().index:
            found[test, label] = of_test & (labels == label).to_numpy()
    return {row: mask for row, mask in found.items() if mask.any()}


def measured(tables: Sequence[pd.DataFrame], options: StatisticsOptions) -> pd.DataFrame:
    """Every row with accuracy and controls: test, part, what, items, and an interval's fields."""
    by_what, clips = right(tables), tables[0]["clip"].to_numpy()
    found = []
    for (test, part), mask in rows(tables[0]).items():
        for what, values in by_what.items():
            one = over_seeds(values[:, mask], clips[mask], options)
            found.append({"test": test, "part": part, "what": what, "items": int(mask.sum())} | one._asdict())
    return pd.DataFrame(found)


def written(found: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """What was ``measured`` with a column for each ``what``, in percent: ``86.8 [83.4, 90.0]``."""
    cells = [f"{100 * r.value:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]" for r in found.itertuples()]
    wide = found.assign(cell=cells).pivot_table(
        index=list(index), columns="what", values="cell", aggfunc="first", sort=False
    )
    return wide.reset_index().rename_axis(columns=None)


def against(
    tables: Sequence[pd.DataFrame], control: str, mask: np.ndarray, options: StatisticsOptions
) -> Difference:
    """Paired difference of accuracy and a control on the items of a mask; the unit is the clip."""
    by_what, clips = right(tables), tables[0]["clip"].to_numpy()[mask]
    values = (by_what[what][:, mask] for what in ("accuracy", control))
    return paired(*values, clips, options)


def verdicts(tables: Sequence[pd.DataFrame], options: StatisticsOptions) -> pd.DataFrame:
    """Every test's accuracy, paired differences to two controls, Holm's p over tests, the verdict.

    ``over blind`` is the difference to other clips' audio: is the change heard? ``over permuted``
    to the own sound in drawn orders: is it heard in its order? p and verdict are of ``over blind``,
    by the rule of ``heard_order.verdict``.
    """
    found = []
    for (test, part), mask in rows(tables[0]).items():
        if part != "all":
            continue
        clips = tables[0]["clip"].to_numpy()[mask]
        value = over_seeds(right(tables)["accuracy"][:, mask], clips, options)
        blind, permuted = (against(tables, what, mask, options) for what in ("blind", "permuted audio"))
        answer = heard_order.verdict({"over blind": blind.interval}).answer
        row = {"test": TESTS[test], "items": int(mask.sum()), "accuracy": value.value}
        for name, one in (("over blind", blind), ("over permuted", permuted)):
            row |= dict(zip((name, f"{name}, low", f"{name}, high"), one.interval[:3]))
        found.append(row | {"p": blind.p_value, "heard": "heard" if answer == heard_order.HEARS else answer})
    table = pd.DataFrame(found)
    return table.assign(p=holm(table["p"]))


def results(
    tables: Sequence[pd.DataFrame], variant: str, seeds: Sequence[int], options: StatisticsOptions
) -> dict[str, float]:
    """Flat results: ``bat.…`` (the study's own), ``bat.<variant>.…``, ``perturbed.<variant>.…``."""
    by_what, clips = right(tables), tables[0]["clip"].to_numpy()
    bat = "bat" if variant == "base" else f"bat.{variant}"
    flat: dict[str, float] = {}
    for (test, part), mask in rows(tables[0]).items():
        if part not in ("all", "strict"):
            continue
        prefix = f"perturbed.{variant}.{test}" if test != ORDER else bat if part == "all" else f"{bat}.strict"
        for what, values in by_what.items():
            key = f"{prefix}.{what.replace(' by ', ' ').replace(' ', '_')}"
            found = over_seeds(values[:, mask], clips[mask], options)
            flat |= keyed(key, found, values[:, mask].mean(axis=1), seeds)
        for control in ("blind", "permuted audio"):
            one = against(tables, control, mask, options).interval
            flat |= keyed(f"{prefix}.over_{control.replace(' ', '_')}", one)
    return flat


def pair_scores(table: pd.DataFrame, source: str = "own") -> pd.DataFrame:
    """Text, audio, group and matching score (1 or 0) of pairs of captions and clips; a tie fails.

    Columns ``<source>_aa`` (loss of caption a on clip a), ``_ab`` (caption a on clip b), ``_ba``,
    ``_bb``. Text: each clip prefers its caption. Audio: each caption prefers its clip. Group: both.
    Matching: the two right combinations together cost less than the two wrong ones, however cheap a
    caption or a clip is by itself. What hears nothing gives a caption the same loss on both clips,
    so that all four are 0. Source: Winoground, arXiv 2204.03162, section 3.2; matching is ours.
    """
    aa, ab, ba, bb = (table[f"{source}_{cell}"] for cell in ("aa", "ab", "ba", "bb"))
    text, audio = (aa < ba) & (bb < ab), (aa < ab) & (bb < ba)
    scores = {"text": text, "audio": audio, "group": text & audio, "matching": aa + bb < ab + ba}
    return pd.DataFrame(scores).astype(float)


def pairs(tables: Sequence[pd.DataFrame], source: str, options: StatisticsOptions) -> pd.DataFrame:
    """Scores of all pairs with intervals by comparison, part (``all`` or a connective) and what.

    The unit is the pair of sounds, whose captions are dependent.
    """
    scores = [pair_scores(table, source) for table in tables]
    first, found = tables[0], []
    for comparison in first["comparison"].unique():
        chosen = (first["comparison"] == comparison).to_numpy()
        parts = {"all": chosen} | {
            name: chosen & (first["connective"] == name).to_numpy()
            for name in first.loc[chosen, "connective"].unique()
        }
        for part, mask in parts.items():
            for what in CHANCE:
                values = np.stack([one[what].to_numpy()[mask] for one in scores])
                one = over_seeds(values, first["pair"].to_numpy()[mask], options)._asdict()
                unit = one["unit"].replace("audios", "pairs")
                row = {"comparison": comparison, "part": part, "what": what, "items": int(mask.sum())}
                found.append(row | one | {"unit": unit})
    return pd.DataFrame(found)
