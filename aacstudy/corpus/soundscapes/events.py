"""Environmental sound events from nothing: every event is one small function of a random generator.

Each `_<event>(rng, n, sr)` returns float64 [n] of any level; `synthesise` fades, centres and scales
it. Every parameter is drawn, so that a class varies inside; pitch ranges, rhythms and spectra keep
the classes apart. Two rules keep a corpus identical on every machine once the audio is rounded to
int16: no decision depends on computed audio (only on draws), and no matrix product is used (BLAS
sums in a machine's own order).
"""

import difflib

import numpy as np
from scipy.signal import lfilter

from aacstudy.corpus.soundscapes.sounds import (
    TINY,
    biquad,
    bursts,
    contour,
    drift,
    durations,
    formant_filter,
    harmonic_tone,
    log_uniform,
    noise_band,
    onset_times,
    place,
    ring,
    rms,
    vocal_tone,
)

EVENTS: tuple[str, ...] = (
    "dog", "cat", "bird", "cow", "cricket",
    "rain", "wind", "thunder", "stream",
    "man", "woman", "crowd", "baby", "laugh", "applause", "footsteps",
    "knock", "typing", "clock", "bell", "phone", "glass",
    "engine", "helicopter", "siren", "horn", "vacuum", "alarm",
    "drip", "frog", "snore", "saw", "train", "hammer",
)  # fmt: skip

_FADE_S = 0.008
_WINDOW_S = 0.05


def synthesise(event: str, rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """One event that sounds during the whole span: float64 [round(seconds * sample_rate)].

    The mean is zero and the active part (see `active_rms`) has RMS 1; both ends fade over 8 ms.
    `seconds` may be 0.4 to about 10. Raises ValueError for an event that is not in `EVENTS`.
    """
    if event not in EVENTS:
        near = difflib.get_close_matches(str(event), EVENTS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown event {event!r}; did you mean {near!r}? Known: {', '.join(EVENTS)}")
    n = round(seconds * sample_rate)
    audio = globals()[f"_{event}"](rng, n, sample_rate)  # each name has its function below
    audio = faded(audio, sample_rate)
    return audio / active_rms(audio, sample_rate)


def faded(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A sound [samples] that fades over 8 ms at both ends, of mean zero."""
    n = len(audio)
    fade = min(round(_FADE_S * sample_rate), n // 4)
    window = np.ones(n)
    window[:fade] = np.sin(0.5 * np.pi * np.arange(fade) / fade) ** 2
    window[n - fade :] = window[:fade][::-1]
    # The mean is taken under the window, so that the faded signal has none.
    return (audio - np.sum(audio * window) / np.sum(window)) * window


def active_rms(x: np.ndarray, sample_rate: int) -> float:
    """RMS of the active part of x [samples]: where a 50 ms running RMS is within 30 dB of its
    maximum.
    """
    power = np.square(x)
    half = max(1, round(_WINDOW_S * sample_rate) // 2)
    total = np.concatenate([np.zeros(half + 1), np.cumsum(power)])
    total = np.concatenate([total, np.full(half, total[-1])])
    running = total[2 * half :] - total[: -2 * half]  # [samples + 1]
    active = running[: len(x)] >= 1e-3 * running.max()
    return float(np.sqrt(np.mean(power[active])))


# --- animals ------------------------------------------------------------------------------------


def _dog(rng, n, sr):
    at = onset_times(rng, n / sr, (0.26, 0.5), 0.15, (2, 4), (0.1, 0.5))
    span = durations(rng, at, 0.11, 0.2)
    size = log_uniform(rng, 220, 560)
    f0 = contour(n, sr, at, span, (0, 0.3, 0.6, 1), size * np.array([0.8, 1.35, 1.1, 0.55]))
    loud = contour(
        n, sr, at, span, (0, 0.08, 0.4, 1), log_uniform(rng, 0.6, 1, (len(at), 1)) * [0, 1, 0.8, 0]
    )
    mouth = size * rng.uniform(1.6, 2.2) + np.array([0, 600, 1800])
    bark = vocal_tone(rng, f0, sr, size, mouth, (250, 300, 600), (1, 0.7, 0.25), tilt=0.5)
    rough = formant_filter(rng.standard_normal(n), sr, mouth, (400, 500, 900), (1, 0.8, 0.4))
    return loud * (bark + rng.uniform(0.8, 1.8) * rough)


def _cat(rng, n, sr):
    at = onset_times(rng, n / sr, (0.75, 1.5), 0.2)
    span = durations(rng, at, 0.5, 1.1)
    base = log_uniform(rng, 480, 850)
    pitches = base * rng.uniform(0.92, 1.08, (len(at), 1)) * [0.75, 1.15, 1, 0.65]
    f0 = contour(n, sr, at, span, (0, 0.3, 0.7, 1), pitches)
    f0 *= 1 + 0.012 * np.sin(2 * np.pi * rng.uniform(5, 8) * np.arange(n) / sr)
    loud = contour(n, sr, at, span, (0, 0.15, 0.6, 1), [0, 0.6, 1, 0])
    vowel = contour(n, sr, at, span, (0, 0.45, 0.95), [0.0, 1.0, 2.0])
    mouth = rng.uniform(0.9, 1.15) * np.array([[500, 2300, 3300], [1100, 1900, 3300], [450, 900, 2600]])
    return loud * vocal_tone(rng, f0, sr, [base] * 3, mouth, (180, 250, 400), (1, 0.8, 0.3), vowel, tilt=0.8)


def _bird(rng, n, sr):
    at = onset_times(rng, n / sr, (0.07, 0.3), 0.3, (3, 9), (0.1, 0.5))
    span = durations(rng, at, 0.04, 0.2)
    base = log_uniform(rng, 2200, 4600)
    notes = (
        base * log_uniform(rng, 0.65, 1.5, (3, 4))[rng.integers(0, 3, len(at))]
    )  # a song of three syllables
    f0 = contour(n, sr, at, span, (0, 0.3, 0.7, 1), notes)
    loud = contour(
        n, sr, at, span, (0, 0.25, 0.7, 1), log_uniform(rng, 0.4, 1, (len(at), 1)) * [0, 1, 0.8, 0]
    )
    return loud * harmonic_tone(rng, f0, sr, [1, rng.uniform(0.02, 0.2)])


def _cow(rng, n, sr):
    at = onset_times(rng, n / sr, (1.4, 2.4), 0.15)
    span = durations(rng, at, 1.0, 2.0)
    base = log_uniform(rng, 95, 190)
    f0 = contour(n, sr, at, span, (0, 0.25, 0.75, 1), base * np.array([0.8, 1.05, 1, 0.75]))
    f0 *= drift(rng, n, sr, 12, 0.98, 1.02)
    loud = contour(n, sr, at, span, (0, 0.12, 0.8, 1), [0, 0.8, 1, 0])
    vowel = contour(n, sr, at, span, (0, 0.35, 0.8), [0.0, 1.0, 1.0])
    mouth = rng.uniform(0.9, 1.15) * np.array([[230, 600, 2000], [480, 850, 2200]])
    moo = vocal_tone(rng, f0, sr, [base] * 2, mouth, (100, 160, 400), (1, 0.5, 0.1), vowel, tilt=0.7)
    return loud * moo


def _cricket(rng, n, sr):
    t = np.arange(n) / sr
    pulse = rng.uniform(22, 55)  # wing strokes per second
    at = onset_times(rng, n / sr, (0.25, 0.6), 0.05)
    span = durations(rng, at, 0.12, 0.3)
    chirp = contour(n, sr, at, span, (0, 0.1, 0.9, 1), [0, 1, 1, 0])
    strokes = np.maximum(0, np.sin(2 * np.pi * pulse * t)) ** 1.5
    carrier = np.sin(2 * np.pi * log_uniform(rng, 3600, 6000) * t + 2 * np.sin(2 * np.pi * pulse * t))
    return (chirp + rng.uniform(0, 0.3)) * strokes * carrier


def _frog(rng, n, sr):
    at = onset_times(rng, n / sr, (0.35, 0.8), 0.12)
    span = durations(rng, at, 0.18, 0.4)
    rate = log_uniform(rng, 14, 42)  # pulses per second
    f0 = contour(n, sr, at, span, (0, 0.5, 1), rate * np.array([0.8, 1.1, 1.2]))
    loud = contour(n, sr, at, span, (0, 0.3, 0.85, 1), [0, 0.7, 1, 0])
    pulses = harmonic_tone(rng, f0, sr, np.ones(6)) ** 2  # squared: energy in short pulses
    throat = log_uniform(rng, 500, 1300)
    angle = 2 * np.pi * throat / sr * np.arange(n)
    return loud * pulses * (np.sin(angle) + 0.5 * np.sin(2.2 * angle))


# --- weather and water --------------------------------------------------------------------------


def _rain(rng, n, sr):
    wash = noise_band(rng, n, sr, log_uniform(rng, 900, 2200), 9000)
    drops = np.zeros(n)
    hits = rng.integers(0, n, int(rng.uniform(120, 500) * n / sr))
    # Uneven strengths: few heavy drops among many light ones.
    np.add.at(drops, hits, rng.choice([-1.0, 1.0], len(hits)) * log_uniform(rng, 0.1, 1.0, len(hits)))
    drops = ring(drops, sr, log_uniform(rng, 1800, 6500, 3), (0.0007, 0.0005, 0.0004), (1, 1, 1))
    return wash + rng.uniform(0.5, 1.5) * drops / rms(drops)


def _wind(rng, n, sr):
    gust = drift(rng, n, sr, rng.uniform(0.8, 1.8), 0.25, 1.0) ** 1.5
    x = rng.standard_normal(n)
    body = biquad(biquad(x, sr, log_uniform(rng, 180, 450), False), sr, 50, True)
    howl = log_uniform(rng, 320, 700)
    low, high = (formant_filter(x, sr, [howl * ratio], [60], [1]) for ratio in (1, rng.uniform(1.2, 1.6)))
    slide = np.clip(gust * 1.3 - 0.2, 0, 1)
    return gust * (body + rng.uniform(1.0, 3.0) * ((1 - slide) * low + slide * high))


def _thunder(rng, n, sr):
    at = onset_times(rng, n / sr, (0.25, 0.8), 0.6)
    strength = log_uniform(rng, 0.12, 1.0, len(at))
    strength[0] = 1.0  # the clap comes first, the roll after
    decay = log_uniform(rng, 0.25, 0.9)
    strikes = np.zeros(n)
    strikes[(at * sr).astype(np.int64)] = strength
    envelope = lfilter([1.0], [1.0, -np.exp(-1 / (decay * sr))], strikes + TINY)
    envelope = biquad(envelope, sr, 20, False)
    rumble = noise_band(rng, n, sr, 25, log_uniform(rng, 70, 160), steep=2)
    crack = lfilter([1.0], [1.0, -np.exp(-1 / (0.06 * sr))], strikes**2 + TINY)
    return rumble * (envelope + 0.05) + rng.uniform(0.2, 0.6) * crack * noise_band(rng, n, sr, 150, 1400)


def _stream(rng, n, sr):
    t = np.arange(int(0.04 * sr)) / sr
    freq = log_uniform(rng, 450, 2200, (32, 1))
    decay = rng.uniform(0.005, 0.014, (32, 1))
    bubbles = np.sin(2 * np.pi * freq * t * (1 + rng.uniform(2, 9, (32, 1)) * t)) * np.exp(-t / decay)
    count = int(rng.uniform(60, 140) * n / sr)
    gains = log_uniform(rng, 0.1, 1, (count, 1))
    water = place(n, sr, rng.uniform(0, n / sr, count), gains * bubbles[rng.integers(0, 32, count)])
    wash = noise_band(rng, n, sr, 350, log_uniform(rng, 900, 1800))
    return water + rng.uniform(0.06, 0.16) * wash * drift(rng, n, sr, 6, 0.6, 1.2)


def _drip(rng, n, sr):
    at = onset_times(rng, n / sr, (0.22, 0.6), rng.uniform(0.02, 0.3))
    t = np.arange(int(0.16 * sr)) / sr
    freq = log_uniform(rng, 700, 1700) * rng.uniform(0.85, 1.2, (len(at), 1))
    rise = rng.uniform(3, 9)
    plink = np.sin(2 * np.pi * freq * t * (1 + rise * t)) * np.exp(-t / rng.uniform(0.015, 0.035))
    plink *= 1 - np.exp(-t / 0.001)
    return place(n, sr, at, plink) + 0.25 * place(n, sr, at + rng.uniform(0.05, 0.09), plink)


# --- people -------------------------------------------------------------------------------------

# Mean formants of men's vowels in Hz (Peterson and Barney, 1952; the fourth is a usual value):
# ah, eh, ee, aw, oo, ae.
_VOWELS = np.array(
    [[730, 1090, 2440, 3400], [530, 1840, 2480, 3500], [270, 2290, 3010, 3600],
     [570, 840, 2410, 3300], [300, 870, 2240, 3300], [660, 1720, 2410, 3450]]
)  # fmt: skip


def _speech(rng, n, sr, pitch, tract, pause=(0.05, 0.35), hissed=True):
    """One talker [n]: syllables with drifting pitch, vowels that glide into each other, hissed
    consonants.
    """
    at = onset_times(rng, n / sr, (0.17, 0.25), 0.3, (4, 9), pause)
    span = durations(rng, at, 0.13, 0.24)
    f0 = pitch * rng.uniform(0.85, 1.2, len(at))
    track = contour(n, sr, at, span, (0, 0.5, 1), f0[:, None] * [1.04, 1, 0.95])
    stress = log_uniform(rng, 0.4, 1, (len(at), 1))
    loud = contour(n, sr, at, span, (0, 0.25, 0.7, 1), stress * [0, 1, 0.8, 0.05])
    row = contour(n, sr, at, span, (0.3, 0.7), np.arange(len(at))[:, None])
    vowels = tract * _VOWELS[rng.integers(0, len(_VOWELS), len(at) + 1)]
    pitches, widths, gains = np.append(f0, f0[-1]), (80, 110, 160, 250), (1, 0.6, 0.3, 0.15)
    voice = loud * vocal_tone(rng, track, sr, pitches, vowels, widths, gains, row, tilt=0.6)
    voice /= rms(voice)
    if not hissed:
        return voice
    hisses = rng.uniform(0.3, 0.7) * (rng.random((len(at), 1)) < 0.4)
    hiss = contour(n, sr, at - 0.03, np.full(len(at), 0.09), (0, 0.4, 1), hisses * [0, 1, 0])
    return voice + hiss * noise_band(rng, n, sr, 3500, 7000)


def _man(rng, n, sr):
    return _speech(rng, n, sr, log_uniform(rng, 85, 140), rng.uniform(0.93, 1.05))


def _woman(rng, n, sr):
    return _speech(rng, n, sr, log_uniform(rng, 185, 270), rng.uniform(1.12, 1.25))


def _crowd(rng, n, sr):
    babble = np.zeros(n)
    for low, high in ((90, 140), (110, 240), (180, 260)):  # three voices already blur into babble
        pitch, tract = log_uniform(rng, low, high), rng.uniform(0.95, 1.2)
        babble += rng.uniform(0.6, 1) * _speech(rng, n, sr, pitch, tract, (0.0, 0.1), hissed=False)
    return babble + rng.uniform(0.6, 1.2) * noise_band(rng, n, sr, 250, 1200)


def _baby(rng, n, sr):
    at = onset_times(rng, n / sr, (0.7, 1.2), 0.1)
    span = durations(rng, at, 0.55, 0.95)
    base = log_uniform(rng, 330, 500)
    f0 = contour(n, sr, at, span, (0, 0.2, 0.7, 1), base * np.array([0.85, 1.15, 1.1, 0.8]))
    f0 *= drift(rng, n, sr, 18, 0.95, 1.05)  # a shaky voice
    loud = contour(n, sr, at, span, (0, 0.1, 0.85, 1), [0, 1, 0.9, 0])
    mouth = rng.uniform(0.92, 1.1) * np.array([1150, 1900, 3500, 4800])
    cry = vocal_tone(rng, f0, sr, base, mouth, (300, 350, 500, 700), (1, 0.8, 0.8, 0.5), tilt=0.2)
    return loud * cry * drift(rng, n, sr, 30, 0.5, 1.2)


def _laugh(rng, n, sr):
    at = onset_times(rng, n / sr, (0.15, 0.22), 0.08, (5, 9), (0.15, 0.5))
    span = durations(rng, at, 0.14, 0.22)
    base = log_uniform(rng, 150, 380)
    # the pitch falls along "ha ha ha"
    fall = np.linspace(1.15, 0.85, 7)[np.arange(len(at)) % 7, None]
    f0 = contour(n, sr, at, span, (0, 0.4, 1), base * fall * [1, 1.08, 0.9])
    vowel = contour(n, sr, at, span, (0, 0.35, 0.45, 0.8), [0, 0.1, 1, 0])
    breath = contour(n, sr, at, span, (0, 0.15, 0.4, 0.9), [0, 1, 0.3, 0])
    mouth = rng.uniform(0.95, 1.25) * np.array([800, 1350, 2700])
    ha = vocal_tone(rng, f0, sr, base, mouth, (120, 150, 250), (1, 0.7, 0.3), tilt=0.5)
    h = formant_filter(rng.standard_normal(n), sr, mouth, (300, 400, 700), (0.7, 1, 1))
    return vowel * ha / rms(ha) + rng.uniform(0.4, 0.9) * breath * h / rms(h)


def _snore(rng, n, sr):
    at = onset_times(rng, n / sr, (0.8, 1.5), 0.08)
    span = durations(rng, at, 0.5, 1.0)
    rasp = log_uniform(rng, 28, 60)
    f0 = contour(n, sr, at, span, (0, 0.5, 1), rasp * np.array([0.8, 1.1, 1.0]))
    f0 *= drift(rng, n, sr, 15, 0.9, 1.1)
    loud = contour(n, sr, at, span, (0, 0.4, 0.85, 1), [0, 0.7, 1, 0])
    flutter = np.abs(harmonic_tone(rng, f0, sr, 0.8 ** np.arange(14)))
    x = flutter * rng.standard_normal(n)
    nose = rng.uniform(0.85, 1.2) * np.array([220, 520, 1150])
    return (loud + 0.02) * formant_filter(x, sr, nose, (120, 200, 400), (1, 0.8, 0.35))


def _applause(rng, n, sr):
    m = int(0.03 * sr)
    t = np.arange(m) / sr
    claps = rng.standard_normal((24, m)) * np.exp(-t / rng.uniform(0.003, 0.008, (24, 1)))
    # each pair of hands has its own cavity
    for i, freq in enumerate(log_uniform(rng, 900, 2400, 24)):
        claps[i] = formant_filter(claps[i], sr, [freq], [500], [1])
    count = int(rng.uniform(35, 110) * n / sr)
    gains = log_uniform(rng, 0.15, 1, (count, 1))
    return place(n, sr, rng.uniform(0, n / sr, count), gains * claps[rng.integers(0, 24, count)])


def _footsteps(rng, n, sr):
    at = onset_times(rng, n / sr, (0.4, 0.62), 0.05)
    gains = log_uniform(rng, 0.6, 1, len(at))
    heel = bursts(rng, n, sr, at, 0.006, gains)
    thud = ring(heel, sr, log_uniform(rng, 70, 260, 3), (0.02, 0.015, 0.01), (1, 0.8, 0.6))
    sole = contour(n, sr, at + 0.05, np.full(len(at), 0.12), (0, 0.3, 1), gains[:, None] * [0, 1, 0])
    scuff = sole * noise_band(rng, n, sr, log_uniform(rng, 700, 1500), log_uniform(rng, 2500, 5000))
    return thud / rms(thud) + rng.uniform(0.4, 1.2) * scuff


# --- the house ----------------------------------------------------------------------------------


def _knock(rng, n, sr):
    at = onset_times(rng, n / sr, (0.13, 0.24), 0.06, (3, 5), (0.25, 0.6))
    hits = bursts(rng, n, sr, at, 0.0015, log_uniform(rng, 0.6, 1, len(at)))
    door = log_uniform(rng, 200, 420) * np.array([1, 1.8, 2.9])
    return ring(hits, sr, door, (0.022, 0.012, 0.007), (1, 0.7, 0.5))


def _typing(rng, n, sr):
    at = onset_times(rng, n / sr, (0.08, 0.15), 0.6, (4, 11), (0.0, 0.3))
    gains = log_uniform(rng, 0.35, 1, len(at))
    press = bursts(rng, n, sr, at, 0.002, gains)
    release = bursts(rng, n, sr, at + rng.uniform(0.03, 0.06), 0.001, 0.4 * gains)
    case = log_uniform(rng, 1500, 6500, 4)
    return ring(press + release, sr, case, rng.uniform(0.002, 0.005, 4), (1, 1, 1, 1))


def _clock(rng, n, sr):
    at = onset_times(rng, n / sr, (0.2, 0.5), 0.004)
    ticks = bursts(rng, n, sr, at[0::2], 0.0005)
    tocks = bursts(rng, n, sr, at[1::2], 0.0005, rng.uniform(0.6, 1))
    pitch = log_uniform(rng, 2000, 3600)
    case = pitch * np.array([1, 1.73])
    decay = np.array([0.016, 0.008]) * rng.uniform(0.7, 1.5)
    lower = rng.uniform(0.7, 0.85)
    return ring(ticks, sr, case, decay, (1, 0.6)) + ring(tocks, sr, case * lower, decay, (1, 0.6))


def _bell(rng, n, sr):
    at = onset_times(rng, n / sr, (0.7, 1.6), 0.05)
    strikes = bursts(rng, n, sr, at, 0.001, log_uniform(rng, 0.6, 1, len(at)))
    hum = log_uniform(rng, 220, 620)
    partials = hum * np.array([1, 2, 2.4, 3, 4, 5.4, 6.8]) * rng.uniform(0.99, 1.01, 7)
    decays = rng.uniform(0.8, 1.6) * np.array([1, 0.8, 0.6, 0.5, 0.4, 0.25, 0.15])
    return ring(strikes, sr, partials, decays, (0.5, 1, 0.9, 0.5, 0.8, 0.4, 0.3))


def _phone(rng, n, sr):
    at = onset_times(rng, n / sr, (0.75, 1.3), 0.01)
    rings = contour(n, sr, at, durations(rng, at, 0.5, 0.8), (0, 0.02, 0.9, 1), [0, 1, 1, 0])
    t = np.arange(n) / sr
    # the clapper between two gongs
    warble = np.clip(4 * np.sin(2 * np.pi * rng.uniform(14, 26) * t), -1, 1)
    low = log_uniform(rng, 850, 1500)
    f0 = low * (1 + (rng.uniform(1.2, 1.34) - 1) * (0.5 + 0.5 * warble))
    return rings * harmonic_tone(rng, f0, sr, [1, 0.1, 0.5, 0.05, 0.3])


def _glass(rng, n, sr):
    at = onset_times(rng, n / sr, (0.5, 1.1), 0.3)
    crash = bursts(rng, n, sr, at, 0.012, log_uniform(rng, 0.5, 1, len(at)))
    count = rng.integers(8, 22)
    shards = (at[:, None] + rng.exponential(0.1, (len(at), count))).ravel()
    tinkle = bursts(rng, n, sr, np.minimum(shards, n / sr), 0.0006, log_uniform(rng, 0.5, 3, len(shards)))
    modes = log_uniform(rng, 2800, 7500, 7)
    ringing = ring(0.3 * crash + tinkle, sr, modes, rng.uniform(0.012, 0.05, 7), rng.uniform(0.3, 1, 7))
    return ringing + 0.6 * biquad(crash, sr, 2500, True)


def _vacuum(rng, n, sr):
    air = noise_band(rng, n, sr, 250, log_uniform(rng, 2500, 5500))
    air += 0.8 * formant_filter(rng.standard_normal(n), sr, [log_uniform(rng, 700, 1600)], [350], [1])
    motor = log_uniform(rng, 230, 420) * (1 + 0.02 * drift(rng, n, sr, 1.5, -1, 1))
    whine = harmonic_tone(rng, motor, sr, log_uniform(rng, 0.15, 1, 12) * np.arange(1, 13) ** -0.4)
    return air * drift(rng, n, sr, 2, 0.8, 1.1) + rng.uniform(0.8, 1.6) * whine


def _saw(rng, n, sr):
    at = onset_times(rng, n / sr, (0.22, 0.42), 0.06)
    span = durations(rng, at, 0.2, 0.38)
    # there is louder than back
    push = np.where(np.arange(len(at)) % 2 == 0, 1.0, rng.uniform(0.4, 0.75))
    loud = contour(n, sr, at, span, (0, 0.25, 0.75, 1), push[:, None] * [0, 0.8, 1, 0])
    teeth = contour(n, sr, at, span, (0, 0.5, 1), log_uniform(rng, 90, 190) * np.array([0.6, 1.2, 0.7]))
    bite = 0.4 + np.maximum(0, harmonic_tone(rng, teeth, sr, [1, 0.5, 0.3]))
    wood = formant_filter(rng.standard_normal(n), sr, log_uniform(rng, 1500, 4500, 2), (700, 900), (1, 0.8))
    return (loud + 0.02) * bite * wood


def _hammer(rng, n, sr):
    at = onset_times(rng, n / sr, (0.32, 0.6), 0.08)
    hits = bursts(rng, n, sr, at, 0.001, log_uniform(rng, 0.7, 1, len(at)))
    nail = log_uniform(rng, 1400, 2600) * np.array([1, 1.53, 2.16, 2.9])
    steel = ring(hits, sr, nail, rng.uniform(0.04, 0.1) * np.array([1, 0.8, 0.7, 0.5]), (1, 0.9, 0.8, 0.6))
    board = ring(hits, sr, log_uniform(rng, 150, 400, 2), (0.02, 0.012), (3, 3))
    return steel + board


# --- machines and signals -----------------------------------------------------------------------


def _engine(rng, n, sr):
    firing = log_uniform(rng, 28, 75) * drift(rng, n, sr, rng.uniform(0.6, 2.0), 0.8, 1.3)
    harmonic = np.arange(1, 60)
    pipe = log_uniform(rng, 90, 260)
    amplitudes = log_uniform(rng, 0.4, 1, 59) / (1 + (harmonic * 45 / pipe - 1) ** 2) + 0.03 * harmonic**-0.5
    hum = harmonic_tone(rng, firing, sr, amplitudes)
    rattle = np.maximum(0, hum) * noise_band(rng, n, sr, 300, 2500)
    return hum + rng.uniform(0.2, 0.5) * rattle


def _helicopter(rng, n, sr):
    rate = log_uniform(rng, 9, 17) * drift(rng, n, sr, 0.7, 0.98, 1.02)
    chop = np.maximum(0, harmonic_tone(rng, rate, sr, [1, 0.6, 0.4, 0.2])) ** 2
    air = noise_band(rng, n, sr, 60, log_uniform(rng, 350, 800))
    turbine = harmonic_tone(rng, np.full(n, log_uniform(rng, 1500, 3200)), sr, [1, 0.3])
    return (
        (chop + 0.1) * air
        + chop * 0.2 * noise_band(rng, n, sr, 800, 3000)
        + rng.uniform(0.02, 0.08) * turbine
    )


def _siren(rng, n, sr):
    t = np.arange(n) / sr
    swing = np.sin(2 * np.pi * (log_uniform(rng, 0.35, 3.0) * t + rng.random()))
    low = log_uniform(rng, 450, 750)
    f0 = low * rng.uniform(1.7, 2.4) ** (0.5 + 0.5 * swing)
    return harmonic_tone(rng, f0, sr, rng.uniform(0.55, 0.75) ** np.arange(8)) * drift(rng, n, sr, 3, 0.8, 1)


def _horn(rng, n, sr):
    at = onset_times(rng, n / sr, (0.45, 1.3), 0.3)
    loud = contour(n, sr, at, durations(rng, at, 0.2, 1.1), (0, 0.05, 0.92, 1), [0, 1, 1, 0])
    low = log_uniform(rng, 320, 450)
    brass = 1 / (1 + ((np.arange(1, 25) * low - log_uniform(rng, 1500, 2600)) / 1200) ** 2)
    both = [
        harmonic_tone(rng, np.full(n, low * ratio), sr, brass + 0.2) for ratio in (1, rng.uniform(1.18, 1.3))
    ]
    return loud * (both[0] + both[1])


def _alarm(rng, n, sr):
    at = onset_times(rng, n / sr, (0.13, 0.4), 0.0, (1, 4), (0.0, 0.3))
    span = np.full(len(at), np.append(np.diff(at), 0.2).min() * rng.uniform(0.45, 0.65))
    gate = contour(n, sr, at, span, (0, 0.04, 0.96, 1), [0, 1, 1, 0])
    beep = harmonic_tone(rng, np.full(n, log_uniform(rng, 1900, 3400)), sr, [1, 0.1, rng.uniform(0.3, 0.7)])
    return gate * beep


def _train(rng, n, sr):
    pairs = onset_times(rng, n / sr, (0.45, 0.85), 0.03)
    gap = rng.uniform(0.11, 0.17)  # two axles of one bogie
    at = np.concatenate([pairs, pairs + gap])
    wheels = bursts(rng, n, sr, at, 0.012, np.repeat([1.0, rng.uniform(0.6, 0.9)], len(pairs)))
    clack = ring(wheels, sr, log_uniform(rng, 180, 1400, 4), (0.02, 0.015, 0.01, 0.006), (1, 1, 1, 1))
    rumble = noise_band(rng, n, sr, 70, log_uniform(rng, 350, 900))
    return clack / rms(clack) + rng.uniform(0.35, 0.7) * rumble
