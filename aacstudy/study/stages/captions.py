"""Stage captions: captions of a split by beam search, all hypotheses."""

from pathlib import Path

import pandas as pd

from aacstudy.models.decoding import write
from aacstudy.models.device import use
from aacstudy.options import DecodingOptions
from aacstudy.study.artifacts import Artifact
from aacstudy.study.stages import inputs


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    """``captions.csv``: ``clip``, ``rank`` (1 is the choice), ``caption``, ``score`` (mean
    log-probability).
    """
    corpus, frames, speaker = (one.path for one in artifact.inputs)
    chosen, device = dict(artifact.parameters), use()
    part, clips = inputs.Source(corpus, frames).part(chosen.pop("split"))
    options = DecodingOptions(**chosen)
    network, vocabulary, extra = inputs.captioner(speaker, device)
    found = write(network, clips, vocabulary, options, extra.get("may_repeat"))
    rows = [
        {"clip": clip, "rank": rank, "caption": vocabulary.decode(one.tokens), "score": one.score}
        for clip, hypotheses in zip(part.clips["clip"], found)
        for rank, one in enumerate(hypotheses, start=1)
    ]
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)
