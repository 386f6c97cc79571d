"""Stage captions: captions of a split by beam search, all hypotheses."""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aacstudy.models.decoding import beam_search, forbidden_repeats
from aacstudy.models.device import use
from aacstudy.models.frames import pad_frames
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
    free = extra.get("may_repeat") if options.forbid_repeats == "content" else None
    forbidden = forbidden_repeats(list(vocabulary.words), options.forbid_repeats, free).to(device)
    rows = []
    for i in tqdm(range(0, len(clips), 64), desc="captioning", unit="batch"):
        padded, padding = pad_frames(clips[i : i + 64])
        padding = None if padding is None else padding.to(device)
        found = beam_search(network, padded.to(device), padding, options, forbidden, vocabulary.bos)
        for clip, hypotheses in zip(part.clips["clip"][i : i + 64], found):
            for rank, hypothesis in enumerate(hypotheses, start=1):
                text = vocabulary.decode(hypothesis.tokens)
                rows.append({"clip": clip, "rank": rank, "caption": text, "score": hypothesis.score})
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)
