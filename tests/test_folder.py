"""Your own recordings: what a good folder becomes, and every defect of a bad one at once."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aacstudy.corpus import NO_EVENTS, Corpus, CorpusError, tables
from aacstudy.corpus.describe import by_split, frequent_captions
from aacstudy.corpus.folder import build, check, fingerprint
from aacstudy.options import CorpusOptions
from aacstudy.study import run
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

REAL = Path(__file__).resolve().parents[2] / "shared" / "real-clips"
HEADER = "file_name,caption_1,caption_2"


def sound(path: Path, seconds: float = 1.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate)), rate)


def corpus(folder: Path, table: str | bytes, *names: str) -> Path:
    """A folder with a captions.csv and one-second recordings."""
    folder.mkdir(exist_ok=True)
    for name in names:
        sound(folder / name)
    content = table.encode() if isinstance(table, str) else table
    (folder / "captions.csv").write_bytes(content)
    return folder.resolve()


def rows(*fields: list[str]) -> str:
    """Lines of CSV, quoted as a spreadsheet quotes them."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(fields)
    return file.getvalue()


def defects(folder: Path) -> list[str]:
    """The defects, the folder's own path cut out."""
    found = check(folder)[1]
    assert all(str(folder) in defect for defect in found)  # each names its file
    return [defect.replace(f"{folder}/", "") for defect in found]


def test_a_good_folder(tmp_path):
    table = rows(
        ["file_name", "caption_1", "caption_2", "caption_3"],
        ["b.wav", "A dog barks.", "Ein Hund, er bellt", 'A "dog"'],
        ["a b é.flac", "Rain falls", "", ""],
        ["c.ogg", "Wind blows.", "", "It's windy!"],
    )
    folder = corpus(tmp_path / "in", "\ufeff" + table, "b.wav", "a b é.flac", "c.ogg")
    found, wrong = check(folder)
    assert wrong == []
    assert list(found.clips["clip"]) == ["test/b.wav", "test/a b é.flac", "test/c.ogg"]
    assert list(found.clips["split"]) == ["test"] * 3
    assert list(found.clips["seconds"]) == [1.0] * 3
    assert found.paths() == [folder / "b.wav", folder / "a b é.flac", folder / "c.ogg"]
    assert list(found.captions["text"]) == [
        "A dog barks.",
        "Ein Hund, er bellt",
        'A "dog"',
        "Rain falls",
        "Wind blows.",
        "It's windy!",
    ]
    assert found.owners() == [0, 0, 0, 1, 2, 2]  # as many captions as each has
    out = tmp_path / "out"
    out.mkdir()
    built, loaded = build(out, CorpusOptions(root=str(folder))), Corpus.load(out)
    assert sorted(path.name for path in out.iterdir()) == ["captions.csv", "clips.csv", "events.csv"]
    for table in ("clips", "captions"):
        pd.testing.assert_frame_equal(getattr(loaded, table), getattr(built, table))
    assert loaded.paths() == found.paths() and loaded.path("test/c.ogg") == folder / "c.ogg"
    assert loaded.events.empty and list(loaded.events) == list(NO_EVENTS)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a b é.flac",
        "b.wav",
        "c.ogg",
        "captions.csv",
    ]  # nothing is written there


def test_audio_in_a_folder_of_its_own_and_a_csv_of_any_name(tmp_path):
    folder = corpus(tmp_path / "in", f"{HEADER}\na.wav,A dog barks,\n", "audio/a.wav")
    (folder / "captions.csv").rename(folder / "clotho_captions.csv")
    found, wrong = check(folder)
    assert wrong == [] and found.paths() == [folder / "audio" / "a.wav"]


def test_files_that_are_no_clips(tmp_path):
    """Hidden files do no harm; a recording without row does, in whatever format."""
    folder = corpus(tmp_path / "in", f"{HEADER}\na.wav,A dog barks,\n", "a.wav")
    for name in ("._a.wav", "notes.txt", "b.m4a"):
        (folder / name).write_bytes(b"")
    assert defects(folder) == ["b.m4a: has no row in captions.csv"]


def test_a_column_that_stands_twice(tmp_path):
    (said,) = defects(corpus(tmp_path / "in", "file_name,caption_1,caption_1\na.wav,A dog,A cat\n", "a.wav"))
    assert said.endswith(
        f"header: wants {tables.LAYOUTS} and is file_name,caption_1,caption_1; column 'caption_1' stands "
        "twice"
    )
    found, wrong = check(
        corpus(tmp_path / "in", "file_name,caption_1,,\na.wav,A dog,,\n")
    )  # a spreadsheet's empty ones
    assert wrong == [] and list(found.captions["text"]) == ["A dog"]


def test_other_columns_and_empty_lines_do_no_harm(tmp_path):
    table = "id,file_name,caption_1,comment\r\n7,a.wav,A dog barks,ok\r\n\r\n8,b.wav,A cat meows,\r\n"
    found, wrong = check(corpus(tmp_path / "in", table, "a.wav", "b.wav"))
    assert wrong == [] and list(found.captions["text"]) == ["A dog barks", "A cat meows"]


def test_every_defect_at_once(tmp_path):
    """One folder with everything wrong: each defect is listed with its line, nothing else."""
    table = "\n".join(
        [
            HEADER,
            "good.wav,A dog barks.,A dog.",  # line 2
            "missing.wav,A cat meows.,A cat.",
            'quote.wav,"A "big" dog barks.",A dog.',
            "comma.wav,A dog barks, a cat meows, then rain",
            "good.wav,A dog barks again.,A dog.",  # line 6
            "empty.wav,,A dog.",
            'dots.wav,A dog barks.,"?!..."',
            "text.wav,A dog barks.,A dog.",
            "short.wav,A dog barks.,A dog.",  # line 10
            "zero.wav,A dog barks.,A dog.",
            "long.wav,A dog barks.,A dog.",
            "nan.wav,A dog barks.,A dog.",
            "silent.wav,A dog barks.,A dog.",  # line 14
            "cut.flac,A dog barks.,A dog.",
            ",A dog barks.,A dog.",
            "few.wav,A dog barks.",
            "last.wav,A dog barks.,A dog.",
        ]
    )
    good = (
        "good.wav",
        "quote.wav",
        "comma.wav",
        "empty.wav",
        "dots.wav",
        "few.wav",
        "last.wav",
        "unlisted.WAV",
    )
    folder = corpus(tmp_path / "in", table + "\n", *good)
    (folder / "text.wav").write_text("not audio")
    (folder / "notes.txt").write_text("no audio file, no defect")
    for name, seconds in (("short.wav", 0.1), ("zero.wav", 0.0), ("long.wav", 121.0), ("cut.flac", 4.0)):
        sound(folder / name, seconds)
    soundfile.write(folder / "silent.wav", np.zeros(8000), 8000)
    soundfile.write(folder / "nan.wav", np.full(8000, np.nan), 8000, "FLOAT")
    whole = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    expected = [
        ("captions.csv, line 4: not CSV (", "needs quotes"),
        ("captions.csv, line 5: 4 fields, the header has 3; unquoted comma?",),
        ("captions.csv, line 6, file_name: 'good.wav' stands on line 2 already",),
        ("captions.csv, line 7, caption_1: no word in ''",),
        ("captions.csv, line 8, caption_2: no word in '?!...'",),
        ("captions.csv, line 16, file_name: empty",),
        ("captions.csv, line 17: 2 fields, the header has 3",),
        ("captions.csv, line 3, file_name: missing.wav: no such file",),
        ("captions.csv, line 9, file_name: text.wav: not readable",),
        ("captions.csv, line 10, file_name: short.wav: lasts 0.100 s; a clip needs at least 0.25 s",),
        ("captions.csv, line 11, file_name: zero.wav: lasts 0.000 s",),
        ("captions.csv, line 12, file_name: long.wav: lasts 121.0 s; a clip has at most 120 s",),
        ("captions.csv, line 13, file_name: nan.wav: holds samples that are no numbers",),
        ("captions.csv, line 14, file_name: silent.wav: is silent",),
        ("captions.csv, line 15, file_name: cut.flac: damaged",),
        ("unlisted.WAV: has no row in captions.csv",),
    ]
    found = defects(folder)
    assert len(found) == len(expected), found
    for defect, parts in zip(found, expected):
        assert defect.startswith(parts[0]) and all(part in defect for part in parts), defect
    (tmp_path / "out").mkdir()
    with pytest.raises(CorpusError) as caught:
        build(tmp_path / "out", CorpusOptions(root=str(folder)))
    assert caught.value.defects == check(folder)[1]
    message = str(caught.value).splitlines()
    assert message[0] == "the corpus has 16 defects:" and len(message) == 17
    assert list((tmp_path / "out").iterdir()) == []  # nothing half-written


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", [f"captions.csv, header: wants {tables.LAYOUTS} and is empty"]),
        ("\n\n", [f"captions.csv, header: wants {tables.LAYOUTS} and is empty"]),
        (f"{HEADER}\n", ["captions.csv: has no row below its header"]),
        (f"{HEADER}\n\n\n", ["captions.csv: has no row below its header"]),
        (
            "file_name,keywords\na.wav,dog\n",
            ["captions.csv, header: wants file_name,", "is file_name,keywords"],
        ),
        ("name,caption_1\na.wav,A dog\n", ["captions.csv, header: wants file_name,", "is name,caption_1"]),
        ("file_name;caption_1\na.wav;A dog\n", ["captions.csv, header:", "is file_name;caption_1"]),
        ('"file_name,caption_1\na.wav,A dog\n', ["captions.csv, header:"]),
        (
            f"{HEADER}\na.wav,A café,\n".encode("latin-1"),
            ["captions.csv, line 2: b'\\xe9' is not UTF-8; save"],
        ),
        (f"{HEADER}\na.wav,A dog,\n".encode("utf-16"), ["captions.csv, line 1: b'\\xff' is not UTF-8"]),
        (
            f"{HEADER}\n".encode() + b"x.wav,A dog,\n" * 3000 + b"\xff",
            ["captions.csv, line 3002: b'\\xff' is not"],
        ),
        (f'{HEADER}\na.wav,"A dog barks.,\n', ["captions.csv, line 2: not CSV (unexpected end of data)"]),
        (f"{HEADER}\na.wav,\n", ["captions.csv, line 2: 2 fields, the header has 3"]),
        (f'{HEADER}\na.wav," \n ",A dog\n', ["captions.csv, line 2, caption_1: no word in ' \\n '"]),
    ],
)
def test_a_broken_csv_is_one_defect(tmp_path, table, said):
    """The table is at fault: its recordings are not blamed for having no row."""
    found = defects(corpus(tmp_path / "in", table, "a.wav"))
    assert len(found) == 1, found
    assert found[0].startswith(said[0]) and all(part in found[0] for part in said)


def test_a_row_for_each_caption(tmp_path):
    table = "file_name,caption\nb.wav,Rain falls\na.wav,A dog barks\nb.wav,NA\n"
    found, wrong = check(corpus(tmp_path / "in", table, "a.wav", "b.wav"))
    assert wrong == [] and found.captions.to_numpy().tolist() == [
        ["test/b.wav", "Rain falls"],
        ["test/b.wav", "NA"],
        ["test/a.wav", "A dog barks"],
    ]


def test_names_that_are_not_what_they_look_like(tmp_path):
    """A path in place of a name, and a character that nobody sees: a defect that shows which, and
    no other.
    """
    folder = corpus(tmp_path / "in", "", "a.wav", "b.wav", "c.wav")
    lines = [HEADER, "./a.wav,A dog,", f"{folder}/b.wav,A cat,", "c.wav\u200b,A cow,"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = defects(folder)
    assert [one.split(":")[0] for one in found[:2]] == [f"captions.csv, line {i}, file_name" for i in (2, 3)]
    assert all(f"{name!r}" in one for name, one in zip(("a.wav", "b.wav"), found))
    assert r"line 4, file_name 'c.wav\u200b': " in found[2] and "no such file" in found[2]
    assert found[3:] == ["c.wav: has no row in captions.csv"]


def test_a_line_number_is_where_the_row_begins(tmp_path):
    table = f'{HEADER}\na.wav,"A dog\nbarks,\nloudly",A dog\nb.wav,A cat\nc.wav,,A cat\n'
    found = defects(corpus(tmp_path / "in", table, "a.wav", "b.wav", "c.wav"))
    assert [defect.split(": ")[0] for defect in found] == [
        "captions.csv, line 5",
        "captions.csv, line 6, caption_1",
    ]


def test_an_open_quote_hides_no_other_row(tmp_path):
    table = (
        f'{HEADER}\na.wav,"A dog barks.,A dog\nb.wav,A cat,A cat\nc.wav,,A cow\nd.wav,"A cow moos","A cow"\n'
    )
    found = defects(corpus(tmp_path / "in", table, "a.wav", "b.wav", "c.wav", "d.wav"))
    assert [defect.split(": ")[0] for defect in found] == [
        "captions.csv, line 2",
        "captions.csv, line 4, caption_1",
    ]


def test_a_folder_that_is_none(tmp_path):
    def said(folder: Path) -> str:
        with pytest.raises(CorpusError) as caught:
            check(folder)
        (defect,) = caught.value.defects
        assert str(folder) in defect and str(caught.value).startswith("the corpus has 1 defect:")
        return defect

    assert "no such folder" in said(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert "no such folder" in said(tmp_path / "file")
    assert "has neither audio files nor a captions.csv" in said(tmp_path)
    (tmp_path / "one.csv").write_text(HEADER)
    (tmp_path / "two.csv").write_text(HEADER)
    assert "wants one CSV of captions (captions.csv), and has 2" in said(tmp_path)
    (tmp_path / "captions.csv").write_text(HEADER)  # now it is clear which one
    assert check(tmp_path)[1] == [f"{tmp_path.resolve()}/captions.csv: has no row below its header"]


ODD = [
    "NA",
    "null",
    "nan",
    "None",
    "true",
    "1984",
    "1.50",
    "A dog, a cat",
    'A "dog" barks',
    "'tis",
    "dog 🐕 barks",
]
ODD += [
    "<b>dog</b> & <script>alert(1)</script>",
    "=SUM(A1)",
    " padded ",
    "two\nlines",
    "<bos> dog",
    "Ünïcödé 犬",
]


def survives(folder: Path, texts: list[str]) -> None:
    corpus(folder, rows(["file_name", "caption_1"], *([f"{i}.wav", text] for i, text in enumerate(texts))))
    for i in range(len(texts)):
        if not (folder / f"{i}.wav").exists():
            sound(folder / f"{i}.wav", 0.25)
    for path in folder.glob("*.wav"):
        if int(path.stem) >= len(texts):
            path.unlink()
    out = folder.with_name("out")
    out.mkdir(exist_ok=True)
    build(out, CorpusOptions(root=str(folder)))
    assert list(Corpus.load(out).captions["text"]) == texts


def test_odd_captions_survive(tmp_path):
    survives(tmp_path / "in", ODD)


@pytest.mark.parametrize("text", ODD)
def test_an_odd_caption_survives_alone(tmp_path, text):
    """A column of one text: pandas would make it a number, a truth value or nothing."""
    survives(tmp_path / "in", [text])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(
            lambda text: f"{text}x{text}"
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_caption_survives(tmp_path, texts):
    survives(tmp_path / "in", texts)


def test_fingerprint_changes_with_captions_and_files(tmp_path):
    folder = corpus(tmp_path / "in", f"{HEADER}\na.wav,A dog barks,\n", "a.wav")

    def now() -> str:
        fingerprint.cache_clear()
        return fingerprint(str(folder))

    seen = [now()]
    assert now() == seen[0] and len(seen[0]) == 12
    (folder / "notes.txt").write_text("of no interest")
    assert now() == seen[0]
    (folder / "captions.csv").write_text(f"{HEADER}\na.wav,A cat meows,\n")
    seen.append(now())
    sound(folder / "a.wav", 2.0)
    seen.append(now())
    status = (folder / "a.wav").stat()
    os.utime(folder / "a.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    seen.append(now())
    sound(folder / "audio" / "b.wav")
    seen.append(now())
    (folder / "audio" / "b.wav").rename(folder / "audio" / "c.wav")
    seen.append(now())
    assert len(set(seen)) == 6
    with pytest.raises(CorpusError, match=r"corpus.root: empty.*DATA="):
        fingerprint("")
    with pytest.raises(CorpusError, match="no such folder"):
        fingerprint(str(tmp_path / "none"))


def test_real_clips():
    if not REAL.exists():
        pytest.skip(f"{REAL} is not here")
    found, wrong = check(REAL)
    assert wrong == []
    assert len(found.clips) == 29 and len(found.captions) == 145
    assert np.bincount(found.owners()).tolist() == [5] * 29


# --- the Corpus type ----------------------------------------------------------------------------


def small() -> Corpus:
    clips = pd.DataFrame(
        {
            "clip": ["train/a", "test/b", "train/c", "test/d"],
            "split": ["train", "test", "train", "test"],
            "path": ["audio/a.wav", "/far/b.wav", "audio/c.wav", "audio/d.wav"],
            "seconds": [1800.0, 3.0, 1800.0, 6.0],
        }
    )
    captions = pd.DataFrame(
        {
            "clip": ["train/a", "test/b", "train/c", "test/d", "test/b"],
            "text": ["A dog.", "A cat.", "a dog", "Rain falls.", "A cat."],
        }
    )
    events = pd.DataFrame({"clip": ["test/d"], "event": ["rain"], "onset": [0.0], "offset": [1.0]})
    return Corpus(Path("/here"), clips, captions, events)


def test_split_keeps_order_and_renews_rows():
    test = small().split("test")
    assert list(test.clips["clip"]) == ["test/b", "test/d"] and list(test.clips.index) == [0, 1]
    assert list(test.captions["text"]) == ["A cat.", "Rain falls.", "A cat."]
    assert test.owners() == [0, 1, 0]
    assert list(test.events["event"]) == ["rain"] and small().split("train").events.empty
    assert test.paths() == [Path("/far/b.wav"), Path("/here/audio/d.wav")]
    with pytest.raises(ValueError, match=r"'tset'.*\['test', 'train'\]"):
        small().split("tset")


def test_tables_about_a_corpus():
    table = by_split(small()).set_index("split")
    assert table.loc["train"].to_dict() == {
        "clips": 2,
        "hours": 1.0,
        "captions": 2,
        "distinct captions": 1,  # "A dog." and "a dog" are the same words
        "vocabulary": 2,
        "words per caption": 2.0,
    }
    assert table.loc["test", ["clips", "captions", "distinct captions", "vocabulary"]].tolist() == [
        2,
        3,
        2,
        4,
    ]
    assert frequent_captions(small(), "test", 1).values.tolist() == [["A cat.", 2]]


def test_a_page_means_the_same_from_every_working_folder(tmp_path, monkeypatch):
    for name in ("studies", "notebooks", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))
    corpus(tmp_path / "mine", f"{HEADER}\na.wav,A dog barks.,\n", "a.wav")
    (tmp_path / "studies" / "mine.yml").write_text("study: mine\ncorpus: {name: folder, root: mine}\n")
    found = []
    for place in (tmp_path, tmp_path / "notebooks", tmp_path / "elsewhere"):
        monkeypatch.chdir(place)
        found.append(plan.corpus(Study.load("mine")))
    assert {one.parameters["root"] for one in found} == {str(tmp_path / "mine")}
    assert len({one.key for one in found}) == 1


def test_recordings_without_captions(tmp_path, monkeypatch):
    """They are a corpus of clips; the chapters that need captions are left out."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "notebooks").symlink_to(Path(__file__).resolve().parents[1] / "notebooks")
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))
    names = "[01_corpus, 10_own_recordings, 04_captioning, 05_retrieval, 06_bias]"
    page = f"study: mine\nnotebooks: {names}\ncorpus: {{name: folder, root: mine}}\n"
    (tmp_path / "studies" / "mine.yml").write_text(page)
    folder = corpus(tmp_path / "mine", f"{HEADER}\n", "b.wav", "a.wav")
    (folder / "captions.csv").unlink()
    made, defects = check(folder)
    assert defects == [] and list(made.clips["clip"]) == ["test/a.wav", "test/b.wav"]
    assert made.captions.empty and list(made.captions) == ["clip", "text"]
    fingerprint.cache_clear()
    before = plan.corpus(Study.load("mine")).key
    left_out = ["04_captioning", "05_retrieval", "06_bias"]
    assert run.wanting_more_captions(Study.load("mine")) == left_out
    soundfile.write(folder / "c.wav", np.zeros(8000), 8000)
    assert "c.wav: is silent" in check(folder)[1][0]
    fingerprint.cache_clear()
    assert plan.corpus(Study.load("mine")).key != before


def test_a_few_captions_are_no_regression(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    (tmp_path / "notebooks").symlink_to(Path(__file__).resolve().parents[1] / "notebooks")
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))
    (tmp_path / "studies" / "mine.yml").write_text("study: mine\ncorpus: {name: folder, root: mine}\n")
    table = "file_name," + ",".join(f"caption_{i}" for i in range(1, 11)) + "\na.wav"
    corpus(tmp_path / "mine", table + ",A dog barks." * 9 + ",\n", "a.wav")
    assert run.wanting_more_captions(Study.load("mine")) == ["06_bias"]
    corpus(tmp_path / "mine", table + ",A dog barks." * 10 + "\n")
    fingerprint.cache_clear()
    assert run.wanting_more_captions(Study.load("mine")) == []
    assert run.wanting_more_captions(Study.load("mine", {"notebooks": ["05_retrieval"]})) == []
