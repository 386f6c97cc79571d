"""Command line: ``python -m aacstudy --help``.

Commands import what they need, so that help is shown at once; their docstrings are their help.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperCommand

from aacstudy import __version__, paths
from aacstudy.report import provenance

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _arg(text: str, metavar: str | None = None):
    return typer.Argument(help=text, metavar=metavar, show_default=False)


def _opt(metavar: str | None, text: str, *names: str, **more):
    return typer.Option(*names, help=text, metavar=metavar, show_default=False, **more)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


ALL = provenance.cores()
File = Path | None
Name = Annotated[str, _arg("a page of studies/, or a YAML file", "STUDY")]
Names = Annotated[list[str], _arg("pages of studies/ that have run", "STUDY")]
Made = Annotated[str, _arg("stage/label, such as encoder/convnext; 'aacstudy plan' lists them")]
Notebook = Annotated[str, _arg("its name, such as 05_retrieval")]
Overrides = Annotated[str, _opt("JSON", 'sections to change: \'{"corpus": {"train": 200}}\'')]
Data = Annotated[File, _opt("FOLDER", "your recordings and captions.csv, or what holds Clotho or AudioCaps")]
Cores = Annotated[int, _opt("N", f"default: all ({ALL})")]
Table = Annotated[File, _opt("CSV", "where the table is written")]
Version = Annotated[bool, _opt(None, "show it and exit", "--version", callback=_version, is_eager=True)]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. What a user can mend is one line, no traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        typer.main.get_command(app)(arguments, prog_name="aacstudy")
    except SystemExit as end:  # how each command ends that raises nothing
        return end.code
    except (ValueError, KeyError, FileNotFoundError) as error:
        if os.environ.get("AACSTUDY_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"aacstudy {arguments[0]}: {message}", file=sys.stderr)
        return 2


@app.callback()
def _all(version: Version = False):
    """An audio captioner's own loss as a search engine: the study."""


def _overrides(overrides: str, data: Path | None) -> dict:
    try:
        changed = json.loads(overrides)
    except json.JSONDecodeError as error:
        raise ValueError(f"--overrides is not JSON: {error}") from error
    if not isinstance(changed, dict) or not isinstance(changed.get("corpus", {}), dict):
        raise ValueError('--overrides wants sections, such as {"corpus": {"train": 200}}')
    if data:
        changed.setdefault("corpus", {})["root"] = str(data.resolve())
    return changed


def _study(name: str, overrides: str, data: Path | None):
    from aacstudy.study.parameters import Study

    return Study.load(name, _overrides(overrides, data))


def _write_csv(table, path: Path | None) -> None:
    if path is not None:
        paths.write_whole(path, table.to_csv(index=False).encode("utf-8"))
        print(f"written: {path}")


@app.command()
def run(
    study: Name = "demo",
    overrides: Overrides = "{}",
    data: Data = None,
    cores: Cores = ALL,
    profile: Annotated[
        str | None, _opt("FOLDER", "a Snakemake profile, to run the jobs on a cluster")
    ] = None,
):
    """run a whole study and write its reports"""
    from aacstudy.study import run
    from aacstudy.study.parameters import Study

    started = time.time()
    changed = _overrides(overrides, data)
    chosen = Study.load(study, changed)
    if data and chosen.corpus.name == "soundscapes":
        raise ValueError(
            f"study {study} makes its own corpus; --data (DATA=) is for studies of a folder, such as own"
        )
    if left_out := run.wanting_more_captions(chosen):
        changed["notebooks"] = [name for name in chosen.notebooks if name not in left_out]
        print(f"left out, for want of captions: {', '.join(left_out)}")
        chosen = Study.load(study, changed)
    status = run.run(chosen, study, changed, cores, profile)
    index = paths.report(chosen.study) / "index.html"
    if status == 0:
        print(f"done in {time.time() - started:.0f} s: open {os.path.relpath(index)}")
    else:
        print(
            "the study did not end; what was made is kept, and the same command goes on from there",
            file=sys.stderr,
        )
    raise typer.Exit(status)


@app.command()
def make(study: Name, artifact: Made, overrides: Overrides = "{}", data: Data = None, cores: Cores = ALL):
    """make one artifact of a study, and what it needs"""
    from aacstudy.study import run

    print(run.find(_study(study, overrides, data), artifact).make(cores))


@app.command()
def plan(study: Name = "demo", overrides: Overrides = "{}", data: Data = None, cores: Cores = ALL):
    """list a study's artifacts: made or missing, seconds, folder"""
    from aacstudy.study import run

    for artifact in run.everything(_study(study, overrides, data)):
        state = f"{artifact.record()['seconds']:8.1f} s" if artifact.stamp.exists() else "   missing"
        print(f"{state}  {artifact.stage}/{artifact.name}")


@app.command()
def notebook(
    study: Name, notebook: Notebook, overrides: Overrides = "{}", data: Data = None, cores: Cores = ALL
):
    """execute one notebook into the study's reports"""
    from aacstudy.study import run

    run.run_notebook(_study(study, overrides, data), notebook)


@app.command()
def index(study: Name, overrides: Overrides = "{}", data: Data = None, cores: Cores = ALL):
    """gather results.json and write the study's index.html"""
    from aacstudy.study import run

    print(run.build_index(_study(study, overrides, data)))


@app.command()
def search(
    query: Annotated[str, _arg("a text, such as 'a dog barks before rain'")] = "",
    audio: Annotated[File, _opt("FILE", "a sound instead of a text")] = None,
    study: Annotated[str, _opt("STUDY", "default: demo")] = "demo",
    overrides: Overrides = "{}",
    data: Data = None,
    k: Annotated[int, _opt("N", "results shown (default: 5)")] = 5,
    seed: Annotated[int | None, _opt("SEED", "of the captioner; default: the study's first")] = None,
):
    """find the clips that fit a text, or the captions that fit a sound"""
    from aacstudy.study import search

    if bool(query) == bool(audio):
        raise ValueError("give either a text or --audio FILE")
    chosen = _study(study, overrides, data)
    found = search.describe(chosen, audio, k, seed) if audio else search.search(chosen, query, k, seed)
    print(search.text(found))
    print(f"open {os.path.relpath(search.write_page(found, paths.report(chosen.study)))}")


@app.command()
def compare(studies: Names):
    """one page of several studies side by side"""
    from aacstudy.study import compare

    print(f"open {os.path.relpath(compare.compare(studies))}")


class _SeveralFiles(TyperCommand):
    """``--into a b`` stands for ``--into a --into b``."""

    def parse_args(self, ctx, args):
        repeated = []
        for word in args:
            further = "--into" in repeated and repeated[-1] != "--into" and not word.startswith("-")
            repeated += ["--into", word] if further else [word]
        return super().parse_args(ctx, repeated)


INTO = (
    "write between its marks <!-- summary --> and <!-- /summary -->, also findings, ablations; default: print"
)


@app.command(cls=_SeveralFiles)
def summary(studies: Names, into: Annotated[list[Path] | None, _opt("FILE...", INTO)] = None):
    """what finished studies found, as Markdown, with command and commit"""
    from aacstudy.study import summary

    runs = summary.read(studies)
    if into:
        summary.fill_files(into, runs)
        print(f"written: {', '.join(map(str, into))}")
    else:
        print(summary.summary(runs))


@app.command()
def retrieve(
    matrix: Annotated[
        Path, _arg("losses.zarr; an .npz with score, loss or nll, and owners; a .csv of scores")
    ],
    owners: Annotated[File, _opt("CSV", "for a .csv: caption,audio, whose is whose")] = None,
    losses: Annotated[bool, _opt(None, "the .csv holds losses: lower is better", "--losses")] = False,
    tune: Annotated[File, _opt("MATRIX", "other clips', to choose parameters on")] = None,
    tune_owners: Annotated[File, _opt("CSV", "the same for a .csv")] = None,
    csv: Table = None,
):
    """every normalisation's search results of one matrix, ours or any other system's"""
    from aacstudy.study import retrieve

    table, about = retrieve.of_files(matrix, owners, losses, tune, tune_owners)
    print(about)
    print(retrieve.text(table))
    _write_csv(table, csv)


@app.command()
def bias(
    pairs: Annotated[Path, _arg("a CSV: caption,loss and audio, or CoNeTTE's with losses and mrefs")],
    training: Annotated[Path, _opt("CSV", "training captions: caption or caption_1..")],
    csv: Annotated[File, _opt("CSV", "where the table of features is written")] = None,
):
    """explain any system's losses of matched pairs by the captions' words"""
    from aacstudy.analysis import bias
    from aacstudy.options import StatisticsOptions

    found = bias.of_pairs(bias.read_pairs(pairs), bias.read_captions(training), StatisticsOptions())
    print(f"R² of all features: {found.r2}; {found.rows} captions")
    print(found.features.to_string(index=False, float_format="{:.3f}".format))
    print(found.coefficients.to_string(index=False, float_format="{:+.3f}".format))
    _write_csv(found.features, csv)


ROOT = (
    "folder: audio files and captions.csv (file_name,caption_1..caption_n); "
    "clotho: what holds CLOTHO_v2.1; audiocaps: what holds AUDIOCAPS"
)


@app.command()
def check_data(
    kind: Annotated[str | None, _arg("folder, clotho or audiocaps; default: folder", "KIND")] = None,
    root: Annotated[File, _arg(ROOT, "ROOT")] = None,
    decode: Annotated[
        bool, _opt(None, "read every sample, not headers alone (folder: always)", "--decode")
    ] = False,
    cores: Cores = ALL,
):
    """list everything wrong with a corpus, at once"""
    from aacstudy.corpus import NO_FILE, CorpusError, audiocaps, clotho, folder

    readers = {"folder": folder, "clotho": clotho, "audiocaps": audiocaps}
    kind, root = (kind, root) if root else ("folder", kind and Path(kind))  # one word is the folder
    if root is None or kind not in readers:
        raise typer.BadParameter(f"ROOT is a folder, KIND one of {', '.join(readers)}; got {kind!r}")
    reader, decode = readers[kind], decode or kind == "folder"
    corpus, defects = reader.check(root, decode, cores)
    if defects:
        raise CorpusError(defects)
    print(corpus.summary())
    unusable = corpus.missing[corpus.missing["reason"] != NO_FILE]
    for clip, reason in zip(unusable["clip"], unusable["reason"]):
        print(f"left out: {clip}: {reason}")
    for split, published in getattr(reader, "SIZES", {}).items():
        named = sum((table["split"] == split).sum() for table in (corpus.clips, corpus.missing))
        if named != published:
            print(f"note: the table of {split} names {named} clips, the published one {published}")
    print("nothing wrong found" if decode else "nothing wrong found; --decode would read the samples too")


@app.command()
def bat(
    captions: Annotated[File, _arg("a CSV: file_name,caption_1.., or one caption a row (clip,text)")] = None,
    out: Annotated[File, _opt("CSV", "where the items are written")] = None,
    scored: Annotated[File, _opt("CSV", "items that came back with their losses")] = None,
    train: Annotated[File, _opt("CSV", "training captions, for the trigram control")] = None,
):
    """the test of perturbed captions for another system: write items, score losses"""
    from aacstudy.study import bat

    if scored and not (captions or out):
        print(bat.report(bat.read_scored(scored, train)).to_string(index=False))
    elif captions and out and not scored:
        items, left_out = bat.write_items(captions, out)
        print(items["test"].value_counts(sort=False).rename("items").to_string())
        print(f"\nleft out:\n{left_out.to_string(index=False)}")
    else:
        raise ValueError(
            "give captions.csv --out items.csv to write items, or --scored items.csv to score them"
        )


@app.command()
def evaluate(
    candidates: Annotated[Path, _arg("a CSV: file_name,caption, or our captions.csv")],
    references: Annotated[Path, _arg("a CSV: file_name,caption_1.., or one caption a row")],
    metrics: Annotated[str | None, _opt("NAMES", "such as cider_d,meteor; default: all there is")] = None,
    tokenizer: Annotated[Literal["auto", "ptb", "ours"], _opt(None, "default: auto")] = "auto",
    training: Annotated[File, _opt("CSV", "training captions, for new_captions")] = None,
    csv: Table = None,
    each: Annotated[File, _opt("CSV", "where each caption's scores are written")] = None,
):
    """caption metrics of any system: its captions against references"""
    from aacstudy.analysis.captions.tables import evaluate_files

    names = metrics.split(",") if metrics else None
    print(evaluate_files(candidates, references, training, names, tokenizer, csv, each))


@app.command()
def download(
    what: Annotated[str, _arg("clotho, audiocaps-captions, convnext, cnn14, dcase2024, conette or metrics")],
    to: Annotated[File, _opt("FOLDER", "default: $AACSTUDY_DATA, or data/ of the project")] = None,
):
    """fetch a public data set, weights, or what caption metrics need"""
    from aacstudy.study.download import download

    print(download(what, to))


@app.command()
def doctor():
    """say what is here, what is missing, and what each missing thing switches off"""
    from aacstudy.study.doctor import report

    raise typer.Exit(report())


for one in app.registered_commands:
    one.short_help = one.callback.__doc__  # whole, where it would be cut


if __name__ == "__main__":
    sys.exit(main())
