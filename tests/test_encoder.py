"""The tagging encoder: published sizes and names, frame counts, pooling."""

import re

import pytest
import torch

from aacstudy.models.convnext import EncoderOptions, TaggingEncoder
from aacstudy.models.frontend import FrontendOptions

DEMO_FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=64, f_min=50.0, f_max=7800.0)
DEMO = EncoderOptions(depths=(1, 1, 2), dims=(32, 64, 128), kernel=5, layer_scale=0.1)
# the time axis of the paper's encoder, in a small network
THIN = EncoderOptions(depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), kernel=3, layer_scale=0.5)
THIN_FRONTEND = FrontendOptions(n_mels=32)

# published name -> timm name, section 2.1 of the measured facts
RENAMES = [
    (r"^downsample_layers\.0\.([01])\.", r"stem.\1."),
    (r"^downsample_layers\.([123])\.([01])\.", r"stages.\1.downsample.\2."),
    (r"^stages\.(\d)\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
    (r"^stages\.(\d)\.(\d+)\.norm\.", r"stages.\1.blocks.\2.norm."),
    (r"^stages\.(\d)\.(\d+)\.pwconv([12])\.", r"stages.\1.blocks.\2.mlp.fc\3."),
    (r"^stages\.(\d)\.(\d+)\.gamma$", r"stages.\1.blocks.\2.gamma"),
    (r"^norm\.", r"head.norm."),
    (r"^head_audioset\.", r"head.fc."),
]


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of the published ConvNeXt-Tiny tagger, front-end and bn0 aside."""
    dims, depths = (96, 192, 384, 768), (3, 3, 9, 3)

    def pair(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    shapes = pair("downsample_layers.0.0", 96, 1, 4, 4) | pair("downsample_layers.0.1", 96)
    for i in range(1, 4):
        shapes |= pair(f"downsample_layers.{i}.0", dims[i - 1])
        shapes |= pair(f"downsample_layers.{i}.1", dims[i], dims[i - 1], 2, 2)
    for i, (d, depth) in enumerate(zip(dims, depths)):
        for block in (f"stages.{i}.{j}" for j in range(depth)):
            shapes |= (
                {f"{block}.gamma": (d,)} | pair(f"{block}.dwconv", d, 1, 7, 7) | pair(f"{block}.norm", d)
            )
            shapes |= pair(f"{block}.pwconv1", 4 * d, d) | pair(f"{block}.pwconv2", d, 4 * d)
    return shapes | pair("norm", 768) | pair("head_audioset", 527, 768)


def timm_name(published: str) -> str:
    hits = [re.sub(pattern, new, published) for pattern, new in RENAMES if re.match(pattern, published)]
    assert len(hits) == 1, published
    return hits[0]


def test_full_size_is_the_published_network():
    encoder = TaggingEncoder(FrontendOptions(), EncoderOptions(), classes=527)
    assert sum(p.numel() for p in encoder.parameters()) == 28_222_767
    ours = {name: tuple(tensor.shape) for name, tensor in encoder.convnext.state_dict().items()}
    expected = {timm_name(name): shape for name, shape in published_shapes().items()}
    assert len(expected) == 182
    assert ours == expected
    assert (encoder.minimum_samples, encoder.frame_dim) == (7360, 768)
    seconds = [0.5, 1, 2, 5, 10, 15, 20, 30, 60]
    assert [encoder.frame_count(int(s * 32000)) for s in seconds] == [1, 3, 6, 15, 31, 47, 62, 94, 187]
    assert [encoder.frame_count(n) for n in (7359, 7360)] == [0, 1]
    with torch.inference_mode():
        frames = encoder.eval().frames(torch.randn(1, 7360) * 0.1)
    assert frames.shape == (1, 1, 768)
    with pytest.raises(ValueError, match=r"7359 samples .* minimum is 7360 \(0\.230 s\)"):
        encoder.frames(torch.zeros(1, 7359))


def test_drop_path_adds_no_tensor():
    plain = TaggingEncoder(DEMO_FRONTEND, DEMO, 5)
    dropping = TaggingEncoder(
        DEMO_FRONTEND, EncoderOptions((1, 1, 2), (32, 64, 128), 5, 0.1, drop_path=0.3), 5
    )
    assert plain.state_dict().keys() == dropping.state_dict().keys()


@pytest.mark.parametrize(
    "frontend, options, minimum",
    [
        (THIN_FRONTEND, THIN, 7360),
        (DEMO_FRONTEND, EncoderOptions((1, 1, 2), (4, 4, 4), 5), 2240),
        (DEMO_FRONTEND, EncoderOptions((1, 1), (4, 4), 3), 257),  # here reflect padding decides
        (DEMO_FRONTEND, EncoderOptions((1,), (4,), 3), 257),
    ],
)
def test_frame_count_is_exact(frontend, options, minimum):
    encoder = TaggingEncoder(frontend, options, classes=3).eval()
    assert encoder.minimum_samples == minimum
    assert encoder.frame_count(minimum - 1) == 0
    assert encoder.frame_count(minimum) >= 1
    with pytest.raises(ValueError, match=f"{minimum - 1} samples .* {minimum}"):
        encoder(torch.zeros(1, minimum - 1))
    around = [edge * 1280 + offset for edge in (6, 7, 8, 16, 31) for offset in (-1, 0, 1, 320)]
    drawn = torch.randint(minimum, 60000, (15,), generator=torch.Generator().manual_seed(0)).tolist()
    for samples in [minimum, minimum + 1, *around, *drawn]:
        with torch.inference_mode():
            frames = encoder.frames(torch.zeros(1, samples))
        assert frames.shape == (1, encoder.frame_count(samples), encoder.frame_dim), samples


def test_demo_shapes_and_stride():
    encoder = TaggingEncoder(DEMO_FRONTEND, DEMO, classes=28).eval()
    assert sum(p.numel() for p in encoder.parameters()) == 361_020
    waveform = torch.randn(2, 96000) * 0.1
    with torch.inference_mode():
        assert encoder.logmel(waveform).shape == (2, 1, 301, 64)
        assert encoder.frames(waveform).shape == (2, 19, 128)
        assert encoder(waveform).shape == (2, 28)
    assert encoder.frame_count(96000 + 10 * 5120) == 19 + 10  # one frame per 0.32 s


def test_pooling_is_the_published_one_and_not_timms():
    torch.manual_seed(0)
    encoder = TaggingEncoder(THIN_FRONTEND, THIN, classes=6).eval()
    torch.nn.init.normal_(encoder.convnext.head.norm.weight)
    waveform = torch.randn(3, 32000) * 0.1
    with torch.inference_mode():
        logits = encoder(waveform)
        x = encoder.bn0(encoder.logmel(waveform).transpose(1, 3)).transpose(1, 3)
        maps = encoder.convnext.forward_features(x)  # [3, 8, frames, mels]
        over_frequency = maps.mean(dim=3)  # [3, 8, frames]
        assert torch.allclose(encoder.frames(waveform), over_frequency.transpose(1, 2), atol=1e-6)
        pooled = over_frequency.max(dim=2).values + over_frequency.mean(dim=2)  # [3, 8]
        norm, fc = encoder.convnext.head.norm, encoder.convnext.head.fc
        normed = torch.nn.functional.layer_norm(pooled, (8,), norm.weight, norm.bias, eps=1e-6)
        assert torch.allclose(logits, normed @ fc.weight.T + fc.bias, atol=1e-5)
        assert (logits - encoder.convnext.forward_head(maps)).abs().max() > 1e-3


def test_bn0_normalises_each_mel_bin():
    encoder = TaggingEncoder(THIN_FRONTEND, THIN, classes=2).train()
    logmel = torch.randn(4, 1, 50, 32) * torch.arange(1, 33) - 40
    encoder.frames_from_logmel(logmel)
    expected = 0.1 * logmel.mean(dim=(0, 1, 2))  # momentum 0.1 from 0
    assert torch.allclose(encoder.bn0.running_mean, expected, atol=1e-4)


def test_clip_does_not_depend_on_its_batch():
    encoder = TaggingEncoder(THIN_FRONTEND, THIN, classes=4).eval()
    waveform = torch.randn(3, 20000) * 0.1
    with torch.inference_mode():
        together = encoder.frames(waveform)
        alone = torch.cat([encoder.frames(row[None]) for row in waveform])
    assert torch.allclose(together, alone, atol=1e-5)


def test_every_parameter_gets_a_gradient():
    encoder = TaggingEncoder(DEMO_FRONTEND, DEMO, classes=3).train()
    encoder.logits_from_logmel(encoder.logmel(torch.randn(2, 16000))).pow(2).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_logits_from_logmel_is_the_second_half_of_forward():
    encoder = TaggingEncoder(DEMO_FRONTEND, DEMO, classes=3).eval()
    waveform = torch.randn(2, 16000)
    with torch.inference_mode():
        assert torch.equal(encoder(waveform), encoder.logits_from_logmel(encoder.logmel(waveform)))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"depths": (1, 1)}, "same 1 to 4 stages"),
        ({"depths": (1, 1, 0, 1)}, r"depths\.2\s+Input should be greater than or equal to 1"),
        ({"kernel": 4}, "odd"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"kind": "cnn10"}, r"kind\s+Input should be 'convnext', 'cnn14' or 'yamnet'"),
        ({"kind": "cnn14"}, "kind cnn14 needs dims"),
        ({"kind": "cnn14", "dims": (64,)}, "channels of 2 to 6 blocks"),
        ({"kind": "cnn14", "dims": (64, 0)}, r"dims\.1\s+Input should be greater than or equal to 1"),
    ],
)
def test_option_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        EncoderOptions(**wrong)


def test_argument_errors():
    with pytest.raises(ValueError, match="n_mels = 16 is too few for 4 stages: 32"):
        TaggingEncoder(FrontendOptions(n_mels=16), THIN, classes=2)
    with pytest.raises(ValueError, match="classes"):
        TaggingEncoder(THIN_FRONTEND, THIN, classes=0)
    encoder = TaggingEncoder(THIN_FRONTEND, THIN, classes=2)
    with pytest.raises(ValueError, match=r"\[batch, 1, time, 32\]"):
        encoder.logits_from_logmel(torch.zeros(2, 1, 50, 64))
    with pytest.raises(ValueError, match=r"23 log-mel columns .* 24"):
        encoder.logits_from_logmel(torch.zeros(2, 1, 23, 32))
