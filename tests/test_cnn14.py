"""CNN14: published sizes and names, frame counts, pooling, training. Its numbers are in
test_published_encoders.py.
"""

import pytest
import torch
from torch import nn

from aacstudy.models.cnn14 import CHANNELS, Cnn14
from aacstudy.models.convnext import TaggingEncoder
from aacstudy.models.encoder import build_encoder
from aacstudy.options import EncoderOptions, FrontendOptions

FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=64, f_min=50.0, f_max=7800.0)
# the time axis of the published network, with few channels
THIN = EncoderOptions(kind="cnn14", dims=(2, 2, 4, 4, 6, 8))
THIN_FRONTEND = FrontendOptions(n_mels=64)
SMALL = EncoderOptions(kind="cnn14", dims=(8, 16, 32, 64, 128))


def test_full_size_is_the_published_network():
    encoder = Cnn14(THIN_FRONTEND, EncoderOptions(kind="cnn14", dims=CHANNELS), classes=527)
    assert sum(p.numel() for p in encoder.parameters()) == 80_753_615
    names = [
        f"bn0.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    for n in range(1, 7):
        names += [f"conv_block{n}.conv{k}.weight" for k in (1, 2)]
        names += [f"conv_block{n}.bn{k}.{part[4:]}" for k in (1, 2) for part in names[:5]]
    names += [f"{layer}.{part}" for layer in ("fc1", "fc_audioset") for part in ("weight", "bias")]
    assert len(names) == 84 - 3  # the front-end's three are not weights here
    assert {name for name in encoder.state_dict() if not name.startswith("log_mel.")} == set(names)
    assert encoder.frame_dim == 2048


def test_frame_counts_are_the_published_ones():
    encoder = Cnn14(THIN_FRONTEND, THIN, classes=2).eval()
    assert encoder.minimum_samples == 9920
    seconds = [1, 5, 10, 15, 30]
    assert [encoder.frame_count(int(s * 32000)) for s in seconds] == [3, 15, 31, 46, 93]
    assert [encoder.frame_count(n) for n in (9919, 9920)] == [0, 1]
    with torch.inference_mode():
        assert encoder.frames(torch.randn(1, 9920) * 0.1).shape == (1, 1, 8)
        assert encoder.frames(torch.randn(1, 30 * 32000) * 0.1).shape == (1, 93, 8)
    with pytest.raises(ValueError, match=r"9919 samples .* minimum is 9920 \(0\.310 s\)"):
        encoder(torch.zeros(1, 9919))


@pytest.mark.parametrize(("options", "minimum"), [(THIN, 9920), (SMALL, 4800)])
def test_frame_count_is_exact(options, minimum):
    frontend = THIN_FRONTEND if options is THIN else FRONTEND
    encoder = Cnn14(frontend, options, classes=2).eval()
    assert encoder.minimum_samples == minimum
    drawn = torch.randint(minimum, 60000, (15,), generator=torch.Generator().manual_seed(0)).tolist()
    edges = [edge * 10240 + offset for edge in (1, 2, 3) for offset in (-321, -320, -1, 0, 1)]
    for samples in [minimum, minimum + 1, *(n for n in edges if n >= minimum), *drawn]:
        with torch.inference_mode():
            frames = encoder.frames(torch.zeros(1, samples))
        assert frames.shape == (1, encoder.frame_count(samples), encoder.frame_dim), samples


def test_a_small_one_for_the_soundscapes():
    """As dense in time as the small ConvNeXt: a frame per 0.32 s at 16 kHz and hop 320."""
    encoder = Cnn14(FRONTEND, SMALL, classes=28).eval()
    assert encoder.frame_count(6 * 16000) == 18 and encoder.frame_count(6 * 16000 + 10 * 5120) == 28
    assert encoder(torch.randn(2, 16000)).shape == (2, 28)
    assert 300_000 < sum(p.numel() for p in encoder.parameters()) < 361_020  # the small ConvNeXt's


def test_clip_pooling_is_max_and_mean_over_time():
    torch.manual_seed(0)
    encoder = Cnn14(THIN_FRONTEND, THIN, classes=5).eval()
    waveform = torch.randn(2, 40000) * 0.1
    with torch.inference_mode():
        frames = encoder.frames(waveform)  # [2, frames, 8]
        pooled = frames.max(dim=1).values + frames.mean(dim=1)
        expected = encoder.fc_audioset(encoder.fc1(pooled).clamp(min=0))
        assert torch.allclose(encoder(waveform), expected, atol=1e-6)
        alone = torch.cat([encoder.frames(row[None]) for row in waveform])
    assert torch.allclose(frames, alone, atol=1e-6)


def test_dropout_only_in_training():
    encoder = Cnn14(FRONTEND, SMALL, classes=3)
    waveform = torch.randn(2, 16000)
    assert not torch.equal(encoder(waveform), encoder(waveform))
    encoder.eval()
    assert torch.equal(encoder(waveform), encoder(waveform))


def test_every_parameter_gets_a_gradient():
    encoder = Cnn14(FRONTEND, SMALL, classes=3).train()
    encoder.logits_from_logmel(encoder.logmel(torch.randn(2, 16000))).pow(2).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_build_encoder():
    small = EncoderOptions(depths=(1, 1), dims=(8, 16), kernel=3)
    for options, kind in ((SMALL, Cnn14), (small, TaggingEncoder)):
        encoder = build_encoder(FRONTEND, options, classes=7)
        assert type(encoder) is kind and encoder.classes == 7
        assert isinstance(encoder.output, nn.Linear) and encoder.output.out_features == 7


def test_argument_errors():
    with pytest.raises(ValueError, match="n_mels = 16 is too few for 6 blocks: 32"):
        Cnn14(FrontendOptions(n_mels=16), THIN, classes=2)
    with pytest.raises(ValueError, match="classes"):
        Cnn14(THIN_FRONTEND, THIN, classes=0)
    encoder = Cnn14(THIN_FRONTEND, THIN, classes=2)
    with pytest.raises(ValueError, match=r"31 log-mel columns .* 32"):
        encoder.logits_from_logmel(torch.zeros(2, 1, 31, 64))
