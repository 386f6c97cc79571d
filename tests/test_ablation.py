"""Comparisons of variants: paired where they can be, and refused where they cannot."""

import numpy as np
import pytest

from aacstudy.analysis import ablation
from aacstudy.options import StatisticsOptions
from aacstudy.scoring.matrix import Losses

OPTIONS = StatisticsOptions(resamples=200)


def matrices(signal, audios=12, per=2, seeds=2):
    """Losses in which a caption costs ``signal`` nats less on its own audio, beside noise and a
    bias of each caption.
    """
    made = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        owners = np.repeat(np.arange(audios), per)
        nll = 30 + 5 * rng.standard_normal(len(owners)) + rng.standard_normal((audios, len(owners)))
        nll[owners, np.arange(len(owners))] -= signal
        tokens = np.full(len(owners), 5)
        names = [f"a{i}" for i in range(audios)], [f"caption {i}" for i in range(len(owners))]
        made.append(Losses(nll.astype(np.float32), tokens, owners, *names))
    return made


def test_a_variant_beside_itself_differs_by_nothing():
    own = ablation.measures(matrices(3.0))
    table = ablation.compare(own, {"same": own}, OPTIONS)
    assert list(table["measure"]) == list(ablation.MEASURES)
    assert (table[["difference", "difference low", "difference high"]] == 0).all(axis=None)
    assert (table["p"] == 1).all()


def test_more_signal_is_found_more_often():
    table = ablation.compare(
        ablation.measures(matrices(0.0)), {"loud": ablation.measures(matrices(20.0))}, OPTIONS
    ).set_index("measure")
    row = table.loc["t2a.hit@1"]
    assert row["value"] == 1 and row["difference low"] > 0.5 and row["n"] == 12
    assert row["clear"] and len(row["by seed"]) == 2
    flat = ablation.results(table.reset_index(), [7, 8])
    assert flat["ablation.loud.t2a.hit@1"] == 1 and flat["ablation.loud.t2a.hit@1.minus_base.low"] > 0.5
    assert flat["ablation.loud.t2a.hit@1.minus_base.seed_8"] > 0.5


def test_other_queries_are_not_paired():
    with pytest.raises(ValueError, match=r"loud: t2a\.hit@1 has values"):
        ablation.compare(
            ablation.measures(matrices(0.0)), {"loud": ablation.measures(matrices(1.0, audios=11))}, OPTIONS
        )


def test_transfer_tells_matched_from_unmatched_by_the_signal():
    found = ablation.transfer(matrices(10.0, audios=60, seeds=3), OPTIONS)
    # ten nats over five tokens
    assert found["unmatched"].value - found["matched"].value == pytest.approx(2.0, abs=0.3)
    assert 0 < found["caption"].value < 1
    assert found["gain"].value == pytest.approx(
        found["a2t.min_max.hit@1"].value - found["a2t.raw.hit@1"].value
    )
    assert found["gain"].low > 0  # the captions' bias hides the signal until it is scaled away


def test_a_change_that_helps_one_seed_and_hurts_another_is_not_clear():
    audios = np.repeat(np.arange(50), 2)
    found = []
    for by_seed in ((0.5, -0.4, 0.5), (0.5, 0.4, 0.45)):
        changed = np.array(by_seed)[:, None] + np.linspace(-0.1, 0.1, 100)
        table = ablation.compare(
            {"m": (np.zeros((3, 100)), audios)}, {"v": {"m": (changed, audios)}}, OPTIONS
        )
        found.append(bool(table["clear"][0]))
    assert found == [False, True]


def test_trainings_are_pooled_over_the_changes():
    """One seed of a change is far off: its own three seeds could not say so, all changes' do."""
    rng = np.random.default_rng(0)
    audios, base = np.arange(50), rng.normal(size=(3, 50))
    variants = {f"v{i}": {"m": (base + 0.3 * i + rng.normal(0, 0.1, (3, 1)), audios)} for i in range(6)}
    alone = ablation.compare({"m": (base, audios)}, {"v5": variants["v5"]}, OPTIONS).iloc[0]
    row = ablation.compare({"m": (base, audios)}, variants, OPTIONS).set_index("variant").loc["v5"]
    assert row["difference"] == alone["difference"]
    width = row["difference high"] - row["difference low"]
    assert width < alone["difference high"] - alone["difference low"]
