"""The captioner: sizes, masks, positions, losses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aacstudy.corpus.text import BOS, EOS, PAD
from aacstudy.models.captioner import Captioner, token_nll
from aacstudy.models.decoder import sinusoids
from aacstudy.options import DecoderOptions

SMALL = {"d_model": 32, "layers": 2, "heads": 4, "d_ff": 48, "max_positions": 40}
VOCABULARY = 15


def small(seed: int = 0, **changes) -> Captioner:
    torch.manual_seed(seed)
    return Captioner(12, VOCABULARY, DecoderOptions(**(SMALL | changes))).eval()


def example(batch: int = 3, frames: int = 7, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [batch, frames, 12] and tokens [batch, n] without padding."""
    tokens = torch.randint(4, VOCABULARY, (batch, n))
    tokens[:, 0] = BOS
    return torch.randn(batch, frames, 12), tokens


@pytest.mark.parametrize("vocabulary", [4371, 4585])
def test_published_parameter_count(vocabulary):
    captioner = Captioner(768, vocabulary, DecoderOptions())
    count = sum(p.numel() for p in captioner.parameters() if p.requires_grad)
    assert count == 9_669_376 + 513 * vocabulary  # 11 911 699 at 4371, the DCASE 2024 baseline


def test_shapes():
    captioner = small()
    frames, tokens = example()
    assert captioner.project(frames).shape == (3, 7, 32)
    assert captioner.embed(tokens).shape == (3, 6, 32)
    assert captioner(frames, None, tokens).shape == (3, 6, VOCABULARY)


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned"])
@torch.inference_mode()
def test_frame_padding_changes_nothing(positions):
    captioner = small(frame_positions=positions)
    frames, tokens = example()
    plain = captioner(frames, None, tokens)
    padded = torch.cat([frames, torch.randn(3, 4, 12)], dim=1)  # [3, 11, 12], garbage where padded
    padding = torch.arange(11).expand(3, 11) >= 7
    difference = (captioner(padded, padding, tokens) - plain).abs().max()
    print(f"frame padding: max difference {difference:.2e}")
    assert difference < 1e-5


@torch.inference_mode()
def test_token_padding_and_batch_change_nothing():
    captioner = small()
    frames, tokens = example()
    tokens[1, 4:] = PAD
    together = captioner(frames, None, tokens)
    alone = captioner(frames[1:2], None, tokens[1:2, :4])
    assert torch.allclose(together[1, :4], alone[0], atol=1e-5)


@torch.inference_mode()
def test_no_token_sees_the_future():
    captioner = small()
    frames, tokens = example()
    changed = tokens.clone()
    changed[:, 4:] = 4 + (changed[:, 4:] - 3) % (VOCABULARY - 4)
    before, after = captioner(frames, None, tokens), captioner(frames, None, changed)
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)


@torch.inference_mode()
def test_equals_torchs_decoder_stack():
    """Post-norm, exact GELU, no final norm: torch's own stack with additive masks gives the same
    logits.
    """
    captioner = small()
    frames, tokens = example()
    tokens[0, 5:] = PAD
    frame_padding = torch.arange(7).expand(3, 7) >= torch.tensor([[7], [5], [2]])
    layer = nn.TransformerDecoderLayer(32, 4, 48, 0.2, activation="gelu", batch_first=True)
    stack = nn.TransformerDecoder(layer, 2, norm=None).eval()
    stack.load_state_dict(
        {f"layers.{k}": v for k, v in captioner.decoder.layers.state_dict().items()}, strict=True
    )
    weight, bias = captioner.projection[1].weight, captioner.projection[1].bias
    memory = F.relu(frames @ weight.T + bias)
    x = captioner.decoder.embedding.weight[tokens] * math.sqrt(32) + sinusoids(6, 32)
    infinite = float("-inf")
    out = stack(
        x,
        memory,
        tgt_mask=torch.full((6, 6), infinite).triu(1),
        tgt_key_padding_mask=torch.zeros(3, 6).masked_fill(tokens == PAD, infinite),
        memory_key_padding_mask=torch.zeros(3, 7).masked_fill(frame_padding, infinite),
    )
    expected = out @ captioner.decoder.classifier.weight.T + captioner.decoder.classifier.bias
    real = tokens != PAD
    difference = (captioner(frames, frame_padding, tokens) - expected)[real].abs().max()
    print(f"torch stack: max difference {difference:.2e}")
    assert difference < 1e-5


@torch.inference_mode()
def test_only_frame_positions_hear_order():
    frames, tokens = example()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    for positions, hears in (("none", False), ("sinusoidal", True), ("learned", True)):
        captioner = small(frame_positions=positions)
        difference = (captioner(frames, None, tokens) - captioner(frames[:, order], None, tokens)).abs().max()
        print(f"frame_positions={positions}: permuting the frames moves logits by {difference:.2e}")
        assert difference > 1e-2 if hears else difference < 1e-5


def test_sinusoids():
    table = sinusoids(50, 8)
    assert table.shape == (50, 8)
    for position, column in ((0, 0), (0, 1), (7, 2), (49, 7)):
        angle = position / 10000 ** (2 * (column // 2) / 8)
        expected = math.cos(angle) if column % 2 else math.sin(angle)
        assert table[position, column].item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="even"):
        sinusoids(5, 7)


def test_sinusoids_are_added_after_the_projection():
    plain, placed = small(frame_positions="none"), small(frame_positions="sinusoidal")
    frames, _ = example()
    assert torch.allclose(placed.project(frames), plain.project(frames) + sinusoids(7, 32), atol=1e-6)


def test_learned_positions_are_parameters_and_added_after_the_projection():
    plain, placed = small(frame_positions="none"), small(frame_positions="learned")
    table = dict(placed.named_parameters())["frame_positions"]
    assert table.shape == (40, 32) and table.std().item() == pytest.approx(math.sqrt(0.5), rel=0.1)
    placed.load_state_dict(plain.state_dict(), strict=False)
    frames, _ = example()
    assert torch.allclose(placed.project(frames), plain.project(frames) + table[:7], atol=1e-6)


def test_decode_embedded_is_decode():
    captioner = small()
    frames, tokens = example()
    tokens[2, 3:] = PAD
    memory = captioner.project(frames)
    embedded = captioner.decode_embedded(memory, None, captioner.embed(tokens), tokens == PAD)
    assert torch.equal(embedded, captioner.decode(memory, None, tokens))


def test_token_nll():
    logits = torch.randn(2, 4, VOCABULARY, dtype=torch.float64)
    targets = torch.tensor([[5, 9, EOS, PAD], [7, EOS, PAD, PAD]])
    loss = token_nll(logits, targets)
    assert loss.shape == (2, 4)
    for row, column in ((0, 0), (0, 2), (1, 1)):
        values = logits[row, column]
        expected = values.exp().sum().log() - values[targets[row, column]]
        assert loss[row, column].item() == pytest.approx(expected.item(), abs=1e-12)
    assert loss[targets == PAD].tolist() == [0.0, 0.0, 0.0]
    uniform = token_nll(torch.zeros(2, 4, VOCABULARY), targets)
    assert uniform[0, 0].item() == pytest.approx(math.log(VOCABULARY), abs=1e-6)


def test_dropout_only_in_training():
    captioner = small()
    frames, tokens = example()
    assert torch.equal(captioner(frames, None, tokens), captioner(frames, None, tokens))
    captioner.train()
    assert not torch.equal(captioner(frames, None, tokens), captioner(frames, None, tokens))


def test_pad_embedding_is_zero_and_stays():
    captioner = small().train()
    frames, tokens = example()
    tokens[:, 4:] = PAD
    captioner(frames, None, tokens)[:, :4].sum().backward()
    assert captioner.embed(torch.tensor([[PAD]])).abs().max() == 0
    assert captioner.decoder.embedding.weight.grad[PAD].abs().max() == 0


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"frame_positions": "clock"}, "'none', 'sinusoidal' or 'learned'.*'clock'"),
        ({"heads": 7}, "heads must divide d_model = 256, got 7"),
        ({"d_model": 255, "heads": 5}, "even"),
        ({"layers": 0}, r"layers\s+Input should be greater than or equal to 1"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_option_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        DecoderOptions(**wrong)


def test_input_errors():
    captioner = small(frame_positions="sinusoidal")
    frames, tokens = example()
    with pytest.raises(ValueError, match=r"41 frames .* 40"):
        small(frame_positions="learned")(torch.zeros(3, 41, 12), None, tokens)
    with pytest.raises(ValueError, match=r"\[batch, frames >= 1, 12\], got \(3, 7, 11\)"):
        captioner(frames[:, :, :11], None, tokens)
    with pytest.raises(ValueError, match="frames >= 1"):
        captioner(frames[:, :0], None, tokens)
    with pytest.raises(ValueError, match=r"41 frames .* 40"):
        captioner(torch.zeros(3, 41, 12), None, tokens)
    with pytest.raises(ValueError, match=r"41 tokens .* 40"):
        captioner(frames, None, torch.ones(3, 41, dtype=torch.int64))
