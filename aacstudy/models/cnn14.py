"""CNN14 of PANNs as audio tagger: the weaker encoder that captioners were built on before the audio
ConvNeXt.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.models.tagger import Tagger
from aacstudy.options import EncoderOptions, FrontendOptions

CHANNELS = (64, 128, 256, 512, 1024, 2048)  # of the published network
BLOCK_DROPOUT, HEAD_DROPOUT = 0.2, 0.5  # as published, in training only


class ConvBlock(nn.Module):
    """Two 3 × 3 convolutions with BatchNorm and ReLU, then average pooling."""

    def __init__(self, channels_in: int, channels_out: int, pool: int):
        super().__init__()
        self.pool = pool
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels_in, time, mels] -> [batch, channels_out, time // pool, mels //
        pool].
        """
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, self.pool)


class Cnn14(Tagger):
    """Log-mel, BatchNorm over the mel bins, conv blocks that halve time and mels (the last does
    not), and a head.

    At `CHANNELS`, 64 mels and 527 classes: 80 753 615 parameters under the published names, and a
    frame per 0.32 s. With fewer blocks frames are denser. Source: arXiv 1912.10211, authors' code.
    """

    def __init__(self, frontend: FrontendOptions, options: EncoderOptions, classes: int):
        smallest = 2 ** (len(options.dims) - 1)
        if frontend.n_mels < smallest:
            raise ValueError(
                f"n_mels = {frontend.n_mels} is too few for {len(options.dims)} blocks: {smallest} are needed"
            )
        super().__init__(frontend, options, classes)
        channels = (1, *options.dims)
        for n in range(1, len(channels)):
            pool = 2 if n < len(options.dims) else 1
            self.add_module(f"conv_block{n}", ConvBlock(channels[n - 1], channels[n], pool))
        self.fc1 = nn.Linear(self.frame_dim, self.frame_dim)
        self.fc_audioset = nn.Linear(self.frame_dim, classes)

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the class logits."""
        return self.fc_audioset

    @property
    def _minimum_times(self) -> int:
        return 2 ** (len(self.options.dims) - 1)

    def _frames_of(self, times: int) -> int:
        return times // 2 ** (len(self.options.dims) - 1)

    def _body(self, x: Tensor) -> Tensor:
        for n in range(1, len(self.options.dims) + 1):
            x = self.get_submodule(f"conv_block{n}")(x)
            x = F.dropout(x, BLOCK_DROPOUT, self.training)
        return x  # [batch, frame_dim, frames, mels / stride]

    def _head(self, pooled: Tensor) -> Tensor:
        # [batch, frame_dim]
        hidden = F.relu(self.fc1(F.dropout(pooled, HEAD_DROPOUT, self.training)))
        return self.fc_audioset(hidden)  # [batch, classes]


Encoder = Cnn14
