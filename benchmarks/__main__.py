"""Run every benchmark and print one table; absolute times are of this machine today, ratios travel better."""

import time
from collections.abc import Callable

import torch

from aacstudy.corpus.text import BOS, EOS
from aacstudy.models.captioner import Captioner
from aacstudy.options import DecoderOptions
from aacstudy.scoring.batched import nll_batched
from aacstudy.scoring.reference import nll_reference


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Shortest wall time of a few runs after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def peak(n: int = 1024) -> float:
    """Floating-point operations per second of a square float32 matrix product."""
    a = torch.randn(n, n)
    return 2 * n**3 / seconds(lambda: a @ a)


def scoring(
    name: str, options: DecoderOptions, frames: int, width: int, words: int, audios: int, captions: int
) -> None:
    """Compare the batched loss matrix with the reference on random weights and captions of 4 to 16 words."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    captioner = Captioner(width, words, options).eval()
    clips = [torch.randn(frames, width, generator=generator) for _ in range(audios)]
    lengths = torch.randint(4, 17, (captions,), generator=generator).tolist()
    texts = [[BOS, *torch.randint(4, words, (n,), generator=generator).tolist(), EOS] for n in lengths]
    difference = abs(
        nll_reference(captioner, clips, texts).numpy() - nll_batched(captioner, clips, texts)
    ).max()
    plain = seconds(lambda: nll_reference(captioner, clips, texts), 1)
    fast = seconds(lambda: nll_batched(captioner, clips, texts))
    pairs = audios * captions
    print(
        f"scoring, {name}: {pairs / plain:8.0f} pairs/s plain, {pairs / fast:8.0f} batched, "
        f"ratio {plain / fast:.1f}, largest difference {difference:.1e} nats"
    )


def main() -> None:
    """Print every ratio."""
    torch.set_num_threads(1)
    print(f"float32 matrix product, 1 thread: {peak() / 1e9:.0f} GFLOP/s")
    demo = DecoderOptions(d_model=96, layers=2, heads=4, d_ff=256)
    scoring("demo size", demo, frames=19, width=128, words=400, audios=4, captions=256)
    scoring("paper size", DecoderOptions(), frames=31, width=768, words=4400, audios=2, captions=128)


if __name__ == "__main__":
    main()
