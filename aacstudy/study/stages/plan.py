"""The study's stages: what each needs, what each makes. Parameters in, artifacts out; no arithmetic here.

A builder imports what it uses inside its body: planning a study then loads no torch, and the key of an artifact
covers exactly the code that makes it (see artifacts.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import wraps
from pathlib import Path

from aacstudy import paths
from aacstudy.study.artifacts import Artifact
from aacstudy.study.parameters import BASE, Study

Maker = Callable[[Study, str, int], Artifact]


def _shared(make: Maker) -> Maker:
    """Give the study's own artifact where a variant changes nothing of it, so that it is not made under two names."""

    @wraps(make)
    def shared(study: Study, variant: str, seed: int) -> Artifact:
        made, own = make(study, variant, seed), make(study, BASE, seed)
        return own if made.key == own.key else made

    return shared


def corpus(study: Study) -> Artifact:
    """Clips, captions and events of the study's corpus."""
    options = study.corpus
    if options.name == "soundscapes":
        parameters = {
            name: value for name, value in asdict(options).items() if name not in ("root", "decode")
        }
        return Artifact("corpus", "soundscapes", parameters, (), _build_soundscapes)
    from aacstudy.corpus import audiocaps, clotho, folder

    reader, build = {
        "folder": (folder, _build_folder),
        "clotho": (clotho, _build_clotho),
        "audiocaps": (audiocaps, _build_audiocaps),
    }[options.name]
    # as scoring.matrix: a page means the same from every working folder, a notebook's too
    place = str((paths.root() / options.root).resolve()) if options.root else ""
    parameters = {"root": place, "content": reader.fingerprint(place)}
    if options.name != "folder":  # few files: they are always decoded
        parameters["decode"] = options.decode
    return Artifact("corpus", options.name, parameters, (), build)


def encoder(study: Study) -> Artifact:
    """The tagging encoder: trained, with its history and its scores on held-out clips, or of published weights."""
    if study.captioner_from:
        return encoder(Study.load(study.captioner_from))
    kind = study.encoder.kind
    if study.encoder.weights:
        parameters = {name: asdict(getattr(study, name)) for name in ("frontend", "encoder")}
        return Artifact("encoder", kind, parameters | _weights(study.encoder.weights), (), _build_published)
    parameters = {name: asdict(getattr(study, name)) for name in ("frontend", "encoder", "tagging")}
    return Artifact("encoder", kind, parameters, (corpus(study),), _build_encoder)


def frames(study: Study) -> Artifact:
    """Frame embeddings of all captioned clips."""
    return Artifact("frames", study.corpus.name, {}, (corpus(study), encoder(study)), _build_frames)


@_shared
def captioner(study: Study, variant: str, seed: int) -> Artifact:
    """A trained captioner of a variant of the study, and its history; with its encoder, where that learned too."""
    if study.captioner_from:
        return captioner(Study.load(study.captioner_from), variant, seed)
    study = study.varied(variant)
    if study.training.weights:
        parameters = {"heads": study.decoder.heads, "task": study.training.task} | _weights(
            study.training.weights
        )
        inputs = (corpus(study), frames(study))
        return Artifact("captioner", "published", parameters, inputs, _build_published_captioner)
    parameters = {"decoder": asdict(study.decoder), "training": asdict(study.training), "seed": seed}
    inputs, build = (corpus(study), frames(study)), _build_captioner
    if study.training.finetune_encoder:
        inputs, build = (corpus(study), frames(study), encoder(study)), _build_finetuned
    return Artifact("captioner", f"{variant}-{seed}", parameters, inputs, build)


def _weights(name: str) -> dict[str, str]:
    """The file of published weights; its size and time tell, at no cost, that it may have changed."""
    from aacstudy.study.download import find_weights

    path = find_weights(name).resolve()
    about = path.stat()
    return {"file": str(path), "content": f"{about.st_size} bytes of {about.st_mtime_ns}"}


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
    return data, Artifact("frames", label, {}, (data, listener), _build_frames), speaker


def _scoring(study: Study, variant: str) -> Study:
    """The study whose options say how a variant is scored: of ``a@b``, b."""
    trained, _, scored = variant.partition("@")
    return study.varied(scored or trained)


def bands(study: Study, variant: str, seed: int) -> tuple[Artifact, ...]:
    """The rows of the loss matrix in ``scoring.bands`` parts: independent jobs, and all that a kill can lose is one."""
    options, inputs = _scoring(study, variant).scoring, heard(study, variant, seed)
    of = options.bands
    # Memory sets the blocks, and blocks the last bits: the same key promises the same bytes.
    numerics = {name: getattr(options, name) for name in ("dtype", "memory", "label_smoothing")}
    return tuple(
        Artifact(
            "bands",
            f"{variant}-{seed}-{band + 1}of{of}",
            {"split": options.split, "band": band, "of": of} | numerics,
            inputs,
            _build_band,
        )
        for band in range(of)
    )


@_shared
def losses(study: Study, variant: str, seed: int) -> Artifact:
    """The audio × caption loss matrix of the scored split: joined from its bands, or another system's."""
    scored = _scoring(study, variant)
    if scored.scoring.matrix:
        from aacstudy.scoring.given import fingerprint

        # a page's paths are the project's: notebooks run in a folder of their own
        file = (paths.root() / scored.scoring.matrix.format(seed=seed)).resolve()
        parameters = {"split": scored.scoring.split, "matrix": str(file), "content": fingerprint(file)}
        return Artifact("losses", f"given-{seed}", parameters, (corpus(scored),), _build_given)
    inputs = (corpus(scored), *bands(study, variant, seed))
    return Artifact("losses", f"{variant}-{seed}", {"split": scored.scoring.split}, inputs, _build_losses)


@_shared
def captions(study: Study, variant: str, seed: int) -> Artifact:
    """Generated captions of the scored split, all hypotheses of the beam."""
    scored = _scoring(study, variant)
    parameters = asdict(scored.decoding) | {"split": scored.scoring.split}
    return Artifact("captions", f"{variant}-{seed}", parameters, heard(study, variant, seed), _build_captions)


@_shared
def before_after(study: Study, variant: str, seed: int) -> Artifact:
    """Losses of perturbed captions beside the true ones, and of pairs of scenes, with all their controls."""
    scored = _scoring(study, variant)
    options = scored.before_after
    parameters = {
        "split": scored.scoring.split,
        "other_clips": options.other_clips,
        "permutations": options.permutations,
        "pairs": scored.corpus.pairs if scored.corpus.name == "soundscapes" else 0,
    }
    inputs = heard(study, variant, seed)
    return Artifact("before_after", f"{variant}-{seed}", parameters, inputs, _build_before_after)


@_shared
def bank(study: Study, variant: str, seed: int) -> Artifact:
    """Losses beside the scored matrix: the banks and the tuning pool of retrieval's normalisations, null audio, trigrams.

    They come from the corpus that the captioner was trained on, which need not be the one that is scored.
    """
    scored = _scoring(study, variant)
    data, clips, speaker = heard(study, variant, seed)
    numerics = {name: getattr(scored.scoring, name) for name in ("dtype", "memory", "label_smoothing")}
    parameters = {"split": scored.scoring.split, "retrieval": asdict(scored.retrieval), **numerics}
    teacher = Study.load(study.captioner_from) if study.captioner_from else study
    learnt = heard(teacher, variant.partition("@")[0], seed)[:2]
    inputs = (data, clips, clips.inputs[1], speaker, *learnt)
    return Artifact("bank", f"{variant}-{seed}", parameters, inputs, _build_bank)


PER_CAPTIONER = {
    "captioner": captioner,
    "losses": losses,
    "bank": bank,
    "captions": captions,
    "before_after": before_after,
}

# What the notebooks read; the workflow makes it before they run.
NEEDED = {
    "01_corpus": ("corpus",),
    "02_encoder": ("encoder",),
    "03_training": ("captioner",),
    "04_captioning": ("captions",),
    "05_retrieval": ("losses", "bank"),
    "06_bias": ("losses", "bank"),
    "07_before_after": ("before_after", "losses"),
    "08_ablations": ("encoder", "losses", "captions"),
    "09_scorecard": (),
}


def needed(study: Study, notebook: str) -> list[Artifact]:
    """The artifacts that a notebook reads, those of all seeds and variants included."""
    found = [corpus(study)] if NEEDED[notebook] else []
    for stage in NEEDED[notebook]:
        if stage == "bank" and study.scoring.matrix:
            continue  # another system's matrix: nothing here can score more for it
        if stage == "encoder":
            found += [encoder(study.varied(variant)) for variant in _variants(study, notebook, stage)]
        elif stage in PER_CAPTIONER:
            make = PER_CAPTIONER[stage]
            found += [
                make(study, variant, seed)
                for variant in _variants(study, notebook, stage)
                for seed in study.seeds
            ]
    return list({(one.stage, one.key): one for one in found}.values())


def _variants(study: Study, notebook: str, stage: str) -> tuple[str, ...]:
    """The variants of which a notebook reads a stage."""
    if notebook == "08_ablations":
        variants = (BASE, *study.ablations.pages)
        return variants if stage != "losses" else (*variants, *elsewhere(study))
    if notebook == "07_before_after" and stage == "losses":
        return study.variants[:2]  # it asks whether retrieval shows what its first variant changes
    return study.variants if notebook in ("03_training", "07_before_after") else (BASE,)


def elsewhere(study: Study) -> tuple[str, ...]:
    """Captioners on each other's corpora, as variants ``a@b``: for each page, its own, and both across."""
    pages = study.ablations.elsewhere
    return tuple(name for page in pages for name in (page, f"{BASE}@{page}", f"{page}@{BASE}"))


def everything(study: Study) -> Iterator[Artifact]:
    """Every artifact of a study's notebooks and all that they are made from, inputs first, each once."""
    seen = set()
    for notebook in study.notebooks:
        for wanted in needed(study, notebook):
            for artifact in wanted.closure():
                if (artifact.stage, artifact.name) not in seen:
                    seen.add((artifact.stage, artifact.name))
                    yield artifact


def _build_soundscapes(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus.soundscapes.scenes import build
    from aacstudy.options import CorpusOptions

    build(folder, CorpusOptions(**artifact.parameters), cores)


def _build_folder(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus.folder import build

    build(folder, artifact.parameters["root"], workers=cores)


def _build_clotho(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus.clotho import build

    build(folder, artifact.parameters["root"], artifact.parameters["decode"], cores)


def _build_audiocaps(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus.audiocaps import build

    build(folder, artifact.parameters["root"], artifact.parameters["decode"], cores)


def _build_encoder(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.training.tagging import train_on_corpus

    train_on_corpus(artifact.inputs[0].path, artifact.parameters, folder, use())


def _build_published(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.checkpoint import save_encoder
    from aacstudy.models.published.encoders import LABELS, class_names, published_encoder
    from aacstudy.options import EncoderOptions, FrontendOptions

    path = Path(artifact.parameters["file"])
    frontend = FrontendOptions(**artifact.parameters["frontend"])
    network = published_encoder(path, frontend, EncoderOptions(**artifact.parameters["encoder"]))
    labels = path.with_name(LABELS[network.options.kind])
    names = class_names(network.classes, labels if labels.is_file() else None)
    save_encoder(folder / "encoder.safetensors", network, names, {"source": path.name})


def _build_published_captioner(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.checkpoint import save_captioner
    from aacstudy.models.published.captioners import import_captioner
    from aacstudy.training.captioning import write_about

    path, heads, task = (artifact.parameters[name] for name in ("file", "heads", "task"))
    captioner, vocabulary, extra = import_captioner(Path(path), heads, task)
    save_captioner(folder / "captioner.safetensors", captioner, vocabulary, extra)
    write_about(folder, captioner, len(vocabulary))


def _build_frames(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus import Corpus
    from aacstudy.models.checkpoint import load_encoder
    from aacstudy.models.device import use
    from aacstudy.models.frames import encode_all

    device = use()
    corpus = Corpus.load(artifact.inputs[0].path)
    captioned = corpus.clips["clip"].isin(set(corpus.captions["clip"]))
    clips = list(corpus.clips["clip"][captioned])
    paths = [path for path, wanted in zip(corpus.paths(), captioned) if wanted]
    network, _ = load_encoder(artifact.inputs[1].path / "encoder.safetensors")
    encode_all(network.to(device), clips, paths, folder / "frames.safetensors", cores)


def _build_captioner(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.training.captioning import train_on_corpus

    corpus, frames = (one.path for one in artifact.inputs)
    train_on_corpus(corpus, frames / "frames.safetensors", artifact.parameters, folder, use())


def _build_finetuned(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.training.finetuning import train_on_corpus

    corpus, _, encoder = (one.path for one in artifact.inputs)
    train_on_corpus(corpus, encoder / "encoder.safetensors", artifact.parameters, folder, use())


def _build_band(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.study.stages.splits import score_band

    corpus, frames, captioner = (one.path for one in artifact.inputs)
    files = frames / "frames.safetensors", captioner / "captioner.safetensors"
    score_band(corpus, *files, folder / "band.npz", device=use(), **artifact.parameters)


def _build_losses(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus import Corpus
    from aacstudy.scoring.store import join

    corpus, *bands = artifact.inputs
    part = Corpus.load(corpus.path).split(artifact.parameters["split"])
    matrix = join(
        [band.path / "band.npz" for band in bands],
        part.owners(),
        list(part.clips["clip"]),
        list(part.captions["text"]),
        artifact.parameters | {"captioner": bands[0].inputs[2].name},
    )
    matrix.write(folder / "losses.zarr")


def _build_given(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus import Corpus
    from aacstudy.scoring.given import check
    from aacstudy.scoring.store import Losses

    part = Corpus.load(artifact.inputs[0].path).split(artifact.parameters["split"])
    file = artifact.parameters["matrix"]
    matrix = check(
        Losses.read(Path(file)), list(part.clips["clip"]), list(part.captions["text"]), part.owners(), file
    )
    matrix.write(folder / "losses.zarr")


def _build_bank(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.options import RetrievalOptions
    from aacstudy.study.stages.bank import Source, score

    corpus, frames, encoder, captioner, *trained = (one.path for one in artifact.inputs)
    parameters = dict(artifact.parameters)
    options = RetrievalOptions(**parameters.pop("retrieval"))
    scored, source = (Source(one, other / "frames.safetensors") for one, other in ((corpus, frames), trained))
    files = encoder / "encoder.safetensors", captioner / "captioner.safetensors"
    score(scored, source, *files, options=options, result=folder / "bank.npz", device=use(), **parameters)


def _build_captions(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.options import DecodingOptions
    from aacstudy.study.stages.splits import caption_split

    corpus, frames, captioner = (one.path for one in artifact.inputs)
    parameters = dict(artifact.parameters)
    split = parameters.pop("split")
    options = DecodingOptions(**parameters)
    table = caption_split(
        corpus, frames / "frames.safetensors", captioner / "captioner.safetensors", split, options, use()
    )
    table.to_csv(folder / "captions.csv", index=False)


def _build_before_after(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.models.device import use
    from aacstudy.study.stages.splits import score_before_after, score_pairs

    corpus, frames, captioner = (one.path for one in artifact.inputs)
    files = corpus, frames / "frames.safetensors", captioner / "captioner.safetensors"
    learnt_from = artifact.inputs[2].inputs[0].path if artifact.inputs[2].inputs else corpus
    chosen = artifact.parameters
    table, left_out = score_before_after(
        *files, learnt_from, chosen["split"], chosen["other_clips"], chosen["permutations"], use()
    )
    table.to_csv(folder / "before_after.csv", index=False)
    left_out.to_csv(folder / "left_out.csv", index=False)
    if chosen["pairs"]:
        pairs = score_pairs(*files, "pairs", chosen["permutations"], use())
        pairs.to_csv(folder / "pairs.csv", index=False)
