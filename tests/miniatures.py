"""Clotho and AudioCaps in miniature: short tones in the published layouts, with every oddity of the
real ones.
"""

import csv
import unicodedata
from pathlib import Path

import numpy as np
import soundfile

PITCHES = ("very low", "low", "middle", "high", "very high")
SOUNDS = ("tone", "hum", "whistle", "beep", "buzz")
WAYS = ("steadily", "softly", "loudly", "slowly", "clearly")
PLACES = ("small room", "large hall", "quiet street", "long tunnel", "green field")
SENTENCES = (
    "A {pitch} {sound} goes on {way} in a {place}.",
    "In a {place} there is a {pitch} {sound} that sounds {way}.",
    "Somebody plays a {pitch} {sound} {way} inside of a {place}.",
    "A {pitch} {sound} sounds {way} before a door closes in a {place}.",
    "A {pitch} {sound} is heard {way}, and then a bird sings in a {place}.",
)

# Name in the table and name on disk. ' e ieio ieai.wav' stands in two splits, as some names do in
# the real corpus.
CLOTHO_NAMES = {
    "development": {
        " e ieio ieai.wav": " e ieio ieai.wav",  # a leading space
        "121006_rain&amp;storm.wav": "121006_rain&storm.wav",  # an HTML entity, plain on disk
        "two  spaces.wav": "two  spaces.wav",
        "Café (Zürich).wav": unicodedata.normalize("NFD", "Café (Zürich).wav"),
        "dog's bark, near.wav": "dog's bark, near.wav",  # quoted by CSV
        "at 12:30.wav": "at 12_30.wav",  # a mirror's disk could not hold ':'
    },
    "validation": {
        " e ieio ieai.wav": " e ieio ieai.wav",
        "a&amp;b.wav": "a&amp;b.wav",
    },  # literally so on disk
    "evaluation": {unicodedata.normalize("NFD", "naïve.wav"): unicodedata.normalize("NFC", "naïve.wav")},
}
KEYWORDS = ("tone; test;  café ", "single")  # Latin-1, split by ';'


def sentences(rng: np.random.Generator, pitch: int, n: int = 5) -> list[str]:
    """Captions of 8 words or more about a tone of one of five pitches."""
    return [
        sentence.format(
            pitch=PITCHES[pitch], sound=rng.choice(SOUNDS), way=rng.choice(WAYS), place=rng.choice(PLACES)
        )
        for sentence in SENTENCES[:n]
    ]


def tone(rng: np.random.Generator, pitch: int, seconds: float, rate: int) -> np.ndarray:
    """A sine of one of five pitches with a little noise, float64 [samples]."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * 200 * 2**pitch * time) + 0.01 * rng.standard_normal(len(time))


def _write(path: Path, samples: np.ndarray, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)


def _table(path: Path, rows: list[list[str]], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)


def make_clotho(
    root: Path,
    rng: np.random.Generator,
    sizes: tuple[int, int, int] = (8, 4, 6),
    seconds: float = 1.0,
    rate: int = 44100,
    beside: bool = False,
    metadata: bool = True,
) -> Path:
    """Clotho below ``root``; with ``beside`` in the layout without clotho_audio_files and
    clotho_csv_files.

    ``sizes``: clips of development, validation and evaluation. Returns the folder that holds it
    all.
    """
    base = root / "CLOTHO_v2.1"
    audio, tables = (base, base) if beside else (base / "clotho_audio_files", base / "clotho_csv_files")
    for (split, odd), size in zip(CLOTHO_NAMES.items(), sizes):
        names = list(odd.items())[:size]
        names += [(f"{split} {i}.wav",) * 2 for i in range(size - len(names))]
        rows = [["file_name", *(f"caption_{i}" for i in range(1, 6))]]
        about = [
            [
                "file_name",
                "keywords",
                "sound_id",
                "sound_link",
                "start_end_samples",
                "manufacturer",
                "license",
            ]
        ]
        for i, (name, file) in enumerate(names):
            _write(audio / split / file, tone(rng, i % 5, seconds * (1 + 0.1 * (i % 4)), rate), rate)
            rows.append([name, *sentences(rng, i % 5)])
            link = f"https://freesound.org/s/{1000 + i}"
            about.append([name, KEYWORDS[i % 2], str(1000 + i), link, "[0, 9]", "Zoé", "CC0"])
        _table(tables / f"clotho_captions_{split}.csv", rows)
        if metadata:
            latin = [[unicodedata.normalize("NFC", text) for text in row] for row in about]
            _table(tables / f"clotho_metadata_{split}.csv", latin, "iso-8859-1")
    return base


def make_audiocaps(
    root: Path,
    rng: np.random.Generator,
    sizes: tuple[int, int, int] = (12, 4, 6),
    seconds: float = 1.0,
    rate: int = 32000,
    v1: bool = False,
    broken: bool = True,
) -> Path:
    """AudioCaps below ``root``, its files named in all six ways in turn; with ``v1`` its tables in
    csv_files_v1/.

    ``sizes``: clips that the tables of train, val and test name. With ``broken`` the last clips of
    train and test have no file, and the file of the last but one of train is no audio. Returns the
    folder that holds it all.
    """
    base = root / "AUDIOCAPS"
    number = 100
    for split, size in zip(("train", "val", "test"), sizes):
        rows = [["audiocap_id", "youtube_id", "start_time", "caption"]]
        for i in range(size):
            # Ids start with '-' and hold '_', as many real ones do.
            youtube, start = f"{'-_aB'[i % 4]}{split:_<5}_{i:04d}", 10 * (i % 3)
            captions = sentences(rng, i % 5, 1 if split == "train" else 5)
            ids = [str(number + j) for j in range(len(captions))]
            number += len(captions)
            rows += [[one, youtube, str(start), text] for one, text in zip(ids, captions)]
            name = (
                f"{youtube}_{start}.flac",
                f"Y{youtube}.wav",
                f"{youtube}.wav",
                f"{youtube}_{start}_{start + 10}.wav",
                f"{youtube}_{start * 1000}_{(start + 10) * 1000}.flac",
                f"{ids[-1]}.wav",
            )[i % 6]
            path = base / "audio_32000Hz" / split / name
            if broken and split != "val" and i == size - 1:
                continue
            _write(path, tone(rng, i % 5, seconds * (1 + 0.1 * (i % 3)), rate), rate)
            if broken and split == "train" and i == size - 2:
                path.write_bytes(b"<html>video unavailable</html>")
        # Rows of one clip need not stand together.
        rows[1:] = sorted(rows[1:], key=lambda row: int(row[0]) % 7)
        _table(base / ("csv_files_v1" if v1 else ".") / f"{split}.csv", rows)
    return base
