"""Waveform to log-mel spectrogram, with the settings of the published audio ConvNeXt."""

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from aacstudy.options import FrontendOptions

# 10 log10(1e-10): what digital silence reads, in dB
SILENCE_DB = -100.0


class LogMel(nn.Module):
    """Log-mel power spectrogram in dB, without a floor relative to the loudest bin.

    Slaney scale and Slaney (area) norm, centred frames with reflect padding; the reference level is
    1.0 and the power is clamped at 1e-10, so silence is exactly -100 dB. Source: arXiv 2306.00830,
    authors' code.
    """

    def __init__(self, options: FrontendOptions):
        super().__init__()
        self.options = options
        self.mel = MelSpectrogram(
            sample_rate=options.sample_rate,
            n_fft=options.n_fft,
            win_length=options.n_fft,
            hop_length=options.hop,
            f_min=options.f_min,
            f_max=options.f_max,
            n_mels=options.n_mels,
            power=2.0,
            center=True,
            pad_mode="reflect",
            norm="slaney",
            mel_scale="slaney",
        )

    @property
    def minimum_samples(self) -> int:
        """Shortest input that reflect padding accepts."""
        return self.options.n_fft // 2 + 1

    def time_count(self, samples: int) -> int:
        """Spectrogram columns of an input of `samples` samples."""
        return samples // self.options.hop + 1

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> log-mel [batch, 1, time, mels] in dB.

        time = samples // hop + 1. Raises ValueError for another number of axes or a too short
        input.
        """
        if waveform.ndim != 2:
            raise ValueError(f"waveform must be [batch, samples], got shape {tuple(waveform.shape)}")
        if waveform.shape[1] < self.minimum_samples:
            raise ValueError(
                f"{waveform.shape[1]} samples are too few: the minimum is {self.minimum_samples}"
            )
        power = self.mel(waveform)  # [batch, mels, time]
        decibel = 10.0 * torch.log10(power.clamp(min=1e-10))
        return decibel.transpose(1, 2).unsqueeze(1)  # [batch, 1, time, mels]
