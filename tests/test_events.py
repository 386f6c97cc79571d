"""Every event: well-formed, reproducible to the byte on other processors, and learnable from two
seconds.
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import fft

from aacstudy.corpus.soundscapes.events import EVENTS, active_rms, synthesise

BASE = (
    "dog", "cat", "bird", "cow", "cricket", "rain", "wind", "thunder", "stream", "man", "woman", "crowd",
    "baby", "laugh", "applause", "footsteps", "knock", "typing", "clock", "bell", "phone", "glass", "engine",
    "helicopter", "siren", "horn", "vacuum", "alarm",
)  # fmt: skip


def render(event: str, seed: int, seconds: float = 2.0, sample_rate: int = 16000) -> np.ndarray:
    return synthesise(event, np.random.default_rng([seed, EVENTS.index(event)]), seconds, sample_rate)


def check(x: np.ndarray, seconds: float, sample_rate: int) -> None:
    assert x.shape == (round(seconds * sample_rate),)
    assert x.dtype == np.float64
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 1e-9
    assert active_rms(x, sample_rate) == pytest.approx(1.0, abs=1e-9)


def test_names():
    assert EVENTS[: len(BASE)] == BASE
    assert len(set(EVENTS)) == len(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_well_formed_and_seeded(event):
    x = render(event, 0)
    check(x, 2.0, 16000)
    np.testing.assert_array_equal(x, render(event, 0))
    assert np.abs(x - render(event, 1)).max() > 0.1
    # Both ends are faded, and something is heard in the first second and in the last.
    assert np.abs(x[[0, -1]]).max() < 0.05
    assert np.sqrt(np.mean(x[:16000] ** 2)) > 0.1
    assert np.sqrt(np.mean(x[-16000:] ** 2)) > 0.1


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    ("seconds", "sample_rate"), [(0.4, 16000), (0.4, 32000), (1.23456, 22050), (10.0, 16000)]
)
def test_other_lengths_and_rates(event, seconds, sample_rate):
    check(render(event, 2, seconds, sample_rate), seconds, sample_rate)


@pytest.mark.parametrize("event", EVENTS)
def test_goes_on_to_the_end(event):
    """In ten seconds no event is silent for longer than three."""
    x = render(event, 3, 10.0)
    level = np.sqrt(np.mean(x.reshape(-1, 800) ** 2, axis=1))  # [50 ms frames]
    heard = np.flatnonzero(level > 0.03)
    assert np.diff(np.concatenate([[0], heard, [len(level)]])).max() < 60


def test_ten_seconds_at_32_khz():
    for event in EVENTS[::3]:
        check(render(event, 4, 10.0, 32000), 10.0, 32000)


def test_unknown_event_names_the_nearest():
    with pytest.raises(ValueError, match=r"'helicoptor'.*'helicopter'"):
        synthesise("helicoptor", np.random.default_rng(0), 1.0, 16000)


def test_active_rms_ignores_silence():
    tone = np.sqrt(2) * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    padded = np.concatenate([np.zeros(16000), tone, np.zeros(16000)])
    assert active_rms(tone, 16000) == pytest.approx(1.0, abs=1e-3)
    # the window reaches 25 ms into silence
    assert active_rms(padded, 16000) == pytest.approx(1.0, abs=0.05)
    assert active_rms(3 * padded, 16000) == pytest.approx(3 * active_rms(padded, 16000))


def digest() -> str:
    audio = [render(event, seed, 2.0, rate) for event in EVENTS for seed, rate in ((0, 16000), (1, 32000))]
    # int16 would clip the sharpest clicks
    rounded = np.round(3000 * np.concatenate(audio)).astype("<i4")
    return hashlib.sha256(rounded.tobytes()).hexdigest()


def switchable_features(prefix: str) -> list[str]:
    """Processor features with this prefix that numpy uses here and can be told not to use."""
    try:
        from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
    except ImportError:
        return []
    return [name for name in __cpu_dispatch__ if name.startswith(prefix) and __cpu_features__.get(name)]


@pytest.mark.parametrize(
    "prefixes", [("AVX512", "X86_V4"), ("AVX", "FMA", "X86_V3", "X86_V4")], ids=["no AVX512", "no AVX"]
)
def test_same_bytes_on_another_processor(prefixes):
    """Without these features numpy and the C library take other versions of sin, exp and power."""
    features = sorted({name for prefix in prefixes for name in switchable_features(prefix)})
    if not features:
        pytest.skip(f"numpy uses no switchable {' or '.join(prefixes)} features on this processor")
    command = [sys.executable, "-W", "error", __file__]
    environment = {
        **os.environ,
        "NPY_DISABLE_CPU_FEATURES": " ".join(features),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()


def band_energies(x: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of 40 log band energies, 50-7800 Hz: [80]."""
    frames = np.lib.stride_tricks.sliding_window_view(x, 512)[::320] * np.hanning(512)
    power = np.square(np.abs(fft.rfft(frames, axis=-1)))  # [frames, bins]
    edges = np.unique(np.round(np.geomspace(150, 7800, 41) * 512 / 16000).astype(int))
    bands = np.log10(np.add.reduceat(power, edges, axis=-1)[:, :-1] + 1e-3)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


def test_two_seconds_in_noise_are_learnable():
    """A linear classifier of band energies names the event; 0.90 measured, chance is 1/34."""
    # here, as the subprocess above does without
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = 20, 10
    features = []
    for event in EVENTS:
        for seed in range(train + test):
            rng = np.random.default_rng([seed, 7])
            x = render(event, seed) + 10 ** (-rng.uniform(0, 18) / 20) * rng.standard_normal(32000)
            features.append(band_energies(x / np.sqrt(np.mean(x**2))))
    features = np.reshape(features, (len(EVENTS), train + test, -1))
    labels = np.arange(len(EVENTS))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(features[:, :train].reshape(len(EVENTS) * train, -1), np.repeat(labels, train))
    guess = model.predict(features[:, train:].reshape(len(EVENTS) * test, -1)).reshape(len(EVENTS), test)
    right = (guess == labels[:, None]).mean(axis=1)  # [events]
    worst = {EVENTS[i]: float(right[i]) for i in np.argsort(right)[:5]}
    print(f"accuracy {right.mean():.3f}, worst {worst}")
    assert right.mean() > 0.75
    assert right.min() >= 0.2, worst


if __name__ == "__main__":
    print(digest())
