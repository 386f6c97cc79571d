"""AudioCaps: six ways of naming files, clips that are gone, the other version told by its size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from miniatures import make_audiocaps

from aacstudy.corpus import NO_FILE, Corpus, CorpusError, audiocaps
from aacstudy.corpus.audiocaps import build, check, fingerprint, spellings
from aacstudy.corpus.describe import summary
from aacstudy.options import CorpusOptions

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "published-outputs"
HEADER = "audiocap_id,youtube_id,start_time,caption\n"


@pytest.fixture
def root(tmp_path):
    make_audiocaps(tmp_path / "in", np.random.default_rng(0), rate=8000)
    return (tmp_path / "in").resolve()


def test_six_names():
    """A YouTube id may begin with '-' and hold '_'; the numbers are those of the table."""
    assert list(spellings("-a_B3_x-yz0", 30, ["91139"])) == [
        "-a_B3_x-yz0_30",
        "Y-a_B3_x-yz0",
        "-a_B3_x-yz0",
        "-a_B3_x-yz0_30_40",
        "-a_B3_x-yz0_30000_40000",
        "91139",
    ]


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_every_name_is_found(tmp_path, v1, inner):
    base = make_audiocaps(tmp_path, np.random.default_rng(0), rate=8000, v1=v1, broken=False)
    if v1:  # tables of another version beside it are not looked at
        (base / "train.csv").write_text("of AudioCaps 2.0")
    found, defects = check(base if inner else tmp_path)
    assert defects == [] and found.missing.empty
    assert found.clips["split"].value_counts().to_dict() == {"train": 12, "test": 6, "validation": 4}
    assert found.captions["clip"].map(found.clips.set_index("clip")["split"]).value_counts().to_dict() == {
        "train": 12,
        "validation": 20,
        "test": 30,
    }
    names = {clip: path.name for clip, path in zip(found.clips["clip"], found.paths())}
    assert {clip: name for clip, name in names.items() if clip.startswith("test/")} == {
        "test/-test__0000_0": "-test__0000_0.flac",
        "test/_test__0001_10": "Y_test__0001.wav",
        "test/atest__0002_20": "atest__0002.wav",
        "test/Btest__0003_0": "Btest__0003_0_10.wav",
        "test/-test__0004_10": "-test__0004_10000_20000.flac",
        # the fifth of its five ids: 12 + 20 + 30 captions from 100 on
        "test/_test__0005_20": "161.wav",
    }
    assert all(path.is_absolute() for path in found.paths())
    assert found.clips.set_index("clip").loc["test/atest__0002_20", "seconds"] == 1.2


def test_rows_of_a_clip_need_not_stand_together(root):
    found, _ = check(root)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        table = pd.read_csv(root / "AUDIOCAPS" / f"{name}.csv", dtype=str)
        table["clip"] = f"{split}/" + table["youtube_id"] + "_" + table["start_time"]
        assert split == "train" or table["clip"].ne(table["clip"].shift()).sum() > table["clip"].nunique()
        for clip, texts in found.split(split).captions.groupby("clip")["text"]:
            assert (
                texts.tolist() == table[table["clip"] == clip]["caption"].tolist()
            )  # every caption, in order


def test_the_evaluation_split_alone_where_that_is_asked_for(root, tmp_path, capsys):
    base, whole = root / "AUDIOCAPS", check(root)[0].split("test")
    for name in ("train.csv", "val.csv"):
        (base / name).unlink()
    assert len(check(root)[1]) == 2 and check(root, may_lack=["train"])[1] == check(root)[1][1:]
    build(tmp_path, CorpusOptions(root=str(root), may_lack=["train", "validation"]))
    assert "not here: train and validation; what needs them is left out" in capsys.readouterr().err
    assert Corpus.load(tmp_path).split("test").pool() == whole.pool()
    assert set(Corpus.load(tmp_path).clips["split"]) == {"test"}


def test_a_fixed_table_of_training_captions(root):
    base, whole = root / "AUDIOCAPS", check(root)[0]
    (base / "train.csv").rename(base / "train_fixed.csv")
    found, defects = check(root)
    assert not defects
    pd.testing.assert_frame_equal(found.captions, whole.captions)


def test_what_is_missing_is_left_out_and_counted(root, tmp_path, capsys):
    found, defects = check(root)
    assert defects == []
    assert found.missing["clip"].tolist() == [
        "train/Btrain_0011_20",
        "train/atrain_0010_10",
        "test/_test__0005_20",
    ]
    assert found.missing["split"].tolist() == ["train", "train", "test"]
    reasons = found.missing["reason"].tolist()
    assert reasons[0] == reasons[2] == NO_FILE
    assert (
        "atrain_0010_10000_20000.flac: not readable by libsndfile" in reasons[1] and "ffmpeg -i" in reasons[1]
    )
    assert not set(found.missing["clip"]) & (set(found.clips["clip"]) | set(found.captions["clip"]))
    out = tmp_path / "out"
    out.mkdir()
    build(out, CorpusOptions(root=str(root)))
    assert "3 clips are left out, missing.csv says why" in capsys.readouterr().err
    printed = summary(found)
    assert "train: 10 clips of 1.0 to 1.2 s, 10 captions, pool 10-" in printed
    assert "; left out: 1 without a file, 1 with an unusable one" in printed
    assert "; left out: 1 without a file, 0 with an unusable one" in printed
    loaded = Corpus.load(out)
    for table in ("clips", "captions", "missing"):
        pd.testing.assert_frame_equal(getattr(loaded, table), getattr(found, table))
    assert pd.read_csv(out / "missing.csv")["clip"].tolist() == found.missing["clip"].tolist()
    assert loaded.split("validation").missing.empty and len(loaded.split("train").missing) == 2


def test_decoding_finds_what_headers_hide(root):
    audio = root / "AUDIOCAPS" / "audio_32000Hz"
    soundfile.write(audio / "test" / "Y_test__0001.wav", np.zeros(8000), 8000)
    assert len(check(root)[0].missing) == 3
    missing = check(root, decode=True, workers=2)[0].missing
    assert len(missing) == 4 and "is silent" in missing.set_index("clip").loc["test/_test__0001_10", "reason"]


def test_a_pool_depends_on_what_is_there(root, tmp_path):
    """Two copies lack other clips: their pools have other names; the way of naming files does not
    matter.
    """
    first = check(root)[0].split("test").pool()
    audio = root / "AUDIOCAPS" / "audio_32000Hz" / "test"
    (audio / "Y_test__0001.wav").rename(audio / "_test__0001_10.wav")
    assert check(root)[0].split("test").pool() == first
    (audio / "_test__0001_10.wav").unlink()
    assert check(root)[0].split("test").pool()[0] == first[0] - 1 == 4


def test_a_foreign_format_is_named(root):
    audio = root / "AUDIOCAPS" / "audio_32000Hz" / "val"
    (audio / "Y_val___0001.wav").rename(audio / "Y_val___0001.m4a")
    (audio / "Y_val___0001.m4a").write_bytes(b"\0\0\0 ftypM4A mp42isom" + bytes(500))
    (reason,) = check(root)[0].split("validation").missing["reason"]
    assert reason.endswith("convert it: ffmpeg -i Y_val___0001.m4a Y_val___0001.wav")
    soundfile.write(audio / "Y_val___0001.flac", 0.1 * np.ones(8000), 8000)  # done as told
    assert check(root)[0].split("validation").missing.empty


def test_a_split_without_a_clip_is_a_defect(root, tmp_path):
    audio = root / "AUDIOCAPS" / "audio_32000Hz" / "val"
    audio.rename(audio.with_name("validation"))
    _, (defect,) = check(root)
    assert defect.startswith(
        f"{audio}: has no usable file for any of the 4 clips of {root}/AUDIOCAPS/val.csv; "
    )
    assert "-val___0000_0.flac, Y-val___0000.flac, -val___0000.flac, -val___0000_0_10.flac" in defect
    with pytest.raises(CorpusError):
        build(tmp_path, CorpusOptions(root=str(root)))
    assert not (tmp_path / "clips.csv").exists()


def test_defects_of_a_table(root):
    table = root / "AUDIOCAPS" / "val.csv"
    with open(table, "a") as file:
        file.write("900,aaaaaaaaaaa,1.5,A dog barks\n")  # line 22
        file.write("100,aaaaaaaaaab,10,A dog barks\n")
        file.write("901,,10,A dog barks\n")
        file.write("112,aaaaaaaaaac,-3,?!\n")
        file.write("902,aaaaaaaaaad,10,A dog barks, then stops\n")
    found, defects = check(root)
    assert [one.removeprefix(f"{table}, ") for one in defects] == [
        "line 22, start_time: '1.5' is no whole number of seconds",
        "line 24, youtube_id: empty",
        "line 25, audiocap_id: '112' stands on line 2 already",
        "line 25, start_time: '-3' is no whole number of seconds",
        "line 25, caption: no word in '?!'",
        "line 26: 5 fields, the header has 4; unquoted comma?",
    ]
    assert "validation/aaaaaaaaaab_10" in set(found.missing["clip"])  # a good row without a file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "header: wants audiocap_id,youtube_id,start_time,caption and is empty"),
        (
            "youtube_id,caption\na,b\n",
            "header: wants audiocap_id,youtube_id,start_time,caption and is youtube_id,caption",
        ),
        (HEADER, "has no row below its header"),
        (None, "no such file; it wants audiocap_id,youtube_id,start_time,caption"),
    ],
)
def test_a_table_that_is_none(root, content, said):
    table = root / "AUDIOCAPS" / "train.csv"
    table.unlink() if content is None else table.write_text(content)
    _, (defect,) = check(root)
    assert defect.startswith(str(table)) and defect.endswith(said)


def test_version_2_is_named(root, monkeypatch):
    """Its columns are the same; only the number of training rows tells."""
    assert audiocaps.ROWS_OF_2_0 == 91256
    monkeypatch.setattr(audiocaps, "ROWS_OF_2_0", 12)
    assert check(root)[1] == [
        f"{root}/AUDIOCAPS/train.csv: has 12 rows, so it is of AudioCaps 2.0; the study is of 1.0, whose "
        "training "
        "table has 49838: put the tables of 1.0 into csv_files_v1/"
    ]
    monkeypatch.setattr(audiocaps, "ROWS_OF_2_0", 20)
    assert check(root)[1] == []  # val has 20 rows in either


@pytest.mark.parametrize(("split", "clips", "captions"), [("train", 49838, 49838), ("test", 975, 4875)])
def test_published_tables_have_no_defect(split, clips, captions):
    table = PUBLISHED / f"audiocaps_{split}_captions.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    found, defects = audiocaps._clips(table)
    assert defects == [] and len(found) == clips
    assert sum(len(clip.captions) for clip in found.values()) == captions
    assert split != "train" or sum(name.startswith("-") for name in found) == 2406


def test_fingerprint(root):
    def now() -> str:
        fingerprint.cache_clear()
        return fingerprint(str(root))

    base = root / "AUDIOCAPS"
    seen = [now()]
    assert now() == seen[0] and len(seen[0]) == 12
    (base / "audio_32000Hz" / "val" / "-val___0000_0.flac").unlink()
    seen.append(now())
    (base / "test.csv").write_text((base / "test.csv").read_text().replace("hum", "roar"))
    seen.append(now())
    assert len(set(seen)) == 3
    with pytest.raises(
        CorpusError, match=r"corpus\.root: empty; name the folder that holds AUDIOCAPS.*DATA="
    ):
        fingerprint("")
    with pytest.raises(CorpusError, match="no such folder; give the folder that holds AUDIOCAPS"):
        fingerprint(str(root / "none"))
