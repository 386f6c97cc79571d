"""SBERT similarity and fluency errors through aac-metrics, in a process of their own.

Hugging Face's libraries read their offline switch and their cache folder when they are imported,
perhaps long before; a process of its own is sure to ask no host, and gives its memory back.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aacstudy.analysis.captions.assets import FLUENCY, Assets


def score(
    candidates: Sequence[str], references: Sequence[Sequence[str]], assets: Assets, what: Sequence[str]
) -> dict[str, list[float]]:
    """Scores of each candidate [captions] by name: ``sbert_sim`` (cosine) and ``fer`` (1 where an
    error is likelier than 0.9), those of ``what``. Raises RuntimeError with the last line of what
    went wrong."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    if "fer" in what:
        environment |= {"FENSE_DATA": str(assets.fluency.parent), "HF_HUB_CACHE": str(assets.hub)}
    job = {
        "candidates": list(candidates),
        "references": [list(many) for many in references],
        "sentences": str(assets.sentences),
        "what": list(what),
    }
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "scores.json"
        done = subprocess.run(
            [sys.executable, "-m", "aacstudy.analysis.captions.neural", str(result)],
            input=json.dumps(job),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not result.exists():
            raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
        return json.loads(result.read_text())


def main() -> None:
    """Read a job from standard input, write its scores to the file named."""
    from aac_metrics.functional import fer, sbert_sim

    job = json.load(sys.stdin)
    scores = {}
    if "sbert_sim" in job["what"]:
        _, each = sbert_sim(job["candidates"], job["references"], sbert_model=job["sentences"])
        scores["sbert_sim"] = each["sbert_sim"].tolist()
    if "fer" in job["what"]:
        _, each = fer(job["candidates"], echecker=FLUENCY.removesuffix(".ckpt"))
        scores["fer"] = each["fer"].tolist()
    Path(sys.argv[1]).write_text(json.dumps(scores))


if __name__ == "__main__":
    main()
