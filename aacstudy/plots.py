"""Figures: each function takes tables or arrays and returns axes; none computes a metric.

One palette, safe for colour-blindness (Okabe and Ito) and told apart in greyscale by line style or label.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
PALETTE = (BLUE, ORANGE, GREEN, PINK, GREY)
COLOURS = {"raw": GREY, "min_max": BLUE, "z": ORANGE, "pmi": GREEN}
NAMES = {
    "raw": "raw",
    "min_max": "min-max",
    "z": "z-score",
    "pmi": "PMI",
    "pmi_silence": "PMI, silence",
    "pmi_noise": "PMI, noise",
    "pmi_mean_frame": "PMI, mean frame",
    "pmi_trigram": "PMI, trigram",
    "raw_sum": "raw, sum",
    "centre_sum": "centre, sum",
    "shift_min": "minus minimum",
    "divide_range": "over range",
    "csls": "CSLS",
    "qb_norm": "QB-Norm",
    "base": "as published",
    "positions": "sinusoidal frame positions",
    "learned": "learned frame positions",
    "shuffled": "sinusoidal, trained on shuffled frames",
    "shallow": "sinusoidal, one decoder layer",
    "deep": "sinusoidal, four decoder layers",
    "few_orders": "sinusoidal, a quarter of the order captions",
    "no_orders": "sinusoidal, no true order captions",
}


def name(thing: str) -> str:
    """What a figure calls a normaliser or a variant of a study."""
    return NAMES.get(thing, thing.replace("_", " "))


def style() -> None:
    """Set the look of all figures."""
    sns.set_theme(style="ticks", context="notebook", palette=list(PALETTE))
    plt.rcParams.update(
        {"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium",
         "axes.titleweight": "normal", "axes.titlelocation": "left", "legend.frameon": False, "font.size": 10}
    )  # fmt: skip


def spectrogram(samples: np.ndarray, sample_rate: int, spans: pd.DataFrame, ax: Axes) -> Axes:
    """Spectrogram of samples [n], 70 dB deep, with a bar above it over each event's span (event, onset, offset)."""
    *_, image = ax.specgram(
        samples.astype(float), NFFT=512, noverlap=256, Fs=sample_rate, cmap="magma", rasterized=True
    )
    brightest = float(np.max(image.get_array()))
    image.set_clim(brightest - 70, brightest)
    top = sample_rate / 2
    for row, span in enumerate(spans.itertuples()):
        y, colour = top * (1.05 + 0.13 * row), (BLUE, ORANGE)[row % 2]
        ax.plot([span.onset, span.offset], [y, y], lw=3, color=colour, clip_on=False, solid_capstyle="butt")
        ax.text(span.onset, y + 0.015 * top, span.event, fontsize=9, va="bottom", color=colour)
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)", xlim=(0, len(samples) / sample_rate), ylim=(0, top))
    ax.yaxis.set_major_formatter(lambda hertz, _: f"{hertz / 1000:g}")
    return ax


def per_class(scores: pd.Series, ax: Axes, xlabel: str) -> Axes:
    """Horizontal bars of one number per class, the best on top."""
    ordered = scores.sort_values()
    ax.barh(ordered.index, ordered.values, color=BLUE, height=0.7)
    ax.axvline(ordered.mean(), color=ORANGE, ls="--", lw=1)
    ax.text(ordered.mean(), 0.2, f" mean {ordered.mean():.2f}", color=ORANGE, va="bottom")
    ax.set(xlabel=xlabel, xlim=(0, 1))
    ax.tick_params(axis="y", labelsize=8, length=0)
    return ax


def training_curves(history: pd.DataFrame, column: str, ax: Axes, ylabel: str) -> Axes:
    """One line per seed over epochs (``variant``, ``seed``, ``epoch``), colour and line style by variant."""
    lines = {}
    variants = list(history["variant"].unique())
    for (variant, _seed), rows in history.groupby(["variant", "seed"], sort=False):
        number = variants.index(variant)
        style = ("-", "--", ":", "-.")[number % 4]
        colour = PALETTE[number % len(PALETTE)]
        (lines[variant],) = ax.plot(rows["epoch"], rows[column], color=colour, ls=style, lw=1.5, marker=".")
    ax.legend(lines.values(), [name(variant) for variant in lines], loc="upper right", fontsize=9)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def cumulative(values: dict[str, np.ndarray], ax: Axes, xlabel: str) -> Axes:
    """Share of items (%) at or below each value, one line per name."""
    for (name, found), colour, style in zip(values.items(), (BLUE, GREY, ORANGE), ("-", "--", ":")):
        ordered = np.sort(found)
        ax.step(
            ordered,
            100 * np.arange(1, len(ordered) + 1) / len(ordered),
            where="post",
            color=colour,
            ls=style,
            label=name,
        )
    ax.set(xlabel=xlabel, ylabel="items (%)", ylim=(0, 100))
    ax.legend(loc="lower right", fontsize=9)
    return ax


def recall_curves(curves: pd.DataFrame, chance: pd.Series, ax: Axes, title: str) -> Axes:
    """hit@k (%) over k: ``k``, ``normaliser``, ``value``, ``low``, ``high``; chance by k as a dotted line."""
    for normaliser, rows in curves.groupby("normaliser", sort=False):
        ax.plot(rows["k"], 100 * rows["value"], color=COLOURS[normaliser], marker="o", ms=3)
        ax.fill_between(
            rows["k"], 100 * rows["low"], 100 * rows["high"], color=COLOURS[normaliser], alpha=0.15, lw=0
        )
    last = curves[curves["k"] == curves["k"].max()].sort_values("value", ascending=False)
    y = np.inf
    for row in last.itertuples():
        y = min(100 * row.value, y - 6)  # labels of close lines stand below each other
        ax.annotate(
            NAMES[row.normaliser],
            (row.k, y),
            xytext=(6, 0),
            textcoords="offset points",
            color=COLOURS[row.normaliser],
            va="center",
            fontsize=9,
        )
    ax.plot(chance.index, 100 * chance.values, color="black", ls=":", lw=1)
    ax.annotate(
        "chance",
        (chance.index[-1], 100 * chance.iloc[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )
    ax.set(xscale="log", xlabel="k", ylabel="hit@k (%)", ylim=(0, 100), title=title)
    ax.set_xticks(list(chance.index), [str(k) for k in chance.index])
    ax.minorticks_off()
    return ax


def caption_bands(loss: np.ndarray, ax: Axes) -> Axes:
    """Each caption's loss over all audios: median and central 90 % [audios, captions], captions sorted by mean."""
    order = loss.mean(axis=0).argsort()
    low, middle, high = np.quantile(loss[:, order], [0.05, 0.5, 0.95], axis=0)
    x = np.arange(loss.shape[1])
    ax.fill_between(x, low, high, color=BLUE, alpha=0.3, lw=0)
    ax.plot(x, middle, color=BLUE, lw=1)
    ax.set(xlabel="captions, sorted by their mean loss", ylabel="loss (nats per token)", xlim=(0, len(x) - 1))
    return ax


def shares(parts: pd.DataFrame, ax: Axes) -> Axes:
    """Horizontal bars of variance shares with intervals: index names, ``value``, ``low``, ``high`` in 0…1."""
    y = np.arange(len(parts))[::-1]
    error = 100 * np.stack([parts["value"] - parts["low"], parts["high"] - parts["value"]])
    ax.barh(
        y,
        100 * parts["value"],
        xerr=error.clip(0),
        color=BLUE,
        height=0.6,
        error_kw={"lw": 1.2, "capsize": 3},
    )
    for position, value in zip(y, parts["high"]):
        ax.text(
            100 * value + 2,
            position,
            f"{100 * parts['value'].iloc[len(parts) - 1 - position]:.1f} %",
            va="center",
            fontsize=9,
        )
    ax.set(yticks=y, yticklabels=parts.index, xlabel="share of the loss variance (%)", xlim=(0, 105))
    return ax


def hub_counts(counts: dict[str, np.ndarray], ax: Axes) -> Axes:
    """How often each caption is among the top ten, largest first, one line per normaliser (log scale)."""
    for name, values in counts.items():
        ordered = np.sort(values)[::-1]
        ax.plot(
            np.arange(1, len(ordered) + 1), np.maximum(ordered, 0.5), color=COLOURS[name], label=NAMES[name]
        )
        ax.text(
            1.1, ordered[0], f"{NAMES[name]}: {ordered[0]:.0f}", color=COLOURS[name], fontsize=9, va="bottom"
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="captions, from the most returned",
        ylabel="audios with it in their top 10",
    )
    return ax


def accuracies(table: pd.DataFrame, ax: Axes) -> Axes:
    """Points with intervals: ``row``, ``what`` (accuracy or a control), ``value``, ``low``, ``high`` in 0…1."""
    marks = {
        "accuracy": ("o", BLUE),
        "shuffled frames": ("v", ORANGE),
        "blind": ("s", GREY),
        "null audio": ("D", PINK),
        "trigram": ("^", GREEN),
        "majority": ("x", "black"),
    }
    kinds = _points(table, marks, ax)
    ax.axvline(50, color="black", ls=":", lw=1)
    ax.set(xlabel="items whose true caption costs less (%)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncol=min(3, kinds), fontsize=9)
    return ax


def pair_scores(table: pd.DataFrame, chance: dict[str, float], ax: Axes) -> Axes:
    """Points with intervals: ``row``, ``what`` (text, audio, group, matching), ``value`` … in 0…1; chance as dotted lines."""
    marks = {"text": ("o", BLUE), "audio": ("s", ORANGE), "group": ("D", GREEN), "matching": ("^", GREY)}
    kinds = _points(table, marks, ax)
    for level in sorted(set(chance.values())):
        ax.axvline(100 * level, color="black", ls=":", lw=1)
    ax.set(xlabel="pairs told apart (%)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncol=kinds, fontsize=9)
    return ax


def faults(table: pd.DataFrame, ax: Axes) -> Axes:
    """Points with intervals: ``row`` (a fault), ``what`` (whose captions), ``value``, ``low``, ``high`` in 0…1."""
    looks = (("o", BLUE), ("x", "black"), ("s", GREY), ("D", ORANGE))
    kinds = _points(table, dict(zip(dict.fromkeys(table["what"]), looks)), ax)
    ax.set(xlabel="captions (%)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.3, -0.16), ncol=min(2, kinds), fontsize=9)
    return ax


def _points(table: pd.DataFrame, marks: dict[str, tuple[str, str]], ax: Axes) -> int:
    """A line of the axes for each ``row``, and on it a point with its interval for each ``what``; returns how many."""
    rows = list(dict.fromkeys(table["row"]))
    kinds = [kind for kind in marks if kind in set(table["what"])]
    for place, kind in enumerate(kinds):
        part = table[table["what"] == kind]
        offset = 0.3 - 0.6 * place / max(1, len(kinds) - 1)
        y = [len(rows) - 1 - rows.index(row) + offset for row in part["row"]]
        error = 100 * np.stack([part["value"] - part["low"], part["high"] - part["value"]]).clip(0)
        marker, colour = marks[kind]
        ax.errorbar(
            100 * part["value"], y, xerr=error, fmt=marker, color=colour, ms=5, lw=1.2, capsize=2, label=kind
        )
    ax.set(yticks=range(len(rows)), yticklabels=rows[::-1], xlim=(0, 100))
    return len(kinds)


def standing(scores: np.ndarray, best: int, ax: Axes, xlabel: str) -> Axes:
    """One dot per item at its score, best first; the first ``best`` stand out and bear their ranks."""
    heights = np.random.default_rng(0).uniform(
        -0.35, 0.35, len(scores)
    )  # so that dots do not hide each other
    heights[:best] = np.linspace(0.3, -0.3, best) if best > 1 else 0.0
    ax.scatter(scores[best:], heights[best:], s=14, color=GREY, alpha=0.5, lw=0)
    ax.scatter(scores[:best], heights[:best], s=34, color=ORANGE, lw=0)
    for rank, (score, height) in enumerate(zip(scores[:best], heights[:best]), start=1):
        ax.annotate(
            str(rank), (score, height), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9
        )
    ax.set(xlabel=xlabel, yticks=[], ylim=(-0.5, 0.5))
    ax.spines["left"].set_visible(False)
    return ax


def normalisers(table: pd.DataFrame, ax: Axes, chance: float) -> Axes:
    """hit@1 (%) of each ``method`` with interval (``hit@1``, ``hit@1 low``, ``hit@1 high``) by ``mark``, best on top."""
    marks = {"transductive": ("o", ORANGE), "online": ("s", BLUE)}
    order = list(table.groupby("method")["hit@1"].max().sort_values().index)
    for offset, (mark, (shape, colour)) in zip((0.14, -0.14), marks.items()):
        rows = table[table["mark"] == mark]
        y = np.array([order.index(method) for method in rows["method"]]) + offset
        error = 100 * np.stack([rows["hit@1"] - rows["hit@1 low"], rows["hit@1 high"] - rows["hit@1"]])
        ax.errorbar(
            100 * rows["hit@1"], y, xerr=error.clip(0), fmt=shape, color=colour, ms=4, lw=1.2, label=mark
        )
    ax.axvline(100 * chance, color="black", ls=":", lw=1)
    ax.set(yticks=range(len(order)), yticklabels=[name(method) for method in order], xlabel="hit@1 (%)")
    ax.legend(loc="lower right", fontsize=9)
    return ax


def bank_sizes(table: pd.DataFrame, transductive: dict[str, float], ax: Axes) -> Axes:
    """hit@1 (%) over the number of bank ``audios`` by ``method``; dotted: the same with the test pool itself."""
    styles = zip((BLUE, ORANGE, GREEN, PINK, GREY), ("-", "--", "-.", (0, (5, 1)), (0, (1, 1))))
    for (method, rows), (colour, line) in zip(table.groupby("method", sort=False), styles):
        ax.plot(
            rows["audios"], 100 * rows["value"], color=colour, ls=line, marker="o", ms=3, label=name(method)
        )
        ax.fill_between(rows["audios"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.12, lw=0)
        if method in transductive:
            ax.axhline(100 * transductive[method], color=colour, ls=":", lw=1)
    sizes = sorted(set(table["audios"]))
    ax.set(xscale="log", xlabel="audios in the bank", ylabel="hit@1 (%)", ylim=(0, None))
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend(loc="lower right", fontsize=9)
    return ax


def loss_map(loss: np.ndarray, ax: Axes) -> Axes:
    """Losses [audios, captions] as an image, captions sorted by their mean, audios by theirs."""
    ordered = loss[np.argsort(loss.mean(axis=1))][:, np.argsort(loss.mean(axis=0))]
    low, high = np.quantile(loss, [0.01, 0.99])
    image = ax.imshow(ordered, aspect="auto", cmap="cividis", vmin=low, vmax=high, rasterized=True)
    ax.figure.colorbar(image, ax=ax, label="loss (nats per token)")
    ax.set(xlabel="captions, sorted by their mean loss", ylabel="audios, sorted by theirs")
    return ax


def word_losses(table: pd.DataFrame, ax: Axes) -> Axes:
    """Words of captions, one caption a line, each on a field as dark as its ``mean`` loss over audios (nats)."""
    captions = list(dict.fromkeys(table["caption"]))
    deepest = max(float(table["mean"].max()), 1e-9)
    for row in table.itertuples():
        y, shade = len(captions) - 1 - captions.index(row.caption), row.mean / deepest
        ax.barh(y, 0.96, left=row.position, height=0.8, color=plt.get_cmap("Blues")(0.7 * shade))
        ax.text(row.position + 0.48, y + 0.14, row.word, ha="center", va="center", fontsize=8, clip_on=True)
        ax.text(row.position + 0.48, y - 0.2, f"{row.mean:.1f}", ha="center", va="center", fontsize=7)
    ax.set(
        xlabel="position in the caption (tokens)",
        ylabel="captions, the greatest hub on top",
        xlim=(0, table["position"].max() + 1),
        yticks=[],
    )
    return ax


def differences(table: pd.DataFrame, ax: Axes, title: str) -> Axes:
    """Paired differences to the study itself (``variant``, ``difference``, ``difference low``, ``difference high``) from 0."""
    y = np.arange(len(table))[::-1]
    value, low, high = (table[f"difference{end}"].to_numpy(float) for end in ("", " low", " high"))
    sure = (low > 0) | (high < 0)
    ax.axvline(0, color="black", ls=":", lw=1)
    for mask, colour, marker in ((sure, BLUE, "o"), (~sure, GREY, "s")):
        if mask.any():
            spread = [value[mask] - low[mask], high[mask] - value[mask]]
            ax.errorbar(value[mask], y[mask], xerr=spread, fmt=marker, color=colour, ms=5, capsize=2, lw=1.5)
    ax.set_yticks(y, [name(variant) for variant in table["variant"]])
    ax.set(xlabel="difference to the study itself", title=title)
    return ax


def transfer(table: pd.DataFrame, ax: Axes) -> Axes:
    """Audio-to-text hit@1 by raw and min-max losses of each captioner on each corpus (rows of ablation.transfer_table)."""
    rows = list(dict.fromkeys(zip(table["captioner"], table["corpus"])))
    for offset, normaliser, marker in ((0.12, "raw", "s"), (-0.12, "min_max", "o")):
        found = table[table["what"] == f"a2t.{normaliser}.hit@1"].set_index(["captioner", "corpus"]).loc[rows]
        value, low, high = (100 * found[end].to_numpy(float) for end in ("value", "low", "high"))
        y = np.arange(len(rows))[::-1] + offset
        ax.errorbar(
            value, y, xerr=[value - low, high - value], fmt=marker, color=COLOURS[normaliser], ms=6, capsize=2,
            label=name(normaliser),
        )  # fmt: skip
    labels = [f"{name(a)} on {'its own' if a == b else name(b)}" for a, b in rows]
    ax.set_yticks(np.arange(len(rows))[::-1], labels)
    ax.set(xlabel="audio-to-text hit@1 (%)", ylim=(-0.6, len(rows) - 0.4))
    ax.legend(loc="best", fontsize=9)
    return ax
