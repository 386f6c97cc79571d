"""Models that hear nothing: what a caption costs by its words alone."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from aacstudy.corpus.text import BOS, EOS


class NGram:
    """An interpolated n-gram model of token ids (Witten–Bell smoothing).

    p(w | h) = (count(h, w) + types(h) · p(w | shorter h)) / (count(h) + types(h)), down to the
    uniform distribution; Witten and Bell 1991, as restated by Chen and Goodman 1999, section 2.5.
    """

    def __init__(self, captions: Iterable[Sequence[int]], vocabulary_size: int, order: int = 3):
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.order, self.vocabulary_size = order, vocabulary_size
        self.counts: list[dict[tuple[int, ...], Counter]] = [defaultdict(Counter) for _ in range(order)]
        for ids in captions:
            padded = [BOS] * (order - 1) + list(ids[1:])
            for position in range(order - 1, len(padded)):
                for n in range(order):
                    self.counts[n][tuple(padded[position - n : position])][padded[position]] += 1
        # A history's words are summed once, not for every word that is asked for.
        self._totals = [{h: seen.total() for h, seen in table.items()} for table in self.counts]

    def probability(self, word: int, history: tuple[int, ...]) -> float:
        """p(word | history); only the last ``order`` − 1 ids of the history matter."""
        p = 1.0 / self.vocabulary_size
        for n in range(min(self.order - 1, len(history)) + 1):
            last = history[len(history) - n :]
            seen = self.counts[n].get(last)
            if seen:
                p = (seen.get(word, 0) + len(seen) * p) / (self._totals[n][last] + len(seen))
        return p

    def token_nll(self, ids: Sequence[int]) -> list[float]:
        """Negative log-likelihood (natural log) of each of a caption's words and EOS.

        The first id, BOS or a task's token in its place, is not looked at; the last must be EOS.
        """
        if len(ids) < 2 or ids[-1] != EOS:
            raise ValueError("a caption's ids start with BOS and end with EOS")
        padded = [BOS] * (self.order - 1) + list(ids[1:])
        return [
            -math.log(self.probability(padded[i], tuple(padded[i - self.order + 1 : i])))
            for i in range(self.order - 1, len(padded))
        ]

    def nll(self, ids: Sequence[int]) -> float:
        """The sum of ``token_nll``."""
        return math.fsum(self.token_nll(ids))
