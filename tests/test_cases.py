"""Situations of public bug reports, each in its smallest form: what is right happens."""

import json
import shutil
import struct
import unicodedata

import numpy as np
import pytest
import soundfile
import zarr

from aacstudy.__main__ import main
from aacstudy.corpus import clotho, folder, recordings
from aacstudy.corpus.audio import AudioError, examine, read, resample
from aacstudy.scoring.matrix import Losses
from aacstudy.study import matrix_files
from aacstudy.study.parameters import Study, StudyError

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(0.2 * np.arange(round(seconds * rate)))


def refused(path) -> str:
    with pytest.raises(AudioError) as error:
        read(path, RATE)
    return str(error.value)


def told(capsys, *arguments) -> str:
    """What a command that fails says: one line, no traceback."""
    assert main([str(one) for one in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith((f"aacstudy {arguments[0]}: ", "  "))
    return said


def corpus(root, rows: str, *names: str):
    for name in names:
        soundfile.write(root / name, tone(), RATE)
    (root / "captions.csv").write_text(rows, encoding="utf-8", newline="")
    return folder.check(root)


# --- audio --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "form", "subtype"),
    [
        ("wav", "WAV", "PCM_16"),
        ("wav", "WAVEX", "PCM_24"),
        ("aiff", "AIFF", "PCM_16"),
        ("au", "AU", "PCM_16"),
    ],
)
def test_a_header_that_promises_more_than_there_is(tmp_path, suffix, form, subtype):
    file = tmp_path / f"a.{suffix}"
    soundfile.write(file, tone(10), RATE, subtype, format=form)
    whole = file.read_bytes()
    assert len(read(file, RATE)) == 10 * RATE
    file.write_bytes(whole[: round(0.35 * len(whole))])
    assert "damaged, its end is missing: 3.50 of its 10.00 s are there" in refused(file)


@pytest.mark.parametrize("form", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")])
def test_a_compressed_file_without_its_end(tmp_path, form):
    file = tmp_path / f"a.{form[0].lower()}"
    soundfile.write(file, tone(10), RATE, form[1], format=form[0])
    whole = file.read_bytes()
    read(file, RATE)
    for part in (0.6, 0.95, 0.999):
        file.write_bytes(whole[: round(part * len(whole))])
        assert "damaged" in refused(file) or "lasts 0.000 s" in refused(file)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_what_a_pipe_cannot_know_promises_nothing(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", tone(2), RATE, "PCM_16")
    whole = bytearray((tmp_path / "a.wav").read_bytes())
    at = whole.index(b"data") + 4
    whole[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(whole)
    if size:
        assert len(read(tmp_path / "a.wav", RATE)) == 2 * RATE


def test_the_length_of_a_cut_mp3_is_what_is_there(tmp_path):
    soundfile.write(tmp_path / "a.mp3", np.random.default_rng(0).normal(0, 0.1, 441000), 44100)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[: round(0.95 * len(whole))])
    (seconds,) = examine([tmp_path / "a.mp3"], decode=True)
    assert seconds == pytest.approx(len(read(tmp_path / "a.mp3", RATE)) / RATE, abs=0.01)
    assert seconds < soundfile.info(tmp_path / "a.mp3").duration - 0.1


def test_channels_that_cancel_but_for_rounding(tmp_path):
    left = np.round(tone() * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left - (left % 2)], axis=1), RATE)
    assert "its 2 channels cancel each other" in refused(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.stack([left, 0 * left], axis=1), RATE)
    assert len(read(tmp_path / "b.wav", RATE)) == RATE  # a dead channel is 6 dB less, no more


def test_samples_of_another_unit(tmp_path):
    soundfile.write(tmp_path / "a.wav", 1e19 * tone(), RATE, "FLOAT")
    assert "3e+18 times full scale" in refused(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [11127, 44101])
def test_a_rate_that_shares_no_divisor(rate):
    """The kernel of torchaudio's defaults would hold gigabytes."""
    found = resample(tone(0.5, rate).astype(np.float32), rate, 32000)
    assert found.dtype == np.float32 and abs(len(found) - 16000) <= 2
    assert np.abs(found).max() == pytest.approx(0.3, abs=0.02)


# --- tables and names ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_composed_in_the_table_and_not_on_the_disk(tmp_path, form):
    name = "Glöckchen.wav"
    rows = f"file_name,caption_1\n{unicodedata.normalize(form, name)},A bell rings.\n"
    found, defects = corpus(tmp_path, rows, unicodedata.normalize("NFD", name))
    assert defects == [] and found.paths()[0].exists()


def test_an_invisible_character_and_a_space_are_shown(tmp_path):
    rows = "file_name,caption_1\ndog.wav\u200b,A dog.\ncat.wav ,A cat.\n"
    defects = corpus(tmp_path, rows, "dog.wav", "cat.wav")[1]
    assert r"'dog.wav\u200b'" in defects[0] and "'cat.wav '" in defects[1]


def test_two_names_of_one_file(tmp_path):
    (tmp_path / "b.wav").symlink_to("a.wav")
    rows = "file_name,caption_1\na.wav,A dog.\nb.wav,A cat.\n"
    defects = corpus(tmp_path, rows, "a.wav")[1]
    assert len(defects) == 1 and "line 3, file_name: 'b.wav' and 'a.wav' are one file" in defects[0]


@pytest.mark.parametrize("name", ["./a.wav", "../x/a.wav", "/a.wav"])
def test_a_name_that_is_a_way_is_a_defect_of_its_row(tmp_path, name):
    (defect,) = corpus(tmp_path, f"file_name,caption_1\n{name},A dog.\n", "a.wav")[1]
    assert "captions.csv, line 2, file_name: " in defect and "'a.wav'" in defect


@pytest.mark.parametrize("character", ["\0", "\x1b", "\r"])
def test_a_control_character_names_its_line(tmp_path, character):
    rows = f'file_name,caption_1\na.wav,A dog.\nb.wav,"A cat{character}purrs."\n'
    (defect,) = corpus(tmp_path, rows, "a.wav", "b.wav")[1]
    assert f"captions.csv, line 3: holds the control character {character!r}" in defect


def test_lines_of_an_old_mac_are_lines(tmp_path):
    found, defects = corpus(tmp_path, "file_name,caption_1\ra.wav,A dog.\r", "a.wav")
    assert defects == [] and found.captions["text"].tolist() == ["A dog."]


SHIFTED = "file_name,caption\na.wav,a dog, then more\nb.wav,rain falls\n"


@pytest.mark.parametrize("command", ["bat", "bias", "evaluate", "training"])
def test_one_comma_too_many_is_named_by_every_command(tmp_path, capsys, command):
    (tmp_path / "t.csv").write_text(SHIFTED)
    (tmp_path / "p.csv").write_text("caption,loss\na dog,1\nrain falls,2\n")
    (tmp_path / "c.csv").write_text("file_name,caption\na.wav,a dog\nb.wav,rain\n")
    table, pairs, fine = (tmp_path / f"{name}.csv" for name in "tpc")
    arguments = {
        "bat": ("bat", table, "--out", tmp_path / "o.csv"),
        "bias": ("bias", pairs, "--training", table),
        "evaluate": ("evaluate", fine, table),
        "training": ("evaluate", fine, fine, "--training", table),
    }[command]
    assert told(capsys, *arguments).endswith("t.csv, line 2: 3 fields, the header has 2; unquoted comma?")


def test_a_number_of_a_caption_is_no_caption(tmp_path):
    from aacstudy.corpus.tables import read_captions

    (tmp_path / "r.csv").write_text("file_name,caption_id,caption\na.wav,11,a dog barks\n")
    assert read_captions(tmp_path / "r.csv")["text"].tolist() == ["a dog barks"]


# --- what is replaced is noticed ----------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".au", ".caf", ".w64", ".oga", ".mpga", ""])
@pytest.mark.parametrize("kind", ["folder", "clotho", "recordings"])
def test_a_replaced_recording_is_noticed_whatever_it_is_called(tmp_path, kind, suffix):
    reader = {"folder": folder, "clotho": clotho, "recordings": recordings}[kind]
    name = f"x{suffix}"
    place, table, text = {
        "folder": ("", "captions.csv", f"file_name,caption_1\n{name},A bell.\n"),
        "clotho": ("evaluation", "clotho_captions_evaluation.csv", f"file_name,caption_1\n{name},A bell.\n"),
        "recordings": ("audio", "meta/esc50.csv", f"filename,fold,category,src_file\n{name},1,dog,1\n"),
    }[kind]
    for one in (tmp_path / place, (tmp_path / table).parent):
        one.mkdir(exist_ok=True)
    if kind == "recordings":
        soundfile.write(tmp_path / "audio" / "other.wav", tone(), RATE)
    (tmp_path / table).write_text(text)
    seen = set()
    for content in (b"first", b"another"):
        (tmp_path / place / name).write_bytes(content)
        reader.fingerprint.cache_clear()
        seen.add(reader.fingerprint(str(tmp_path)))
    assert len(seen) == 2


# --- matrices -----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    """Losses of 70 audios, in two chunks."""
    nll = np.random.default_rng(0).gamma(3, 1, (70, 140)).astype(np.float32)
    ids = [str(i) for i in range(70)], [str(i) for i in range(140)]
    Losses(nll, np.ones(140, np.int64), np.arange(140) // 2, *ids).write(tmp_path / "m.zarr")
    return tmp_path / "m.zarr"


def test_a_missing_chunk_is_named(stored, capsys):
    (stored / "nll" / "c" / "1" / "0").unlink()
    assert "m.zarr: chunk nll/c/1/0 is missing" in told(capsys, "retrieve", stored)
    assert np.isnan(zarr.open_group(stored, mode="r")["nll"][69]).all()  # whoever reads it otherwise


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_chunk_of_another_writer_is_named(tmp_path, stored, version):
    losses = Losses.read(stored)
    group = zarr.open_group(tmp_path / "o.zarr", mode="w", zarr_format=version)
    for name, values in (("nll", losses.nll), ("tokens", losses.tokens), ("owners", losses.owners)):
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=values.shape)[:] = values
    group.attrs.update({"audios": losses.audios, "captions": losses.captions, "parameters": {}})
    assert np.array_equal(Losses.read(tmp_path / "o.zarr").nll, losses.nll)
    chunk = {2: "0.0", 3: "c/0/0"}[version]
    (tmp_path / "o.zarr" / "nll" / chunk).unlink()
    with pytest.raises(ValueError, match=f"chunk nll/{chunk} is missing"):
        Losses.read(tmp_path / "o.zarr")


@pytest.mark.parametrize("array", ["nll", "tokens", "owners"])
def test_a_cut_chunk_and_every_changed_bit_are_named(stored, array):
    chunk = next(path for path in sorted((stored / array / "c").rglob("*")) if path.is_file())
    whole = chunk.read_bytes()
    rng = np.random.default_rng(1)
    changed = [whole[: len(whole) // 2]]
    for place, bit in zip(rng.integers(len(whole), size=20), rng.integers(8, size=20)):
        changed.append(whole[:place] + bytes([whole[place] ^ (1 << int(bit))]) + whole[place + 1 :])
    for content in changed:
        chunk.write_bytes(content)
        with pytest.raises(ValueError, match=rf"chunk {array}/c/0.* is damaged"):
            Losses.read(stored)


@pytest.mark.parametrize("harm", [{"filters": [{"id": "pickle"}]}, {"dtype": "|O"}])
def test_a_matrix_that_would_run_code_is_not_opened(tmp_path, harm, monkeypatch):
    about = {"zarr_format": 2, "shape": [1, 1], "chunks": [1, 1], "dtype": "<f4", "compressor": None,
             "fill_value": 0, "filters": None, "order": "C"} | harm  # fmt: skip
    (tmp_path / "m.zarr" / "nll").mkdir(parents=True)
    (tmp_path / "m.zarr" / "nll" / ".zarray").write_text(json.dumps(about))
    monkeypatch.setattr(zarr, "open_group", None)
    with pytest.raises(ValueError, match=r"\.zarray: holds .*; wants plain numbers"):
        Losses.read(tmp_path / "m.zarr")


def test_a_loss_that_is_no_number_is_not_written(stored):
    found = Losses.read(stored)
    found.nll[3, 5] = np.nan
    with pytest.raises(ValueError, match="the loss of audio 3 and caption 5 is nan"):
        found.write(stored.with_name("n.zarr"))


def test_frames_that_are_no_numbers_are_not_written(tmp_path):
    import torch

    from aacstudy.models.frames import save

    with pytest.raises(ValueError, match="the frames of 'b' hold NaN"):
        save(tmp_path / "frames.safetensors", ["a", "b"], [torch.zeros(2, 3), torch.full((2, 3), torch.nan)])
    assert not list(tmp_path.iterdir())


def test_similarities_keep_what_float32_would_tie(tmp_path):
    score = np.array([[1e-9, 1.0], [2e-9, 1.0 + 1e-12]])
    np.savez(tmp_path / "m.npz", score=score, owners=[0, 1])
    found = matrix_files.read(tmp_path / "m.npz")
    found.write(tmp_path / "m.zarr")
    for one in (found, Losses.read(tmp_path / "m.zarr")):
        assert one.nll.dtype == np.float64 and len(set(one.nll[:, 1])) == 2


# --- parameters and names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"corpus": {"train": 20, "speed": None}}, "corpus.speed is not a parameter"),
        ({"Study": "smoke"}, "Study is not a parameter; did you mean study"),
        ({"Seeds": [3]}, "Seeds is not a parameter; did you mean seeds"),
        ({"seeds": 3}, "seeds is 3"),
        ({"seeds": np.arange(3)}, "seeds is array"),
        ({"study": "smok", "seeds": [3]}, "'smok' does not exist; did you mean smoke"),
        ({"before_after": {"variants": ["../demo"]}}, "'ablations/../demo' is no name of a study"),
        ({"study": "$(touch x)"}, "is no name of a study"),
    ],
)
def test_no_parameter_is_dropped(given, said):
    with pytest.raises(StudyError) as error:
        Study.from_notebook({"study": "demo"} | given)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}\n", "[" * 5000])
def test_a_page_without_a_parameter_is_no_study(tmp_path, text):
    (tmp_path / "mine.yml").write_text(text)
    with pytest.raises(StudyError, match=r"mine\.yml"):
        Study.load(tmp_path / "mine.yml")


@pytest.mark.parametrize("name", ["a$(touch x)", "a`b`", "{stage}", "../up", "-x", "a\nb"])
def test_a_name_that_is_more_than_a_name(tmp_path, name):
    (tmp_path / "mine.yml").write_text(json.dumps({"study": name, "extends": "smoke"}))
    with pytest.raises(StudyError, match="a name has letters and digits"):
        Study.load(tmp_path / "mine.yml")


# --- one sentence -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["bat", "bias", "retrieve", "evaluate"])
def test_a_folder_where_a_file_is_meant(tmp_path, capsys, command):
    (tmp_path / "c.csv").write_text("file_name,caption\na.wav,a dog barks loudly\n")
    (tmp_path / "x.csv").mkdir()
    out, table = tmp_path / "x.csv", tmp_path / "c.csv"
    arguments = {
        "bat": ("bat", table, "--out", out),
        "bias": ("bias", out, "--training", table),
        "retrieve": ("retrieve", out, "--owners", out),
        "evaluate": ("evaluate", out, table),
    }[command]
    assert "x.csv" in told(capsys, *arguments)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_cannot_be_written_names_the_variables(tmp_path, capsys, monkeypatch):
    (tmp_path / "c.csv").write_text("file_name,caption\na.wav,a dog barks loudly\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    said = told(capsys, "bat", tmp_path / "c.csv", "--out", tmp_path / "o.csv")
    assert "No space left" in said and "AACSTUDY_ARTIFACTS, AACSTUDY_REPORTS" in said


def test_make_hands_a_name_over_as_it_is(tmp_path):
    """In quotes of a recipe the shell would run what stands in $( ) or in backquotes."""
    import subprocess

    from conftest import PROJECT

    if not shutil.which("make"):
        pytest.skip("make is not here")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/told"\n')
    python.chmod(0o755)
    name, data = f"a$(touch {tmp_path}/x)`touch {tmp_path}/x`.yml", "it's $HOME {}"
    command = ["make", "-C", PROJECT, "study", f"STUDY={name}", f"DATA={data}", f"PYTHON={python}"]
    subprocess.run(command, check=True, capture_output=True)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[:6] == ["-m", "aacstudy", "run", name, "--data", data] and not (tmp_path / "x").exists()
