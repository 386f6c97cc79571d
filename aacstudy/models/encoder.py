"""Audio tagger on timm's ConvNeXt, whose last feature map gives the captioner its frames."""

from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from aacstudy.models.frontend import LogMel
from aacstudy.options import EncoderOptions, FrontendOptions

STEM = 4  # stem kernel and stride, on both axes
STEM_PADDING = (4, 0)  # (time, mels); timm itself pads nothing, the published model does


def _convnext(options: EncoderOptions, classes: int) -> ConvNeXt:
    """timm's ConvNeXt on one input channel, with as many stages as `options` lists."""
    stages = len(options.depths)
    missing = 4 - stages
    # timm always builds four stages: empty ones stand in for the missing and are then cut off
    network = ConvNeXt(
        in_chans=1,
        num_classes=classes,
        depths=(*options.depths, *[0] * missing),
        dims=(*options.dims, *[options.dims[-1]] * missing),
        kernel_sizes=options.kernel,
        ls_init_value=options.layer_scale,
        drop_path_rate=options.drop_path,
    )
    network.stages = network.stages[:stages]
    network.stem[0].padding = STEM_PADDING
    return network


class TaggingEncoder(nn.Module):
    """Log-mel, BatchNorm over the mel bins, ConvNeXt, and a multi-label head.

    At default options and 527 classes: 28 222 767 parameters, and `convnext` has the 182 tensors of timm's
    convnext_tiny under timm's names. Source: arXiv 2306.00830, authors' code.
    """

    def __init__(self, frontend: FrontendOptions, options: EncoderOptions, classes: int):
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be positive, got {classes}")
        smallest = STEM * 2 ** (len(options.depths) - 1)
        if frontend.n_mels < smallest:
            raise ValueError(
                f"n_mels = {frontend.n_mels} is too few for {len(options.depths)} stages: {smallest} are needed"
            )
        self.frontend = frontend
        self.options = options
        self.classes = classes
        self.log_mel = LogMel(frontend)
        self.bn0 = nn.BatchNorm2d(frontend.n_mels)
        self.convnext = _convnext(options, classes)

    @property
    def frame_dim(self) -> int:
        """Width of a frame embedding."""
        return self.options.dims[-1]

    @property
    def _minimum_times(self) -> int:
        """Shortest log-mel, in columns, that leaves one frame after the last stage."""
        after_stem = 2 ** (len(self.options.depths) - 1)
        return max(1, STEM * (after_stem - 1) + STEM - 2 * STEM_PADDING[0])

    @property
    def minimum_samples(self) -> int:
        """Shortest input in samples: 7360 at full size, 2240 for three stages at hop 320."""
        return max((self._minimum_times - 1) * self.frontend.hop, self.log_mel.minimum_samples)

    def frame_count(self, samples: int) -> int:
        """Frames of an input of `samples` samples; 0 where it is shorter than `minimum_samples`."""
        if samples < self.minimum_samples:
            return 0
        count = (self.log_mel.time_count(samples) + 2 * STEM_PADDING[0] - STEM) // STEM + 1
        for _ in self.options.depths[1:]:
            count //= 2
        return count

    def logmel(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> log-mel [batch, 1, time, mels] in dB, before bn0.

        Raises ValueError where the input is shorter than `minimum_samples`.
        """
        if waveform.ndim == 2 and waveform.shape[1] < self.minimum_samples:
            raise ValueError(
                f"{waveform.shape[1]} samples are too few for this encoder: the minimum is {self.minimum_samples} "
                f"({self.minimum_samples / self.frontend.sample_rate:.3f} s)"
            )
        return self.log_mel(waveform)

    def frames_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] in dB -> frame embeddings [batch, frames, frame_dim], not normalised."""
        if logmel.ndim != 4 or logmel.shape[1] != 1 or logmel.shape[3] != self.frontend.n_mels:
            raise ValueError(
                f"logmel must be [batch, 1, time, {self.frontend.n_mels}], got {tuple(logmel.shape)}"
            )
        if logmel.shape[2] < self._minimum_times:
            raise ValueError(
                f"{logmel.shape[2]} log-mel columns are too few: the minimum is {self._minimum_times}"
            )
        x = self.bn0(logmel.transpose(1, 3)).transpose(1, 3)  # [batch, mels, time, 1] inside
        maps = self.convnext.forward_features(x)  # [batch, frame_dim, frames, mels / stride]
        return maps.mean(dim=3).transpose(1, 2)  # [batch, frames, frame_dim]

    def logits_from_logmel(self, logmel: Tensor) -> Tensor:
        """Log-mel [batch, 1, time, mels] in dB -> class logits [batch, classes].

        The place for SpecAugment is between `logmel` and this. Zero is loud in dB: fill a stripe with the mean.
        """
        frames = self.frames_from_logmel(logmel)  # [batch, frames, frame_dim]
        pooled = frames.amax(dim=1) + frames.mean(
            dim=1
        )  # [batch, frame_dim]; timm's own head takes the mean alone
        head = self.convnext.head
        normed = head.norm(
            pooled[:, :, None, None]
        )  # [batch, frame_dim, 1, 1], as timm's 2-D LayerNorm wants it
        return head.fc(normed.flatten(1))  # [batch, classes]

    def frames(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> frame embeddings [batch, frame_count(samples), frame_dim].

        All clips of a batch must have this true length: zero-padding a clip changes its frames.
        """
        return self.frames_from_logmel(self.logmel(waveform))

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [batch, samples] in [-1, 1] -> class logits [batch, classes], before the sigmoid."""
        return self.logits_from_logmel(self.logmel(waveform))
