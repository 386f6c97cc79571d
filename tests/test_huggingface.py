"""Other people's encoder-decoder models give the same kind of matrix; a tiny one with random
weights stands for them.
"""

import numpy as np
import pytest
import torch

from aacstudy.models.huggingface import EncoderDecoder

transformers = pytest.importorskip("transformers")
CAPTIONS = ["a dog barks", "rain falls before a bell rings", "a dog barks", "wind"]


class Words:
    """A tokenizer of one id per word, end mark 2, as transformers' tokenizers return it."""

    def __call__(self, text):
        return {"input_ids": [3 + sum(map(ord, word)) % 40 for word in text.split()] + [2]}


@pytest.fixture(scope="module")
def bart():
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=20,
        max_target_positions=30, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=0,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def one_by_one(model, name, frames, captions):
    """The model's own loss (a mean), one pair at a time, times the number of tokens."""
    model.eval()
    with torch.inference_mode():
        rows = []
        for one in frames:
            labels = [torch.tensor([Words()(text)["input_ids"]]) for text in captions]
            rows.append([model(**{name: one[None]}, labels=ids).loss.item() * ids.shape[1] for ids in labels])
    return np.array(rows)


@pytest.mark.parametrize("size", [1, 2, 32])
def test_bart_on_frames_equals_its_own_loss(bart, size):
    frames = [torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (5, 9)]
    sums, counts = EncoderDecoder(bart, Words(), "inputs_embeds", size).nll(frames, CAPTIONS)
    assert sums.shape == (2, 4) and sums.dtype == np.float32
    assert counts.tolist() == [4, 7, 4, 2]  # words and the end mark
    np.testing.assert_allclose(sums, one_by_one(bart, "inputs_embeds", frames, CAPTIONS), atol=1e-4)
    np.testing.assert_allclose(sums[:, 0], sums[:, 2], atol=1e-5)


def test_whisper_on_features_equals_its_own_loss(whisper):
    frames = [torch.randn(8, 40, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 3)]
    sums, _ = EncoderDecoder(whisper, Words()).nll(frames, CAPTIONS)
    np.testing.assert_allclose(sums, one_by_one(whisper, "input_features", frames, CAPTIONS), atol=1e-4)


def test_the_matrix_goes_through_the_study(bart):
    """Retrieval and bias take the adapter's matrix as they take ours."""
    from aacstudy.analysis.retrieval import grid
    from aacstudy.options import StatisticsOptions
    from aacstudy.scoring.matrix import Losses

    frames = [torch.randn(5, 16, generator=torch.Generator().manual_seed(n)) for n in (5, 9)]
    sums, counts = EncoderDecoder(bart, Words(), "inputs_embeds").nll(frames, CAPTIONS)
    matrix = Losses(sums, counts, np.array([0, 0, 1, 1]), ["one", "two"], CAPTIONS)
    assert grid.queries(matrix, "a2t", "min_max")["rank"].between(1, 4).all()
    assert grid.variance([matrix], StatisticsOptions(resamples=20))["value"].sum() == pytest.approx(1)
