"""The study's stages: what each needs, what each makes. Parameters in, artifacts out; no arithmetic here.

A builder imports what it uses inside its body: planning a study then loads no torch, and the key of an artifact
covers exactly the code that makes it (see artifacts.py).
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from aacstudy.artifacts import Artifact
from aacstudy.study import Study


def corpus(study: Study) -> Artifact:
    """Clips, captions and events of the study's corpus."""
    options = study.corpus
    if options.name == "soundscapes":
        parameters = {name: value for name, value in asdict(options).items() if name != "root"}
        return Artifact("corpus", "soundscapes", parameters, (), _build_soundscapes)
    if options.name == "folder":
        from aacstudy.corpus.folder import fingerprint

        parameters = {"root": str(Path(options.root).resolve()), "content": fingerprint(options.root)}
        return Artifact("corpus", "folder", parameters, (), _build_folder)
    raise ValueError(f"corpus.name is {options.name!r}; it must be soundscapes or folder")


def encoder(study: Study) -> Artifact:
    """The trained tagging encoder, its history and its scores on held-out clips."""
    if study.captioner_from:
        return encoder(Study.load(study.captioner_from))
    parameters = {name: asdict(getattr(study, name)) for name in ("frontend", "encoder", "tagging")}
    return Artifact("encoder", "convnext", parameters, (corpus(study),), _build_encoder)


def frames(study: Study) -> Artifact:
    """Frame embeddings of all captioned clips."""
    return Artifact("frames", study.corpus.name, {}, (corpus(study), encoder(study)), _build_frames)


def captioner(study: Study, variant: str, seed: int) -> Artifact:
    """A trained captioner of a variant of the study, and its history."""
    if study.captioner_from:
        return captioner(Study.load(study.captioner_from), variant, seed)
    study = study.varied(variant)
    parameters = {
        "decoder": asdict(study.decoder),
        "training": asdict(study.training),
        "seed": seed,
    }
    return Artifact(
        "captioner", f"{variant}-{seed}", parameters, (corpus(study), frames(study)), _build_captioner
    )


def bands(study: Study, variant: str, seed: int) -> tuple[Artifact, ...]:
    """The rows of the loss matrix in ``scoring.bands`` parts: independent jobs, and all that a kill can lose is one."""
    study = study.varied(variant)
    inputs = (corpus(study), frames(study), captioner(study, variant, seed))
    of = study.scoring.bands
    # Memory sets the blocks, and blocks the last bits: the same key promises the same bytes.
    numerics = {"dtype": study.scoring.dtype, "memory": study.scoring.memory}
    return tuple(
        Artifact(
            "bands",
            f"{variant}-{seed}-{band + 1}of{of}",
            {"split": study.scoring.split, "band": band, "of": of} | numerics,
            inputs,
            _build_band,
        )
        for band in range(of)
    )


def losses(study: Study, variant: str, seed: int) -> Artifact:
    """The audio × caption loss matrix of the scored split: joined from its bands, or another system's."""
    study = study.varied(variant)
    if study.scoring.matrix:
        from aacstudy.scoring.given import fingerprint

        file = Path(study.scoring.matrix.format(seed=seed)).resolve()
        parameters = {"split": study.scoring.split, "matrix": str(file), "content": fingerprint(file)}
        return Artifact("losses", f"given-{seed}", parameters, (corpus(study),), _build_given)
    parameters = {"split": study.scoring.split}
    inputs = (corpus(study), *bands(study, variant, seed))
    return Artifact("losses", f"{variant}-{seed}", parameters, inputs, _build_losses)


def captions(study: Study, variant: str, seed: int) -> Artifact:
    """Generated captions of the scored split, all hypotheses of the beam."""
    study = study.varied(variant)
    parameters = asdict(study.decoding) | {"split": study.scoring.split}
    inputs = (corpus(study), frames(study), captioner(study, variant, seed))
    return Artifact("captions", f"{variant}-{seed}", parameters, inputs, _build_captions)


def before_after(study: Study, variant: str, seed: int) -> Artifact:
    """Losses of Before-After items and their swaps, on their own and on other clips' audio, and blind."""
    study = study.varied(variant)
    parameters = {"other_clips": study.before_after.other_clips, "split": study.scoring.split}
    inputs = (corpus(study), frames(study), captioner(study, variant, seed))
    return Artifact("before_after", f"{variant}-{seed}", parameters, inputs, _build_before_after)


PER_CAPTIONER = {"captioner": captioner, "losses": losses, "captions": captions, "before_after": before_after}

# What the notebooks read; the workflow makes it before they run.
NEEDED = {
    "01_corpus": ("corpus",),
    "02_encoder": ("encoder",),
    "03_training": ("captioner",),
    "04_captioning": ("captions",),
    "05_retrieval": ("losses",),
    "06_bias": ("losses",),
    "07_before_after": ("before_after", "losses"),
}


def needed(study: Study, notebook: str) -> list[Artifact]:
    """The artifacts that a notebook reads, those of all seeds and variants included."""
    found = [corpus(study)]
    for stage in NEEDED[notebook]:
        if stage in PER_CAPTIONER:
            variants = (
                study.variants if notebook in ("03_training", "07_before_after") else study.variants[:1]
            )
            found += [
                PER_CAPTIONER[stage](study, variant, seed) for variant in variants for seed in study.seeds
            ]
        elif stage != "corpus":
            found.append(encoder(study))
    return found


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

    build(folder, artifact.parameters["root"])


def _build_encoder(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.device import use
    from aacstudy.training.tagging import train_on_corpus

    train_on_corpus(artifact.inputs[0].path, artifact.parameters, folder, use())


def _build_frames(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.corpus import Corpus
    from aacstudy.device import use
    from aacstudy.frames import encode, save
    from aacstudy.models.checkpoint import load_encoder

    device = use()
    corpus = Corpus.load(artifact.inputs[0].path)
    captioned = set(corpus.captions["clip"])
    clips = [clip for clip in corpus.clips["clip"] if clip in captioned]
    network, _ = load_encoder(artifact.inputs[1].path / "encoder.safetensors")
    save(
        folder / "frames.safetensors",
        clips,
        encode(network.to(device), [corpus.path(clip) for clip in clips]),
    )


def _build_captioner(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.device import use
    from aacstudy.training.captioning import train_on_corpus

    corpus, frames = (one.path for one in artifact.inputs)
    train_on_corpus(corpus, frames / "frames.safetensors", artifact.parameters, folder, use())


def _build_band(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.device import use
    from aacstudy.splits import score_band

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


def _build_captions(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.device import use
    from aacstudy.options import DecodingOptions
    from aacstudy.splits import caption_split

    corpus, frames, captioner = (one.path for one in artifact.inputs)
    parameters = dict(artifact.parameters)
    split = parameters.pop("split")
    options = DecodingOptions(**parameters)
    table = caption_split(
        corpus, frames / "frames.safetensors", captioner / "captioner.safetensors", split, options, use()
    )
    table.to_csv(folder / "captions.csv", index=False)


def _build_before_after(artifact: Artifact, folder: Path, cores: int) -> None:
    from aacstudy.device import use
    from aacstudy.splits import score_before_after

    corpus, frames, captioner = (one.path for one in artifact.inputs)
    table = score_before_after(
        corpus,
        frames / "frames.safetensors",
        captioner / "captioner.safetensors",
        artifact.parameters["split"],
        artifact.parameters["other_clips"],
        use(),
    )
    table.to_csv(folder / "before_after.csv", index=False)
