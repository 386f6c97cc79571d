"""Figures: every function draws on the axes it is given, and every axis has a name and a unit."""

import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from aacstudy import plots


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    figure.canvas.draw()  # what cannot be drawn fails here
    plt.close(figure)


def rng():
    return np.random.default_rng(0)


def interval_table(**columns):
    table = pd.DataFrame(columns)
    return table.assign(low=(table["value"] - 0.1).clip(0), high=(table["value"] + 0.1).clip(upper=1))


def words(axes):
    """What is written on the axes, in the legend or beside the lines."""
    legend = axes.get_legend()
    return {text.get_text() for text in [*axes.texts, *(legend.get_texts() if legend else [])]}


def drawn(axes):
    return (
        len(axes.lines) + len(axes.patches) + len(axes.collections) + len(axes.images) + len(axes.containers)
    )


def spectrogram(axes, few):
    spans = pd.DataFrame({"event": ["dog", "car"], "onset": [0.1, 0.4], "offset": [0.3, 0.9]})
    return plots.spectrogram(
        rng().normal(size=600 if few else 16000), 16000, spans[:0] if few else spans, axes
    )


def per_class(axes, few):
    scores = pd.Series({"dog": 0.9, "car": 0.4, "rain": 0.6})
    return plots.per_class(scores[:1] if few else scores, axes, "average precision")


def training_curves(axes, few):
    history = pd.DataFrame(
        {"variant": "base", "seed": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "loss": [3.0, 2.0, 3.1, 2.1]}
    )
    history = pd.concat([history, history.assign(variant="positions")])
    return plots.training_curves(history[:1] if few else history, "loss", axes, "loss (nats per token)")


def recall_curves(axes, few):
    names, ks = (("raw",), (1,)) if few else (("raw", "min_max", "z"), (1, 5, 10))
    rows = [(name, k, 0.05 * k + 0.01 * i) for i, name in enumerate(names) for k in ks]
    table = interval_table(**dict(zip(("normaliser", "k", "value"), map(list, zip(*rows)))))
    return plots.recall_curves(table, pd.Series({k: 0.01 * k for k in ks}), axes, "text to audio")


def caption_bands(axes, few):
    return plots.caption_bands(rng().gamma(2, size=(1, 1) if few else (20, 30)), axes)


def shares(axes, few):
    parts = interval_table(value=[0.6, 0.1, 0.3]).set_index(pd.Index(["caption", "audio", "interaction"]))
    return plots.shares(parts[:1] if few else parts, axes)


def hub_counts(axes, few):
    counts = (
        {"raw": np.array([0])} if few else {name: rng().integers(0, 50, 40) for name in ("raw", "min_max")}
    )
    return plots.hub_counts(counts, axes)


def accuracies(axes, few):
    table = interval_table(
        row=["all", "all", "before", "before"],
        what=["accuracy", "blind", "accuracy", "null audio"],
        value=[0.7, 0.5, 0.95, 0.02],
    )
    return plots.accuracies(table[:1] if few else table, axes)


def pair_scores(axes, few):
    table = interval_table(row=["base"] * 3, what=["text", "audio", "group"], value=[0.3, 0.2, 0.1])
    return plots.pair_scores(table[:1] if few else table, {"text": 0.25, "audio": 0.25, "group": 1 / 6}, axes)


def faults(axes, few):
    table = interval_table(
        row=["no event", "no event", "repeats"], what=["ours", "floor", "ours"], value=[0.2, 0.5, 0.1]
    )
    return plots.faults(table[:1] if few else table, axes)


def cumulative(axes, few):
    values = {"one": np.array([1.0]) if few else rng().normal(size=20), "other": np.array([0.5, 0.2])}
    return plots.cumulative(values, axes, "score")


def normalisers(axes, few):
    names = ("raw", "min_max", "pmi")
    table = interval_table(
        method=[*names, *names], mark=["online"] * 3 + ["transductive"] * 3, value=[0.1, 0.3, 0.5] * 2
    )
    table = table.rename(columns={"value": "hit@1", "low": "hit@1 low", "high": "hit@1 high"})
    return plots.normalisers(table[:1] if few else table, axes, 0.01)


def bank_sizes(axes, few):
    rows = [(method, audios, 0.1 * i) for method in ("z", "pmi") for i, audios in enumerate((16, 64, 300), 1)]
    table = interval_table(**dict(zip(("method", "audios", "value"), map(list, zip(*rows)))))
    return plots.bank_sizes(table[:1] if few else table, {} if few else {"z": 0.4}, axes)


def loss_map(axes, few):
    return plots.loss_map(rng().gamma(2, size=(2, 2) if few else (20, 30)), axes)


def word_losses(axes, few):
    words = pd.DataFrame(
        {"caption": [5, 5, 2], "position": [0, 1, 0], "word": ["a", "<eos>", "dog"], "mean": [0.1, 0.2, 3.0]}
    )
    return plots.word_losses(words[:1] if few else words, axes)


def differences(axes, few):
    table = pd.DataFrame(
        {"variant": ["deep", "shallow"], "difference": [0.1, -0.02], "difference low": [0.05, -0.1],
         "difference high": [0.15, 0.06]}
    )  # fmt: skip
    return plots.differences(table[:1] if few else table, axes, "hit@1")


def transfer(axes, few):
    rows = [
        {"captioner": a, "corpus": b, "what": f"a2t.{n}.hit@1", "value": v, "low": v - 0.1, "high": v + 0.1}
        for a, b in (("base", "base"), ("base", "other"))[: 1 if few else 2]
        for n, v in (("raw", 0.2), ("min_max", 0.5))
    ]
    return plots.transfer(pd.DataFrame(rows), axes)


def standing(axes, few):
    scores = np.array([3.0, 2.0, 1.5, -1.0])
    return plots.standing(scores[:1] if few else scores, 1 if few else 2, axes, "score")


DRAW = [
    (standing, "score", ""),  # items without names
    (differences, "difference to the study itself", None),
    (transfer, "audio-to-text hit@1 (%)", None),
    (normalisers, "hit@1 (%)", None),
    (bank_sizes, "audios in the bank", "hit@1 (%)"),
    (loss_map, "captions, sorted by their mean loss", "audios, sorted by theirs"),
    (word_losses, "position in the caption (tokens)", "captions, the greatest hub on top"),
    (cumulative, "score", "items (%)"),
    (spectrogram, "time (s)", "frequency (kHz)"),
    (per_class, "average precision", None),
    (training_curves, "epoch", "loss (nats per token)"),
    (recall_curves, "k", "hit@k (%)"),
    (caption_bands, "captions, sorted by their mean loss", "loss (nats per token)"),
    (shares, "share of the loss variance (%)", None),
    (hub_counts, "captions, from the most returned", "audios with it in their top 10"),
    (accuracies, "items whose true caption costs less (%)", None),
    (pair_scores, "pairs told apart (%)", None),
    (faults, "captions (%)", None),
]


@pytest.mark.parametrize("few", [False, True], ids=["usual", "single row"])
@pytest.mark.parametrize(("draw", "x", "y"), DRAW, ids=[draw.__name__ for draw, *_ in DRAW])
def test_draws_on_the_given_axes_and_names_them(ax, draw, x, y, few):
    open_before = plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # no NaN and no division by zero
        warnings.simplefilter("ignore", UserWarning)
        assert draw(ax, few) is ax
        ax.figure.canvas.draw()
    assert plt.get_fignums() == open_before  # no other figure
    assert drawn(ax) > 0
    assert ax.get_xlabel() == x
    if y is None:  # a list of names
        labels = [label.get_text() for label in ax.get_yticklabels()]
        assert labels and all(labels)
    else:
        assert ax.get_ylabel() == y


def test_every_figure_is_tested_here():
    public = {
        name
        for name, value in vars(plots).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == plots.__name__
    }
    assert public - {"style", "name"} == {draw.__name__ for draw, *_ in DRAW}


def test_style_sets_colours_and_nothing_breaks(ax):
    with matplotlib.rc_context():
        plots.style()
        assert not plt.rcParams["axes.spines.top"]
        first = plt.rcParams["axes.prop_cycle"].by_key()["color"][0]
        assert to_rgb(first) == pytest.approx(to_rgb(plots.BLUE))
        shares(ax, few=False)


def test_shares_stand_beside_their_names(ax):
    shares(ax, few=False)
    names = [label.get_text() for label in ax.get_yticklabels()]
    bars = {bar.get_y() + bar.get_height() / 2: bar.get_width() for bar in ax.patches}
    widths = {
        name: next(width for at, width in bars.items() if abs(at - y) < 1e-6)
        for name, y in zip(names, ax.get_yticks())
    }
    assert widths == pytest.approx({"caption": 60, "audio": 10, "interaction": 30})
    texts = {round(text.get_position()[1]): text.get_text() for text in ax.texts}
    assert texts == {2: "60.0 %", 1: "10.0 %", 0: "30.0 %"}


def test_classes_are_sorted_best_on_top(ax):
    per_class(ax, few=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["car", "rain", "dog"]
    assert any("0.63" in text.get_text() for text in ax.texts)


def test_accuracies_stand_on_their_rows(ax):
    accuracies(ax, few=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "all"]
    points = {
        container.get_label(): list(zip(container.lines[0].get_xdata(), container.lines[0].get_ydata()))
        for container in ax.containers
    }
    assert set(points) == {"accuracy", "blind", "null audio"}
    (first, y_all), (second, y_before) = points["accuracy"]
    assert (first, second) == pytest.approx((70, 95)) and round(y_all) == 1 and round(y_before) == 0


def test_hub_line_is_sorted_and_zero_stays_on_the_log_axis(ax):
    plots.hub_counts({"raw": np.array([0, 7, 0, 3])}, ax)
    (line,) = ax.lines
    assert line.get_ydata().tolist() == [7, 3, 0.5, 0.5] and ax.get_yscale() == "log"


def test_sure_differences_are_told_from_the_others(ax):
    differences(ax, few=False)
    (sure,), (open_,) = (c.lines[0].get_xdata().tolist() for c in ax.containers)
    assert (sure, open_) == pytest.approx((0.1, -0.02))
    assert [label.get_text() for label in ax.get_yticklabels()] == [plots.name("deep"), plots.name("shallow")]


def test_transfer_stands_in_percent(ax):
    transfer(ax, few=False)
    points = {c.get_label(): c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert points == {"raw": pytest.approx([20, 20]), "min-max": pytest.approx([50, 50])}
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "as published on its own",
        "as published on other",
    ]


def test_the_best_stand_out_and_bear_their_ranks(ax):
    standing(ax, few=False)
    others, best = (dots.get_offsets()[:, 0].tolist() for dots in ax.collections)
    assert (best, others) == ([3.0, 2.0], [1.5, -1.0]) and words(ax) >= {"1", "2"}


def test_caption_bands_are_sorted_by_mean(ax):
    loss = np.array([[3.0, 1.0, 2.0], [5.0, 1.5, 2.0]])
    plots.caption_bands(loss, ax)
    assert ax.lines[0].get_ydata().tolist() == [1.25, 2.0, 4.0]


def test_recall_curves_are_percent(ax):
    recall_curves(ax, few=False)
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([5, 25, 50])
    assert {"raw", "min-max", "z-score", "chance"} <= words(ax)
    assert ax.get_xscale() == "log" and ax.get_ylim() == (0, 100)


def test_spans_are_drawn_at_their_times(ax):
    spectrogram(ax, few=False)
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.1, 0.3], [0.4, 0.9]]
    assert [text.get_text().strip() for text in ax.texts] == ["dog", "car"]
    assert ax.get_xlim() == (0, 1)


def test_normalisers_stand_best_on_top_in_percent(ax):
    normalisers(ax, few=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["raw", "min-max", "PMI"]
    points = {c.get_label(): c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert points == {"online": pytest.approx([10, 30, 50]), "transductive": pytest.approx([10, 30, 50])}


def test_bank_sizes_are_percent_with_the_pool_dotted(ax):
    bank_sizes(ax, few=False)
    curves = [line.get_ydata().tolist() for line in ax.lines if line.get_marker() == "o"]
    assert curves == [pytest.approx([10, 20, 30])] * 2 and ax.get_xscale() == "log"
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [pytest.approx(40)]


def test_loss_map_is_sorted_on_both_axes(ax):
    plots.loss_map(np.array([[3.0, 1.0, 2.0], [2.5, 0.5, 2.0]]), ax)
    assert ax.images[0].get_array().tolist() == [[0.5, 2.0, 2.5], [1.0, 2.0, 3.0]]


def test_word_losses_stand_at_their_places(ax):
    word_losses(ax, few=False)
    places = {text.get_text(): text.get_position() for text in ax.texts if not text.get_text()[0].isdigit()}
    assert places["a"][0] < places["<eos>"][0] and places["a"][1] > places["dog"][1]
    shades = [sum(bar.get_facecolor()[:3]) for bar in ax.patches]
    assert shades[2] < min(shades[:2])  # the dear word is the darkest


def test_one_line_per_seed_and_variant(ax):
    training_curves(ax, few=False)
    assert len(ax.lines) == 4
    assert {line.get_linestyle() for line in ax.lines} == {"-", "--"}  # told apart without colour
    assert words(ax) == {plots.name("base"), plots.name("positions")}


def test_cumulative_ends_at_all_items(ax):
    plots.cumulative({"one": np.array([3.0, 1.0, 2.0, 2.0])}, ax, "score")
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [1, 2, 2, 3] and line.get_ydata().tolist() == [25, 50, 75, 100]
