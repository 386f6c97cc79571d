"""Figures: each function takes tables or arrays and returns axes; none computes a metric.

One palette, safe for colour-blindness (Okabe and Ito) and told apart in greyscale by line style,
marker and label. Names stand beside what they name, never in a legend.
"""

import textwrap
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D
from scipy.optimize import isotonic_regression

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
PALETTE = (BLUE, ORANGE, GREEN, PINK, GREY, "black")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SMALL = 9  # points: the size of labels
CHANCE = {"color": "black", "ls": ":", "lw": 1}
# colour, line style and marker of a series
LOOKS = {
    "raw": (GREY, ":", "s"),
    "min_max": (BLUE, "-", "o"),
    "z": (ORANGE, "--", "^"),
    "pmi": (GREEN, "-.", "D"),
}
NAMES = {
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
         "axes.titleweight": "normal", "axes.titlelocation": "left", "font.size": 10}
    )  # fmt: skip


# --- names beside the points that they name -----------------------------------------------------


class Label(NamedTuple):
    """A name for the point (x, y) of the data; the style of the line that leads to it."""

    x: float
    y: float
    text: str
    colour: str
    line: str = "-"


def ink(colour: str) -> str:
    """The colour, darkened until its contrast on white is at least 4.5 (WCAG 2.2, 1.4.3)."""
    shade = np.array(to_rgb(colour))
    while True:
        linear = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
        if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5:
            return to_hex(shade)
        shade *= 0.97


def apart(wanted: np.ndarray, heights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Centres next to the ``wanted`` ones, in their order, where labels of these heights are apart.

    They stay between ``low`` and ``high`` if there is room. Of equal ones the first is on top.
    """
    order = np.lexsort((-np.arange(len(wanted)), wanted))
    stack = np.cumsum(heights[order]) - heights[order] / 2  # the centres of a pile on 0
    # a label may not sink into the pile below it: its height above its place there never falls
    shift = isotonic_regression(wanted[order] - stack).x.clip(low, max(low, high - heights.sum()))
    centres = np.empty(len(wanted))
    centres[order] = stack + shift
    return centres


def name_points(ax: Axes, labels: list[Label], width: int = 26, side: int = 1) -> None:
    """Write the labels beside their points, pushed apart, with a thin line to each.

    width: characters in a line. side: 1 to the right of the points, -1 to the left. The places are
    found when the figure is drawn, for limits and layout may change until then.
    """
    texts = [textwrap.fill(label.text, width) for label in labels]
    heights = np.array([1.25 * SMALL * (1 + text.count("\n")) for text in texts])

    def place(number: int):
        def transform(_renderer):
            scale = ax.figure.dpi / 72
            points = ax.transData.transform([(label.x, label.y) for label in labels])
            centres = apart(points[:, 1], scale * heights, ax.bbox.y0, ax.bbox.y1)
            return Affine2D().scale(scale).translate(points[number, 0], centres[number])

        return transform

    for number, (label, text) in enumerate(zip(labels, texts)):
        colour = ink(label.colour)
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.8, "ls": label.line, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            text, (label.x, label.y), xytext=(14 * side, 0), textcoords=place(number), color=colour,
            fontsize=SMALL, linespacing=1.1, ha="left" if side > 0 else "right", va="center",
            annotation_clip=False, arrowprops=leader | {"relpos": ((1 - side) / 2, 0.5)},
            path_effects=[withStroke(linewidth=2, foreground="white")],  # readable on a line
        )  # fmt: skip


# --- series and rows ----------------------------------------------------------------------------


def _looks(kinds: Iterable, lines: tuple = LINES) -> dict:
    """Colour, line style and marker of each series, no two alike among the first dozen."""
    return dict(zip(dict.fromkeys(kinds), zip(cycle(PALETTE), cycle(lines), cycle(MARKERS))))


def _percent(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**100 * table[["value", "low", "high"]])


def _curves(
    ax: Axes, table: pd.DataFrame, x: str, y: str, by: str, looks: Mapping, units: str | None = None
) -> list[Label]:
    """A line for each ``by`` and each of its ``units``, with a band; the labels of their ends."""
    labels = []
    for kind, rows in table.groupby(by, sort=False):
        colour, line, marker = looks[kind]
        look = {"color": colour, "ls": line, "marker": marker, "ms": 4, "mew": 0}
        sns.lineplot(rows, x=x, y=y, units=units, estimator=None, ax=ax, **look)
        if "low" in rows:
            ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
        last = rows.loc[rows[x].idxmax()]
        labels.append(Label(last[x], last[y], name(kind), colour, line))
    return labels


def _points(
    table: pd.DataFrame, looks: Mapping, ax: Axes, xlabel: str, chance: Iterable = (), rows=None, right=100.0
) -> Axes:
    """Rows by name, in each a point with its interval for each ``what``, in percent.

    The table has ``row``, ``what``, ``value``, ``low`` and ``high``, these in 0…1. Each ``what`` is
    named once, in the margin beside its first row.
    """
    rows = rows or list(dict.fromkeys(table["row"]))
    table, kinds = _percent(table), [kind for kind in looks if kind in set(table["what"])]
    spread, labels = min(0.35, 0.085 * len(kinds)), []
    for kind, offset in zip(kinds, np.linspace(spread, -spread, len(kinds))):
        part, (colour, _, marker) = table[table["what"] == kind], looks[kind]
        y = np.array([len(rows) - 1 - rows.index(row) for row in part["row"]]) + offset
        _dots(ax, part, y, marker, colour, label=kind)
        top = y.argmax()
        ax.plot([part["high"].iloc[top], right], [y[top]] * 2, color=colour, lw=0.5, zorder=1)
        labels.append(Label(right, y[top], kind, colour))
    name_points(ax, labels, width=16)
    _rows(ax, rows)
    for level in chance:
        ax.axvline(100 * level, **CHANCE)
    ax.set(xlabel=xlabel, xlim=(0, right))
    return ax


def _dots(ax: Axes, part: pd.DataFrame, y: np.ndarray, marker: str, colour: str, **about) -> None:
    """Points with intervals (``value``, ``low``, ``high``) at heights y."""
    error = np.stack([part["value"] - part["low"], part["high"] - part["value"]]).clip(0)
    # points at 0 and at 100 are whole
    look = {"fmt": marker, "color": colour, "ms": 5, "lw": 1.2, "capsize": 2, "clip_on": False}
    ax.errorbar(part["value"], y, xerr=error, **look, **about)


def _rows(ax: Axes, names: list[str]) -> None:
    """Name the rows of the axes, the first on top."""
    ax.set_yticks(range(len(names)), [textwrap.fill(one, 26) for one in names[::-1]], fontsize=SMALL)
    ax.set_ylim(-0.6, len(names) - 0.4)


# --- the figures --------------------------------------------------------------------------------


def spectrogram(samples: np.ndarray, sample_rate: int, spans: pd.DataFrame, ax: Axes) -> Axes:
    """Spectrogram of samples [n], 70 dB deep, under the spans (event, onset, offset) of events."""
    *_, image = ax.specgram(
        samples.astype(float), NFFT=512, noverlap=256, Fs=sample_rate, cmap="magma", rasterized=True
    )
    brightest = float(np.max(image.get_array()))
    image.set_clim(brightest - 70, brightest)
    top, seconds = sample_rate / 2, len(samples) / sample_rate
    for row, span in enumerate(spans.itertuples()):
        y, colour = top * (1.05 + 0.13 * row), ink((BLUE, ORANGE)[row % 2])
        ax.plot([span.onset, span.offset], [y, y], lw=3, color=colour, clip_on=False, solid_capstyle="butt")
        late = span.onset > 0.7 * seconds  # the name would leave the axes
        x, side = (span.offset, "right") if late else (span.onset, "left")
        ax.text(x, y + 0.015 * top, span.event, fontsize=SMALL, ha=side, va="bottom", color=colour)
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)", xlim=(0, seconds), ylim=(0, top))
    ax.yaxis.set_major_formatter(lambda hertz, _: f"{hertz / 1000:g}")
    return ax


def per_class(scores: pd.Series, ax: Axes, xlabel: str) -> Axes:
    """Horizontal bars of one number per class, the best on top."""
    ordered = scores.sort_values()
    ax.barh(ordered.index, ordered.values, color=BLUE, height=0.7)
    ax.axvline(ordered.mean(), color=ORANGE, ls="--", lw=1)
    ax.text(ordered.mean(), 0.2, f" mean {ordered.mean():.2f}", color=ink(ORANGE), va="bottom")
    ax.set(xlabel=xlabel, xlim=(0, 1))
    ax.tick_params(axis="y", labelsize=8, length=0)
    return ax


def training_curves(history: pd.DataFrame, column: str, ax: Axes, ylabel: str) -> Axes:
    """One line per seed over epochs (``variant``, ``seed``, ``epoch``), its look by variant."""
    looks = _looks(history["variant"])
    name_points(ax, _curves(ax, history, "epoch", column, "variant", looks, "seed"))
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def cumulative(values: dict[str, np.ndarray], ax: Axes, xlabel: str) -> Axes:
    """Share of items (%) at or below each value, one line per name."""
    # names stand right of all lines, each at a height of its own, the greatest values at the lowest
    ascending = sorted(values, key=lambda one: np.median(values[one]))
    for one, (colour, line, marker) in _looks(values).items():
        sns.ecdfplot(values[one], stat="percent", color=colour, ls=line, ax=ax)
        height = 1 - (ascending.index(one) + 1) / (len(values) + 1)
        x = np.quantile(values[one], height, method="inverted_cdf")
        free = max(np.quantile(other, min(1, height + 0.06)) for other in values.values())
        ax.plot([x, free], [100 * height] * 2, color=colour, lw=0.8, marker=marker, ms=5, markevery=[0])
        look = {"color": ink(colour), "va": "center", "fontsize": SMALL}
        ax.annotate(one, (free, 100 * height), (4, 0), textcoords="offset points", **look)
    ax.set(xlabel=xlabel, ylabel="items (%)", ylim=(0, 100))
    return ax


def recall_curves(curves: pd.DataFrame, chance: pd.Series, ax: Axes, title: str) -> Axes:
    """hit@k (%) over k: ``k``, ``normaliser``, ``value``, ``low``, ``high``; chance by k dotted."""
    # what is not measured needs no yardstick
    chance = 100 * chance[chance.index <= curves["k"].max()]
    labels = _curves(ax, _percent(curves), "k", "value", "normaliser", LOOKS)
    ax.plot(chance.index, chance, **CHANCE)
    name_points(ax, [*labels, Label(chance.index[-1], chance.iloc[-1], "chance", "black", ":")])
    ax.set(xscale="log", xlabel="k", ylabel="hit@k (%)", ylim=(0, 100), title=title)
    ax.set_xticks(chance.index, chance.index)
    ax.minorticks_off()
    return ax


def caption_bands(loss: np.ndarray, ax: Axes) -> Axes:
    """Median and central 90 % of each caption's losses [audios, captions], sorted by mean."""
    order = loss.mean(axis=0).argsort()
    low, middle, high = np.quantile(loss[:, order], [0.05, 0.5, 0.95], axis=0)
    x = np.arange(loss.shape[1])
    ax.fill_between(x, low, high, color=BLUE, alpha=0.3, lw=0)
    ax.plot(x, middle, color=BLUE, lw=1)
    ax.set(xlabel="captions, sorted by their mean loss", ylabel="loss (nats per token)", xlim=(0, len(x) - 1))
    return ax


def shares(parts: pd.DataFrame, ax: Axes) -> Axes:
    """Bars of variance shares with intervals: index names, ``value``, ``low``, ``high`` in 0…1."""
    parts = _percent(parts[::-1])
    error = np.stack([parts["value"] - parts["low"], parts["high"] - parts["value"]]).clip(0)
    look = {"color": BLUE, "height": 0.6, "error_kw": {"lw": 1.2, "capsize": 3}}
    bars = ax.barh(parts.index, parts["value"], xerr=error, **look)
    ax.bar_label(bars, fmt="%.1f %%", padding=6, fontsize=SMALL)
    ax.set(xlabel="share of the loss variance (%)", xlim=(0, 105))
    return ax


def hub_counts(counts: dict[str, np.ndarray], ax: Axes) -> Axes:
    """How often each caption is among the top ten, largest first, by normaliser (log scale)."""
    labels = []
    for normaliser, values in counts.items():
        ordered = np.maximum(np.sort(values)[::-1], 0.5)
        colour, line, marker = LOOKS[normaliser]
        ranks = np.arange(1, len(ordered) + 1)
        ax.plot(ranks, ordered, color=colour, ls=line, marker=marker, ms=5, markevery=[0])
        labels.append(Label(1, ordered[0], f"{name(normaliser)}: {max(values):.0f}", colour, line))
    name_points(ax, labels, side=-1)
    most = max(10, *(len(values) for values in counts.values()))
    ax.set(xscale="log", xlabel="captions, from the most returned")
    ax.set(yscale="log", ylabel="audios with it in their top 10")
    ax.set_xlim(most**-0.3, 1.2 * most)  # on the left room for the names
    ax.set_xticks([10**power for power in range(1 + int(np.log10(most)))])
    ax.set_xticks([], minor=True)
    return ax


def accuracies(table: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy and its controls: see ``_points``."""
    looks = _looks(("accuracy", "permuted audio", "blind", "null audio", "trigram", "majority"))
    return _points(table, looks, ax, "items whose true caption costs less (%)", [0.5])


def pair_scores(table: pd.DataFrame, chance: dict[str, float], ax: Axes) -> Axes:
    """Scores of pairs (text, audio, group, matching; see ``_points``); chance as dotted lines."""
    looks = _looks(("text", "audio", "group", "matching"))
    return _points(table, looks, ax, "pairs told apart (%)", sorted(set(chance.values())))


def faults(table: pd.DataFrame, ax: Axes) -> Axes:
    """Faults (``row``) by whose captions have them (``what``): see ``_points``."""
    return _points(table, _looks(table["what"]), ax, "captions (%)")


def standing(scores: np.ndarray, best: int, ax: Axes, xlabel: str) -> Axes:
    """A dot per item at its score, best first; the first ``best`` stand out with their ranks."""
    # so that dots do not hide each other
    heights = np.random.default_rng(0).uniform(-0.35, 0.35, len(scores))
    heights[:best] = np.linspace(0.3, -0.3, best) if best > 1 else 0.0
    ax.scatter(scores[best:], heights[best:], s=14, color=GREY, alpha=0.5, lw=0)
    ax.scatter(scores[:best], heights[:best], s=34, color=ORANGE, lw=0)
    ranks = [Label(scores[i], heights[i], str(i + 1), "black") for i in range(best)]
    name_points(ax, ranks[::2])
    if best > 1:  # ten of them would not stand below each other
        name_points(ax, ranks[1::2], side=-1)
    ax.set(xlabel=xlabel, yticks=[], ylim=(-0.5, 0.5))
    ax.spines["left"].set_visible(False)
    return ax


def normalisers(table: pd.DataFrame, ax: Axes, chance: float) -> Axes:
    """``hit@1``, ``hit@1 low`` and ``hit@1 high`` of each ``method`` by ``mark``, best on top."""
    names = {"hit@1": "value", "hit@1 low": "low", "hit@1 high": "high", "mark": "what"}
    table = table.rename(columns=names).assign(row=table["method"].map(name))
    best = table.groupby("row")["value"].max().sort_values(ascending=False)
    looks = _looks(("transductive", "online"))
    return _points(table, looks, ax, "hit@1 (%)", [chance], list(best.index), 105 * table["high"].max())


def bank_sizes(table: pd.DataFrame, transductive: dict[str, float], ax: Axes) -> Axes:
    """hit@1 (%) over the number of bank ``audios`` by ``method``; dotted: with the test pool."""
    sizes = sorted(set(table["audios"]))
    looks = _looks(table["method"], ("-", "--", "-.", (0, (8, 2))))  # dotted is the test pool
    name_points(ax, _curves(ax, _percent(table), "audios", "value", "method", looks))
    for method, (colour, _, marker) in looks.items():
        if method in transductive:  # told from the others by its marker
            look = {"color": colour, "ls": ":", "lw": 1, "marker": marker, "mfc": "white", "ms": 5}
            ax.plot(sizes, [100 * transductive[method]] * len(sizes), markevery=[0], **look)
    ax.set(xscale="log", xlabel="audios in the bank", ylabel="hit@1 (%)", ylim=(0, None))
    ax.set_xticks(sizes, sizes)
    ax.minorticks_off()
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
    """Words of captions, a caption a line, as dark as their ``mean`` loss over audios (nats)."""
    table = table.assign(text=table["word"] + table["mean"].map("\n{:.1f}".format))
    grid = table.pivot(index="caption", columns="position").loc[table["caption"].unique()]
    fields = {"cmap": "Blues", "vmin": 0, "vmax": table["mean"].max() / 0.55, "linewidths": 2}
    words = {"annot": grid["text"], "fmt": "", "annot_kws": {"fontsize": 8, "color": "black"}}
    sns.heatmap(grid["mean"], cbar=False, yticklabels=False, ax=ax, **fields, **words)
    ax.set(xlabel="position in the caption (tokens)", ylabel="captions, the greatest hub on top")
    return ax


def differences(table: pd.DataFrame, ax: Axes, title: str, points: bool = False) -> Axes:
    """``difference``, ``difference low`` and ``difference high`` of each ``variant`` to the study.

    points: the measure is a share, shown in percentage points. Blue are intervals without 0.
    """
    y = np.arange(len(table))[::-1]
    columns = {"difference": "value", "difference low": "low", "difference high": "high"}
    ends = table[list(columns)].rename(columns=columns)  # it has a value of its own as well
    sure = (ends["low"] > 0) | (ends["high"] < 0)
    ax.axvline(0, **CHANCE)
    for mask, *look in ((sure, "o", BLUE), (~sure, "s", GREY)):
        if mask.any():
            _dots(ax, (100 if points else 1) * ends[mask], y[mask], *look)
    _rows(ax, [name(variant) for variant in table["variant"]])
    ax.set(xlabel="difference to the study itself" + " (points)" * points, title=title)
    return ax


def transfer(table: pd.DataFrame, ax: Axes) -> Axes:
    """Audio-to-text hit@1 of each captioner on each corpus (see ``ablation.transfer_table``)."""
    measures = {f"a2t.{one}.hit@1": name(one) for one in ("raw", "min_max")}
    table = table[table["what"].isin(measures)]
    pairs = zip(table["captioner"], table["corpus"])
    rows = [f"{name(a)} on {'its own' if a == b else name(b)}" for a, b in pairs]
    table = table.assign(row=rows, what=table["what"].map(measures))
    looks = {name(one): LOOKS[one] for one in ("raw", "min_max")}
    return _points(table, looks, ax, "audio-to-text hit@1 (%)", right=105 * table["high"].max())
