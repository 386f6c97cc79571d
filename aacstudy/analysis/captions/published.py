"""Caption scores that were published for this architecture, to read our own beside them.

[P]: arXiv 2308.15090, its abstract. [S]: the same authors' arXiv 2309.00454, the same encoder and
decoder trained alone on the data set, mean of five seeds (± half of the 95 % interval where it is
given). What is not listed is not known to us.
"""

CORPORA = {"clotho": "Clotho", "audiocaps": "AudioCaps"}
SCORES = {  # metric -> data set -> (value, half an interval or None, mark)
    "spider_fl": {
        "Clotho": ((0.298, None, "P"), (0.3003, 0.0054, "S")),
        "AudioCaps": ((0.472, None, "P"), (0.4655, 0.0088, "S")),
    },
    "spider": {"Clotho": ((0.3014, None, "S"),), "AudioCaps": ((0.4663, None, "S"),)},
    "cider_d": {"Clotho": ((0.4670, None, "S"),), "AudioCaps": ((0.7545, None, "S"),)},
    "spice": {"Clotho": ((0.1357, None, "S"),), "AudioCaps": ((0.1781, None, "S"),)},
    "fense": {"Clotho": ((0.5157, None, "S"),), "AudioCaps": ((0.6325, None, "S"),)},
    "meteor": {"Clotho": ((0.1888, None, "S"),), "AudioCaps": ((0.2458, None, "S"),)},
}


def text(metric: str, data_set: str) -> str:
    """Published scores of a metric on Clotho or AudioCaps with their marks, such as "0.298 [P],
    0.300 ± 0.005 [S]"."""
    found = SCORES.get(metric, {}).get(data_set, ())
    return ", ".join(f"{value:.3f}{f' ± {half:.3f}' if half else ''} [{mark}]" for value, half, mark in found)
