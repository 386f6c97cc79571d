"""The whole grid of normalisations at Clotho's size: seconds and memory, both directions, 1000
bootstrap resamples.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from aacstudy.analysis.retrieval import grid
from aacstudy.analysis.retrieval.methods import DIRECTIONS, Pool
from aacstudy.options import StatisticsOptions

AUDIOS, EACH = 1045, 5
BANK_AUDIOS, BANK_CAPTIONS, TUNE_AUDIOS = 300, 1000, 200


def pool(rng: np.random.Generator, audios: int) -> Pool:
    """Losses with a strong caption bias and a weak match, with banks and one blind prior, as
    float32 sums.
    """
    owners = np.repeat(np.arange(audios), EACH)
    tokens, bank_tokens = (rng.integers(6, 20, n) for n in (audios * EACH, BANK_CAPTIONS))
    bias = rng.normal(3, 0.6, len(owners))  # nats per token

    def sums(rows: int, mean: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal((rows, len(mean)), dtype=np.float32)
        return ((mean + 0.25 * noise) * lengths).astype(np.float32)

    nll = sums(audios, bias, tokens)
    nll[owners, np.arange(len(owners))] -= 0.7 * tokens
    bank = sums(audios, rng.normal(3, 0.6, BANK_CAPTIONS), bank_tokens)
    prior = -bias * tokens + rng.normal(0, 2, len(owners))
    return Pool(nll, tokens, owners, sums(BANK_AUDIOS, bias, tokens), bank, bank_tokens, {"trigram": prior})


def measure() -> dict:
    """Run the grid in this process."""
    rng = np.random.default_rng(0)
    pools = [(pool(rng, AUDIOS), pool(rng, TUNE_AUDIOS))]
    options = StatisticsOptions()
    before, started, wall = _peak(), time.process_time(), time.perf_counter()
    rows = {}
    for direction in DIRECTIONS:
        cells = grid.run(pools, direction)
        rows[direction] = len(grid.table(cells, options))
        grid.compared(cells, [("raw", "online"), ("min_max", "transductive")], options)
    return {
        "audios": AUDIOS,
        "captions": AUDIOS * EACH,
        "rows": rows,
        "cpu_seconds": time.process_time() - started,
        "seconds": time.perf_counter() - wall,
        "peak_memory": _peak(),
        "memory_above_start": _peak() - before,
    }


def run() -> dict:
    """Measure in a process of its own, so that the peak of memory is the grid's, and print it."""
    command = [sys.executable, "-m", "benchmarks.retrieval"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(
        f"retrieval: {found['audios']} x {found['captions']}, {sum(found['rows'].values())} ways to "
        "normalise, 1000 resamples: "
        f"{found['seconds']:.0f} s ({found['cpu_seconds']:.0f} s of processors), "
        f"{found['peak_memory'] / 1e9:.1f} GB"
    )
    return found


def _peak() -> int:
    """Largest resident size of this process in bytes; 0 where /proc is not there."""
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 if status.exists() else 0


if __name__ == "__main__":
    print(json.dumps(measure()))
