"""How fast encoding, training and generation are, at demo and paper size; random weights and
frames.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from aacstudy.corpus.text import pad
from aacstudy.models.captioner import Captioner
from aacstudy.models.convnext import TaggingEncoder
from aacstudy.models.decoding import beam_search, beam_search_reference
from aacstudy.options import DecodingOptions, EncoderOptions, FrontendOptions, TrainingOptions
from aacstudy.training.captioning import batch_loss
from aacstudy.training.loop import adamw
from benchmarks import corpora
from benchmarks.clock import interleaved

ENCODERS = {  # front-end, body, seconds of audio in a clip
    "demo": (
        FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=64, f_min=50.0, f_max=7800.0),
        EncoderOptions(depths=(1, 1, 2), dims=(32, 64, 128), kernel=5),
        6,
    ),
    "paper, AudioCaps, 31 frames": (FrontendOptions(), EncoderOptions(), 10),
    "paper, Clotho, 94 frames": (FrontendOptions(), EncoderOptions(), 30),
}
PAIRS = 128  # clips, each with a caption, in a training step
CLIPS = 16  # captioned at once


def encoding(name: str, rounds: int) -> dict:
    """Clips and seconds of audio per second; clip after clip, as frames are made."""
    frontend, options, seconds = ENCODERS[name]
    encoder = TaggingEncoder(frontend, options, 10).eval()
    waveform = torch.randn(1, seconds * frontend.sample_rate)

    @torch.inference_mode()
    def encode() -> None:
        for _ in range(4):
            encoder.frames(waveform)

    rate = 4 / interleaved({"": encode}, rounds)[""]
    return {"clips_per_second": rate, "times_real_time": rate * seconds}


def training(name: str, rounds: int) -> dict:
    """Predicted tokens and (clip, caption) pairs per second of whole steps: augmentation, both
    passes, update.
    """
    options, width, shape, _, _ = corpora.CASES[name]
    recipe = TrainingOptions()
    if name == "demo":
        recipe = replace(recipe, mixup_alpha=0.0, mask_stripes=0)
    torch.manual_seed(0)
    captioner = Captioner(width, shape.words, options).train()
    frames = torch.randn(PAIRS, shape.frames, width)
    texts = corpora.captions(shape, PAIRS)
    ids, tokens = torch.tensor(pad(texts)), sum(len(text) - 1 for text in texts)
    optimiser, generator = adamw(captioner, recipe.learning_rate, recipe.weight_decay), torch.Generator()

    def step() -> None:
        loss = batch_loss(captioner, frames, None, ids, recipe, generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(captioner.parameters(), recipe.clip_norm)
        optimiser.step()

    seconds = interleaved({"": step}, rounds)[""]
    return {"tokens_per_second": tokens / seconds, "pairs_per_second": PAIRS / seconds}


def generation(name: str, rounds: int) -> dict:
    """Captions per second by beam search, and the same against whole prefixes run anew; the
    captions are the same.
    """
    options, width, shape, _, _ = corpora.CASES[name]
    torch.manual_seed(0)
    captioner = Captioner(width, shape.words, options).eval()
    frames = torch.randn(CLIPS, shape.frames, width)
    # random weights seldom end a caption: the limit is the length that captions have
    limit = round(shape.mean)
    arguments = captioner, frames, None, DecodingOptions(max_tokens=limit), None
    found: dict[str, list] = {}

    def run(key: str, search: Callable) -> None:
        found[key] = [[one.tokens for one in clip] for clip in search(*arguments)]

    runs = {"cached": beam_search, "reference": beam_search_reference}
    best = interleaved({key: lambda k=key, s=search: run(k, s) for key, search in runs.items()}, rounds)
    if found["cached"] != found["reference"]:
        raise RuntimeError(f"{name}: the cached search found other captions than the reference")
    return {
        "clips_per_second": CLIPS / best["cached"],
        "speedup_vs_reference": best["reference"] / best["cached"],
        "tokens_per_caption": limit,
    }


def run(rounds: int) -> dict:
    """Measure all three at every size, and print a line for each."""
    result = {}
    for stage in (encoding, training, generation):
        for name in corpora.CASES:
            row = result[f"{stage.__name__}, {name}"] = stage(name, rounds)
            numbers = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in row.items())
            print(f"{stage.__name__ + ', ' + name:44s} {numbers}", flush=True)
    return result
