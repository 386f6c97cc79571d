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
COLOURS = {"raw": GREY, "min_max": BLUE, "z": ORANGE}
NAMES = {
    "raw": "raw",
    "min_max": "min-max",
    "z": "z-score",
    "base": "as published",
    "positions": "sinusoidal frame positions",
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
        "blind": ("s", GREY),
        "trigram": ("^", GREEN),
        "null audio": ("D", PINK),
    }
    rows = list(dict.fromkeys(table["row"]))
    kinds = [kind for kind in marks if kind in set(table["what"])]
    for offset, kind in enumerate(kinds):
        part = table[table["what"] == kind]
        y = [len(rows) - 1 - rows.index(row) + 0.24 - 0.16 * offset for row in part["row"]]
        error = 100 * np.stack([part["value"] - part["low"], part["high"] - part["value"]]).clip(0)
        marker, colour = marks[kind]
        ax.errorbar(
            100 * part["value"], y, xerr=error, fmt=marker, color=colour, ms=5, lw=1.2, capsize=2, label=kind
        )
    ax.axvline(50, color="black", ls=":", lw=1)
    ax.set(
        yticks=range(len(rows)),
        yticklabels=rows[::-1],
        xlabel="items whose true caption costs less (%)",
        xlim=(0, 100),
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncol=len(kinds), fontsize=9)
    return ax
