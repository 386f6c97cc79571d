"""Audio tagger on timm's ConvNeXt, whose last feature map gives the captioner its frames."""

from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from aacstudy.models.tagger import Tagger
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


class TaggingEncoder(Tagger):
    """Log-mel, BatchNorm over the mel bins, ConvNeXt, and a multi-label head.

    At default options and 527 classes: 28 222 767 parameters, and `convnext` has the 182 tensors of
    timm's convnext_tiny under timm's names. Source: arXiv 2306.00830, authors' code.
    """

    def __init__(self, frontend: FrontendOptions, options: EncoderOptions, classes: int):
        smallest = STEM * 2 ** (len(options.depths) - 1)
        if frontend.n_mels < smallest:
            raise ValueError(
                f"n_mels = {frontend.n_mels} is too few for {len(options.depths)} stages: {smallest} are "
                "needed"
            )
        super().__init__(frontend, options, classes)
        self.convnext = _convnext(options, classes)

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the class logits."""
        return self.convnext.head.fc

    @property
    def _minimum_times(self) -> int:
        after_stem = 2 ** (len(self.options.depths) - 1)
        return max(1, STEM * (after_stem - 1) + STEM - 2 * STEM_PADDING[0])

    def _frames_of(self, times: int) -> int:
        count = (times + 2 * STEM_PADDING[0] - STEM) // STEM + 1
        for _ in self.options.depths[1:]:
            count //= 2
        return count

    def _body(self, x: Tensor) -> Tensor:
        return self.convnext.forward_features(x)  # [batch, frame_dim, frames, mels / stride]

    def _head(self, pooled: Tensor) -> Tensor:
        # timm's own head would pool by the mean alone; its 2-D LayerNorm wants [batch, frame_dim,
        # 1, 1]
        normed = self.convnext.head.norm(pooled[:, :, None, None]).flatten(1)  # [batch, frame_dim]
        return self.convnext.head.fc(normed)  # [batch, classes]


Encoder = TaggingEncoder
