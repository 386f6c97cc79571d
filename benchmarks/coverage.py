"""How often 95 % intervals hold the truth, in simulated tables: python -m benchmarks.coverage

A value is normal: an effect of its audio, one of its seed, and noise. Eight variants share audios;
each has seeds of its own. A row's F is what MS_seed is expected to be, in units of the noise.
"""

import argparse

import numpy as np

from aacstudy.analysis.statistics import interval, pooled, pooled_difference

SEEDS, AUDIOS, VARIANTS = 3, 200, 8
# variance between audios (or of what a variant does to each), between seeds, noise; a difference?
CASES = {
    "value, no seed part": (1.0, 0.0, 0.5, False),
    "value, seed se = audio se": (1.0, SEEDS / AUDIOS, 0.5, False),
    "difference, F = 1": (0.25, 0.0, 0.5, True),
    "difference, F = 7": (0.25, 6 * 0.5 / AUDIOS, 0.5, True),
    "difference, F = 50": (0.25, 49 * 0.5 / AUDIOS, 0.5, True),
}
METHODS = ("crossed bootstrap", "two-way", "two-way, pooled")


def crossed_bootstrap(table: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of the mean of [seeds, audios]; both are resampled. Owen, AOAS 2007."""
    seeds, audios = (rng.multinomial(n, np.full(n, 1 / n), resamples) / n for n in table.shape)
    low, high = np.quantile(((seeds @ table) * audios).sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def run(sets: int = 1500, resamples: int = 1000, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """``coverage`` and mean ``width`` of every method in every case: ``[case][method]``."""
    found = {}
    for case, (audio, trainings, noise, paired) in CASES.items():
        rng = np.random.default_rng(seed)
        hits, widths = np.zeros(3), np.zeros(3)
        for _ in range(sets):
            shape = (VARIANTS, SEEDS, AUDIOS)
            y = np.sqrt(noise) * rng.normal(size=shape)
            y += np.sqrt(trainings) * rng.normal(size=(VARIANTS, SEEDS, 1))
            y += np.sqrt(audio) * rng.normal(size=(VARIANTS if paired else 1, 1, AUDIOS))
            one, part = (y[1] - y[0], pooled_difference(y)) if paired else (y[0], pooled(y))
            two = (interval(one), interval(one, seed_part=part))
            three = (crossed_bootstrap(one, resamples, rng), *((each.low, each.high) for each in two))
            hits += [low <= 0 <= high for low, high in three]
            widths += [high - low for low, high in three]
        found[case] = {
            name: {"coverage": hit / sets, "width": width / sets}
            for name, hit, width in zip(METHODS, hits.tolist(), widths.tolist())
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1500)
    print(f"{'coverage of 95 % intervals, in %':34}" + "".join(f"{name:>20}" for name in METHODS))
    for case, row in run(parser.parse_args().sets).items():
        print(f"{case:34}" + "".join(f"{100 * row[name]['coverage']:20.1f}" for name in METHODS), flush=True)


if __name__ == "__main__":
    main()
