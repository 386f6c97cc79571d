"""Figures: every function draws on the axes it is given, every axis has a name and a unit, every
series a label.
"""

import io
import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from aacstudy.report import figures


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
    """What is written on the axes beside points and lines."""
    return {text.get_text().replace("\n", " ") for text in axes.texts}


def drawn(axes):
    return (
        len(axes.lines) + len(axes.patches) + len(axes.collections) + len(axes.images) + len(axes.containers)
    )


def spectrogram(axes, few):
    spans = pd.DataFrame({"event": ["dog", "car"], "onset": [0.1, 0.4], "offset": [0.3, 0.9]})
    return figures.spectrogram(
        rng().normal(size=600 if few else 16000), 16000, spans[:0] if few else spans, axes
    )


def per_class(axes, few):
    scores = pd.Series({"dog": 0.9, "car": 0.4, "rain": 0.6})
    return figures.per_class(scores[:1] if few else scores, axes, "average precision")


def training_curves(axes, few):
    history = pd.DataFrame(
        {"variant": "base", "seed": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "loss": [3.0, 2.0, 3.1, 2.1]}
    )
    history = pd.concat([history, history.assign(variant="positions")])
    return figures.training_curves(history[:1] if few else history, "loss", axes, "loss (nats per token)")


def recall_curves(axes, few):
    names, ks = (("raw",), (1,)) if few else (("raw", "min_max", "z"), (1, 5, 10))
    rows = [(name, k, 0.05 * k + 0.01 * i) for i, name in enumerate(names) for k in ks]
    table = interval_table(**dict(zip(("normaliser", "k", "value"), map(list, zip(*rows)))))
    return figures.recall_curves(table, pd.Series({k: 0.01 * k for k in (*ks, 50)}), axes, "text to audio")


def caption_bands(axes, few):
    return figures.caption_bands(rng().gamma(2, size=(1, 1) if few else (20, 30)), axes)


def shares(axes, few):
    parts = interval_table(value=[0.6, 0.1, 0.3]).set_index(pd.Index(["caption", "audio", "interaction"]))
    return figures.shares(parts[:1] if few else parts, axes)


def hub_counts(axes, few):
    counts = (
        {"raw": np.array([0])} if few else {name: rng().integers(0, 50, 40) for name in ("raw", "min_max")}
    )
    return figures.hub_counts(counts, axes)


def accuracies(axes, few):
    table = interval_table(
        row=["all", "all", "before", "before"],
        what=["accuracy", "blind", "accuracy", "null audio"],
        value=[0.7, 0.5, 0.95, 0.02],
    )
    return figures.accuracies(table[:1] if few else table, axes)


def pair_scores(axes, few):
    table = interval_table(row=["base"] * 3, what=["text", "audio", "group"], value=[0.3, 0.2, 0.1])
    return figures.pair_scores(
        table[:1] if few else table, {"text": 0.25, "audio": 0.25, "group": 1 / 6}, axes
    )


def faults(axes, few):
    table = interval_table(
        row=["no event", "no event", "repeats"], what=["ours", "floor", "ours"], value=[0.2, 0.5, 0.1]
    )
    return figures.faults(table[:1] if few else table, axes)


def cumulative(axes, few):
    values = {"one": np.array([1.0]) if few else rng().normal(size=20), "other": np.array([0.5, 0.2])}
    return figures.cumulative(values, axes, "score")


def normalisers(axes, few):
    names = ("raw", "min_max", "pmi")
    table = interval_table(
        method=[*names, *names], mark=["online"] * 3 + ["transductive"] * 3, value=[0.1, 0.3, 0.5] * 2
    )
    table = table.rename(columns={"value": "hit@1", "low": "hit@1 low", "high": "hit@1 high"})
    return figures.normalisers(table[:1] if few else table, axes, 0.01)


def bank_sizes(axes, few):
    rows = [(method, audios, 0.1 * i) for method in ("z", "pmi") for i, audios in enumerate((16, 64, 300), 1)]
    table = interval_table(**dict(zip(("method", "audios", "value"), map(list, zip(*rows)))))
    return figures.bank_sizes(table[:1] if few else table, {} if few else {"z": 0.4}, axes)


def loss_map(axes, few):
    return figures.loss_map(rng().gamma(2, size=(2, 2) if few else (20, 30)), axes)


def word_losses(axes, few):
    words = pd.DataFrame(
        {"caption": [5, 5, 2], "position": [0, 1, 0], "word": ["a", "<eos>", "dog"], "mean": [0.1, 0.2, 3.0]}
    )
    return figures.word_losses(words[:1] if few else words, axes)


def differences(axes, few):
    table = pd.DataFrame(
        {"variant": ["deep", "shallow"], "difference": [0.1, -0.02], "difference low": [0.05, -0.1],
         "difference high": [0.15, 0.06]}
    )  # fmt: skip
    return figures.differences(table[:1] if few else table, axes, "hit@1")


def transfer(axes, few):
    rows = [
        {"captioner": a, "corpus": b, "what": f"a2t.{n}.hit@1", "value": v, "low": v - 0.1, "high": v + 0.1}
        for a, b in (("base", "base"), ("base", "other"))[: 1 if few else 2]
        for n, v in (("raw", 0.2), ("min_max", 0.5))
    ]
    return figures.transfer(pd.DataFrame(rows), axes)


def standing(axes, few):
    scores = np.array([3.0, 2.0, 1.5, -1.0])
    return figures.standing(scores[:1] if few else scores, 1 if few else 2, axes, "score")


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
        for name, value in vars(figures).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", "") == figures.__name__
    }
    assert public - {"style", "name", "Label", "ink", "apart", "name_points"} == {
        draw.__name__ for draw, *_ in DRAW
    }


def test_style_sets_colours_and_nothing_breaks(ax):
    with matplotlib.rc_context():
        figures.style()
        assert not plt.rcParams["axes.spines.top"]
        first = plt.rcParams["axes.prop_cycle"].by_key()["color"][0]
        assert to_rgb(first) == pytest.approx(to_rgb(figures.BLUE))
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
    texts = {round(text.xy[1]): text.get_text() for text in ax.texts}
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
    figures.hub_counts({"raw": np.array([0, 7, 0, 3])}, ax)
    (line,) = ax.lines
    assert line.get_ydata().tolist() == [7, 3, 0.5, 0.5] and ax.get_yscale() == "log"


def test_sure_differences_are_told_from_the_others(ax):
    differences(ax, few=False)
    (sure,), (open_,) = (c.lines[0].get_xdata().tolist() for c in ax.containers)
    assert (sure, open_) == pytest.approx((0.1, -0.02))
    assert [label.get_text() for label in ax.get_yticklabels()][::-1] == [
        "sinusoidal, four decoder\nlayers",
        "sinusoidal, one decoder\nlayer",
    ]


def test_differences_of_shares_are_in_points(ax):
    table = pd.DataFrame(
        {
            "variant": ["deep"],
            "value": [0.5],
            "low": [0.4],
            "high": [0.6],
            "difference": [0.1],
            "difference low": [0.05],
            "difference high": [0.15],
        }
    )
    figures.differences(table, ax, "hit@1", points=True)
    assert ax.containers[0].lines[0].get_xdata().tolist() == pytest.approx([10])
    assert ax.get_xlabel() == "difference to the study itself (points)"


def test_transfer_stands_in_percent(ax):
    transfer(ax, few=False)
    points = {c.get_label(): c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert points == {"raw": pytest.approx([20, 20]), "min-max": pytest.approx([50, 50])}
    assert [label.get_text() for label in ax.get_yticklabels()][::-1] == [
        "as published on its own",
        "as published on other",
    ]


def test_the_best_stand_out_and_bear_their_ranks(ax):
    standing(ax, few=False)
    others, best = (dots.get_offsets()[:, 0].tolist() for dots in ax.collections)
    assert (best, others) == ([3.0, 2.0], [1.5, -1.0]) and words(ax) >= {"1", "2"}


def test_caption_bands_are_sorted_by_mean(ax):
    loss = np.array([[3.0, 1.0, 2.0], [5.0, 1.5, 2.0]])
    figures.caption_bands(loss, ax)
    assert ax.lines[0].get_ydata().tolist() == [1.25, 2.0, 4.0]


def test_recall_curves_are_percent(ax):
    recall_curves(ax, few=False)
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([5, 25, 50])
    assert {"raw", "min-max", "z-score", "chance"} <= words(ax)
    assert ax.get_xscale() == "log" and ax.get_ylim() == (0, 100)
    # no chance where nothing is measured
    assert max(line.get_xdata().max() for line in ax.lines) == 10


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
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    curves = [line.get_ydata().tolist() for line in ax.lines if line not in dotted]
    assert curves == [pytest.approx([10, 20, 30])] * 2 and ax.get_xscale() == "log"
    assert [line.get_ydata()[0] for line in dotted] == [pytest.approx(40)]
    assert dotted[0].get_marker() == ax.lines[0].get_marker()  # which method's, without colour


def test_loss_map_is_sorted_on_both_axes(ax):
    figures.loss_map(np.array([[3.0, 1.0, 2.0], [2.5, 0.5, 2.0]]), ax)
    assert ax.images[0].get_array().tolist() == [[0.5, 2.0, 2.5], [1.0, 2.0, 3.0]]


def test_word_losses_stand_at_their_places(ax):
    word_losses(ax, few=False)
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places == {"a\n0.1": (0.5, 0.5), "<eos>\n0.2": (1.5, 0.5), "dog\n3.0": (0.5, 1.5)}
    assert ax.yaxis_inverted()  # the first caption on top
    (fields,) = ax.collections
    cheap, cheaper, dear, _ = fields.get_facecolors()[:, :3].sum(axis=1)
    assert dear < min(cheap, cheaper) and fields.get_array().mask.tolist() == [[False, False], [False, True]]


def test_one_line_per_seed_and_variant(ax):
    training_curves(ax, few=False)
    assert len(ax.lines) == 4
    assert {line.get_linestyle() for line in ax.lines} == {"-", "--"}  # told apart without colour
    assert words(ax) == {figures.name("base"), figures.name("positions")}


def test_cumulative_ends_at_all_items(ax):
    figures.cumulative({"one": np.array([3.0, 1.0, 2.0, 2.0])}, ax, "score")
    line = ax.lines[0]
    assert line.get_xdata().tolist() == [-np.inf, 1, 2, 2, 3]
    assert line.get_ydata().tolist() == [0, 25, 50, 75, 100] and line.get_drawstyle() == "steps-post"


VARIANTS = ["base", "positions", "learned", "shuffled", "shallow", "deep", "few_orders", "no_orders"]
KINDS = ["accuracy", "permuted audio", "blind", "null audio", "trigram", "majority"]


def same_training(axes):
    history = pd.DataFrame({"seed": 1, "epoch": [1, 2], "loss": [3.0, 2.0]})
    table = pd.concat([history.assign(variant=variant) for variant in VARIANTS])
    figures.training_curves(table, "loss", axes, "loss (nats per token)")


def same_cumulative(axes):
    figures.cumulative(
        dict.fromkeys(["captioner", "random training caption", "nearest"], np.arange(9.0)), axes, "score"
    )


def same_recall(axes):
    names = ["raw", "min_max", "z"]
    table = interval_table(normaliser=np.repeat(names, 2), k=[1, 10] * 3, value=[0.5, 0.9] * 3)
    figures.recall_curves(table, pd.Series({1: 0.01, 10: 0.9}), axes, "text to audio")


def same_bank(axes):
    methods = ["z", "pmi", "min_max", "inverted_softmax"]
    table = interval_table(method=np.repeat(methods, 2), audios=[16, 64] * 4, value=[0.1, 0.2] * 4)
    figures.bank_sizes(table, dict.fromkeys(methods, 0.2), axes)


def same_hubs(axes):
    figures.hub_counts(dict.fromkeys(["raw", "min_max", "z"], np.array([9, 5, 2, 0, 0])), axes)


def same_accuracies(axes):
    figures.accuracies(
        interval_table(row=["all"] * 6 + ["before"] * 6, what=KINDS * 2, value=[0.5] * 12), axes
    )


def late_kinds(axes):
    table = interval_table(
        row=["all", "all", "before"], what=["accuracy", "blind", "trigram"], value=[1.0, 0.0, 1.0]
    )
    figures.accuracies(table, axes)


def same_pairs(axes):
    rows = np.repeat([f"{figures.name(one)}, permuted audio" for one in VARIANTS], 4)
    kinds = ["text", "audio", "group", "matching"] * len(VARIANTS)
    figures.pair_scores(interval_table(row=rows, what=kinds, value=[0.9] * len(rows)), {"text": 0.25}, axes)


def same_faults(axes):
    kinds = ["captioner", "random training caption", "nearest clip's caption", "references"]
    table = interval_table(row=["names an event that is not there"] * 4, what=kinds, value=[0.0] * 4)
    figures.faults(table, axes)


def same_transfer(axes):
    measures = [f"a2t.{one}.hit@1" for one in ("raw", "min_max")]
    table = interval_table(captioner="base", corpus="base", what=measures, value=[0.2] * 2)
    figures.transfer(table, axes)


def same_standing(axes):
    figures.standing(np.ones(40), 10, axes, "score")


SAME = {
    same_training: {figures.name(variant) for variant in VARIANTS},
    same_cumulative: {"captioner", "random training caption", "nearest"},
    same_recall: {"raw", "min-max", "z-score", "chance"},
    same_bank: {"z-score", "PMI", "min-max", "inverted softmax"},
    same_hubs: {"raw: 9", "min-max: 9", "z-score: 9"},
    same_accuracies: set(KINDS),
    late_kinds: {"accuracy", "blind", "trigram"},
    same_pairs: {"text", "audio", "group", "matching"},
    same_faults: {"captioner", "random training caption", "nearest clip's caption", "references"},
    same_transfer: {"raw", "min-max"},
    lambda axes: normalisers(axes, False): {"transductive", "online"},
    same_standing: {str(rank) for rank in range(1, 11)},
}


@pytest.mark.parametrize(("draw", "names"), SAME.items())
def test_every_series_is_named_once_and_no_label_hides_another(draw, names):
    figure, axes = plt.subplots(figsize=(6.5, 5.2), layout="constrained")
    draw(axes)
    figure.canvas.draw()
    assert axes.get_legend() is None
    labels = [text for text in axes.texts if text.get_text()]
    assert sorted(text.get_text().replace("\n", " ") for text in labels) == sorted(names)
    low, high = axes.get_ylim()
    ticks = [text for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]
    boxes = [Text.get_window_extent(text) for text in [*labels, *ticks]]  # without leading lines
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    inside = figure.bbox.padded(0.5)
    assert all(inside.containsx(x) and inside.containsy(y) for box in boxes for x, y in box.get_points())
    plt.close(figure)


def test_label_stays_at_the_end_of_its_line_when_limits_change(ax):
    figures.training_curves(
        pd.DataFrame({"variant": "base", "seed": 1, "epoch": [1, 2], "loss": [3.0, 2.0]}), "loss", ax, ""
    )
    for top in (3, 30):
        ax.set_ylim(0, top)
        ax.figure.canvas.draw()
        box = Text.get_window_extent(ax.texts[0])
        assert (box.y0 + box.y1) / 2 == pytest.approx(ax.transData.transform((2, 2.0))[1], abs=2)
        assert box.x0 > ax.transData.transform((2, 2.0))[0]


def test_labels_are_the_same_bytes_from_run_to_run():
    pictures = []
    for _ in range(2):
        figure, axes = plt.subplots(layout="constrained")
        same_accuracies(axes)
        pictures.append(io.BytesIO())
        with plt.rc_context({"svg.hashsalt": "labels"}):
            figure.savefig(pictures[-1], format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    assert pictures[0].getvalue() == pictures[1].getvalue()


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1, 20)), min_size=1, max_size=9))
def test_labels_are_pushed_apart_in_their_order(labels):
    wanted, heights = np.array(labels).T
    centres = figures.apart(wanted, heights, 0, 200)
    order = np.argsort(centres)
    assert (np.diff(wanted[order]) >= 0).all()
    gaps = np.diff(centres[order]) - (heights[order][1:] + heights[order][:-1]) / 2
    assert (gaps >= -1e-9).all()
    assert (centres - heights / 2 >= -1e-9).all() and (centres + heights / 2 <= 200 + 1e-9).all()


def test_labels_with_room_stay_and_equal_ones_share_the_way():
    ten = np.full(3, 10.0)
    assert figures.apart(np.array([50.0, 10.0, 90.0]), ten, 0, 100).tolist() == [50, 10, 90]
    assert figures.apart(np.array([50.0, 50.0, 50.0]), ten, 0, 100).tolist() == [
        60,
        50,
        40,
    ]  # the first on top
    assert figures.apart(np.array([2.0, 2.0, 90.0]), ten, 0, 100).tolist() == [15, 5, 90]
    assert figures.apart(np.zeros(3), ten, 0, 20).tolist() == [25, 15, 5]  # no room: above the top


@pytest.mark.parametrize("colour", figures.PALETTE)
def test_labels_have_contrast_on_white(colour):
    def luminance(shade):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(shade)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darkened = figures.ink(colour)
    assert 1.05 / (luminance(darkened) + 0.05) >= 4.5
    if 1.05 / (luminance(colour) + 0.05) >= 4.5:
        assert to_rgb(darkened) == pytest.approx(to_rgb(colour), abs=1 / 255)
    else:  # darker, the hue stays
        share = (
            np.array(to_rgb(darkened))[np.array(to_rgb(colour)) > 0]
            / np.array(to_rgb(colour))[np.array(to_rgb(colour)) > 0]
        )
        assert share.max() < 1 and np.ptp(share) < 0.02


def test_series_are_told_apart_without_colour():
    looks = figures._looks(range(12)).values()
    assert len({look[1:] for look in looks}) == 12  # line style and marker
