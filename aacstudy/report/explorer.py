"""The explorer: every caption and clip of a loss matrix, ranked by the page itself, offline."""

import base64
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile

from aacstudy.report import html
from aacstudy.report.provenance import cores

SOUND_BYTES = 2_300_000  # of all clips together, as text in the page
LEVEL = 0.98  # of Opus: 6 s take about 8 kB, enough to tell what sounds
MOST = 300  # clips of the pool that a page has room for
RATE = 16000  # Hz
LONGEST = 15  # seconds of a clip that are kept


def explorer(
    mean: np.ndarray,
    tokens: np.ndarray,
    owners: Sequence[int],
    captions: Sequence[str],
    clips: Sequence[str],
    sounds: Sequence[np.ndarray],
) -> str:
    """HTML of the explorer; document.js ranks.

    mean [audios, captions]: losses in nats per token, kept in 65 536 steps; tokens [captions];
    owners [captions]: rows of clips; sounds: samples at `RATE`, kept while `SOUND_BYTES` last.
    Only the first `MOST` clips and their captions are the pool.
    """
    kept = np.flatnonzero(np.asarray(owners) < MOST)
    mean, sounds, clips = mean[:MOST, kept], sounds[:MOST], clips[:MOST]
    low, high = float(mean.min()), float(mean.max())
    steps = np.round((mean - low) / max(high - low, 1e-9) * 65535).astype("<u2")
    with ThreadPoolExecutor(cores()) as pool:
        encoded = list(pool.map(_opus, sounds))
    sizes = np.cumsum([len(one) for one in encoded])
    data = {
        "low": low,
        "high": high,
        "losses": base64.b64encode(steps.tobytes()).decode("ascii"),
        "tokens": [int(tokens[i]) for i in kept],
        "owners": [int(owners[i]) for i in kept],
        "captions": [captions[i] for i in kept],
        "clips": list(clips),
        "sounds": [one if size <= SOUND_BYTES else "" for one, size in zip(encoded, sizes)],
    }
    # In a script element only "<" can end it or begin another one.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return html.explorer_html(text)


def _opus(samples: np.ndarray) -> str:
    buffer = io.BytesIO()
    samples = np.clip(samples[: LONGEST * RATE], -1, 1)
    soundfile.write(buffer, samples, RATE, format="OGG", subtype="OPUS", compression_level=LEVEL)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
