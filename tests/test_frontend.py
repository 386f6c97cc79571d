"""The log-mel front-end against a float64 computation in numpy."""

import numpy as np
import pytest
import torch
from published_tensors import logmel_reference
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from aacstudy.models.frontend import SILENCE_DB, FrontendOptions, LogMel

PAPER = FrontendOptions()
DEMO = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=64, f_min=50.0, f_max=7800.0)


@pytest.mark.parametrize("options", [PAPER, DEMO])
@pytest.mark.parametrize("level", [0.1, 1e-4])
def test_equals_numpy_in_float64_on_noise(options, level):
    noise = level * np.random.default_rng(0).standard_normal(options.sample_rate)
    ours = LogMel(options)(torch.tensor(noise, dtype=torch.float32)[None])[0, 0].numpy()
    difference = np.abs(ours - logmel_reference(noise, options))
    print(f"log-mel: max {difference.max():.2e} dB, mean {difference.mean():.2e} dB")
    assert difference.max() < 0.05
    assert difference.mean() < 1e-3


RIGHT = {
    "sample_rate": 32000,
    "n_fft": 1024,
    "win_length": 1024,
    "hop_length": 320,
    "f_min": 50.0,
    "f_max": 14000.0,
    "n_mels": 224,
    "power": 2.0,
    "center": True,
    "pad_mode": "reflect",
    "norm": "slaney",
    "mel_scale": "slaney",
}


@pytest.mark.parametrize(
    ("changed", "decibels"),
    [
        ({}, {}),
        ({"mel_scale": "htk"}, {}),
        ({"norm": None}, {}),
        ({"norm": None, "mel_scale": "htk"}, {}),  # torchaudio's own defaults
        ({"power": 1.0}, {}),
        ({"pad_mode": "constant"}, {}),
        ({"normalized": True}, {}),
        ({}, {"top_db": 80.0}),
        ({}, {"stype": "magnitude"}),
        ({"center": False}, {}),
    ],
)
def test_a_wrong_setting_would_be_seen(changed, decibels):
    """Half noise, half silence; the tolerance that our front-end meets is far below what any wrong
    setting costs.
    """
    waveform = np.zeros(32000)
    waveform[:16000] = 0.1 * np.random.default_rng(1).standard_normal(16000)
    expected = logmel_reference(waveform, PAPER)  # [time, mels]
    to_mel, to_db = MelSpectrogram(**RIGHT | changed), AmplitudeToDB(**{"stype": "power"} | decibels)
    # [time, mels]
    found = to_db(to_mel(torch.tensor(waveform, dtype=torch.float32)[None]))[0].T.numpy()
    if changed or decibels:
        assert found.shape != expected.shape or np.abs(found - expected).max() > 100 * 0.05
    else:
        ours = LogMel(PAPER)(torch.tensor(waveform, dtype=torch.float32)[None])[0, 0].numpy()
        assert np.abs(ours - expected).max() < 0.05 and np.abs(found - ours).max() < 1e-4


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
    with pytest.raises(ValueError, match=r"hop\s+Input should be greater than or equal to 1"):
        FrontendOptions(hop=0)
