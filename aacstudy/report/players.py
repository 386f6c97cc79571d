"""Sounds in a page: a player and a picture of what it plays, both inside the HTML."""

import base64
import html
import io
from pathlib import Path

import numpy as np

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
COLUMNS, ROWS = 320, 64  # of a spectrogram, in pixels
DEPTH = 60.0  # dB below the brightest pixel that are shown


def player(path_or_array, sample_rate: int | None, label: str, text: str = "") -> str:
    """A <figure> with one audio player under its spectrogram, its label and an optional text, both escaped."""
    if isinstance(path_or_array, str | Path):
        import soundfile

        samples, sample_rate = soundfile.read(path_or_array, dtype="float32")
    else:
        samples = np.asarray(path_or_array, dtype=np.float32)
    if sample_rate is None:
        raise ValueError(f"{label or 'audio'}: samples need their sample_rate")
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"{label or 'audio'}: the samples are empty or hold NaN or infinity")
    rate = int(sample_rate)
    picture = _picture(samples.reshape(len(samples), -1).mean(axis=1), rate)
    name = html.escape(label or "sound")
    alt = f"Spectrogram of {name}: {len(samples) / rate:.1f} s from left to right, 0 to {rate / 2000:g} kHz upwards"
    words = f"<strong>{html.escape(label)}</strong>" if label else ""
    words += f"<span>{html.escape(text)}</span>" if text else ""
    caption = f"<figcaption>{words}</figcaption>" if words else ""
    return (
        f'<figure class="sound">{caption}<div class="play"><div class="look">'
        f'<img src="{picture}" width="{COLUMNS}" height="{ROWS}" alt="{alt}"></div>'
        f'<audio controls preload="metadata" aria-label="{name}" src="{_encoded(np.clip(samples, -1, 1), rate)}">'
        f"</audio></div></figure>"
    )


def log_mel(samples: np.ndarray, rate: int, columns: int = COLUMNS, rows: int = ROWS) -> np.ndarray:
    """Power of samples [n] in dB below the brightest [rows, columns]; rows are equally far apart in mel, high first.

    A picture only: windows of 32 ms and plain averages. What the encoder hears is models/frontend.py.
    """
    size = max(64, round(0.032 * rate))
    samples = np.pad(samples.astype(float), (0, max(0, size - len(samples))))
    # twice as many windows as columns, so that no click falls between two
    starts = np.linspace(0, len(samples) - size, 2 * columns).astype(int)
    windows = samples[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2  # [2 columns, frequencies]
    power = power.reshape(columns, 2, -1).max(axis=1)
    top = 2595 * np.log10(1 + rate / 2 / 700)  # mel, O'Shaughnessy 1987
    edges = 700 * (10 ** (np.linspace(0, top, rows + 1) / 2595) - 1) * size / rate
    low = np.minimum(edges[:-1].astype(int), power.shape[1] - 1)
    high = np.maximum(low + 1, np.ceil(edges[1:]).astype(int))
    bands = np.stack([power[:, a:b].mean(axis=1) for a, b in zip(low, high)])  # [rows, columns]
    decibel = 10 * np.log10(np.maximum(bands, 1e-20))
    return (decibel - decibel.max())[::-1]


def _picture(samples: np.ndarray, rate: int) -> str:
    """The spectrogram as a data URI of some kilobytes."""
    import matplotlib
    from PIL import Image

    bright = 1 + np.clip(log_mel(samples, rate), -DEPTH, 0) / DEPTH  # 0…1
    pixels = matplotlib.colormaps["magma"](bright, bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", quality=55)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _encoded(samples: np.ndarray, rate: int) -> str:
    """Samples as a data URI: MP3, or WAV where libsndfile cannot write MP3 at this rate."""
    import soundfile

    buffer = io.BytesIO()
    mp3 = rate in MP3_RATES and "MP3" in soundfile.available_formats()
    soundfile.write(buffer, samples, rate, format="MP3" if mp3 else "WAV", subtype=None if mp3 else "PCM_16")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:audio/{'mpeg' if mp3 else 'wav'};base64,{encoded}"
