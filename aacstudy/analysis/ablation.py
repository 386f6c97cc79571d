"""Variants of a study beside the study itself, and captioners on corpora that they were not trained on.

Arithmetic on loss matrices and tables alone. A variant that scores the same captions is compared query by query; two
corpora share no query, so each has its own interval.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aacstudy.analysis.retrieval import findings
from aacstudy.analysis.retrieval.metrics import audio_to_text
from aacstudy.analysis.statistics import Interval, holm, paired_difference
from aacstudy.analysis.tagging import mean_average_precision
from aacstudy.options import StatisticsOptions
from aacstudy.scoring.matrix import Losses
from aacstudy.study.parameters import BASE

# What is compared: label, direction, normaliser, metric of findings.queries.
MEASURES = {
    "t2a.hit@1": ("t2a", "raw", "hit@1"),
    "t2a.map@10": ("t2a", "raw", "map@10"),
    "a2t.raw.hit@1": ("a2t", "raw", "hit@1"),
    "a2t.min_max.hit@1": ("a2t", "min_max", "hit@1"),
    "a2t.z.hit@1": ("a2t", "z", "hit@1"),
}
Values = tuple[np.ndarray, np.ndarray]  # [seeds, n] and the audio of each of the n


def measures(matrices: Sequence[Losses], only: Sequence[str] = tuple(MEASURES)) -> dict[str, Values]:
    """Each measure's values [seeds, queries] and the audios [queries] that cluster them."""
    found = {}
    for name in only:
        direction, normaliser, metric = MEASURES[name]
        tables = [findings.queries(one, direction, normaliser) for one in matrices]
        found[name] = (
            np.stack([table[metric].to_numpy(float) for table in tables]),
            tables[0]["audio"].to_numpy(),
        )
    return found


def compare(
    base: Mapping[str, Values], variants: Mapping[str, Mapping[str, Values]], options: StatisticsOptions
) -> pd.DataFrame:
    """One row per variant and measure: the variant's value, and its paired difference to the base with Holm's p.

    p is of these trained captioners: flipping signs over audios knows nothing of how trainings vary, and the interval,
    of a few seeds, little. ``clear`` is stricter: the interval leaves 0 out and every single seed has its sign.
    ``unit`` and ``n`` are those of the interval; p is adjusted over all rows. Raises ValueError where a variant has other
    queries or seeds than the base.
    """
    rows = []
    for variant, found in variants.items():
        for measure, (values, audios) in found.items():
            own, clusters = base[measure]
            if values.shape != own.shape or (audios != clusters).any():
                raise ValueError(
                    f"{variant}: {measure} has values {values.shape} of other queries than the base's {own.shape}"
                )
            value = findings.over_seeds(values, clusters, options)
            change = paired_difference(
                values, own, clusters, options.resamples, options.seed, options.confidence
            )
            found_change = change.interval
            each = (values - own).mean(axis=1)  # [seeds]
            away = found_change.low > 0 or found_change.high < 0
            row = {"variant": variant, "measure": measure}
            row |= {"value": value.value, "low": value.low, "high": value.high}
            row |= {"difference": found_change.value, "difference low": found_change.low}
            row |= {
                "difference high": found_change.high,
                "p": change.p_value,
                "n": value.n,
                "unit": value.unit,
            }
            row |= {
                "by seed": each.tolist(),
                "clear": away and bool((np.sign(each) == np.sign(each[0])).all()),
            }
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(p=holm(table["p"])) if rows else table


def results(table: pd.DataFrame, seeds: Sequence[int]) -> dict[str, float]:
    """Flat results of a comparison: ``ablation.<variant>.<measure>`` and ``….minus_base`` with intervals, the latter by seed."""
    flat: dict[str, float] = {}
    for row in table.to_dict("records"):
        key = f"ablation.{row['variant']}.{row['measure']}"
        change = (row[name] for name in ("difference", "difference low", "difference high", "n", "unit"))
        flat |= findings.keyed(key, Interval(*(row[name] for name in ("value", "low", "high", "n", "unit"))))
        flat |= findings.keyed(f"{key}.minus_base", Interval(*change), row["by seed"], seeds)
    return flat


def transfer(matrices: Sequence[Losses], options: StatisticsOptions) -> dict[str, Interval]:
    """What a captioner's losses on a corpus look like, and whether they need normalising: name -> interval.

    ``matched`` and ``unmatched``: mean loss in nats per token of a caption on its own and on other audios; ``caption``: share
    of variance between captions; the measures above; ``gain``: a2t hit@1 of min-max minus raw, paired.
    """
    own, others = zip(*(_matched(one) for one in matrices))
    audios = np.arange(len(own[0]))
    found = {
        "matched": findings.over_seeds(np.stack(own), audios, options),
        "unmatched": findings.over_seeds(np.stack(others), audios, options),
    }
    shares = findings.variance(matrices, options).loc["caption"]
    found["caption"] = Interval(shares["value"], shares["low"], shares["high"], len(audios), "audios")
    values = measures(matrices)
    found |= {name: findings.over_seeds(*one, options) for name, one in values.items()}
    (scaled, clusters), (raw, _) = values["a2t.min_max.hit@1"], values["a2t.raw.hit@1"]
    found["gain"] = paired_difference(
        scaled, raw, clusters, options.resamples, options.seed, options.confidence
    ).interval
    return found


def _matched(losses: Losses) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of each audio's own captions, and of those captions on the other audios [audios]."""
    mean, columns = losses.mean.astype(float), np.arange(len(losses.captions))
    own = mean[losses.owners, columns]
    others = (mean.sum(axis=0) - own) / max(1, len(mean) - 1)
    count = np.bincount(losses.owners, minlength=len(mean))
    described = count > 0
    sums = (np.bincount(losses.owners, weights, len(mean)) for weights in (own, others))
    return tuple((one[described] / count[described]) for one in sums)


def sum_or_mean(matrices: Sequence[Losses], options: StatisticsOptions) -> pd.DataFrame:
    """Audio-to-text hit@1 by the mean and by the sum of a caption's losses, and their paired difference: a row each."""
    found = {}
    for name, losses in (("mean", [one.mean for one in matrices]), ("sum", [one.nll for one in matrices])):
        tables = [
            audio_to_text(-loss.astype(float), one.owners, ks=(1,)) for loss, one in zip(losses, matrices)
        ]
        found[name] = np.stack([table["hit@1"] for table in tables]), tables[0]["audio"].to_numpy()
    (mean, audios), (total, _) = found.values()
    change = paired_difference(total, mean, audios, options.resamples, options.seed, options.confidence)
    rows = {name: findings.over_seeds(*values, options) for name, values in found.items()}
    rows["sum minus mean"] = change.interval
    return pd.DataFrame([{"ranked by": name} | one._asdict() for name, one in rows.items()])


def encoders(folders: Mapping[str, Path], options: StatisticsOptions) -> pd.DataFrame:
    """Mean average precision of the encoders in artifact folders by variant, those that were trained here; each once."""
    rows, seen = [], set()
    for variant, folder in folders.items():
        if folder in seen or not (folder / "test_scores.csv").exists():
            continue
        seen.add(folder)
        scores, labels = (
            pd.read_csv(folder / f"test_{name}.csv", index_col="clip") for name in ("scores", "labels")
        )
        value = mean_average_precision(labels.to_numpy().astype(bool), scores.to_numpy(), options)
        chance = float(labels.loc[:, labels.any()].mean().mean())
        rows.append({"variant": variant} | value._asdict() | {"chance": chance})
    return pd.DataFrame(rows)


def encoder_results(table: pd.DataFrame) -> dict[str, float]:
    """Flat results of the variants' encoders: ``ablation.<variant>.tagging.map``."""
    rows = [row for row in table.to_dict("records") if row["variant"] != BASE]
    return _keyed({f"ablation.{row['variant']}.tagging.map": row for row in rows})


def transfer_table(across: Mapping[str, Mapping[str, Interval]]) -> pd.DataFrame:
    """One row per captioner, corpus and number of ``transfer``; a variant ``a@b`` is captioner a on corpus b."""
    rows = []
    for name, found in across.items():
        trained, _, scored = name.partition("@")
        about = {"captioner": trained, "corpus": scored or trained}
        rows += [about | {"what": what} | one._asdict() for what, one in found.items()]
    return pd.DataFrame(rows).drop(columns="unit")


def transfer_results(across: Mapping[str, Mapping[str, Interval]]) -> dict[str, float]:
    """Flat results across corpora: ``transfer.<captioner>_on_<corpus>.<what>``, where the two differ."""
    flat = {
        f"transfer.{name.replace('@', '_on_')}.{what}": one._asdict()
        for name, found in across.items()
        if "@" in name
        for what, one in found.items()
    }
    return _keyed(flat)


def _keyed(rows: Mapping[str, Mapping]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, row in rows.items():
        flat |= findings.keyed(key, Interval(*(row[name] for name in Interval._fields)))
    return flat
