"""Which words make a caption cheap or dear: its tokens' losses on its own clip, on all clips, and
without audio.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aacstudy.scoring.engine import Engine
from aacstudy.study.stages import inputs
from aacstudy.study.stages.bank import trigram
from aacstudy.study.stages.inputs import Source


def token_losses(
    scored: Source,
    trained_on: Path,
    captioner: Path,
    split: str,
    captions: Sequence[int],
    device: torch.device,
) -> pd.DataFrame:
    """One row per token of some captions (rows of the split's captions table).

    Columns: ``caption``, ``position`` from 0, ``word`` (``<eos>`` at the end), and in nats ``own``
    (on the caption's clip), ``mean`` and ``sd`` over all clips of the split, ``trigram`` (of the
    corpus ``trained_on``).
    """
    network, vocabulary, _ = inputs.captioner(captioner, device)
    part, clips = scored.part(split)
    ids = [vocabulary.encode(text) for text in part.captions["text"].iloc[list(captions)]]
    engine, owners = Engine(network, ids), part.owners()
    every = [engine.token_nll(clip) for clip in clips]  # [clips][captions][tokens]
    blind = trigram(trained_on, vocabulary, ids)
    tables = []
    for place, (caption, tokens) in enumerate(zip(captions, ids)):
        losses = np.stack([one[place] for one in every])  # [clips, tokens]
        tables.append(
            pd.DataFrame(
                {
                    "caption": caption,
                    "position": range(len(tokens) - 1),
                    "word": [vocabulary.words[token] for token in tokens[1:]],
                    "own": losses[owners[caption]],
                    "mean": losses.mean(axis=0),
                    "sd": losses.std(axis=0),
                    "trigram": blind[place],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
