"""``aacstudy retrieve`` and ``aacstudy bias``: any system's matrix or losses from a file, and what
is wrong with one.
"""

import numpy as np
import pandas as pd
import pytest

from aacstudy.__main__ import main
from aacstudy.analysis.retrieval import metrics
from aacstudy.scoring.matrix import Losses
from aacstudy.study import matrix_files

AUDIOS, EACH = 8, 2


def matrix(seed=0):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(AUDIOS), EACH)
    nll = rng.gamma(3, 1, (AUDIOS, len(owners))).astype(np.float32)
    nll[owners, np.arange(len(owners))] *= 0.4
    names = [f"clip {i}" for i in range(AUDIOS)], [f"caption {i}" for i in range(len(owners))]
    return Losses(nll, np.ones(len(owners), dtype=np.int64), owners, *names)


def write_csv(folder, one, name="m.csv", sign=-1):
    table = pd.DataFrame(sign * one.nll, columns=one.captions)
    table.insert(0, "audio", one.audios)
    table.to_csv(folder / name, index=False)
    owners = pd.DataFrame({"caption": one.captions, "audio": [one.audios[o] for o in one.owners]})
    owners[::-1].to_csv(folder / "owners.csv", index=False)
    return folder / name


def write_npz(path, one, **changes):
    arrays = {"score": -one.nll, "owners": one.owners, "audios": np.array(one.audios)} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def hits(one, direction):
    search = {"t2a": metrics.text_to_audio, "a2t": metrics.audio_to_text}[direction]
    return search(-one.nll.astype(float), one.owners)["hit@1"].mean()


@pytest.mark.parametrize("form", ["zarr", "npz scores", "npz losses", "npz sums", "csv scores", "csv losses"])
def test_every_format_gives_the_same_table(tmp_path, capsys, form):
    one, extra = matrix(), []
    if form == "zarr":
        file = tmp_path / "m.zarr"
        one.write(file)
    elif form == "npz scores":
        file = write_npz(tmp_path / "m.npz", one)
    elif form == "npz losses":
        file = write_npz(
            tmp_path / "m.npz",
            one,
            score=None,
            loss=one.nll,
            owners=np.array([one.audios[o] for o in one.owners]),
        )
    elif form == "npz sums":
        file = write_npz(tmp_path / "m.npz", one, score=None, nll=one.nll, tokens=one.tokens)
    else:
        sign = -1 if form == "csv scores" else 1
        file = write_csv(tmp_path, one, sign=sign)
        extra = ["--owners", str(tmp_path / "owners.csv")] + ["--losses"] * (sign == 1)
    assert main(["retrieve", str(file), "--csv", str(tmp_path / "out.csv"), *extra]) == 0
    said = capsys.readouterr().out
    assert "8 audios" in said and "16 captions" in said and "leave out training seeds" in said
    table = pd.read_csv(tmp_path / "out.csv")
    for direction in ("t2a", "a2t"):
        row = table[(table["direction"] == direction) & (table["method"] == "raw")].iloc[0]
        assert row["hit@1"] == pytest.approx(hits(one, direction)) and row["n"] == AUDIOS
    assert {"min_max", "pmi", "sinkhorn"} <= set(table["method"]) and "pmi_trigram" not in set(
        table["method"]
    )


def test_any_number_of_captions_per_audio(tmp_path, capsys):
    owners = np.array([0, 1, 1, 1, 2, 2, 0])
    scores = np.random.default_rng(0).normal(size=(3, 7))
    np.savez(tmp_path / "m.npz", score=scores, owners=owners)
    assert main(["retrieve", str(tmp_path / "m.npz")]) == 0
    assert "3 audios" in capsys.readouterr().out


def test_tuned_on_another_matrix(tmp_path, capsys):
    files = [write_npz(tmp_path / f"{seed}.npz", matrix(seed)) for seed in (0, 1)]
    assert main(["retrieve", str(files[0]), "--tune", str(files[1])]) == 0
    assert "chosen on 1.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": None}, "must hold one of nll, loss, score; it has owners, audios"),
        ({"loss": np.zeros((8, 16))}, "must hold one of"),
        ({"owners": None}, "has no owners [captions]"),
        ({"owners": np.arange(15)}, "owners: has shape (15,); wants one for each of 16 captions"),
        ({"owners": np.full(16, 9)}, "owners[0]: is 9; wants a row from 0 to 7"),
        ({"owners": np.array(["nobody"] * 16)}, "owners[0]: 'nobody' is none of the audios"),
        ({"owners": np.zeros(16, int)}, "audio 'clip 1' (row 1) owns no caption"),
        ({"audios": np.array(["same"] * 8)}, "audios: 'same' stands twice"),
        ({"audios": np.arange(3)}, "audios: 3 ids for 8 audios"),
        ({"score": np.zeros(4)}, "score: has shape (4,) of float64; wants [audios, captions] numbers"),
        (
            {"score": None, "nll": np.ones((8, 16)), "tokens": np.zeros(16, int)},
            "tokens: each sum is of one token or more",
        ),
        ({"score": None, "nll": np.ones((8, 16))}, "has no tokens [captions]"),
        ({"score": np.array([[object()]])}, "is no NPZ file of plain arrays"),
    ],
)
def test_what_is_wrong_with_an_npz(tmp_path, capsys, changes, said):
    file = write_npz(tmp_path / "m.npz", matrix(), **changes)
    assert main(["retrieve", str(file)]) == 2
    message = capsys.readouterr().err
    assert "m.npz" in message and said in message and "Traceback" not in message


def test_a_number_that_is_none_is_named(tmp_path):
    one = matrix()
    one.nll[3, 5] = np.nan
    with pytest.raises(
        ValueError, match=r"m\.npz: the value of audio 'clip 3' and caption '5' \(row 3, column 5\) is nan"
    ):
        matrix_files.read(write_npz(tmp_path / "m.npz", one))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("audio,caption 0", "clip,caption 0", "m.csv, header: wants audio and the captions' ids"),
        ("caption 1,", "caption 0,", "; column 'caption 0' stands twice"),
        ("clip 2,", "clip 1,", "m.csv, line 4, audio: 'clip 1' stands twice"),
        ("clip 3,", "clip 3,x", "m.csv, line 5, caption 0: 'x"),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path, old, new, said):
    file = write_csv(tmp_path, matrix())
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError) as error:
        matrix_files.read(file, tmp_path / "owners.csv")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("caption,audio", "text,audio", "owners.csv, header: wants caption,audio and is text,audio"),
        ("caption 15,clip 7", "caption 15,clip 9", "owners.csv, line 2, audio: 'clip 9' is no audio of"),
        ("caption 15,", "caption 14,", "owners.csv, line 3, caption: 'caption 14' stands twice"),
        ("caption 15,clip 7\n", "", "owners.csv: no line for caption 'caption 15'"),
    ],
)
def test_what_is_wrong_with_owners(tmp_path, old, new, said):
    file = write_csv(tmp_path, matrix())
    owners = tmp_path / "owners.csv"
    text = owners.read_text()
    assert old in text
    owners.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError) as error:
        matrix_files.read(file, owners)
    assert said in str(error.value)


def test_no_matrix_at_all(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("audio,c\na,1\n")
    (tmp_path / "m.txt").write_text("")
    (tmp_path / "m.zarr").mkdir()
    (tmp_path / "m.npz").write_text("no zip")
    for name, said in (
        ("none.npz", "no such matrix"),
        ("m.csv", "needs an owners file"),
        ("m.txt", "is a zarr folder, an .npz or a .csv file"),
        ("m.zarr", "is no zarr group of losses"),
        ("m.npz", "is no NPZ file"),
    ):
        assert main(["retrieve", str(tmp_path / name)]) == 2
        message = capsys.readouterr().err
        assert name in message and said in message


def test_bias_of_a_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    words = ("dog", "cat", "car", "bell", "rain")
    texts = [" ".join(rng.choice(words, rng.integers(2, 7))) for _ in range(60)]
    losses = rng.gamma(2, 1, 60)
    pd.DataFrame({"audio": np.arange(60) // 3, "caption": texts, "loss": losses}).to_csv(
        tmp_path / "pairs.csv", index=False
    )
    pd.DataFrame({"caption": texts[:30]}).to_csv(tmp_path / "train.csv", index=False)
    arguments = ["bias", str(tmp_path / "pairs.csv"), "--training", str(tmp_path / "train.csv")]
    assert main([*arguments, "--csv", str(tmp_path / "out.csv")]) == 0
    said = capsys.readouterr().out
    assert "n = 20 audios" in said and "60 captions" in said
    assert pd.read_csv(tmp_path / "out.csv")["feature"].tolist() == [
        "length",
        "word frequency",
        "rarest word",
        "trigram",
    ]
