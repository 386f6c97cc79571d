"""The study's stages: what each needs, what each makes. Parameters in, artifacts out; no arithmetic
here.

An artifact names the modules that make it and they are loaded when it is made: planning a study
loads no torch, and a key covers the code of those modules and of all that they import (see
artifacts.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from importlib import import_module

from aacstudy import paths
from aacstudy.study.artifacts import Artifact
from aacstudy.study.parameters import BASE, Study
from aacstudy.study.weights import find_weights

# Kind of corpus -> the module that reads or makes it.
READERS = {
    "soundscapes": "aacstudy.corpus.soundscapes.scenes",
    "recordings": "aacstudy.corpus.recordings",
    "folder": "aacstudy.corpus.folder",
    "clotho": "aacstudy.corpus.clotho",
    "audiocaps": "aacstudy.corpus.audiocaps",
}

COMPOSED = ("soundscapes", "recordings")  # corpora whose scenes are made here
PUBLISHED = "_published"  # how the name of a stage's module ends that imports weights
PAIRS = "pairs"  # the split of clips of the same two sounds in both orders and at once

# of a study, a variant, a seed, and a split where the stage has a choice
Maker = Callable[..., Artifact]


def _shared(make: Maker) -> Maker:
    """Give the study's own artifact where a variant changes nothing of it, so that it is not made
    under two names.
    """

    @wraps(make)
    def shared(study: Study, variant: str, seed: int, *split: str) -> Artifact:
        made, own = make(study, variant, seed, *split), make(study, BASE, seed, *split)
        return own if made.key == own.key else made

    return shared


def _code(stage: str, *modules: str) -> tuple[str, ...]:
    """The module of a stage, and those that it loads by name."""
    return (f"aacstudy.study.stages.{stage}", *modules)


def corpus(study: Study) -> Artifact:
    """Clips, captions and events of the study's corpus."""
    options = study.corpus
    module = READERS[options.name]
    files = {name: getattr(options, name) for name in ("name", "decode", "may_lack")}
    composed = {name: value for name, value in asdict(options).items() if name not in ("root", *files)}
    parameters = composed | {"name": options.name} if options.name in COMPOSED else files
    if options.name != "soundscapes":
        # as scoring.matrix: a page means the same from every working folder, a notebook's too
        place = str((paths.root() / options.root).resolve()) if options.root else ""
        parameters |= {"root": place, "content": import_module(module).fingerprint(place)}
    return Artifact("corpus", options.name, parameters, (), _code("corpus", module))


def encoder(study: Study) -> Artifact:
    """The tagging encoder: trained, with its history and its scores on held-out clips, or of
    published weights.
    """
    if study.captioner_from:
        return encoder(Study.load(study.captioner_from))
    kind = study.encoder.kind
    network = f"aacstudy.models.{kind}"  # as models/encoder.py finds it
    if study.encoder.weights:
        parameters = {name: asdict(getattr(study, name)) for name in ("frontend", "encoder")}
        parameters |= _weights(study.encoder.weights)
        return Artifact("encoder", kind, parameters, (), _code(f"encoder{PUBLISHED}", network))
    parameters = {name: asdict(getattr(study, name)) for name in ("frontend", "encoder", "tagging")}
    return Artifact("encoder", kind, parameters, (corpus(study),), _code("encoder", network))


def frames(study: Study) -> Artifact:
    """Frame embeddings of all captioned clips."""
    return Artifact("frames", study.corpus.name, {}, (corpus(study), encoder(study)), _code("frames"))


@_shared
def captioner(study: Study, variant: str, seed: int) -> Artifact:
    """A trained captioner of a variant of the study, and its history; with its encoder, where that
    learned too.
    """
    if study.captioner_from:
        return captioner(Study.load(study.captioner_from), variant, seed)
    study = study.varied(variant)
    if study.training.weights:
        parameters = {"heads": study.decoder.heads, "task": study.training.task} | _weights(
            study.training.weights
        )
        inputs = (corpus(study),)  # of which it needs nothing: whose captions it is taken to have learnt
        return Artifact("captioner", "published", parameters, inputs, _code(f"captioner{PUBLISHED}"))
    parameters = {"decoder": asdict(study.decoder), "training": asdict(study.training), "seed": seed}
    if study.training.select != "validation_loss":  # epochs are chosen by what is written
        parameters["decoding"] = asdict(study.decoding)
    inputs, code = (corpus(study), frames(study)), _code("captioner")
    if study.training.finetune_encoder:
        inputs, code = (*inputs, encoder(study)), _code("captioner_finetuned")
    return Artifact("captioner", f"{variant}-{seed}", parameters, inputs, code)


def _weights(name: str) -> dict[str, str]:
    """The file of published weights; size and time tell cheaply that it may have changed."""
    path = find_weights(name).resolve()
    about = path.stat()
    return {"file": str(path), "content": f"{about.st_size} bytes of {about.st_mtime_ns}"}


def _label(variant: str, seed: int, *more: str) -> str:
    return "-".join(filter(None, (variant, str(seed), *more)))


def heard(study: Study, variant: str, seed: int) -> tuple[Artifact, Artifact, Artifact]:
    """A corpus, its frames by a captioner's encoder, and the captioner.

    Variant ``a@b`` is the captioner of variant a on the corpus of variant b.
    """
    trained, _, scored = variant.partition("@")
    speaker, data = captioner(study, trained, seed), corpus(study.varied(scored or trained))
    model = (Study.load(study.captioner_from) if study.captioner_from else study).varied(trained)
    label, listener = study.varied(scored or trained).corpus.name, encoder(model)
    if model.training.finetune_encoder:
        label, listener = f"{variant}-{seed}", speaker
    return data, Artifact("frames", label, {}, (data, listener), _code("frames")), speaker


def permuted_frames(study: Study, variant: str, seed: int) -> Artifact:
    """Frames of the scored clips, and of the pairs, with their sound in drawn orders: the control
    of order.
    """
    scored = _scoring(study, variant)
    splits = [scored.scoring.split, *([PAIRS] if has_pairs(scored) else [])]
    parameters = {"splits": splits, "permutations": scored.before_after.permutations}
    clips = heard(study, variant, seed)[1]
    return Artifact("frames", f"{clips.label}-permuted", parameters, clips.inputs, _code("frames_permuted"))


def _scoring(study: Study, variant: str) -> Study:
    """The study whose options say how a variant is scored: of ``a@b``, b."""
    trained, _, scored = variant.partition("@")
    return study.varied(scored or trained)


def bands(study: Study, variant: str, seed: int, split: str = "") -> tuple[Artifact, ...]:
    """The loss matrix of a split in ``scoring.bands`` runs of rows: independent jobs, one of which
    a kill can lose.
    """
    options, inputs = _scoring(study, variant).scoring, heard(study, variant, seed)
    of = options.bands
    # Memory sets the blocks, and blocks the last bits: the same key promises the same bytes.
    numerics = {name: getattr(options, name) for name in ("dtype", "memory", "label_smoothing")}
    return tuple(
        Artifact(
            "bands",
            _label(variant, seed, split, f"{band + 1}of{of}"),
            {"split": split or options.split, "band": band, "of": of} | numerics,
            inputs,
            _code("bands"),
        )
        for band in range(of)
    )


@_shared
def losses(study: Study, variant: str, seed: int, split: str = "") -> Artifact:
    """The audio × caption loss matrix of a split, the scored one if none is named, or another
    system's.
    """
    scored = _scoring(study, variant)
    if scored.scoring.matrix:
        # a page's paths are the project's: notebooks run in a folder of their own
        file = (paths.root() / scored.scoring.matrix.format(seed=seed)).resolve()
        parameters = {
            "split": scored.scoring.split,
            "matrix": str(file),
            "content": import_module("aacstudy.scoring.matrix").fingerprint(file),
        }
        return Artifact("losses", f"given-{seed}", parameters, (corpus(scored),), _code("losses_given"))
    inputs = (corpus(scored), *bands(study, variant, seed, split))
    parameters = {"split": split or scored.scoring.split}
    return Artifact("losses", _label(variant, seed, split), parameters, inputs, _code("losses"))


@_shared
def captions(study: Study, variant: str, seed: int, split: str = "") -> Artifact:
    """Generated captions of a split (the scored one by default): all hypotheses of the beam."""
    scored = _scoring(study, variant)
    parameters = asdict(scored.decoding) | {"split": split or scored.scoring.split}
    return Artifact(
        "captions", _label(variant, seed, split), parameters, heard(study, variant, seed), _code("captions")
    )


@_shared
def before_after(study: Study, variant: str, seed: int) -> Artifact:
    """Losses of perturbed captions beside the true ones, and of pairs of scenes, with all their
    controls.
    """
    scored = _scoring(study, variant)
    options = scored.before_after
    parameters = {
        "split": scored.scoring.split,
        "other_clips": options.other_clips,
        "permutations": options.permutations,
        "pairs": scored.corpus.pairs if has_pairs(scored) else 0,
    }
    inputs = (*heard(study, variant, seed), permuted_frames(study, variant, seed))
    return Artifact("before_after", f"{variant}-{seed}", parameters, inputs, _code("before_after"))


@_shared
def bank(study: Study, variant: str, seed: int) -> Artifact:
    """Losses beside the scored matrix: the banks and the tuning pool of retrieval's normalisations,
    null audio, trigrams.

    They come from the corpus that the captioner was trained on, which need not be the one that is
    scored.
    """
    scored = _scoring(study, variant)
    data, clips, speaker = heard(study, variant, seed)
    numerics = {name: getattr(scored.scoring, name) for name in ("dtype", "memory", "label_smoothing")}
    parameters = {"split": scored.scoring.split, "retrieval": asdict(scored.retrieval), **numerics}
    teacher = Study.load(study.captioner_from) if study.captioner_from else study
    learnt = heard(teacher, variant.partition("@")[0], seed)[:2]
    inputs = (data, clips, clips.inputs[1], speaker, *learnt)
    return Artifact("bank", f"{variant}-{seed}", parameters, inputs, _code("bank"))


@_shared
def peer(study: Study, variant: str, seed: int) -> Artifact:
    """A dual encoder of the same frames, captions and seed as the captioner, and its similarities
    on the scored split.
    """
    varied = study.varied(variant)
    parameters = asdict(varied.peer) | {"seed": seed, "split": varied.scoring.split}
    return Artifact(
        "peer", _label(variant, seed), parameters, (corpus(varied), frames(varied)), _code("peer")
    )


@_shared
def zero_shot(study: Study, variant: str, seed: int) -> Artifact:
    """Losses of class phrases on held-out tagging clips of one sound: tagging by a captioner."""
    varied = study.varied(variant)
    numerics = {name: getattr(varied.scoring, name) for name in ("dtype", "memory", "label_smoothing")}
    parameters = {"split": "tagging_test", "bank_clips": varied.retrieval.bank_clips, **numerics}
    inputs = (corpus(varied), frames(varied), encoder(varied), captioner(study, variant, seed))
    return Artifact("zero_shot", _label(variant, seed), parameters, inputs, _code("zero_shot"))


def has_tagging(study: Study) -> bool:
    """Whether an encoder is trained here and held-out clips of known sounds are there to tag."""
    return has_peer(study) and study.corpus.name in COMPOSED and not study.encoder.weights


def has_peer(study: Study) -> bool:
    """Whether the study trains its captioner here, on its own corpus, so that a peer can learn from
    the same.
    """
    return not (study.captioner_from or study.training.weights or study.scoring.matrix)


PER_CAPTIONER = {
    "captioner": captioner,
    "losses": losses,
    "bank": bank,
    "captions": captions,
    "before_after": before_after,
    "peer": peer,
    "zero_shot": zero_shot,
}
# Stages that not every study can have, and what tells.
ONLY_WHERE = {
    # nothing here can score more for another system
    "bank": lambda study: not study.scoring.matrix,
    "peer": has_peer,
    "zero_shot": has_tagging,
}


def needed(study: Study, reads: Sequence[str]) -> list[Artifact]:
    """The artifacts that a notebook reads, those of all seeds and variants included, each once.

    ``reads`` is what its metadata declares (see docs/extending.md): ``stage``, ``stage/split``, and
    behind either ``:variants`` or another word of ``chosen``. What a corpus without pairs cannot
    have of them is left out. Raises ValueError for another word.
    """
    found = [corpus(study)] if reads else []
    for one in reads:
        place, _, which = one.partition(":")
        stage, *split = place.split("/")
        if split == [PAIRS] and not has_pairs(study):
            continue
        if stage in PER_CAPTIONER:
            if not ONLY_WHERE.get(stage, lambda _: True)(study):
                continue
            make = PER_CAPTIONER[stage]
            found += [make(study, v, seed, *split) for v in chosen(study, which) for seed in study.seeds]
        elif stage == "encoder":
            found += [encoder(study.varied(variant)) for variant in chosen(study, which)]
        elif stage != "corpus":
            known = ", ".join(("corpus", "encoder", *PER_CAPTIONER))
            raise ValueError(f"no stage {stage!r} for a notebook to read; there are {known}")
    return list({(one.stage, one.key): one for one in found}.values())


def has_pairs(study: Study) -> bool:
    """Whether the corpus holds clips of the same two sounds in both orders."""
    return study.corpus.name in COMPOSED and study.corpus.pairs > 0


def chosen(study: Study, which: str = "") -> tuple[str, ...]:
    """Variants of a study by a word: none, ``variants``, ``first_variants``, ``ablations`` or
    ``elsewhere``.
    """
    groups = {
        "": (BASE,),
        "variants": study.variants,
        "first_variants": study.variants[:2],
        "ablations": (BASE, *study.ablations.pages),
        "elsewhere": elsewhere(study),
    }
    if which not in groups:
        raise ValueError(f"no variants {which!r} for a notebook to read; there are {', '.join(groups)[2:]}")
    return groups[which]


def elsewhere(study: Study) -> tuple[str, ...]:
    """Captioners on each other's corpora, as variants ``a@b``: for each page, its own, and both
    across.
    """
    pages = study.ablations.elsewhere
    return tuple(name for page in pages for name in (page, f"{BASE}@{page}", f"{page}@{BASE}"))
