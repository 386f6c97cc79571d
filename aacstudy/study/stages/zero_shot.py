"""Zero-shot tagging: losses of a phrase per class on clips of one sound.

Not a stage of its own: whoever scores banks has the encoder, the engine and the bank at hand.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.text import Vocabulary
from aacstudy.scoring.engine import Engine


def single_sound(part: Corpus) -> pd.DataFrame:
    """The clips of one kind of sound: ``clip`` and ``event``, in the order of the clips."""
    kinds = part.events.groupby("clip")["event"].unique()
    one = kinds[kinds.map(len) == 1].map(lambda kind: kind[0])
    clips = part.clips["clip"][part.clips["clip"].isin(one.index)]
    return pd.DataFrame({"clip": clips, "event": clips.map(one)}).reset_index(drop=True)


def score(
    engine: Engine,
    vocabulary: Vocabulary,
    frames: Sequence[Tensor],
    phrases: Mapping[str, str],
    bank: Sequence[Tensor] = (),
) -> dict[str, np.ndarray]:
    """Sums of −log p in nats of each class's phrase, float32.

    frames, bank: [time, dim] per clip; phrases: a text per class. Returns ``zero_shot_nll``
    [clips, classes], ``zero_shot_bank`` [bank clips, classes], ``zero_shot_tokens`` and
    ``zero_shot_classes`` [classes]. The engine has these phrases as its captions from then on.
    """
    engine.set_captions([vocabulary.encode(text) for text in phrases.values()])
    clips = [*frames, *bank]
    found = engine.nll(clips, lambda audios: tqdm(audios, desc="scoring class phrases", unit="audio"))
    return {
        "zero_shot_nll": found[: len(frames)],
        "zero_shot_bank": found[len(frames) :],
        "zero_shot_tokens": engine.tokens,
        "zero_shot_classes": np.array(list(phrases), dtype=str),
    }
