"""Run every benchmark, print the tables and write benchmarks/results.json. Ratios travel better
than times.

Competitors take turns within one run and the best of their rounds counts. With one thread (the
default) time is processor time, which other work hardly touches; with more, wall time.
"""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from aacstudy.models.captioner import Captioner
from aacstudy.options import DecoderOptions
from aacstudy.scoring.compiled import why_not
from aacstudy.scoring.engine import Engine
from benchmarks import corpora, metrics, precision, retrieval, stages
from benchmarks.clock import interleaved, now
from benchmarks.corpora import CASES
from benchmarks.yardsticks import nll_published, nll_tuned

CLIPS = 4  # that the engine scores; it would share what no clip changes among up to 64
RESULTS = Path(__file__).with_name("results.json")


def flops(options: DecoderOptions, engine: Engine, frames: int) -> float:
    """Floating-point operations of one clip on all trees; attention counts what may be seen, not
    what is masked.
    """
    d, layers = options.d_model, options.layers
    own = (layers - 1) * 4 * d * d + (
        2 * layers - 1
    ) * d * d  # the first self-attention and query hear no clip
    rest = layers * (2 * d * options.d_ff + 2 * frames * d) + d * engine.captioner.vocabulary_size
    nodes = sum(trie.nodes for trie in engine.tries)
    seen = sum(part.sum() for trie in engine.tries for part in trie.seen)
    return 2.0 * (nodes * (own + rest) + (layers - 1) * 2 * d * float(seen))


def scoring(name: str, rounds: int) -> dict:
    """Engine against both yardsticks: seconds per pair, shares of the matrix product's peak,
    differences.
    """
    options, width, shape, count, batch = CASES[name]
    torch.manual_seed(0)
    captioner = Captioner(width, shape.words, options).eval()
    frames = torch.randn(batch, shape.frames, width)
    texts = corpora.captions(shape, count)
    longest = max(map(len, texts))
    kinds = {"float32": {"dtype": "float32"}, "bfloat16": {"dtype": "bfloat16", "use_c": False}}
    if not why_not():
        kinds["bfloat16, compiled"] = {"dtype": "bfloat16"}
    engines = {kind: Engine(captioner, texts, **how) for kind, how in kinds.items()}
    few = slice(0, max(1, 256 // longest // 8))
    sample = texts[:: max(1, count // 256)][:256]  # as spread in length as all
    squares = {dtype: torch.randn(2048, 2048).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    runs = {f"peak {dtype}".replace("torch.", ""): lambda a=a: a @ a for dtype, a in squares.items()}
    runs["published"] = lambda: nll_published(captioner, frames, texts[few], longest)
    runs["tuned"] = lambda: nll_tuned(captioner, list(frames[:1]), sample)
    runs |= {key: lambda engine=engine: engine.nll(list(frames[:CLIPS])) for key, engine in engines.items()}
    pairs = {"published": batch * len(texts[few]), "tuned": len(sample)} | dict.fromkeys(
        engines, CLIPS * count
    )
    best = interleaved(runs, rounds)
    plain = nll_published(captioner, frames[:4], sample[:32], longest)
    result = {"frames": shape.frames, "captions": count, "tokens_remaining": corpora.remaining(texts)}
    for key, engine in engines.items():
        peak = 2 * 2048**3 / best[f"peak {kinds[key]['dtype']}"]
        rate = CLIPS * flops(options, engine, shape.frames) / best[key]
        subset = Engine(captioner, sample[:32], **kinds[key]).nll(list(frames[:4]))
        per_pair = best[key] / pairs[key]
        result[key] = {
            "speedup_vs_reference": best["published"] / pairs["published"] / per_pair,
            "speedup_vs_tuned": best["tuned"] / pairs["tuned"] / per_pair,
            "pairs_per_second": 1 / per_pair,
            "gflops": rate / 1e9,
            "gemm_peak_gflops": peak / 1e9,
            "fraction_of_gemm_peak": rate / peak,
            "max_abs_diff": float(abs(subset - plain).max()),
        }
        row = result[key]
        print(
            f"{name:28s} {key:18s} {row['pairs_per_second']:8.0f} pairs/s, "
            f"{row['speedup_vs_reference']:5.1f} x published, "
            f"{row['speedup_vs_tuned']:4.1f} x tuned, {row['gflops']:4.0f} GFLOP/s = "
            f"{row['fraction_of_gemm_peak']:4.0%} of peak, max |difference| {row['max_abs_diff']:.1e} nats",
            flush=True,
        )
    return result


def growth_of(audios: int, captions: int) -> tuple[float, float]:
    """Seconds and bytes above the start that a matrix takes; for a process of its own."""
    options, width, shape, _, _ = CASES["demo"]
    torch.manual_seed(0)
    captioner = Captioner(width, shape.words, options).eval()
    texts = corpora.captions(
        replace(shape, follow=1.0), captions
    )  # little sharing, or nodes would not be linear
    frames = [torch.randn(shape.frames, width)] * audios
    before = _peak()
    started = now()
    engine = Engine(captioner, texts, memory="100MB")
    engine.nll(frames)
    return now() - started, _peak() - before


def _peak() -> int:
    """Largest resident size of this process in bytes; 0 where /proc is not there."""
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 if status.exists() else 0


def growth() -> list[dict]:
    """Time and memory as audios and captions double: linear in pairs, flat in memory."""
    rows = []
    for audios, captions in ((50, 1000), (100, 1000), (50, 2000), (100, 2000)):
        command = [sys.executable, "-m", "benchmarks", "--growth", str(audios), str(captions)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds, size = json.loads(text)
        rows.append({"audios": audios, "captions": captions, "seconds": seconds, "peak_memory": size})
        print(
            f"growth: {audios:4d} audios x {captions} captions: {seconds:5.1f} s, {size / 1e6:4.0f} MB above "
            "the start"
        )
    return rows


PARTS = {
    "scoring": lambda rounds: {name: scoring(name, rounds) for name in CASES},
    "growth": lambda rounds: growth(),
    "stages": stages.run,
    "retrieval": lambda rounds: retrieval.run(),
    "metrics": lambda rounds: metrics.run(),
    "precision": lambda rounds: precision.run(),
}


def main() -> None:
    """Print every table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="the others keep their numbers"
    )
    parser.add_argument("--growth", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.growth:
        print(json.dumps(growth_of(*arguments.growth)))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "clock": "processor time" if arguments.threads == 1 else "wall time",
        "compiled": why_not() or "yes",
    }
    for part in arguments.parts:
        results[part] = PARTS[part](arguments.rounds)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
