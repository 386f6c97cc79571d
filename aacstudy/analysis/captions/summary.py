"""What the captioning notebook shows of several systems: a table, results, shares of faults."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aacstudy.analysis.captions import METRICS, Evaluation, errors, not_computed, published
from aacstudy.analysis.statistics import keyed, over_seeds
from aacstudy.options import StatisticsOptions


def side_by_side(found: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row per metric: each system's value, the first one's interval, why a value is missing."""
    first, *others = found
    rows = []
    for name, label in METRICS.items():
        one = found[first]
        if name not in one.corpus and name not in one.missing:
            continue
        interval = one.intervals.get(name)
        row = {"metric": label, first: one.value(name)}
        row |= {"low": interval.low, "high": interval.high} if interval else {"low": np.nan, "high": np.nan}
        row |= {other: found[other].value(name) for other in others}
        rows.append(row | {"remark": not_computed(one.missing.get(name, ""))})
    return pd.DataFrame(rows)


def beside_published(found: Evaluation, corpus: str) -> pd.DataFrame:
    """A row per published metric: the value here beside what was published, with its mark.

    corpus: the name of the corpus; published numbers of another one say so.
    """
    own = published.CORPORA.get(corpus)
    rows = []
    for name in (name for name in METRICS if name in published.SCORES):
        row = {"metric": METRICS[name], "here": found.value(name)}
        for data_set in [own] if own else published.CORPORA.values():
            row[data_set if own else f"{data_set}, not this corpus"] = published.text(name, data_set)
        rows.append(row)
    return pd.DataFrame(rows)


def results(
    found: Mapping[str, Evaluation], prefixes: Sequence[str], seeds: Sequence[int]
) -> dict[str, float]:
    """Flat results of each system: ``<prefix>.<metric>``, with an interval where there is one."""
    flat: dict[str, float] = {}
    for prefix, one in zip(prefixes, found.values(), strict=True):
        for name in one.corpus:
            key, values = f"{prefix}.{name}", one.corpus[name].tolist()
            per_seed = (values, seeds) if len(values) == len(seeds) > 1 else ((), ())
            flat |= keyed(key, one.intervals.get(name), *per_seed) | {key: float(np.mean(values))}
    return flat


def faults(
    systems: Mapping[str, Sequence[Sequence[str]]],
    clips: Mapping[str, Sequence[str]],
    events: pd.DataFrame,
    options: StatisticsOptions,
) -> pd.DataFrame:
    """Shares of captions by ``fault``, ``row`` (its words), ``what`` (system), with intervals.

    systems: captions [seeds][captions]. clips: the clip of each caption; the unit of the intervals.
    """
    rows = []
    for what, seeds in systems.items():
        tables = [errors.find(captions, clips[what], events) for captions in seeds]
        for fault in tables[0]:
            values = np.stack([table[fault].to_numpy(dtype=float) for table in tables])
            found = over_seeds(values, list(clips[what]), options)
            rows.append({"fault": fault, "row": errors.CATEGORIES[fault], "what": what} | found._asdict())
    return pd.DataFrame(rows)
