"""Why some captions are cheap on every audio: what predicts it, what normalisation takes away."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from statsmodels.regression.linear_model import OLS

from aacstudy.analysis.retrieval.compete import log_mean_exp
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.analysis.statistics import Interval, keyed, resampled_sums
from aacstudy.corpus.ngram import NGram
from aacstudy.corpus.text import Vocabulary, tokenise
from aacstudy.options import StatisticsOptions

# Normalisations of captions that the bias is taken apart with.
COMPARED = (
    *("raw", "min_max", "z", "centre_sum"),
    *("pmi", "pmi_silence", "pmi_noise", "pmi_mean_frame", "pmi_trigram"),
)


class Regression(NamedTuple):
    """An ordinary least-squares fit of a loss.

    r2: of all features. features: one row per feature with its R² alone (``r2``, ``low``, ``high``)
    and what R² loses without it (``unique``). coefficients: one row per column of the design, in
    nats per standard deviation of a number or per member of a category against the first, with
    cluster-robust ``low`` and ``high``. rows: captions used.
    """

    r2: Interval
    features: pd.DataFrame
    coefficients: pd.DataFrame
    rows: int


def features(texts: Sequence[str], training: Sequence[str]) -> pd.DataFrame:
    """What of a caption can be known without audio and without the captioner; one row per text.

    ``length`` (tokens, the end among them), ``word frequency`` and ``rarest word`` (mean and least
    log of its words' shares of the training captions; one is added to each count) and ``trigram``
    (nats per token of the training captions' trigram model).
    """
    counts = Counter(word for text in training for word in tokenise(text))
    total = np.log(sum(counts.values()) + len(counts) + 1)
    vocabulary = Vocabulary.fit(training)
    model = NGram((vocabulary.encode(text) for text in training), len(vocabulary))
    rows = []
    for text in texts:
        ids = vocabulary.encode(text)
        logs = [np.log(counts[word] + 1) - total for word in tokenise(text)] or [-total]
        rows.append((len(ids) - 1, np.mean(logs), min(logs), model.nll(ids) / (len(ids) - 1)))
    return pd.DataFrame(rows, columns=["length", "word frequency", "rarest word", "trigram"])


def regress(table: pd.DataFrame, options: StatisticsOptions, target: str = "loss") -> Regression:
    """Explain captions' losses by everything else in the table.

    table: a row per caption with the ``target`` (nats per token), ``audio`` (the unit to cluster
    by; without it each row is its own) and features: numbers, or texts that name categories.
    Constant features are left out. Intervals of R² are percentile bootstraps of whole audios with
    the model fitted again, centred on the value: a resample fits its repeated captions too well, so
    that even a feature that tells nothing would seem to. Coefficients' are cluster-robust. Raises
    ValueError for a missing target, values that are not finite (with their place), too few rows.
    """
    if target not in table:
        raise ValueError(f"the table has no column {target!r}; it has {', '.join(map(str, table.columns))}")
    clusters = table["audio"].to_numpy() if "audio" in table else np.arange(len(table))
    for name in table.select_dtypes("number"):
        bad = np.flatnonzero(~np.isfinite(table[name].to_numpy(dtype=float)))
        if len(bad):
            raise ValueError(f"{name} is not finite in row {table.index[bad[0]]}")
    used = table.drop(columns=[target, "audio", "caption"], errors="ignore")
    designs = {name: _design(used[name]) for name in used if used[name].nunique() > 1}
    loss = table[target].to_numpy(dtype=float)
    columns = np.cumsum([0] + [design.shape[1] for design in designs.values()])
    if len(table) <= columns[-1] + 1:
        raise ValueError(f"{len(table)} captions are too few for {columns[-1]} columns of features")
    # [1, features, loss]: all that a fit needs are the sums of its outer products.
    whole = np.hstack([np.ones((len(loss), 1)), *designs.values(), loss[:, None]])
    products = (whole[:, :, None] * whole[:, None, :]).reshape(len(whole), -1)
    once, draws, n = resampled_sums(products, clusters, options)
    moments = np.concatenate([once[None], draws]).reshape(-1, whole.shape[1], whole.shape[1])

    def r2(chosen: Sequence[int]) -> np.ndarray:
        return _r2(moments, [0, *(1 + i for i in chosen)])

    tail = 100 * (1 - options.confidence) / 2

    def bounds(found: np.ndarray) -> np.ndarray:
        around = found[1:] - found[1:].mean() + found[0]
        return np.percentile(around, [tail, 100 - tail]).clip(0, 1)

    everything = range(columns[-1])
    found = r2(everything)
    low, high = bounds(found)
    rows = []
    for name, start, stop in zip(designs, columns, columns[1:]):
        alone = r2(range(start, stop))
        without = r2([i for i in everything if not start <= i < stop])[0]
        rows.append((name, alone[0], *bounds(alone), found[0] - without, n))
    parts = pd.DataFrame(rows, columns=["feature", "r2", "low", "high", "unique", "n"])
    names = [column for design in designs.values() for column in design.columns]
    coefficients = _coefficients(whole[:, :-1], loss, clusters, names, 1 - options.confidence)
    r2_of_all = Interval(*(float(number) for number in (found[0], low, high)), n, "audios")
    return Regression(r2_of_all, parts, coefficients, len(loss))


def priors(pools: Sequence[Pool]) -> dict[str, list[np.ndarray]]:
    """Log-priors per token of the captions `[captions]`, by name, one array per seed.

    Those of the pools, and the log-mean-exp over a bank of other clips and over the test pool.
    """
    found = {
        name.replace("_", " "): [pool.priors[name] / pool.tokens for pool in pools]
        for name in pools[0].priors
    }
    if pools[0].audio_bank is not None:
        found["bank"] = [log_mean_exp(pool.banks(sums=True)[0]) / pool.tokens for pool in pools]
    return found | {"test pool": [log_mean_exp(pool.scores(sums=True)) / pool.tokens for pool in pools]}


def explained(
    loss: np.ndarray,
    priors: Mapping[str, Sequence[np.ndarray]],
    owners: np.ndarray,
    options: StatisticsOptions,
) -> pd.DataFrame:
    """R² of captions' mean loss `[captions]` on each prior alone (mean of its seeds), by name."""
    rows = []
    for name, of_seeds in priors.items():
        found = regress(
            pd.DataFrame({"audio": owners, "loss": loss, name: np.mean(of_seeds, axis=0)}), options
        )
        rows.append({"prior": name} | dict(zip(("r2", "low", "high", "n"), found.r2[:4])))
    return pd.DataFrame(rows).set_index("prior")


def locations_and_scales(
    scores: Sequence[np.ndarray], priors: Mapping[str, Sequence[np.ndarray]]
) -> pd.DataFrame:
    """Spearman correlation of captions' locations and scales with priors, mean over seeds.

    scores: per seed, log-likelihoods per token `[audios, captions]`; priors: by name, per seed,
    `[captions]` in the same unit. Rows: mean, min, max (locations), deviation, range (scales).
    """
    statistics = {
        "mean": lambda s: s.mean(axis=0),
        "minimum": lambda s: s.min(axis=0),
        "maximum": lambda s: s.max(axis=0),
        "standard deviation": lambda s: s.std(axis=0),
        "range": lambda s: np.ptp(s, axis=0),
    }
    table = {
        prior: {
            name: np.mean([spearmanr(of(s), p).statistic for s, p in zip(scores, of_seeds)])
            for name, of in statistics.items()
        }
        for prior, of_seeds in priors.items()
    }
    return pd.DataFrame(table).rename_axis("of a caption's column").reset_index()


def results(fit: Regression, explained: pd.DataFrame) -> dict[str, float]:
    """Flat numbers: R² of all features and of each, and of each prior."""
    flat = keyed("bias.r2", fit.r2)
    for kind, table in (("feature", fit.features.set_index("feature")), ("prior", explained)):
        for name, row in table.iterrows():
            numbers = Interval(*(float(row[one]) for one in ("r2", "low", "high")), int(row["n"]), "audios")
            flat |= keyed(f"bias.{kind}.{name}.r2", numbers)
    return {key.replace(" ", "_"): value for key, value in flat.items()}


def of_pairs(pairs: pd.DataFrame, training: Sequence[str], options: StatisticsOptions) -> Regression:
    """The regression of pairs' losses (columns audio, caption, loss) on their captions' words."""
    words = features(list(pairs["caption"]), training)
    return regress(pd.concat([pairs.reset_index(drop=True), words], axis=1), options)


def _design(values: pd.Series) -> pd.DataFrame:
    """A feature as columns: a number standardised, a category's members but the most frequent."""
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(dtype=float)
        return pd.DataFrame({values.name: (numbers - numbers.mean()) / numbers.std()})
    members = list(values.value_counts().index)
    return pd.DataFrame({f"{values.name}: {m or 'none'}": (values == m).to_numpy(float) for m in members[1:]})


def _r2(moments: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """R² of the last column on the chosen ones, for each matrix of moments `[draws, k, k]`."""
    gram = moments[:, chosen][:, :, chosen]
    with_loss = moments[:, chosen, -1]
    total = moments[:, -1, -1] - moments[:, 0, -1] ** 2 / moments[:, 0, 0]
    # The pseudo-inverse: a resample may miss a category altogether.
    weights = np.einsum("rij,rj->ri", np.linalg.pinv(gram, hermitian=True), with_loss)
    residual = moments[:, -1, -1] - np.einsum("ri,ri->r", weights, with_loss)
    return 1 - residual / total


def _coefficients(design, loss, clusters, names, alpha) -> pd.DataFrame:
    groups = np.unique(clusters, return_inverse=True)[1]
    fit = OLS(loss, design).fit(cov_type="cluster", cov_kwds={"groups": groups})
    low, high = fit.conf_int(alpha).T
    columns = {"term": ["intercept", *names], "coefficient": fit.params, "low": low, "high": high}
    return pd.DataFrame(columns)
