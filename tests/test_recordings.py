"""Scenes of recordings: what is heard where, that splits share nothing, and every defect."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy import __main__
from aacstudy.analysis.captions import errors
from aacstudy.corpus import Corpus, CorpusError
from aacstudy.corpus.recordings import TAKEN_FROM, Pool, build, check, fingerprint, fitted
from aacstudy.corpus.soundscapes import esc50, grammar
from aacstudy.corpus.soundscapes.events import EVENTS
from aacstudy.options import CorpusOptions
from aacstudy.study.parameters import Study
from aacstudy.study.stages import corpus as stage
from aacstudy.study.stages import plan

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "ESC-50"
RATE = 8000
CLASSES = ("dog", "chirping_birds", "sea_waves")
HEADER = "filename,fold,target,category,esc10,src_file,take\n"
SMALL = CorpusOptions(
    name="recordings", sample_rate=RATE, seconds=3.0, train=12, validation=4, test=6,
    tagging_train=4, tagging_test=4, tagging_seconds=1.0, pairs=3, snr_low=60.0, snr_high=60.0,
)  # fmt: skip


def tone(path: Path, hertz: float, seconds: float = 0.6, rate: int = RATE, silence: float = 0.0) -> None:
    """A tone with digital silence at both ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pad = np.zeros(round(silence * rate))
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate + 0.5)
    soundfile.write(path, np.concatenate([pad, wave, pad]), rate)


@pytest.fixture(scope="module")
def esc(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """ESC-50 in small: each recording is a tone of its own; and the frequency of each, in Hz."""
    root = tmp_path_factory.mktemp("esc") / "ESC-50"
    lines, credits, hertz = [], [], {}
    for i, (fold, label) in enumerate((fold, label) for fold in range(1, 6) for label in CLASSES):
        name = f"{fold}-{100 + i}-A-{i}"
        hertz[name] = 250.0 + 90 * i
        rate = 44100 if i == 3 else RATE
        tone(
            root / "audio" / f"{name}.{'ogg' if i % 4 == 1 else 'wav'}", hertz[name], 0.6 + 0.2 * i, rate, 0.1
        )
        lines.append(f"{name}.wav,{fold},{i},{label},False,{100 + i},A")
        credits.append(f'{name}.wav,"Sound {i}, <b>loud</b>",Author {i},CC-BY,https://example.org/{i}')
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text(HEADER + "\n".join(lines) + "\n")
    (root / "SOURCES.csv").write_text("filename,title,author,licence,url\n" + "\n".join(credits) + "\n")
    return root, hertz


@pytest.fixture(scope="module")
def built(esc, tmp_path_factory) -> Corpus:
    return build(tmp_path_factory.mktemp("built"), replace(SMALL, root=str(esc[0])))


# --- what is read ---


def test_recordings_of_the_published_layout(esc):
    root, _ = esc
    found, wrong = check(root)
    assert wrong == []
    assert found.clips["split"].value_counts().to_dict() == {"train": 9, "validation": 3, "test": 3}
    assert set(found.events["event"]) == {"dog", "bird", "sea_waves"}
    for i, (onset, offset, seconds) in enumerate(
        zip(found.events["onset"], found.events["offset"], found.clips["seconds"])
    ):
        assert seconds == pytest.approx(0.8 + 0.2 * i, abs=0.01)
        assert onset == pytest.approx(0.1, abs=0.07) and offset == pytest.approx(seconds - 0.1, abs=0.07)
    assert found.sources.iloc[1].tolist() == [
        "train/audio/1-101-A-1.ogg", "bird", "audio/1-101-A-1.ogg",
        "Sound 1, <b>loud</b>", "Author 1", "CC-BY", "https://example.org/1",
    ]  # fmt: skip
    # the folder above will do
    pd.testing.assert_frame_equal(check(root.parent)[0].clips, found.clips)


def test_authors_from_the_license_of_the_published_archive(esc, tmp_path):
    tone(tmp_path / "audio" / "1-100032-A-0.wav", 300)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text(f"{HEADER}1-100032-A-0.wav,1,0,dog,True,100032,A\n")
    page = "http://www.freesound.org/people/nfrae/sounds/100032/"
    line = f"- [1-100032-A.ogg]: clip derived from rose (a) bark.wav ({page}) by nfrae [CC0]"
    (tmp_path / "LICENSE").write_text(f"# ESC-50\n\n101 - Dog:\n{line}\n")
    found, _ = check(tmp_path)
    assert found.sources.iloc[0, 3:].tolist() == ["rose (a) bark.wav", "nfrae", "CC0", page]


def test_class_folders_are_split_by_source(tmp_path):
    for number in range(10):
        for take in ("A", "b", "take 2"):
            tone(tmp_path / "one" / "Church Bells" / f"ring{number}-{take}.wav", 300)
    for number in range(3):
        tone(tmp_path / "one" / "rain" / f"{number}.wav", 300)
    found, wrong = check(tmp_path / "one")
    assert wrong == []
    names = found.clips["clip"].str.extract(r"(?P<split>\w+)/(?P<label>[^/]+)/(?P<source>\w+)")
    assert (names.groupby(["label", "source"])["split"].nunique() == 1).all()  # takes stay together
    counts = Counter(zip(names["label"], names["split"]))
    assert counts == {
        ("Church Bells", "train"): 18, ("Church Bells", "validation"): 6, ("Church Bells", "test"): 6,
        ("rain", "train"): 1, ("rain", "validation"): 1, ("rain", "test"): 1,
    }  # fmt: skip
    assert set(found.events["event"]) == {"church_bells", "rain"}
    # in another order on the disk
    for path in sorted((tmp_path / "one").rglob("*.wav"), reverse=True):
        tone(tmp_path / "two" / path.relative_to(tmp_path / "one"), 300)
    again, _ = check(tmp_path / "two")
    pd.testing.assert_frame_equal(again.clips.drop(columns="path"), found.clips.drop(columns="path"))
    assert (found.sources["title"] == found.sources["recording"].str.rpartition("/")[2]).all()


def test_all_takes_of_a_source_go_where_its_lowest_fold_goes(esc, tmp_path):
    """As published, two sources have takes in folds 4 and 5."""
    root = copied(esc[0], tmp_path)
    table = root / "meta" / "esc50.csv"
    tone(root / "audio" / "5-109-A-9.wav", 300)
    table.write_text(table.read_text() + "5-109-A-9.wav,5,9,dog,False,109,B\n")
    found, wrong = check(root)
    assert wrong == []
    assert found.clips["clip"][found.clips["clip"].str.contains("-109-")].tolist() == [
        "validation/audio/4-109-A-9.ogg", "validation/audio/5-109-A-9.wav",
    ]  # fmt: skip


# --- what is heard ---


def test_scenes_sound_as_their_tables_say(esc, built):
    """In the span of each event its recording's tone is there, and no tone of others."""
    _, hertz = esc
    loaded = Corpus.load(built.folder)
    for name in ("clips", "captions", "events", "sources"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(built, name))
    assert loaded.clips["split"].value_counts().to_dict() == {
        "train": 12, "validation": 4, "test": 6, "tagging_train": 4, "tagging_test": 4, "pairs": 9,
    }  # fmt: skip
    assert loaded.sources[["clip", "event"]].equals(loaded.events[["clip", "event"]])
    folds = {"train": "123", "validation": "4", "test": "5"}
    for clip, split, seconds in zip(loaded.clips["clip"], loaded.clips["split"], loaded.clips["seconds"]):
        samples, rate = soundfile.read(loaded.path(clip))
        assert rate == RATE and len(samples) == round(seconds * rate)
        assert 0.19 < np.abs(samples).max() < 0.96
        heard = loaded.sources[loaded.sources["clip"] == clip]
        stems = [Path(name).stem for name in heard["recording"]]
        assert all(stem[0] in folds[TAKEN_FROM[split]] for stem in stems)
        spans = loaded.events[loaded.events["clip"] == clip]
        for stem, onset, offset in zip(stems, spans["onset"], spans["offset"]):
            part = samples[round(onset * rate) : round(offset * rate)]
            power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
            axis = np.fft.rfftfreq(len(part), 1 / rate)
            share = {other: power[np.abs(axis - f) < 20].sum() / power.sum() for other, f in hertz.items()}
            assert share[stem] > 0.05, (clip, stem, share)
            assert sum(value for other, value in share.items() if other not in stems) < 0.03, (clip, share)


def test_pairs_have_the_same_two_recordings_in_every_order(built):
    sources = built.sources[built.sources["clip"].str.startswith("pairs/")]
    by_clip = {clip: set(part["recording"]) for clip, part in sources.groupby("clip")}
    for number in range(3):
        ab, ba, both = (by_clip[f"pairs/{number:04d}-{order}"] for order in ("ab", "ba", "both"))
        assert ab == ba == both and len(ab) == 2


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_on_two_cores(esc, built, tmp_path):
    wanted = replace(SMALL, root=str(esc[0]))
    build(tmp_path / "again", wanted, cores=2)
    assert files(tmp_path / "again") == files(built.folder)
    few = replace(wanted, seed=1, train=4, test=1, pairs=0, tagging_test=0, events=("dog", "chirping_birds"))
    other = build(tmp_path / "other", few)
    assert set(other.events["event"]) == {"dog", "bird"}
    assert not other.sources["recording"].equals(built.sources["recording"][: len(other.sources)])


def test_a_split_has_its_own_sources(built):
    part = built.split("test")
    assert set(part.sources["clip"]) == set(part.clips["clip"])
    assert len(part.sources) == len(part.events) < len(built.sources)
    clip = part.clips["clip"].iloc[0]
    row = part.sources[part.sources["clip"] == clip].iloc[0]
    assert f"A text. | sounds: {row.title} by {row.author}, {row.licence}" in part.credited("A text.", clip)
    assert replace(part, sources=part.sources[:0]).credited("A text.", clip) == "A text."


@settings(deadline=None, max_examples=60)
@given(seconds=st.floats(0.05, 5), n=st.integers(800, 44000), seed=st.integers(0, 99))
def test_a_fitted_recording_is_never_silent_for_long(seconds, n, seed):
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * RATE))
    audio = fitted(samples, n, rng, RATE)
    assert audio.shape == (n,) and audio[0] == audio[-1] == 0 and abs(audio.mean()) < 0.02
    pauses = np.diff([0, *np.flatnonzero(np.abs(audio) > 1e-3), n])
    assert pauses[:-1].max() <= 0.41 * RATE  # between repeats
    assert pauses[-1] <= 0.41 * RATE + len(samples) / 2  # where no further repeat fits


def test_a_long_recording_begins_where_it_is_loud():
    samples = 1e-3 * np.random.default_rng(0).standard_normal(10 * RATE)
    samples[6 * RATE : 7 * RATE] *= 1000
    for seed in range(10):
        audio = fitted(samples, 3 * RATE, np.random.default_rng(seed), RATE)
        assert np.sum(audio**2) > 0.4 * np.sum(samples**2)
        assert np.sum(audio[: 2 * RATE] ** 2) > 0.4 * np.sum(samples**2)


def test_a_short_recording_is_repeated():
    audio = fitted(np.sin(np.arange(2000) * 0.7), 8000, np.random.default_rng(3), 8000)
    heard = np.flatnonzero(np.abs(audio) > 1e-3)
    pauses = np.diff(heard)[np.diff(heard) > 700]
    assert len(pauses) in (1, 2) and (pauses == pauses[0]).all() and 800 <= pauses[0] <= 3250


# --- what is wrong ---


def copied(root: Path, to: Path) -> Path:
    for name, content in files(root).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)
    return to


def edited(old: str, new: str, table: str = "meta/esc50.csv"):
    def change(root: Path) -> None:
        text = (root / table).read_text()
        assert old in text
        (root / table).write_text(text.replace(old, new, 1))

    return change


def silent(root: Path) -> None:
    soundfile.write(root / "audio" / "1-100-A-0.wav", np.zeros(4000), RATE)


def nearly_silent(root: Path) -> None:
    soundfile.write(root / "audio" / "1-100-A-0.wav", np.full(4000, 1e-4), RATE, "FLOAT")


def removed(root: Path) -> None:
    (root / "audio" / "1-100-A-0.wav").unlink()


def no_audio(root: Path) -> None:
    for path in (root / "audio").iterdir():
        path.unlink()


DEFECTS = {
    "no column": (edited(",fold,", ",flod,"), "header: wants filename,fold,category,src_file"),
    "no fold": (edited("A-0.wav,1,", "A-0.wav,,"), "line 2, fold: '' is none of 1 to 5"),
    "fold 6": (edited("A-0.wav,1,", "A-0.wav,6,"), "line 2, fold: '6' is none of 1 to 5"),
    "twice": (edited("2-103-A-3.wav", "1-100-A-0.wav"), "line 5, filename: '1-100-A-0.wav' is listed on"),
    "outside": (edited("1-100-A-0.wav", "../../secret.wav"), "line 2, filename: '../../secret.wav' leads"),
    "outside, as Windows writes it": (edited("1-100-A-0.wav", "..\\\\secret.wav"), "leads outside"),
    "not there": (removed, "1-100-A-0.wav: no such file"),
    "silent": (silent, "1-100-A-0.wav: is silent, every sample is 0"),
    "nearly silent": (nearly_silent, "1-100-A-0.wav: is silent, no sample is above 0.0001"),
    "no audio": (no_audio, "audio: no audio; it wants the 15 recordings of esc50.csv"),
    "no words": (edited(",sea_waves,", ",sea_wvaes,"), "class 'sea_wvaes'; nearest: 'sea_waves'"),
    "page": (edited("https://example.org/2", "javascript:x()", "SOURCES.csv"), "url: 'javascript:x()' is no"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_one_clear_message(esc, tmp_path, defect):
    change, message = DEFECTS[defect]
    root = copied(esc[0], tmp_path / "in")
    change(root)
    _, wrong = check(root)
    if defect == "no words":  # it is a class of one recording, too
        wrong.pop()
    assert len(wrong) == 1 and message in wrong[0] and str(root) in wrong[0], wrong
    with pytest.raises(CorpusError, match="the corpus has"):
        build(tmp_path / "out", replace(SMALL, root=str(root)))


def test_all_defects_at_once_by_check_data(esc, tmp_path, capsys):
    assert __main__.main(["check-data", "recordings", str(esc[0]), "--cores", "1"]) == 0
    assert "nothing wrong found" in capsys.readouterr().out
    root = copied(esc[0], tmp_path)
    for name in ("no fold", "page"):
        DEFECTS[name][0](root)
    (root / "audio" / "2-103-A-3.wav").write_bytes(b"no sound")
    assert __main__.main(["check-data", "recordings", str(root), "--cores", "1"]) != 0
    said = capsys.readouterr().err
    assert "3 defects" in said and "line 2, fold" in said and "not readable" in said and "javascript" in said


def test_a_class_that_cannot_be_split(tmp_path):
    for name in ("rain/1.wav", "rain/2.wav", "rain/3.wav", "dog/only.wav"):
        tone(tmp_path / name, 300)
    (said,) = check(tmp_path)[1]
    assert "class 'dog' has 1 recording and none for validation and test" in said


@pytest.mark.parametrize(
    ("inside", "message"), [("", "no such folder"), ("empty", "no audio; it has neither")]
)
def test_nothing_there(tmp_path, inside, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=message):
        build(tmp_path, replace(SMALL, root=str(tmp_path / (inside or "nowhere"))))


@pytest.mark.parametrize(
    ("events", "message"), [(("dog", "rain"), "no recording of 'rain'"), (("dog",), "makes no pairs")]
)
def test_kinds_of_sound_that_no_recording_has(esc, tmp_path, events, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, replace(SMALL, root=str(esc[0]), events=events))


# --- in a study ---


def test_the_stage_makes_it_and_its_key_follows_content(esc, tmp_path, monkeypatch):
    root = copied(esc[0], tmp_path / "in")
    sizes = {"train": 4, "validation": 2, "test": 2, "tagging_train": 0, "tagging_test": 0, "pairs": 1}

    def artifact(**corpus):
        fingerprint.cache_clear()  # files do change while this is planned
        given = {"name": "recordings", "root": str(root), "sample_rate": RATE, **sizes, **corpus}
        return plan.corpus(Study.load("demo", {"corpus": given}))

    first = artifact()
    (tmp_path / "out").mkdir()
    stage.build(first, tmp_path / "out", 1)
    assert len(Corpus.load(tmp_path / "out").clips) == 11
    assert artifact().key == artifact(decode=True).key == first.key
    assert artifact(seed=1).key != first.key != artifact(wording="rare").key
    tone(root / "audio" / "1-100-A-0.wav", 300, 0.9)
    assert artifact().key != first.key


def test_no_root_is_where_the_download_leaves_it(esc, tmp_path, monkeypatch):
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path))
    with pytest.raises(CorpusError, match="download esc50"):
        check("")
    copied(esc[0], tmp_path / "ESC-50")
    assert check("")[1] == []


def test_its_study():
    study = Study.load("recordings")
    assert study.corpus.name == "recordings" and study.corpus.train == Study.load("demo").corpus.train
    assert study.varied("positions").decoder.frame_positions == "sinusoidal"


# --- its words ---


def test_all_fifty_classes_have_words():
    assert len(esc50.KINDS) + len(esc50.PHRASES) == 39 and not set(esc50.PHRASES) & set(EVENTS)
    assert set(esc50.KINDS.values()) <= set(EVENTS)
    assert set(grammar.ALL_PHRASES) == set(grammar.ALL_SUPERORDINATE)
    # a pair's streams are numbered by it
    assert tuple(grammar.ALL_PHRASES)[: len(EVENTS)] == EVENTS
    if (REAL / "meta" / "esc50.csv").is_file():
        classes = set(pd.read_csv(REAL / "meta" / "esc50.csv")["category"])
        assert len(classes) == 50
        assert classes <= set(esc50.KINDS) | set(grammar.ALL_PHRASES)
        assert set(esc50.KINDS) | set(esc50.PHRASES) <= classes


def test_no_two_kinds_share_a_phrase():
    for event, phrases in grammar.ALL_PHRASES.items():
        for subject, finite, gerund in phrases:
            for verb in (finite, gerund):
                assert errors.named_events(f"{subject} {verb}") == [event], (subject, verb)


@pytest.mark.skipif(not REAL.is_dir(), reason="no cut of ESC-50 beside the project")
def test_the_real_cut():
    found, wrong = check(REAL)
    assert wrong == [] and len(found.clips) == 1769 and found.events["event"].nunique() == 50
    assert (found.sources[["title", "author", "licence"]] != "").all(axis=None)
    assert found.sources["url"].str.startswith("http").all()
    assert (found.events["offset"] - found.events["onset"]).min() > 0.3
    pool = Pool.of(found)
    assert {(split, event) for split in TAKEN_FROM.values() for event in found.events["event"]} == set(
        pool.recordings
    )
    sound = pool("test", "toilet_flush", np.random.default_rng(0), 5.4, 16000)
    assert sound.shape == (86400,) and np.isfinite(sound).all()
