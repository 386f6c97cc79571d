"""Variants of a study beside the study itself, and captioners on corpora they were not trained on.

A variant that scores the same captions is compared query by query; two corpora share no query.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aacstudy.analysis.retrieval import grid, metrics
from aacstudy.analysis.statistics import (
    Interval,
    SeedPart,
    holm,
    keyed,
    linearised,
    over_seeds,
    paired,
    pooled,
    pooled_difference,
)
from aacstudy.analysis.tagging import mean_average_precision
from aacstudy.options import StatisticsOptions

# What is compared: label, direction, normaliser, metric of grid.queries.
MEASURES = {
    "t2a.hit@1": ("t2a", "raw", "hit@1"),
    "t2a.map@10": ("t2a", "raw", "map@10"),
    "a2t.raw.hit@1": ("a2t", "raw", "hit@1"),
    "a2t.min_max.hit@1": ("a2t", "min_max", "hit@1"),
    "a2t.z.hit@1": ("a2t", "z", "hit@1"),
}
CHANGE = ("difference", "difference low", "difference high", "n", "unit")
Values = tuple[np.ndarray, np.ndarray]  # [seeds, n] and the audio of each of the n


def measures(matrices: Sequence[grid.Matrix]) -> dict[str, Values]:
    """Each measure's values [seeds, queries] and the audios [queries] that cluster them."""
    return {
        name: grid.values([grid.queries(one, direction, normaliser) for one in matrices], metric)
        for name, (direction, normaliser, metric) in MEASURES.items()
    }


def compare(
    base: Mapping[str, Values], variants: Mapping[str, Mapping[str, Values]], options: StatisticsOptions
) -> pd.DataFrame:
    """One row per variant and measure: its value, its paired difference to the base, Holm's p.

    How trainings vary is pooled over the base and all variants: each changes one thing in the same
    captioner. p is of these trained captioners: flipping signs over audios knows nothing of other
    trainings. ``clear``: the interval leaves 0 out. ``unit`` and ``n`` are those of the interval; p
    is adjusted over all rows. Raises ValueError where a variant has other queries or seeds than the
    base.
    """
    rows, parts = [], _seed_parts(base, variants)
    for variant, measure in ((variant, measure) for variant, found in variants.items() for measure in found):
        (values, audios), (own, clusters) = variants[variant][measure], base[measure]
        if values.shape != own.shape or (audios != clusters).any():
            raise ValueError(
                f"{variant}: {measure} has values {values.shape} of other queries than the base's {own.shape}"
            )
        seeds, seeds_of_change = parts.get(measure, (None, None))
        value = over_seeds(values, clusters, options, seeds)
        change = paired(values, own, clusters, options, seeds_of_change)
        difference, each = change.interval, (values - own).mean(axis=1)  # [seeds]
        row = {"variant": variant, "measure": measure}
        row |= dict(zip(("value", "low", "high"), value[:3]))
        row |= dict(zip(("difference", "difference low", "difference high"), difference[:3]))
        row |= {"p": change.p_value, "n": value.n, "unit": value.unit, "by seed": each.tolist()}
        rows.append(row | {"clear": difference.low > 0 or difference.high < 0})
    table = pd.DataFrame(rows)
    return table.assign(p=holm(table["p"])) if rows else table


def _seed_parts(
    base: Mapping[str, Values], variants: Mapping[str, Mapping[str, Values]]
) -> dict[str, tuple[SeedPart, SeedPart]]:
    """By measure the seed part of a value and of a difference, where several seeds tell one."""
    parts = {}
    for measure, (own, clusters) in base.items():
        shared = [found[measure][0] for found in variants.values() if measure in found]
        if len(own) > 1 and shared and all(one.shape == own.shape for one in shared):
            tables = linearised(np.stack([own, *shared]), clusters)
            parts[measure] = (pooled(tables), pooled_difference(tables))
    return parts


def results(table: pd.DataFrame, seeds: Sequence[int]) -> dict[str, float]:
    """Flat results: ``ablation.<variant>.<measure>`` and, by seed too, ``….minus_base``."""
    flat: dict[str, float] = {}
    for row in table.to_dict("records"):
        key = f"ablation.{row['variant']}.{row['measure']}"
        flat |= keyed(key, _interval(row)) | keyed(
            f"{key}.minus_base", _interval(row, CHANGE), row["by seed"], seeds
        )
    return flat


def transfer(matrices: Sequence[grid.Matrix], options: StatisticsOptions) -> dict[str, Interval]:
    """What a captioner's losses on a corpus look like, and whether they need normalising.

    By name: ``matched`` and ``unmatched``: mean loss in nats per token of a caption on its own and
    on others; ``caption``: share of variance between captions; the measures; ``gain`` of min-max.
    """
    own, others = (np.stack(one) for one in zip(*map(_matched, matrices)))  # [seeds, audios]
    audios = np.arange(own.shape[1])
    found = {"matched": over_seeds(own, audios, options), "unmatched": over_seeds(others, audios, options)}
    share = grid.variance(matrices, options).loc["caption"]
    found["caption"] = Interval(share["value"], share["low"], share["high"], len(audios), "audios")
    values = measures(matrices)
    found |= {name: over_seeds(*one, options) for name, one in values.items()}
    (scaled, clusters), (raw, _) = values["a2t.min_max.hit@1"], values["a2t.raw.hit@1"]
    return found | {"gain": paired(scaled, raw, clusters, options).interval}


def _matched(matrix: grid.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of each audio's own captions, and of those on the other audios [audios]."""
    mean, owners = grid.mean_loss(matrix), matrix.owners
    own = mean[owners, np.arange(len(owners))]
    others = (mean.sum(axis=0) - own) / max(1, len(mean) - 1)
    count = np.bincount(owners, minlength=len(mean))
    described = count > 0
    sums = (np.bincount(owners, weights, len(mean)) for weights in (own, others))
    return tuple(one[described] / count[described] for one in sums)


def sum_or_mean(matrices: Sequence[grid.Matrix], options: StatisticsOptions) -> pd.DataFrame:
    """Audio-to-text hit@1 by mean and by sum of a caption's losses, and their paired difference."""
    ranked = {"mean": grid.mean_loss, "sum": lambda one: one.nll.astype(float)}
    found = {}
    for name, loss in ranked.items():
        tables = [metrics.audio_to_text(-loss(one), one.owners, ks=(1,)) for one in matrices]
        found[name] = grid.values(tables, "hit@1")
    (mean, audios), (total, _) = found.values()
    rows = {name: over_seeds(*values, options) for name, values in found.items()}
    rows["sum minus mean"] = paired(total, mean, audios, options).interval
    return pd.DataFrame([{"ranked by": name} | one._asdict() for name, one in rows.items()])


def encoders(
    scored: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], options: StatisticsOptions
) -> pd.DataFrame:
    """mAP of each variant's encoder, and minus the base's, paired by clip.

    scored: held-out scores and labels [clips, classes], those of ``base`` first.
    """
    rows, base = [], next(iter(scored.values()))[0].to_numpy()
    for variant, (scores, labels) in scored.items():
        known = (labels.to_numpy().astype(bool), scores.to_numpy(), options)
        value, change = mean_average_precision(*known), mean_average_precision(*known, minus=base)
        row = {"variant": variant} | value._asdict()
        row |= dict(zip(("difference", "difference low", "difference high"), change[:3]))
        chance = float(known[0][:, known[0].any(axis=0)].mean(axis=0).mean())
        rows.append(row | {"chance": chance})
    return pd.DataFrame(rows)


def encoder_results(table: pd.DataFrame, base: str = "base") -> dict[str, float]:
    """Flat results of all encoders but ``base``'s: ``ablation.<variant>.tagging.map``."""
    flat: dict[str, float] = {}
    for row in table.to_dict("records"):
        if row["variant"] != base:
            key = f"ablation.{row['variant']}.tagging.map"
            flat |= keyed(key, _interval(row)) | keyed(f"{key}.minus_base", _interval(row, CHANGE))
    return flat


def transfer_table(across: Mapping[str, Mapping[str, Interval]]) -> pd.DataFrame:
    """One row per captioner, corpus and number of ``transfer``; ``a@b``: a on corpus b."""
    rows = []
    for name, found in across.items():
        trained, _, scored = name.partition("@")
        about = {"captioner": trained, "corpus": scored or trained}
        rows += [about | {"what": what} | one._asdict() for what, one in found.items()]
    return pd.DataFrame(rows).drop(columns="unit")


def transfer_results(across: Mapping[str, Mapping[str, Interval]]) -> dict[str, float]:
    """Flat results across corpora: ``transfer.<captioner>_on_<corpus>.<what>``."""
    flat: dict[str, float] = {}
    for name in (name for name in across if "@" in name):
        for what, one in across[name].items():
            flat |= keyed(f"transfer.{name.replace('@', '_on_')}.{what}", one)
    return flat


def _interval(row: Mapping, names: Sequence[str] = Interval._fields) -> Interval:
    return Interval(*(row[name] for name in names))
