"""What the encoders share: log-mel, BatchNorm over the mel bins, frames, and clip logits."""

from collections.abc import Callable

from torch import Tensor, nn

from aacstudy.models.frontend import LogMel
from aacstudy.options import EncoderOptions, FrontendOptions


class Tagger(nn.Module):
    """Log-mel and BatchNorm over the mel bins; a body makes feature maps of it, a head makes logits
    of their pooling.

    A subclass has the body and head: `frame_dim`, `output` and the methods that raise here. It may
    bring a log-mel or a norm of its own.
    """

    def __init__(
        self,
        frontend: FrontendOptions,
        options: EncoderOptions,
        classes: int,
        log_mel: Callable[[FrontendOptions], nn.Module] = LogMel,
        bn0: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be positive, got {classes}")
        self.frontend = frontend
        self.options = options
        self.classes = classes
        self.log_mel = log_mel(frontend)
        self.bn0 = bn0(frontend.n_mels)

    @property
    def frame_dim(self) -> int:
        """Width of a frame embedding."""
        return self.options.dims[-1]

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the class logits."""
        raise NotImplementedError

    @property
    def _minimum_times(self) -> int:
        """Shortest log-mel, in columns, that leaves one frame."""
        raise NotImplementedError

    def _frames_of(self, times: int) -> int:
        """Frames of a log-mel of `times` columns."""
        raise NotImplementedError

    def _body(self, x: Tensor) -> Tensor:
        """Normalised log-mel [batch, 1, time, mels] -> feature maps [batch, frame_dim, frames, mels
        / stride].
        """
        raise NotImplementedError

    def _head(self, pooled: Tensor) -> Tensor:
        """Pooled maps [batch, frame_dim] -> logits [batch, classes]."""
        raise NotImplementedError

    @property
    def minimum_samples(self) -> int:
        """Shortest input in samples; at full size 7360 for ConvNeXt, 9920 for CNN14, 400 for
        YAMNet.
        """
        return max((self._minimum_times - 1) * self.frontend.hop, self.log_mel.minimum_samples)

    def frame_count(self, samples: int) -> int:
        """Frames of an input of `samples` samples; 0 where it is shorter than `minimum_samples`."""
        if samples < self.minimum_samples:
            return 0
        return self._frames_of(self.log_mel.time_count(samples))

    def logmel(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> log-mel [batch, 1, time, mels] in dB, before bn0.

        Raises ValueError where the input is shorter than `minimum_samples`.
        """
        if waveform.ndim == 2 and waveform.shape[1] < self.minimum_samples:
            raise ValueError(
                f"{waveform.shape[1]} samples are too few for this encoder: the minimum is "
                f"{self.minimum_samples} "
                f"({self.minimum_samples / self.frontend.sample_rate:.3f} s)"
            )
        return self.log_mel(waveform)

    def frames_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] in dB -> frame embeddings [batch, frames, frame_dim], not
        normalised.
        """
        if logmel.ndim != 4 or logmel.shape[1] != 1 or logmel.shape[3] != self.frontend.n_mels:
            raise ValueError(
                f"logmel must be [batch, 1, time, {self.frontend.n_mels}], got {tuple(logmel.shape)}"
            )
        if logmel.shape[2] < self._minimum_times:
            raise ValueError(
                f"{logmel.shape[2]} log-mel columns are too few: the minimum is {self._minimum_times}"
            )
        x = self.bn0(logmel.transpose(1, 3)).transpose(1, 3)  # [batch, mels, time, 1] inside
        return self._body(x).mean(dim=3).transpose(1, 2)  # [batch, frames, frame_dim]

    def logits_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] in dB -> class logits [batch, classes].

        The place for SpecAugment is between `logmel` and this. Zero is loud in dB: fill a stripe
        with the mean.
        """
        frames = self.frames_from_logmel(logmel)  # [batch, frames, frame_dim]
        return self._head(frames.amax(dim=1) + frames.mean(dim=1))  # [batch, classes]

    def frames(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> frame embeddings [batch, frame_count(samples),
        frame_dim].

        All clips of a batch must have this true length: zero-padding a clip changes its frames.
        """
        return self.frames_from_logmel(self.logmel(waveform))

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> class logits [batch, classes], before the
        sigmoid.
        """
        return self.logits_from_logmel(self.logmel(waveform))
