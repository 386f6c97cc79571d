"""Clotho: the published layout with its oddities, read exactly; every defect at once."""

import os
import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest
import soundfile
from miniatures import CLOTHO_NAMES, make_clotho

from aacstudy.corpus import Corpus, CorpusError
from aacstudy.corpus.clotho import build, check, fingerprint
from aacstudy.corpus.tables import LAYOUTS, matched
from aacstudy.options import CorpusOptions

CAFE = unicodedata.normalize("NFC", "Café (Zürich).wav")
TRAIN = [" e ieio ieai.wav", "121006_rain&amp;storm.wav", "two  spaces.wav", CAFE, "dog's bark, near.wav"]
TRAIN += ["at 12:30.wav", "development 0.wav", "development 1.wav"]
VALIDATION = [" e ieio ieai.wav", "a&amp;b.wav", "validation 0.wav", "validation 1.wav"]
TEST = [unicodedata.normalize("NFC", "naïve.wav"), *(f"evaluation {i}.wav" for i in range(5))]
IDS = [f"train/{n}" for n in TRAIN] + [f"validation/{n}" for n in VALIDATION] + [f"test/{n}" for n in TEST]


@pytest.fixture
def root(tmp_path):
    make_clotho(tmp_path / "in", np.random.default_rng(0), rate=16000)
    return (tmp_path / "in").resolve()


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_every_oddity_in_both_layouts(tmp_path, beside, inner):
    base = make_clotho(tmp_path, np.random.default_rng(0), rate=16000, beside=beside)
    found, defects = check(base if inner else tmp_path)
    assert defects == []
    assert list(found.clips["clip"]) == IDS and found.clips["clip"].is_unique
    assert found.clips["split"].tolist() == ["train"] * 8 + ["validation"] * 4 + ["test"] * 6
    audio = base.resolve() if beside else base.resolve() / "clotho_audio_files"
    written = {path for split in CLOTHO_NAMES for path in (audio / split).iterdir()}
    assert set(found.paths()) == written and len(written) == 18
    assert found.path("train/121006_rain&amp;storm.wav") == audio / "development" / "121006_rain&storm.wav"
    assert found.path("validation/a&amp;b.wav") == audio / "validation" / "a&amp;b.wav"
    assert found.path("train/at 12:30.wav") == audio / "development" / "at 12_30.wav"
    assert found.clips["seconds"].tolist() == [
        round(1 + 0.1 * (i % 4), 1) for n in (8, 4, 6) for i in range(n)
    ]
    assert found.owners() == [row for row in range(18) for _ in range(5)]
    assert found.events.empty and found.missing.empty


def test_captions_are_those_of_the_table(root):
    found, _ = check(root)
    for split, name in (("train", "development"), ("validation", "validation"), ("test", "evaluation")):
        table = pd.read_csv(root / "CLOTHO_v2.1" / "clotho_csv_files" / f"clotho_captions_{name}.csv")
        assert found.split(split).captions["text"].tolist() == table.iloc[:, 1:].to_numpy().ravel().tolist()


def test_metadata_is_latin_1_and_optional(root, tmp_path):
    found, _ = check(root)
    assert found.clips["keywords"].tolist()[:2] == ["tone;test;café", "single"]
    assert found.clips["sound_id"].tolist()[:2] == ["1000", "1001"] and set(found.clips["license"]) == {"CC0"}
    tables = root / "CLOTHO_v2.1" / "clotho_csv_files"
    (tables / "clotho_metadata_evaluation.csv").unlink()
    with open(tables / "clotho_metadata_validation.csv", "a") as file:
        file.write("too,few\nunknown.wav,k,1,l,s,m,c\n")  # no number depends on them
    found, defects = check(root)
    assert defects == [] and set(found.split("test").clips["keywords"]) == {""}
    assert found.split("validation").clips["keywords"].tolist() == ["tone;test;café", "single"] * 2
    (tables / "clotho_metadata_validation.csv").write_text("file_name,tags\na.wav,b\n")
    _, (defect,) = check(root)
    assert "clotho_metadata_validation.csv, header: wants file_name,keywords,sound_id,license" in defect


def test_build_and_load(root, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    built, loaded = build(out, CorpusOptions(root=str(root))), Corpus.load(out)
    assert sorted(path.name for path in out.iterdir()) == ["captions.csv", "clips.csv", "events.csv"]
    for table in ("clips", "captions"):
        pd.testing.assert_frame_equal(getattr(loaded, table), getattr(built, table))
    assert all(path.is_absolute() and path.is_file() for path in loaded.paths())
    assert loaded.pool() == built.pool()
    assert loaded.missing.empty and list(loaded.missing) == ["clip", "split", "reason"]


def test_every_defect_at_once(root, tmp_path):
    tables = root / "CLOTHO_v2.1" / "clotho_csv_files"
    audio = root / "CLOTHO_v2.1" / "clotho_audio_files"
    with open(tables / "clotho_captions_development.csv", "a") as file:
        file.write("new.wav,a,b,c,,e\n")  # line 10
        file.write("121006_rain&storm.wav,a,b,c,d,e\n")
        file.write("few.wav,a,b\n")
        file.write("two  spaces.wav,a,b,c,d,e\n")
    (audio / "validation" / "validation 1.wav").unlink()
    (audio / "evaluation" / "evaluation 2.wav").write_bytes(b"no audio")
    soundfile.write(audio / "evaluation" / "extra.wav", np.zeros(8000), 8000)
    (audio / "evaluation" / "._evaluation 3.wav").write_bytes(b"what macOS leaves on foreign disks")
    soundfile.write(audio / "evaluation" / "evaluation 4.wav", np.zeros(8000), 8000)
    development = "clotho_captions_development.csv"
    expected = [
        f"{development}, line 10, caption_4: no word in ''",
        f"{development}, line 12: 3 fields, the header has 6; unquoted comma?",
        f"{development}, line 13, file_name: 'two  spaces.wav' stands on line 4 already",
        f"{development}, line 11, file_name: '121006_rain&storm.wav' and '121006_rain&amp;storm.wav' are one "
        "file, "
        "'121006_rain&storm.wav'",
        f"{development}, line 10, file_name: {audio}/development/new.wav: no such file; "
        "put it there, or take its row out",
        f"{development}, line 12, file_name: {audio}/development/few.wav: no such file; "
        "put it there, or take its row out",
        f"clotho_captions_validation.csv, line 5, file_name: {audio}/validation/validation 1.wav: no such "
        "file; "
        "put it there, or take its row out",
        f"{audio}/evaluation/extra.wav: has no row in clotho_captions_evaluation.csv",
        f"clotho_captions_evaluation.csv, line 5, file_name: {audio}/evaluation/evaluation 2.wav: not "
        "readable by "
        "libsndfile (Format not recognised); if other players can play it, convert it: ffmpeg -i 'evaluation "
        "2.wav' "
        "'evaluation 2.flac'",
    ]
    silent = (
        f"clotho_captions_evaluation.csv, line 7, file_name: {audio}/evaluation/evaluation 4.wav: is silent, "
        "every "
        "sample is 0; replace it, or take its row out"
    )
    assert [one.replace(f"{tables}/", "") for one in check(root)[1]] == expected
    found = check(root, decode=True, workers=2)[1]
    assert [one.replace(f"{tables}/", "") for one in found] == [*expected, silent]
    (tmp_path / "out").mkdir()
    with pytest.raises(CorpusError) as caught:
        build(tmp_path / "out", CorpusOptions(root=str(root)))
    assert len(caught.value.defects) == 9 and not list((tmp_path / "out").iterdir())


def test_the_evaluation_split_alone_where_that_is_asked_for(tmp_path, capsys):
    base = make_clotho(tmp_path, np.random.default_rng(0), rate=8000)
    whole = check(tmp_path)[0].split("test")
    (base / "clotho_csv_files" / "clotho_captions_development.csv").unlink()
    shutil.rmtree(base / "clotho_audio_files" / "validation")
    assert len(check(tmp_path)[1]) == 2
    out = tmp_path / "out"
    out.mkdir()
    build(out, CorpusOptions(root=str(tmp_path), may_lack=["train", "validation"]))
    assert "not here: train and validation; what needs them is left out" in capsys.readouterr().err
    assert Corpus.load(out).split("test").pool() == whole.pool()
    (base / "clotho_csv_files" / "clotho_captions_evaluation.csv").unlink()
    with pytest.raises(CorpusError, match=r"captions_evaluation\.csv: no such file"):
        build(out, CorpusOptions(root=str(tmp_path), may_lack=["train", "validation"]))


def test_what_is_not_there_is_one_defect(root):
    base = root / "CLOTHO_v2.1"
    (base / "clotho_csv_files" / "clotho_captions_validation.csv").unlink()
    (base / "clotho_audio_files" / "evaluation").rename(base / "evaluate")
    _, defects = check(root)
    assert defects == [
        f"{base}/clotho_csv_files/clotho_captions_validation.csv: no such file; it wants {LAYOUTS}",
        f"{base}/clotho_audio_files/evaluation: no such folder; it wants the 6 recordings of "
        "clotho_captions_evaluation.csv",
    ]
    (base / "clotho_csv_files" / "clotho_captions_validation.csv").write_text("file_name,caption_1\n")
    assert check(root)[1][0].endswith("clotho_captions_validation.csv: has no row below its header")
    with pytest.raises(CorpusError, match=r"no such folder; give the folder that holds CLOTHO_v2\.1"):
        check(root / "none")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["rain&amp;Zürich at 12:30.wav", "rain&Zürich at 12_30.wav"])
def test_a_name_may_be_spelled_otherwise_on_the_disk(tmp_path, name, form):
    """Without entities, in either Unicode form, and without the colon that some disks refuse."""
    name = unicodedata.normalize(form, name)
    (tmp_path / name).touch()
    rows = [(2, "rain&amp;Zürich at 12:30.wav", ["rain"])]
    assert matched(rows, tmp_path, tmp_path / "a.csv") == ({rows[0][1]: name}, [])


def test_a_literal_name_goes_first(root):
    """Both spellings on the disk: each row takes its own."""
    base = root / "CLOTHO_v2.1"
    soundfile.write(base / "clotho_audio_files" / "validation" / "a&b.wav", 0.1 * np.ones(8000), 8000)
    with open(base / "clotho_csv_files" / "clotho_captions_validation.csv", "a") as file:
        file.write("a&b.wav,a,b,c,d,e\n")
    found, defects = check(root)
    assert defects == []
    assert found.path("validation/a&b.wav").name == "a&b.wav"
    assert found.path("validation/a&amp;b.wav").name == "a&amp;b.wav"


def test_pool_is_named_by_its_ids(root):
    part = check(root)[0].split("test")
    n, digest = part.pool()
    assert n == 6 and len(digest) == 12
    shuffled = Corpus(part.folder, part.clips.sample(frac=1, random_state=1), part.captions)
    assert shuffled.clips["clip"].tolist() != part.clips["clip"].tolist()
    assert shuffled.pool() == (n, digest)  # order does not matter
    fewer = Corpus(part.folder, part.clips.iloc[1:], part.captions)
    assert fewer.pool()[0] == 5 and fewer.pool()[1] != digest


def test_fingerprint(root):
    def now() -> str:
        fingerprint.cache_clear()
        return fingerprint(str(root))

    base = root / "CLOTHO_v2.1"
    seen = [now()]
    assert now() == seen[0] and len(seen[0]) == 12
    (base / "notes.txt").write_text("of no interest")
    assert now() == seen[0]
    table = base / "clotho_csv_files" / "clotho_captions_evaluation.csv"
    table.write_text(table.read_text().replace("tone", "sound"))
    seen.append(now())
    (base / "clotho_csv_files" / "clotho_metadata_evaluation.csv").unlink()
    seen.append(now())
    clip = base / "clotho_audio_files" / "development" / "development 1.wav"
    status = clip.stat()
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    seen.append(now())
    clip.rename(base / "clotho_audio_files" / "validation" / clip.name)
    seen.append(now())
    assert len(set(seen)) == 5
    with pytest.raises(
        CorpusError, match=r"corpus\.root: empty; name the folder that holds CLOTHO_v2\.1.*DATA="
    ):
        fingerprint("")
