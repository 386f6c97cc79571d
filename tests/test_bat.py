"""The test of perturbed captions for another system: written, filled in, scored; and what a wrong
table is told.
"""

import numpy as np
import pandas as pd
import pytest

from aacstudy.__main__ import main
from aacstudy.study import bat

CAPTIONS = "file_name,caption_1,caption_2\na.wav,A dog barks before rain falls.,A dog barks\nb.wav,A cat meows as rain falls,\n"
TRAINING = (
    "clip,text\nx,A dog barks before rain falls\ny,Rain falls then a cat meows\nz,A cat meows as rain falls\n"
)


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text(CAPTIONS)
    return path


def filled(captions, tmp_path, **columns):
    """Items with losses that prefer the original, but for the last."""
    out = tmp_path / "items.csv"
    bat.write_items(captions, out)
    table = pd.read_csv(out, keep_default_na=False)
    table["loss_original"] = 1.0
    table["loss_perturbed"] = [2.0] * (len(table) - 1) + [0.5]
    table.assign(**columns).to_csv(out, index=False)
    return out


def test_items_of_both_layouts(captions, tmp_path):
    table = bat.read_captions(captions)
    assert table[["clip", "text"]].values.tolist() == [
        ["a.wav", "A dog barks before rain falls."],
        ["a.wav", "A dog barks"],
        ["b.wav", "A cat meows as rain falls"],
    ]
    long = tmp_path / "long.csv"
    long.write_text("youtube_id,start_time,caption\nv,10,NA\nw,20,A dog barks\n")
    assert bat.read_captions(long)["text"].tolist() == ["NA", "A dog barks"]
    items, left_out = bat.write_items(captions, tmp_path / "items.csv")
    assert items["test"].tolist() == ["order", "before_after", "as_then", "words", "words"]
    written = pd.read_csv(tmp_path / "items.csv", keep_default_na=False)
    assert written["perturbed"][0] == "Rain falls before a dog barks."
    assert written["original"].tolist() == items["text"].tolist() and (written["loss_original"] == "").all()
    assert set(left_out["reason"]) >= {"no connective"}


def test_report_of_returned_losses(captions, tmp_path):
    scored = bat.read_scored(filled(captions, tmp_path))
    table = bat.report(scored)
    assert table[["test", "part", "items"]].values.tolist()[:3] == [
        ["order", "all", 1],
        ["order", "strict", 1],
        ["order", "before", 1],
    ]
    assert "trigram" not in table and "blind" not in table
    words = table[table["test"] == "words"].iloc[0]
    assert words["accuracy"].startswith("50.0 [") and words["clips"] == 2


def test_controls_come_with_what_is_given(captions, tmp_path):
    path = filled(captions, tmp_path, blind_original=2.0, blind_perturbed=1.0)
    training = tmp_path / "train.csv"
    training.write_text(TRAINING)
    table = bat.report(bat.read_scored(path, training))
    whole = table[table["part"] == "all"].set_index("test")
    assert whole["blind"].str.startswith("0.0 [").all()
    assert whole.loc["order", "corrected"].startswith("100.0 [")
    assert {"trigram", "majority", "corrected by trigram"} <= set(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss_original": ""}, "line 2, loss_original: '' is no finite number"),
        ({"loss_perturbed": "inf"}, "line 2, loss_perturbed"),
        ({"blind_original": 1.0}, "belong together"),
    ],
)
def test_a_wrong_table_is_told_where(captions, tmp_path, change, message):
    path = filled(captions, tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        bat.read_scored(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "header: wants file_name"),
        ("file_name,caption_1\na,A dog, and a cat,\n", "line 2: 4 fields, the header has 2"),
        ("clip,text\n", "no row below its header"),
        ("", "header: wants file_name,.* and is empty"),
        ("clip,text\na,\n", "line 2, text: no word in ''"),
        (
            "clip,text,swap,kind\na,A dog barks,x,y\n",
            "header: swap comes with .* connective, form, mentions missing",
        ),
    ],
)
def test_wrong_captions_are_told_where(tmp_path, content, message):
    path = tmp_path / "captions.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        bat.read_captions(path)


def test_items_without_their_columns_are_refused(captions):
    with pytest.raises(ValueError, match="header: wants test,clip,connective"):
        bat.read_scored(captions)


def test_the_command(captions, tmp_path, capsys):
    assert main(["bat", str(captions), "--out", str(tmp_path / "out.csv")]) == 0
    printed = capsys.readouterr().out
    assert "before_after" in printed and "left out:" in printed and "no connective" in printed
    assert main(["bat", "--scored", str(filled(captions, tmp_path))]) == 0
    assert "accuracy" in capsys.readouterr().out
    for wrong in ([], [str(captions)], [str(captions), "--scored", "x.csv"]):
        assert main(["bat", *wrong]) == 2
        assert "give captions.csv --out items.csv" in capsys.readouterr().err
    assert main(["bat", "--scored", str(tmp_path / "none.csv")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_losses_keep_their_rows(captions, tmp_path):
    """A table that comes back in another order scores the same."""
    path = filled(captions, tmp_path)
    first = bat.report(bat.read_scored(path))
    table = pd.read_csv(path, keep_default_na=False)
    table.iloc[np.random.default_rng(0).permutation(len(table))].to_csv(path, index=False)
    again = bat.report(bat.read_scored(path))
    key = ["test", "part"]
    pd.testing.assert_frame_equal(
        first.sort_values(key)[[*key, "items"]].reset_index(drop=True),
        again.sort_values(key)[[*key, "items"]].reset_index(drop=True),
    )
