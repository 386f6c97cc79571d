"""Building blocks of synthetic sounds: noise bands, wavetable tones, resonators, envelopes, trains
of grains.

All float64, elementwise or by filters: no matrix product, no decision on computed audio (see
events.py).
"""

import numpy as np
from scipy import fft
from scipy.signal import lfilter

TABLE = 2048  # samples per period: linear interpolation keeps 100 harmonics clean to about -30 dB
TINY = 1e-30  # keeps ringing filters out of denormal numbers, which are slow


def log_uniform(rng, low, high, size=None):
    """Log-uniform draws in low..high: pitches and durations vary by ratio."""
    return low * (high / low) ** rng.random(size)


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def onset_times(rng, seconds, period, jitter=0.1, group=(1, 1), pause=(0.0, 0.0)):
    """Onset times in s [k]: a drawn period, jittered, with a pause after each group of a drawn
    size.
    """
    step = log_uniform(rng, *period)
    size = rng.integers(group[0], group[1] + 1)
    count = int(seconds / (step * (1 - jitter))) + 2
    gaps = step * rng.uniform(1 - jitter, 1 + jitter, count)
    gaps += np.where(np.arange(count) % size == size - 1, rng.uniform(*pause, count), 0.0)
    times = rng.uniform(0.0, min(step, 0.12)) + np.cumsum(gaps) - gaps
    return times[times < seconds - 0.05]


def durations(rng, onsets, low, high):
    """Durations in s [k], drawn in low..high and cut to end before the next onset."""
    free = np.append(np.diff(onsets), 10.0)
    return np.minimum(rng.uniform(low, high, len(onsets)), 0.97 * free)


def contour(n, sr, onsets, spans, shape, values):
    """Piecewise linear track [n]: values[i, j] stands at the fraction shape[j] of the span of call
    i.
    """
    times = onsets[:, None] + spans[:, None] * np.asarray(shape)
    values = np.broadcast_to(np.asarray(values, dtype=np.float64), times.shape)
    return np.interp(np.arange(n) / sr, times.ravel(), values.ravel())


def drift(rng, n, sr, rate, low, high):
    """A slow random track [n] in low..high with about `rate` turns per second."""
    knots = int(rate * n / sr) + 3
    turns = np.arange(n) * (rate / sr) + rng.random()
    return np.interp(turns, np.arange(knots), rng.uniform(low, high, knots))


def biquad(x, sr, freq, high):
    """Second-order Butterworth low-pass or high-pass (RBJ cookbook)."""
    w = 2 * np.pi * min(freq, 0.46 * sr) / sr
    c, alpha = np.cos(w), np.sin(w) * np.sqrt(0.5)
    edge, middle = ((1 + c) / 2, -(1 + c)) if high else ((1 - c) / 2, 1 - c)
    return lfilter([edge, middle, edge], [1 + alpha, -2 * c, 1 - alpha], x)


def noise_band(rng, n, sr, low, high, steep=1):
    """Noise [n] of unit RMS between two frequencies in Hz, 12 dB per octave outside for each
    `steep`.
    """
    x = rng.standard_normal(n)
    for _ in range(steep):
        x = biquad(biquad(x, sr, high, high=False), sr, low, high=True)
    return x / rms(x)


def ring(x, sr, freqs, decays, gains):
    """Excite parallel two-pole resonators (freqs in Hz, time constants decays in s); [n] -> [n]."""
    out = np.zeros(len(x))
    for freq, decay, gain in zip(freqs, decays, gains):
        if freq < 0.47 * sr:
            radius = np.exp(-1.0 / (decay * sr))
            w = 2 * np.pi * freq / sr
            out += lfilter([gain * np.sin(w)], [1.0, -2 * radius * np.cos(w), radius**2], x + TINY)
    return out


def formant_filter(x, sr, freqs, widths, gains):
    """Parallel formants of unit peak gain; widths in Hz."""
    decays = [1.0 / (np.pi * width) for width in widths]
    peaks = [2 * gain / (decay * sr) for gain, decay in zip(gains, decays)]
    return ring(x, sr, freqs, decays, peaks)


def place(n, sr, onsets, grains):
    """Add grains [k, m] at onset times in s [k]; what hangs over the end is cut: [n]."""
    first = (np.asarray(onsets) * sr).astype(np.int64)
    index = (first[:, None] + np.arange(grains.shape[1])).ravel()
    return np.bincount(np.minimum(index, n), weights=grains.ravel(), minlength=n + 1)[:n]


def bursts(rng, n, sr, onsets, decay, gains=1.0):
    """A decaying burst of white noise at each onset, time constant in s: the excitation of things
    hit.
    """
    t = np.arange(max(4, int(5 * decay * sr))) / sr
    shape = np.exp(-t / decay) * np.broadcast_to(gains, len(onsets))[:, None]  # [k, m]
    return place(n, sr, onsets, shape * rng.standard_normal(shape.shape))


def period_tables(rng, amplitudes):
    """Period tables [r, TABLE + 1] from harmonic amplitudes [r, h] with random phases shared by the
    rows.
    """
    amplitudes = np.atleast_2d(amplitudes)[:, : TABLE // 2 - 1]
    rows, harmonics = amplitudes.shape
    spectrum = np.zeros((rows, TABLE // 2 + 1), dtype=np.complex128)
    spectrum[:, 1 : harmonics + 1] = amplitudes * np.exp(2j * np.pi * rng.random(harmonics))
    tables = fft.irfft(spectrum, axis=-1) * (TABLE / 2)
    return np.concatenate([tables, tables[:, :1]], axis=1)  # the wrapped sample saves a modulo


def play_tables(tables, freq, sr, row=None):
    """Read period tables [r, TABLE + 1] at freq in Hz [n], linearly interpolated in phase and in
    row [n].

    Linear in both, hence continuous: a last-bit difference in the phase stays one in the audio.
    """
    phase = np.cumsum(freq) * (TABLE / sr)
    whole = np.floor(phase)
    part = phase - whole
    at = whole.astype(np.int64) & (TABLE - 1)
    if row is None:
        return (1 - part) * tables[0, at] + part * tables[0, at + 1]
    base = np.minimum(row.astype(np.int64), len(tables) - 2)
    mix = row - base
    flat = tables.ravel()
    at = at + base * (TABLE + 1)
    lower = (1 - part) * flat[at] + part * flat[at + 1]
    at = at + (TABLE + 1)
    return (1 - mix) * lower + mix * ((1 - part) * flat[at] + part * flat[at + 1])


def harmonic_tone(rng, freq, sr, amplitudes):
    """A harmonic tone [n] at freq in Hz [n]; harmonics that would alias are left out."""
    keep = max(1, int(0.46 * sr / np.max(freq)))
    return play_tables(period_tables(rng, np.asarray(amplitudes, dtype=np.float64)[:keep]), freq, sr)


def vocal_tone(rng, f0, sr, pitch, formants, widths, gains, row=None, tilt=1.0):
    """A voice [n] at f0 in Hz [n], rows as in `_play`.

    Harmonics of `pitch` [r] are weighted by formants [r, j] with widths and gains [j] and a
    spectral tilt: exact where f0 is the row's pitch, else the formants move with it a little.
    """
    pitch = np.atleast_1d(np.asarray(pitch, dtype=np.float64))
    harmonic = np.arange(1, max(2, int(0.46 * sr / np.max(f0)) + 1))
    hertz = pitch[:, None, None] * harmonic[:, None]  # [r, h, 1]
    centres = np.asarray(formants, dtype=np.float64).reshape(len(pitch), 1, -1)  # [r, 1, j]
    distance = (hertz - centres) / np.asarray(widths)
    envelope = np.sum(np.asarray(gains) / np.sqrt(1 + 4 * distance**2), axis=-1)  # [r, h]
    return play_tables(period_tables(rng, envelope * harmonic**-tilt), f0, sr, row)
