"""Audio files in: decoded by soundfile, mixed to mono, resampled by torchaudio, checked once."""

from pathlib import Path

import numpy as np
import soundfile

SHORTEST, LONGEST = 0.25, 120.0  # seconds; shorter gives an encoder no frame, longer is no clip


class AudioError(ValueError):
    """An audio file that cannot be used; the message names the file, what is wrong and what would be right."""


def inspect(path: Path) -> soundfile._SoundFileInfo:
    """Length and rate of a file without decoding it; a missing, unreadable, short or long one raises."""
    if not path.is_file():
        raise AudioError(f"{path}: no such file; put it there, or take its row out")
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"{path}: not readable by libsndfile ({_reason(error)}); if other players can play it, convert it to WAV"
        ) from error
    seconds = info.frames / info.samplerate
    if seconds < SHORTEST:
        raise AudioError(f"{path}: lasts {seconds:.3f} s; a clip needs at least {SHORTEST} s")
    if seconds > LONGEST:
        raise AudioError(f"{path}: lasts {seconds:.1f} s; a clip has at most {LONGEST:.0f} s, cut it")
    return info


def read(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a file: float32 [samples], mono (mean of the channels), at ``sample_rate`` Hz.

    Raises AudioError for a file that ``inspect`` refuses or that ends early, for NaN samples and for digital silence.
    """
    info = inspect(path)
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{path}: damaged ({_reason(error)}); copy or download it again") from error
    if len(samples) < 0.9 * info.frames:  # some MP3 headers are a little wrong about their length
        raise AudioError(
            f"{path}: damaged: {len(samples) / rate:.2f} of its {info.frames / rate:.2f} s can be decoded; "
            "copy or download it again"
        )
    samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are no numbers (NaN or infinite); export it again")
    if not samples.any():
        raise AudioError(f"{path}: is silent, every sample is 0; replace it, or take its row out")
    return samples if rate == sample_rate else resample(samples, rate, sample_rate)


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample with torchaudio's defaults, as the published encoders' features were made."""
    import torch
    from torchaudio.functional import resample as torchaudio_resample

    return torchaudio_resample(torch.from_numpy(samples), rate, new_rate).numpy()


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip().rstrip(".")
