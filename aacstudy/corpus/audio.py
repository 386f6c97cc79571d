"""Audio files in: decoded by soundfile, mixed to mono, resampled by torchaudio, checked once."""

import shlex
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

LOUDEST = 100.0  # a sample of full scale is 1; what is 40 dB above it was meant as another unit
CANCELLED = 1e-3  # least energy of the channels' mean, of their own: what rounding leaves is 1e-8
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
    there = _there(path, info)
    if there < 1:
        part = f": {seconds:.2f} of its {seconds / there:.2f} s are there" if there else ""
        raise AudioError(f"{path}: damaged, its end is missing{part}; copy or download it again")
    return info


def read(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a file: float32 [samples], mono (mean of the channels), at ``sample_rate`` Hz.

    Raises AudioError for a file that ``inspect`` refuses or that ends early, for samples that are
    NaN or no sound's, for digital silence and for channels that cancel each other.
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
    if not (most := np.abs(channels).max()) <= LOUDEST:  # NaN is not, either
        what = f"{most:.3g} times full scale" if np.isfinite(most) else "no numbers (NaN or infinite)"
        raise AudioError(f"{path}: holds samples that are {what}; export it again")
    if not channels.any():
        raise AudioError(f"{path}: is silent, every sample is 0; replace it, or take its row out")
    samples = channels.mean(axis=1)
    if np.square(samples).mean() < CANCELLED * np.square(channels).mean():
        raise AudioError(
            f"{path}: its {channels.shape[1]} channels cancel each other (opposite phase), their mean "
            "is silent; keep one of them, such as by ffmpeg -af 'pan=mono|c0=c0'"
        )
    return samples, rate


def _there(path: Path, info: soundfile._SoundFileInfo) -> float:
    """Which part of the sound that a file's header promises is there, 0 where only the end is known
    to be missing.

    libsndfile reads a cut WAV, AIFF, AU or Ogg as a shorter one. Sizes that a pipe cannot know (0,
    or near the most that 31 or 32 bits hold) promise nothing.
    """
    if info.format == "FLAC":
        try:
            with soundfile.SoundFile(path) as file:
                file.seek(info.frames - 1)
        except (soundfile.LibsndfileError, RuntimeError):
            return 0
    size = path.stat().st_size
    with path.open("rb") as file:
        if info.format == "OGG":  # a stream's last page says that it is the last
            file.seek(max(0, size - 2**17))
            tail = file.read()
            page = tail[tail.rfind(b"OggS") :]
            length = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else np.inf
            return float(len(page) >= length and page[5] & 4 > 0)
        head = file.read(12)
        if head[:4] == b".snd":
            at, promised = struct.unpack(">II", head[4:])
        elif head[:4] in (b"RIFF", b"FORM"):
            name, order = (b"data", "<I") if head[:4] == b"RIFF" else (b"SSND", ">I")
            at, promised = 12, 0
            while len(chunk := file.read(8)) == 8:
                at, (length,) = at + 8, struct.unpack(order, chunk[4:])
                if chunk[:4] == name:
                    promised = length
                    break
                at += length + length % 2
                file.seek(at)
        else:
            return 1
    known = 0 < promised < 2**31 - 2**16 and promised - (size - at) > 44  # some count their own header
    return (size - at) / promised if known else 1


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample with torchaudio's defaults, as the published encoders' features were made.

    Two rates with a small common divisor (11127 and 32000 Hz) would want a kernel of gigabytes:
    those are resampled by a polyphase filter.
    """
    if rate * new_rate // gcd(rate, new_rate) ** 2 > 2**26:
        from scipy.signal import resample_poly

        divisor = gcd(rate, new_rate)
        return resample_poly(samples, new_rate // divisor, rate // divisor).astype(np.float32)
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
            if decode:  # the header of a cut MP3 tells the length it had
                samples, rate = _decode(path)
                return round(len(samples) / rate, 3)
            info = inspect(path)
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
