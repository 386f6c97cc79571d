"""One METEOR process for many systems and resamples.

aac-metrics starts METEOR anew for each call, and 9 of its 10 seconds load the paraphrase table; it
also keeps the statistics of each caption to itself, from which METEOR computes the value of any
part of a corpus. So the same jar is asked here in the same words (``SCORE`` and ``EVAL`` lines);
the numbers equal aac-metrics', which a test holds.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aacstudy.analysis.captions.assets import METEOR, Assets, clean_environment

# Columns of the statistics: words of candidate and reference, chunks, and how many of the words are
# matched.
_LENGTHS, _CHUNKS, _MATCHED = slice(0, 2), 20, slice(21, 23)
JAVA_OPTIONS = (
    "-Duser.country=US",
    "-Duser.language=en",
    "-Dfile.encoding=UTF-8",
    "-XX:+UseSerialGC",
    "-Xmx2G",
)


class Meteor:
    """A running METEOR; use it in a ``with`` block."""

    def __init__(self, assets: Assets):
        jar = str(Path(assets.meteor) / METEOR)
        command = [str(assets.java), *JAVA_OPTIONS, "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
        with clean_environment():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )

    def __enter__(self) -> "Meteor":
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.communicate()

    def statistics(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """Counts of each caption [captions, 23]: METEOR's corpus value is a function of their sum.

        A caption equal to its reference is one chunk by itself, but METEOR counts none in a sum.
        """
        rows = []
        for candidate, many in zip(candidates, references, strict=True):
            (line,) = self._ask(" ||| ".join(["SCORE", *many, candidate]), 1)
            rows.append([float(number) for number in line.split()])
        table = np.array(rows)  # [captions, 23]
        perfect = (table[:, _CHUNKS] == 1) & (table[:, _LENGTHS] == table[:, _MATCHED]).all(axis=1)
        table[perfect, _CHUNKS] = 0
        return table

    def values(self, statistics: np.ndarray) -> np.ndarray:
        """METEOR of each row of (summed) statistics [m, 23]: float [m] in 0…1."""
        rows = [" ".join(map(repr, row)) for row in np.asarray(statistics, dtype=float).tolist()]
        # the last is of all together
        answers = self._ask(" ||| ".join(["EVAL", *rows]), len(rows) + 1)
        return np.array([float(answer) for answer in answers[:-1]])

    def _ask(self, line: str, answers: int) -> list[str]:
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            found = [self._process.stdout.readline() for _ in range(answers)]
        except BrokenPipeError:
            found = [""]
        if not all(found):
            raise RuntimeError(f"METEOR ended with status {self._process.wait()}")
        return found
