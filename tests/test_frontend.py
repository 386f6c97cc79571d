"""The log-mel front-end against a float64 computation in numpy."""

import numpy as np
import pytest
import torch

from aacstudy.models.frontend import SILENCE_DB, FrontendOptions, LogMel

PAPER = FrontendOptions()
DEMO = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=64, f_min=50.0, f_max=7800.0)


def slaney_hz(mel: np.ndarray) -> np.ndarray:
    """Slaney's mel scale to Hz: linear below 1 kHz (mel 15), logarithmic above."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def slaney_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def logmel_reference(waveform: np.ndarray, options: FrontendOptions) -> np.ndarray:
    """Log-mel [time, mels] in dB of a waveform [samples], in float64 and from the definitions."""
    n, hop = options.n_fft, options.hop
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)  # periodic Hann
    padded = np.pad(waveform.astype(np.float64), n // 2, mode="reflect")
    starts = range(0, len(padded) - n + 1, hop)
    power = (
        np.abs(np.fft.rfft([padded[s : s + n] * window for s in starts], axis=1)) ** 2
    )  # [time, n / 2 + 1]
    edges = slaney_hz(np.linspace(slaney_mel(options.f_min), slaney_mel(options.f_max), options.n_mels + 2))
    bins = np.arange(n // 2 + 1) * options.sample_rate / n
    filters = []
    for low, centre, high in zip(edges, edges[1:], edges[2:]):
        triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(0)
        filters.append(triangle * 2 / (high - low))
    return 10 * np.log10(np.maximum(power @ np.stack(filters, axis=1), 1e-10))


@pytest.mark.parametrize("options", [PAPER, DEMO])
@pytest.mark.parametrize("level", [0.1, 1e-4])
def test_equals_numpy_in_float64_on_noise(options, level):
    noise = level * np.random.default_rng(0).standard_normal(options.sample_rate)
    ours = LogMel(options)(torch.tensor(noise, dtype=torch.float32)[None])[0, 0].numpy()
    difference = np.abs(ours - logmel_reference(noise, options))
    print(f"log-mel: max {difference.max():.2e} dB, mean {difference.mean():.2e} dB")
    assert difference.max() < 0.05
    assert difference.mean() < 1e-3


@pytest.mark.parametrize("options", [PAPER, DEMO])
def test_silence_is_exactly_minus_100_db(options):
    logmel = LogMel(options)(torch.zeros(1, options.sample_rate))
    assert torch.all(logmel == SILENCE_DB)


def test_no_floor_relative_to_the_loudest_bin():
    """Half noise, half silence: the silence stays at -100 dB, which a top_db of 80 would lift."""
    waveform = torch.zeros(1, 32000)
    waveform[:, :16000] = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    logmel = LogMel(PAPER)(waveform)
    assert logmel.max() > 10
    assert logmel[0, 0, 60:].eq(SILENCE_DB).all()


@pytest.mark.parametrize("options", [PAPER, DEMO])
@pytest.mark.parametrize("samples", [600, 639, 640, 641, 31999, 32000])
def test_shape(options, samples):
    layer = LogMel(options)
    logmel = layer(torch.zeros(2, samples))
    assert logmel.shape == (2, 1, samples // 320 + 1, options.n_mels)
    assert logmel.shape[2] == layer.time_count(samples)


def test_ten_seconds_give_1001_columns():
    assert LogMel(PAPER).time_count(320000) == 1001


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"512 samples are too few: the minimum is 513"):
        LogMel(PAPER)(torch.zeros(1, 512))
    assert LogMel(PAPER)(torch.zeros(1, 513)).shape[2] == 2
    with pytest.raises(ValueError, match=r"\[batch, samples\].*\(4000,\)"):
        LogMel(PAPER)(torch.zeros(4000))
    with pytest.raises(ValueError, match="f_max = 9000"):
        FrontendOptions(sample_rate=16000, f_max=9000)
    with pytest.raises(ValueError, match="positive"):
        FrontendOptions(hop=0)
