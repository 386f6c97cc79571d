"""The bias: regression against statsmodels and by construction, priors, the verdict's turning
points, published losses.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aacstudy.analysis import bias
from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.options import StatisticsOptions
from aacstudy.study import pairs

FEW = StatisticsOptions(resamples=300, seed=1)
PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "published-outputs"


def made(seed=0, audios=60, each=4, noise=0.5):
    rng = np.random.default_rng(seed)
    audio = np.repeat(np.arange(audios), each)
    length, prior = rng.integers(4, 15, len(audio)), rng.normal(3, 1, len(audio))
    kind = rng.choice(["single", "generic", "order"], len(audio), p=[0.6, 0.3, 0.1])
    loss = 1 + 0.8 * prior - 0.5 * (kind == "generic") + noise * rng.normal(size=len(audio))
    loss += 0.3 * rng.normal(size=audios)[audio]
    return pd.DataFrame({"audio": audio, "loss": loss, "length": length, "prior": prior, "kind": kind})


# Regression


def test_fit_is_that_of_statsmodels():
    smf = pytest.importorskip("statsmodels.formula.api")
    table = made()
    found = bias.regress(table, FEW)
    theirs = smf.ols("loss ~ length + prior + C(kind)", table).fit()
    assert found.r2.value == pytest.approx(theirs.rsquared) and found.rows == 240 and found.r2.n == 60
    parts = found.features.set_index("feature")
    for name, formula in (("length", "length"), ("prior", "prior"), ("kind", "C(kind)")):
        alone = smf.ols(f"loss ~ {formula}", table).fit().rsquared
        assert parts.loc[name, "r2"] == pytest.approx(alone)
        rest = " + ".join({"length", "prior", "C(kind)"} - {formula})
        without = smf.ols(f"loss ~ {rest}", table).fit().rsquared
        assert parts.loc[name, "unique"] == pytest.approx(theirs.rsquared - without)
    robust = smf.ols("loss ~ length + prior + C(kind)", table).fit(
        cov_type="cluster", cov_kwds={"groups": table["audio"]}
    )
    ours = found.coefficients.set_index("term")
    spread = table["prior"].std(ddof=0)
    assert ours.loc["prior", "coefficient"] == pytest.approx(robust.params["prior"] * spread)
    low, high = robust.conf_int().loc["prior"] * spread
    assert (ours.loc["prior", "low"], ours.loc["prior", "high"]) == pytest.approx((low, high), rel=1e-6)


def test_intervals_of_r2_are_refits_of_whole_audios():
    table = made()
    found = bias.regress(table, FEW)
    rng = np.random.default_rng(5)
    kinds = [table["kind"] == kind for kind in ("generic", "order")]
    design = np.column_stack([np.ones(len(table)), table["length"], table["prior"], *kinds]).astype(float)
    loss, plain = table["loss"].to_numpy(), []
    for _ in range(300):
        rows = (
            4 * rng.integers(0, 60, 60)[:, None] + np.arange(4)
        ).ravel()  # an audio's captions stand together
        fitted = design[rows] @ np.linalg.lstsq(design[rows], loss[rows], rcond=None)[0]
        plain.append(1 - (loss[rows] - fitted).var() / loss[rows].var())
    low, high = np.percentile(plain, [2.5, 97.5])
    assert (found.r2.low, found.r2.high) == pytest.approx((low, high), abs=0.02)


def test_a_feature_that_tells_nothing_may_explain_nothing():
    """Of forty made at random most intervals hold 0, and every interval its value."""
    rng, held = np.random.default_rng(3), []
    for _ in range(40):
        table = pd.DataFrame(
            {"audio": np.repeat(np.arange(60), 3), "loss": rng.normal(size=180), "x": rng.normal(size=180)}
        )
        found = bias.regress(table, FEW)
        held.append(found.features["low"][0] == 0 == found.r2.low)
        assert found.r2.low <= found.r2.value <= found.r2.high
    assert np.mean(held) > 0.8


def test_the_cause_is_found_and_the_rest_is_not():
    found = bias.regress(made(noise=0.1), FEW)
    parts = found.features.set_index("feature")
    assert parts.loc["prior", "low"] > 0.7 and parts.loc["length", "high"] < 0.1
    terms = found.coefficients.set_index("term")
    assert terms.loc["kind: generic", "high"] < 0 < terms.loc["prior", "low"]
    assert terms.loc["length", "low"] < 0 < terms.loc["length", "high"]


def test_constant_features_are_left_out_and_categories_may_be_missing_from_a_resample():
    table = made(audios=10, each=2).assign(same=1.0, rare=["x"] * 19 + ["y"])
    found = bias.regress(table, FEW)
    assert "same" not in found.features["feature"].tolist() and "rare" in found.features["feature"].tolist()
    assert np.isfinite(found.features[["r2", "low", "high"]].to_numpy()).all()
    assert found.r2.low <= found.r2.value <= 1


def test_errors():
    table = made()
    with pytest.raises(ValueError, match="no column 'loss'; it has audio"):
        bias.regress(table.drop(columns="loss"), FEW)
    table.loc[7, "prior"] = np.nan
    with pytest.raises(ValueError, match="prior is not finite in row 7"):
        bias.regress(table, FEW)
    with pytest.raises(ValueError, match="4 captions are too few for"):
        bias.regress(made().iloc[:4], FEW)


def test_features_by_hand():
    training = ["a dog barks", "a dog barks", "a cat"]
    table = bias.features(["a dog barks", "a unicorn"], training)
    # 8 words of 4 kinds: 9 + 4 with the added counts and the unknown word's place
    assert table["length"].tolist() == [4, 3]
    total = np.log(8 + 4 + 1)
    logs = [np.log(n + 1) - total for n in (3, 2, 2)]
    assert table.loc[0, "word frequency"] == pytest.approx(np.mean(logs))
    assert table.loc[0, "rarest word"] == pytest.approx(min(logs)) and table.loc[
        1, "rarest word"
    ] == pytest.approx(-total)
    assert table.loc[0, "trigram"] < table.loc[1, "trigram"]


# Priors, locations, scales


def pools(seeds=2, bank=True):
    result = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        tokens, mean = rng.integers(4, 9, 30), np.random.default_rng(9).normal(3, 1, 30)
        nll = ((mean + 0.2 * rng.normal(size=(10, 30))) * tokens).astype(np.float32)
        heard = ((mean + 0.2 * rng.normal(size=(8, 30))) * tokens).astype(np.float32)
        priors = {"mean_frame": -mean * tokens, "silence": rng.normal(-20, 5, 30)}
        result.append(Pool(nll, tokens, np.repeat(np.arange(10), 3), heard if bank else None, priors=priors))
    return result


def test_priors_are_explained_by_what_made_them():
    found = bias.priors(pools())
    assert list(found) == ["mean frame", "silence", "bank", "test pool"]
    assert list(bias.priors(pools(bank=False))) == ["mean frame", "silence", "test pool"]
    loss = np.mean([pool.nll / pool.tokens for pool in pools()], axis=(0, 1))
    table = bias.explained(loss, found, pools()[0].owners, FEW)
    assert table.loc["mean frame", "low"] > 0.9 > 0.5 > table.loc["silence", "r2"]
    assert (
        (table["low"] <= table["r2"]).all()
        and (table["r2"] <= table["high"]).all()
        and (table["n"] == 10).all()
    )


def test_locations_and_scales_tell_a_prior_of_location_from_one_of_scale():
    rng = np.random.default_rng(0)
    location, scale = rng.normal(-3, 1, 200), rng.gamma(4, 0.05, 200)
    scores = [location + scale * rng.normal(size=(50, 200)) for _ in range(2)]
    table = bias.locations_and_scales(scores, {"a": [location] * 2, "b": [scale] * 2}).set_index(
        "of a caption's column"
    )
    assert table.loc["mean", "a"] > 0.98 and abs(table.loc["mean", "b"]) < 0.3
    assert table.loc["range", "b"] > 0.8 and table.loc["standard deviation", "b"] > 0.8 > abs(
        table.loc["range", "a"]
    )
    assert table.loc["minimum", "b"] < 0 < table.loc["maximum", "b"]


# The verdict


def test_results_are_flat_numbers():
    fit = bias.regress(made(), FEW)
    explained = bias.explained(np.arange(30.0), bias.priors(pools()), pools()[0].owners, FEW)
    flat = bias.results(fit, explained)
    assert flat["bias.r2"] == fit.r2.value and "bias.feature.prior.r2.low" in flat
    assert flat["bias.prior.mean_frame.r2.n"] == 10
    assert all(type(value) in (int, float) for value in flat.values())


# Files


def test_pairs_of_both_layouts(tmp_path):
    (tmp_path / "rows.csv").write_text("audio,caption,loss\nx.wav,A dog,1.5\nx.wav,null,2\n")
    rows = pairs.read_pairs(tmp_path / "rows.csv")
    assert rows["caption"].tolist() == ["A dog", "null"] and rows["loss"].tolist() == [1.5, 2]
    (tmp_path / "lists.csv").write_text("fname,mrefs,losses\nx.wav,\"['A dog', 'null']\",\"[1.5, 2]\"\n")
    pd.testing.assert_frame_equal(pairs.read_pairs(tmp_path / "lists.csv"), rows)
    (tmp_path / "alone.csv").write_text("caption,loss\nA dog,1.5\nA cat,2\n")
    assert pairs.read_pairs(tmp_path / "alone.csv")["audio"].nunique() == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("caption,cost\na,1\n", "header: wants caption,loss or mrefs,losses and is caption,cost"),
        ("caption,loss\na,1\nb,dear\n", "line 3, loss: 'dear' is no finite number"),
        ("caption,loss\na,inf\n", "line 2, loss: 'inf' is no finite number"),
        ("caption,loss\na dog, a cat,1\nb,2\n", "line 2: 3 fields, the header has 2"),
        ("mrefs,losses\n\"['a', 'b']\",[1]\n", "line 2: 2 captions in mrefs, 1 losses"),
        ("mrefs,losses\n__import__('os'),[1]\n", 'line 2, mrefs: "__import__'),
    ],
)
def test_errors_name_file_line_and_column(tmp_path, text, said):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=r"x\.csv") as error:
        pairs.read_pairs(tmp_path / "x.csv")
    assert said in str(error.value)


def test_training_captions(tmp_path):
    (tmp_path / "one.csv").write_text("caption\na dog\n1984\n")
    assert pairs.read_captions(tmp_path / "one.csv") == ["a dog", "1984"]
    (tmp_path / "several.csv").write_text("file_name,caption_1,caption_2\nx,a,b\ny,c,\n")
    assert pairs.read_captions(tmp_path / "several.csv") == ["a", "c", "b"]
    (tmp_path / "none.csv").write_text("words\na\n")
    with pytest.raises(ValueError, match=r"none\.csv, header: wants caption or"):
        pairs.read_captions(tmp_path / "none.csv")


def test_published_losses_are_mostly_words():
    """The released losses of one model: the trigram explains most of their variance, their length
    almost nothing.
    """
    files = PUBLISHED / "conette_audiocaps_test.csv", PUBLISHED / "audiocaps_train_captions.csv"
    if not all(file.exists() for file in files):
        pytest.skip("the published files are not here")
    training = pairs.read_captions(files[1])[::8]  # an eighth of them is enough, and quick
    found = bias.of_pairs(pairs.read_pairs(files[0]), training, FEW)
    parts = found.features.set_index("feature")
    print(found.features)
    assert found.rows == 4560 and found.r2.n == 912
    assert 0.55 < parts.loc["trigram", "r2"] < 0.75 and parts.loc["length", "high"] < 0.04
    assert found.r2.value > parts["r2"].max()
