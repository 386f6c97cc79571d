"""Times of competitors that take turns, so that other work on the machine hurts all alike."""

import math
import time
from collections.abc import Callable

import torch


def now() -> float:
    """Seconds: processor time of one thread, wall time of several."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest seconds of each run, the runs taking turns."""
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            started = now()
            run()
            best[name] = min(best[name], now() - started)
    return best
