"""Audio files in: decoded by soundfile, mixed to mono, resampled by torchaudio, checked once."""

import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

SHORTEST, LONGEST = 0.25, 120.0  # seconds; shorter gives an encoder no frame, longer is no clip
READABLE = (".flac", ".wav", ".ogg", ".mp3", ".aiff", ".aif", ".opus")
FOREIGN = (".m4a", ".mp4", ".webm", ".aac", ".mka", ".mkv", ".wma")  # libsndfile reads none of them


class AudioError(ValueError):
    """An audio file that cannot be used; the message names the file, what is wrong and what would
    be right.
    """


def inspect(path: Path) -> soundfile._SoundFileInfo:
    """Length and rate of a file without decoding it; a missing, unreadable, short, long or cut-off
    one raises.
    """
    if not path.is_file():
        raise AudioError(f"{path}: no such file; put it there, or take its row out")
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"{path}: not readable by libsndfile ({_reason(error)}); if other players can play it, "
            f"convert it: {_ffmpeg(path)}"
        ) from error
    seconds = info.frames / info.samplerate
    if seconds < SHORTEST:
        raise AudioError(f"{path}: lasts {seconds:.3f} s; a clip needs at least {SHORTEST} s")
    if seconds > LONGEST:
        raise AudioError(f"{path}: lasts {seconds:.1f} s; a clip has at most {LONGEST:.0f} s, cut it")
    # a broken download: its header tells the whole length, but no end can be found
    if info.format == "FLAC":
        try:
            with soundfile.SoundFile(path) as file:
                file.seek(info.frames - 1)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioError(f"{path}: damaged, its end is missing; copy or download it again") from error
    return info


def read(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a file: float32 [samples], mono (mean of the channels), at ``sample_rate`` Hz.

    Raises AudioError for a file that ``inspect`` refuses or that ends early, for NaN samples and
    for digital silence.
    """
    samples, rate = _decode(path)
    return samples if rate == sample_rate else resample(samples, rate, sample_rate)


def _decode(path: Path) -> tuple[np.ndarray, int]:
    info = inspect(path)
    try:
        # [samples, channels]
        channels, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{path}: damaged ({_reason(error)}); copy or download it again") from error
    if len(channels) < 0.9 * info.frames:  # some MP3 headers are a little wrong about their length
        raise AudioError(
            f"{path}: damaged: {len(channels) / rate:.2f} of its {info.frames / rate:.2f} s can be decoded; "
            "copy or download it again"
        )
    samples = channels.mean(axis=1)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are no numbers (NaN or infinite); export it again")
    if not samples.any():
        if channels.any():
            raise AudioError(
                f"{path}: its {channels.shape[1]} channels cancel each other (opposite phase), their mean "
                f"is silent; "
                "keep one of them, such as by ffmpeg -af 'pan=mono|c0=c0'"
            )
        raise AudioError(f"{path}: is silent, every sample is 0; replace it, or take its row out")
    return samples, rate


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample with torchaudio's defaults, as the published encoders' features were made."""
    import torch
    from torchaudio.functional import resample as torchaudio_resample

    return torchaudio_resample(torch.from_numpy(samples), rate, new_rate).numpy()


def permute(samples: np.ndarray, sample_rate: int, seconds: float, seed: int) -> np.ndarray:
    """The same sound in pieces of so many seconds, in a drawn order; what is left at the end stays
    there.

    The control of order that acts before an encoder, whose frames may tell of what came before
    them. Pieces fade in and out within 2 ms (or a quarter of one), or their ends would click. Each
    clip needs a seed of its own: one order for all would favour one order of their sounds.
    ValueError for a piece shorter than a sample.
    """
    piece = round(seconds * sample_rate)
    if piece < 1:
        raise ValueError(f"a piece of {seconds} s is no sample at {sample_rate} Hz")
    place = np.arange(len(samples)) % piece
    ends = min(round(0.002 * sample_rate), piece // 4) + 1
    faded = samples * np.minimum(np.minimum(place + 1, piece - place) / ends, 1).astype(samples.dtype)
    whole = len(samples) // piece * piece
    drawn = np.random.default_rng(seed).permutation(whole // piece)
    return np.concatenate([faded[:whole].reshape(-1, piece)[drawn].ravel(), faded[whole:]])


def examine(paths: Iterable[Path], decode: bool, workers: int = 1) -> Iterator[float | AudioError]:
    """For each file, in order: its seconds, or what is wrong with it.

    Reads headers, about 0.1 ms a file; with ``decode`` every sample, which alone shows damage,
    silence and NaN.
    """

    def one(path: Path) -> float | AudioError:
        try:
            info = inspect(path)
            if decode:
                _decode(path)
        except AudioError as error:
            return error
        return round(info.frames / info.samplerate, 3)

    return ahead(one, paths, workers)


def ahead(function: Callable, items: Iterable, workers: int) -> Iterator:
    """``map`` in threads, results in order: never more than a few ahead of the one asked for, so
    memory stays bounded.

    libsndfile and torch let go of the interpreter while they work, so threads are enough to decode
    on several cores.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _ffmpeg(path: Path) -> str:
    """A command that converts a file, run in its folder; the result never has the name of the file
    itself.
    """
    names = path.name, path.with_suffix(".flac" if path.suffix.lower() == ".wav" else ".wav").name
    return "ffmpeg -i " + " ".join(shlex.quote(f"./{name}" if name[0] == "-" else name) for name in names)


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip().rstrip(".")
