"""Stage zero_shot: losses of a phrase per class on held-out clips of one sound, beside the tagger's
own logits.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.soundscapes.grammar import ALL_PHRASES, class_phrases
from aacstudy.models.checkpoint import load_encoder
from aacstudy.models.device import use
from aacstudy.models.frames import encode
from aacstudy.scoring.engine import Engine
from aacstudy.study.artifacts import Artifact
from aacstudy.study.stages import inputs


def single_sound(part: Corpus) -> pd.DataFrame:
    """The clips of one kind of sound: ``clip`` and ``event``, in the order of the clips."""
    kinds = part.events.groupby("clip")["event"].unique()
    one = kinds[kinds.map(len) == 1].map(lambda kind: kind[0])
    clips = part.clips["clip"][part.clips["clip"].isin(one.index)]
    return pd.DataFrame({"clip": clips, "event": clips.map(one)}).reset_index(drop=True)


def build(artifact: Artifact, folder: Path, cores: int) -> None:
    """``zero_shot.npz``: sums of −log p in nats of each class's phrase on the clips ``nll`` [clips,
    classes] and on ``bank`` [training clips, classes]; ``tokens``, ``classes`` [classes]; each
    clip's class ``labels`` and the tagger's logits ``tagger`` [clips, classes].
    """
    corpus, frames, encoder, speaker = (one.path for one in artifact.inputs)
    chosen, device = dict(artifact.parameters), use()
    source, split, wanted = inputs.Source(corpus, frames), chosen.pop("split"), chosen.pop("bank_clips")
    part = Corpus.load(corpus).split(split)
    tagged = pd.read_csv(encoder / "test_scores.csv", index_col="clip")
    clips = single_sound(part)
    place = dict(zip(part.clips["clip"], part.paths()))
    listener = load_encoder(encoder / "encoder.safetensors")[0].to(device)
    heard = list(encode(listener, [place[clip] for clip in clips["clip"]], cores))
    _, bank = source.part("train", np.random.default_rng(0), wanted)
    classes = list(tagged.columns)
    phrases = class_phrases({one: ALL_PHRASES[one] for one in classes})
    network, vocabulary, _ = inputs.captioner(speaker, device)
    engine = Engine(network, [vocabulary.encode(phrases[one]) for one in classes], **chosen)
    found = engine.nll([*heard, *bank], lambda audios: tqdm(audios, desc="scoring phrases", unit="audio"))
    np.savez(
        folder / "zero_shot.npz",
        nll=found[: len(heard)],
        bank=found[len(heard) :],
        tokens=engine.tokens,
        classes=np.array(classes),
        labels=np.array([classes.index(event) for event in clips["event"]]),
        tagger=tagged.loc[clips["clip"]].to_numpy(),
    )
