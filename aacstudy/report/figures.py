"""Figures: each function takes tables or arrays and returns axes; none computes a metric.

One palette, safe for colour-blindness (Okabe and Ito) and told apart in greyscale by line style, marker and
label. Names stand beside what they name, never in a legend.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from aacstudy.report.labels import SMALL, Label, ink, name_points

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
PALETTE = (BLUE, ORANGE, GREEN, PINK, GREY)
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLOURS = {"raw": GREY, "min_max": BLUE, "z": ORANGE, "pmi": GREEN}
LOOKS = {"raw": ("s", ":"), "min_max": ("o", "-"), "z": ("^", "--"), "pmi": ("D", "-.")}
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
         "axes.titleweight": "normal", "axes.titlelocation": "left", "font.size": 10}
    )  # fmt: skip


def _look(number: int, lines: tuple = LINES) -> tuple:
    """Colour, line style and marker of a figure's series, no two alike among the first dozen."""
    return PALETTE[number % len(PALETTE)], lines[number % len(lines)], MARKERS[number % len(MARKERS)]


def _rows(ax: Axes, names: list[str]) -> None:
    """Name the rows of the axes, the first on top."""
    ax.set_yticks(range(len(names)), [textwrap.fill(one, 26) for one in names[::-1]], fontsize=SMALL)


def spectrogram(samples: np.ndarray, sample_rate: int, spans: pd.DataFrame, ax: Axes) -> Axes:
    """Spectrogram of samples [n], 70 dB deep, with a bar above it over each event's span (event, onset, offset)."""
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
    """One line per seed over epochs (``variant``, ``seed``, ``epoch``), colour and line style by variant."""
    labels = []
    for number, (variant, runs) in enumerate(history.groupby("variant", sort=False)):
        colour, line, marker = _look(number)
        for _seed, rows in runs.groupby("seed", sort=False):
            ax.plot(rows["epoch"], rows[column], color=colour, ls=line, lw=1.5, marker=marker, ms=3)
        last = runs.loc[runs["epoch"].idxmax()]
        labels.append(Label(last["epoch"], last[column], name(variant), colour, line))
    name_points(ax, labels)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def cumulative(values: dict[str, np.ndarray], ax: Axes, xlabel: str) -> Axes:
    """Share of items (%) at or below each value, one line per name."""
    # names stand to the right of all lines, each at a height of its own, the greatest values at the lowest
    ascending = sorted(values, key=lambda one: np.median(values[one]))
    for number, (one, found) in enumerate(values.items()):
        colour, line, marker = _look(number)
        ordered = np.sort(found)
        share = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
        ax.step(ordered, share, where="post", color=colour, ls=line)
        height = 1 - (ascending.index(one) + 1) / (len(values) + 1)
        x = np.quantile(found, height, method="inverted_cdf")
        free = max(np.quantile(other, min(1, height + 0.06)) for other in values.values())
        ax.plot([x, free], [100 * height] * 2, color=colour, lw=0.8, marker=marker, ms=5, markevery=[0])
        ax.annotate(
            one, (free, 100 * height), (4, 0), textcoords="offset points", color=ink(colour), va="center", fontsize=SMALL
        )  # fmt: skip
    ax.set(xlabel=xlabel, ylabel="items (%)", ylim=(0, 100))
    return ax


def recall_curves(curves: pd.DataFrame, chance: pd.Series, ax: Axes, title: str) -> Axes:
    """hit@k (%) over k: ``k``, ``normaliser``, ``value``, ``low``, ``high``; chance by k as a dotted line."""
    labels = []
    for normaliser, rows in curves.groupby("normaliser", sort=False):
        colour, (marker, line) = COLOURS[normaliser], LOOKS[normaliser]
        ax.plot(rows["k"], 100 * rows["value"], color=colour, marker=marker, ls=line, ms=4)
        ax.fill_between(rows["k"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.15, lw=0)
        last = rows.loc[rows["k"].idxmax()]
        labels.append(Label(last["k"], 100 * last["value"], name(normaliser), colour, line))
    chance = chance[chance.index <= curves["k"].max()]  # what is not measured needs no yardstick
    ax.plot(chance.index, 100 * chance.values, color="black", ls=":", lw=1)
    labels.append(Label(chance.index[-1], 100 * chance.iloc[-1], "chance", "black", ":"))
    name_points(ax, labels)
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
    labels = []
    for normaliser, values in counts.items():
        ordered = np.maximum(np.sort(values)[::-1], 0.5)
        colour, (marker, line) = COLOURS[normaliser], LOOKS[normaliser]
        ranks = np.arange(1, len(ordered) + 1)
        ax.plot(ranks, ordered, color=colour, ls=line, marker=marker, ms=5, markevery=[0])
        labels.append(Label(1, ordered[0], f"{name(normaliser)}: {max(values):.0f}", colour, line))
    name_points(ax, labels, side=-1)
    most = max(10, *(len(values) for values in counts.values()))
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="captions, from the most returned",
        ylabel="audios with it in their top 10",
    )
    ax.set_xlim(most**-0.3, 1.2 * most)  # on the left room for the names
    ax.set_xticks([10**power for power in range(1 + int(np.log10(most)))])
    ax.set_xticks([], minor=True)
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
    _points(table, marks, ax)
    ax.axvline(50, color="black", ls=":", lw=1)
    ax.set(xlabel="items whose true caption costs less (%)")
    return ax


def pair_scores(table: pd.DataFrame, chance: dict[str, float], ax: Axes) -> Axes:
    """Points with intervals: ``row``, ``what`` (text, audio, group, matching), ``value`` … in 0…1; chance as dotted lines."""
    marks = {"text": ("o", BLUE), "audio": ("s", ORANGE), "group": ("D", GREEN), "matching": ("^", GREY)}
    _points(table, marks, ax)
    for level in sorted(set(chance.values())):
        ax.axvline(100 * level, color="black", ls=":", lw=1)
    ax.set(xlabel="pairs told apart (%)")
    return ax


def faults(table: pd.DataFrame, ax: Axes) -> Axes:
    """Points with intervals: ``row`` (a fault), ``what`` (whose captions), ``value``, ``low``, ``high`` in 0…1."""
    looks = (("o", BLUE), ("x", "black"), ("s", GREY), ("D", ORANGE))
    _points(table, dict(zip(dict.fromkeys(table["what"]), looks)), ax)
    ax.set(xlabel="captions (%)")
    return ax


def _points(table: pd.DataFrame, marks: dict[str, tuple[str, str]], ax: Axes) -> None:
    """A line of the axes for each ``row``, and on it a point with its interval for each ``what``.

    Each ``what`` is named once, in the margin beside its first row.
    """
    rows = list(dict.fromkeys(table["row"]))
    kinds = [kind for kind in marks if kind in set(table["what"])]
    labels = []
    for place, kind in enumerate(kinds):
        part = table[table["what"] == kind]
        offset = 0.35 - 0.7 * place / max(1, len(kinds) - 1)
        y = [len(rows) - 1 - rows.index(row) + offset for row in part["row"]]
        marker, colour = marks[kind]
        end = _dots(ax, part, y, colour, marker, kind)
        ax.plot([end.x, 100], [end.y, end.y], color=colour, lw=0.5, zorder=1)
        labels.append(end._replace(x=100))
    name_points(ax, labels, width=16)
    _rows(ax, rows)
    ax.set(xlim=(0, 100), ylim=(-0.6, len(rows) - 0.4))


def _dots(ax: Axes, part: pd.DataFrame, y, colour: str, marker: str, kind: str) -> Label:
    """Draw points with intervals (``value``, ``low``, ``high``, in percent) at heights y; the label of the topmost."""
    value, low, high = (100 * part[end].to_numpy(float) for end in ("value", "low", "high"))
    error = np.stack([value - low, high - value]).clip(0)
    # points at 0 and at 100 are whole
    ax.errorbar(
        value, y, xerr=error, fmt=marker, color=colour, ms=5, lw=1.2, capsize=2, label=kind, clip_on=False
    )
    top = int(np.argmax(y))
    return Label(high[top], y[top], kind, colour)


def standing(scores: np.ndarray, best: int, ax: Axes, xlabel: str) -> Axes:
    """One dot per item at its score, best first; the first ``best`` stand out and bear their ranks."""
    heights = np.random.default_rng(0).uniform(
        -0.35, 0.35, len(scores)
    )  # so that dots do not hide each other
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
    """hit@1 (%) of each ``method`` with interval (``hit@1``, ``hit@1 low``, ``hit@1 high``) by ``mark``, best on top."""
    marks = {"transductive": ("o", ORANGE), "online": ("s", BLUE)}
    order = list(table.groupby("method")["hit@1"].max().sort_values().index)
    table = table.rename(columns={"hit@1": "value", "hit@1 low": "low", "hit@1 high": "high"})
    labels = []
    for offset, (mark, (shape, colour)) in zip((0.17, -0.17), marks.items()):
        rows = table[table["mark"] == mark]
        if len(rows):
            y = np.array([order.index(method) for method in rows["method"]]) + offset
            labels.append(_dots(ax, rows, y, colour, shape, mark))
    name_points(ax, labels)
    ax.axvline(100 * chance, color="black", ls=":", lw=1)
    _rows(ax, [name(method) for method in order[::-1]])
    ax.set(xlabel="hit@1 (%)", ylim=(-0.6, len(order) - 0.4))
    return ax


def bank_sizes(table: pd.DataFrame, transductive: dict[str, float], ax: Axes) -> Axes:
    """hit@1 (%) over the number of bank ``audios`` by ``method``; dotted: the same with the test pool itself."""
    sizes = sorted(set(table["audios"]))
    labels = []
    for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
        colour, line, marker = _look(number, ("-", "--", "-.", (0, (8, 2))))  # dotted is the test pool
        ax.plot(rows["audios"], 100 * rows["value"], color=colour, ls=line, marker=marker, ms=4)
        ax.fill_between(rows["audios"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.12, lw=0)
        if method in transductive:  # told from the others by its marker
            level = 100 * transductive[method]
            ax.plot(
                sizes,
                [level] * len(sizes),
                color=colour,
                ls=":",
                lw=1,
                marker=marker,
                mfc="white",
                ms=5,
                markevery=[0],
            )
        last = rows.loc[rows["audios"].idxmax()]
        labels.append(Label(last["audios"], 100 * last["value"], name(method), colour, line))
    name_points(ax, labels)
    ax.set(xscale="log", xlabel="audios in the bank", ylabel="hit@1 (%)", ylim=(0, None))
    ax.set_xticks(sizes, [str(size) for size in sizes])
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
    """Words of captions, one caption a line, each on a field as dark as its ``mean`` loss over audios (nats)."""
    captions = list(dict.fromkeys(table["caption"]))
    deepest = max(float(table["mean"].max()), 1e-9)
    for row in table.itertuples():
        y, shade = len(captions) - 1 - captions.index(row.caption), row.mean / deepest
        ax.barh(y, 0.96, left=row.position, height=0.8, color=plt.get_cmap("Blues")(0.55 * shade))
        ax.text(row.position + 0.48, y + 0.14, row.word, ha="center", va="center", fontsize=8, clip_on=True)
        ax.text(row.position + 0.48, y - 0.2, f"{row.mean:.1f}", ha="center", va="center", fontsize=7)
    ax.set(
        xlabel="position in the caption (tokens)",
        ylabel="captions, the greatest hub on top",
        xlim=(0, table["position"].max() + 1),
        yticks=[],
    )
    return ax


def differences(table: pd.DataFrame, ax: Axes, title: str, points: bool = False) -> Axes:
    """Paired differences to the study itself (``variant``, ``difference``, ``difference low``, ``difference high``) from 0.

    points: the measure is a share, its differences are shown in percentage points. Blue are intervals without 0.
    """
    y = np.arange(len(table))[::-1]
    scale = 100 if points else 1
    value, low, high = (scale * table[f"difference{end}"].to_numpy(float) for end in ("", " low", " high"))
    sure = (low > 0) | (high < 0)
    ax.axvline(0, color="black", ls=":", lw=1)
    for mask, colour, marker in ((sure, BLUE, "o"), (~sure, GREY, "s")):
        if mask.any():
            spread = [value[mask] - low[mask], high[mask] - value[mask]]
            ax.errorbar(value[mask], y[mask], xerr=spread, fmt=marker, color=colour, ms=5, capsize=2, lw=1.5)
    _rows(ax, [name(variant) for variant in table["variant"]])
    ax.set(
        xlabel="difference to the study itself" + " (points)" * points,
        title=title,
        ylim=(-0.6, len(table) - 0.4),
    )
    return ax


def transfer(table: pd.DataFrame, ax: Axes) -> Axes:
    """Audio-to-text hit@1 by raw and min-max losses of each captioner on each corpus (rows of ablation.transfer_table)."""
    rows = list(dict.fromkeys(zip(table["captioner"], table["corpus"])))
    y = np.arange(len(rows))[::-1]
    labels = []
    for offset, normaliser in ((0.15, "raw"), (-0.15, "min_max")):
        found = table[table["what"] == f"a2t.{normaliser}.hit@1"].set_index(["captioner", "corpus"]).loc[rows]
        look = COLOURS[normaliser], LOOKS[normaliser][0]
        labels.append(_dots(ax, found, y + offset, *look, name(normaliser)))
    name_points(ax, labels)
    _rows(ax, [f"{name(a)} on {'its own' if a == b else name(b)}" for a, b in rows])
    ax.set(xlabel="audio-to-text hit@1 (%)", ylim=(-0.6, len(rows) - 0.4))
    return ax
