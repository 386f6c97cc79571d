"""Time and memory of the caption metrics without a download: 1000 candidates, 5 references each."""

import json
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from aacstudy.analysis.captions import METRICS, assets, evaluate
from aacstudy.corpus.soundscapes.grammar import PHRASES, caption
from aacstudy.options import StatisticsOptions

OFFLINE = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "words", "length", "distinct_2")


def texts(clips: int, references: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """A candidate and references for each clip, by the soundscapes' grammar."""
    rng = np.random.default_rng(seed)
    names = list(PHRASES)
    drawn = []
    for _ in range(clips):
        events = tuple(rng.choice(names, size=2, replace=False))
        drawn.append([caption("sequence", events, rng).text for _ in range(references + 1)])
    return [one[0] for one in drawn], [one[1:] for one in drawn]


def run(clips: int = 1000, references: int = 5) -> dict:
    """Seconds of processor time and wall, and MB at the peak, of Python and of Java, in a process
    of its own.
    """
    command = [sys.executable, "-m", "benchmarks.metrics", str(clips), str(references)]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for name, part in row.items():
        print(
            f"metrics, {name}: {part['seconds']:5.1f} s of processor time ({part['java_seconds']:.1f} s of "
            "it Java), "
            f"{part['peak_mb']:.0f} MB, Java {part['java_peak_mb']:.0f} MB",
            flush=True,
        )
    return row


def _measure(candidates: list[str], references: list[list[str]], metrics: list[str], tokenizer: str) -> dict:
    def used() -> tuple[float, float]:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return tuple(one.ru_utime + one.ru_stime for one in both)

    before, peaks, stop = used(), [0.0], threading.Event()
    watching = threading.Thread(target=_watch, args=(peaks, stop))
    watching.start()
    evaluate(
        candidates,
        references,
        metrics=metrics,
        tokenizer=tokenizer,
        statistics=StatisticsOptions(resamples=1000),
    )
    stop.set()
    watching.join()
    python, java = (now - then for now, then in zip(used(), before))
    return {
        "clips": len(candidates),
        "references": len(references[0]),
        "metrics": len(metrics),
        "seconds": python + java,
        "java_seconds": java,
        "peak_mb": _peak("self"),
        "java_peak_mb": max(peaks),
    }


def _watch(peaks: list[float], stop: threading.Event) -> None:
    """Note the peaks of Java processes while they run; what the system keeps of them begins with
    their parent's size.
    """
    while not stop.wait(0.1):
        for file in Path("/proc/self/task").glob("*/children"):
            for child in file.read_text().split():
                try:
                    if Path(f"/proc/{child}/comm").read_text().strip() == "java":
                        peaks.append(_peak(child))
                except OSError:  # it has just ended
                    pass


def _peak(process: str) -> float:
    """Largest resident size in MB; 0 where /proc is not there."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def main() -> None:
    """Print one measurement as JSON."""
    import aac_metrics  # noqa: F401  # loading transformers takes 6 s and is no metric's

    candidates, references = texts(*map(int, sys.argv[1:3]))
    rows = {"without Java": _measure(candidates, references, list(OFFLINE), "ours")}
    found = assets.find()
    if not found.missing("meteor") and not found.missing("ptb"):
        names = [name for name in METRICS if name in (*OFFLINE, "meteor")]
        rows["with PTB and METEOR"] = _measure(candidates, references, names, "ptb")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
