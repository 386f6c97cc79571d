"""Command line: ``python -m aacstudy --help``."""

import argparse
import errno
import json
import os
import sys
import time
from pathlib import Path

from aacstudy import __version__, paths
from aacstudy.report.provenance import cores

_ELSEWHERE = "; AACSTUDY_ARTIFACTS, AACSTUDY_REPORTS and AACSTUDY_DATA name other folders to write to"
_MENDED = dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT), _ELSEWHERE)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. What the user can mend is said in one message,
    without a traceback.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except (ValueError, KeyError, OSError, MemoryError, RecursionError) as error:
        if os.environ.get("AACSTUDY_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        if isinstance(error, BrokenPipeError):  # the reader, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if isinstance(error, OSError):
            message = f"{error}{_MENDED.get(error.errno, '')}"
        elif isinstance(error, MemoryError):
            message = f"out of memory ({error}); scoring.memory and --cores make it need less"
        print(f"aacstudy {options.command}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"aacstudy {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aacstudy", description="An audio captioner's own loss as a search engine: the study."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def with_captioner(added: argparse.ArgumentParser) -> None:
        text = "the study whose captioner hears your recordings (default: the best at hand)"
        added.add_argument("--captioner", metavar="STUDY", help=text)

    def with_study(added: argparse.ArgumentParser, default: str | None = None) -> argparse.ArgumentParser:
        added.add_argument(
            "study",
            nargs="?" if default else None,
            default=default,
            help="a page of studies/, or a YAML file",
        )
        added.add_argument(
            "--overrides",
            default="{}",
            metavar="JSON",
            help='sections to change: \'{"corpus": {"train": 200}}\'',
        )
        added.add_argument(
            "--data",
            metavar="FOLDER",
            help="your recordings and captions.csv, or what holds Clotho or AudioCaps",
        )
        with_captioner(added)
        added.add_argument(
            "--cores", type=int, default=cores(), metavar="N", help="default: all (%(default)s)"
        )
        return added

    whole = with_study(command("run", _run, "run a whole study and write its reports"), "demo")
    whole.add_argument(
        "--profile", metavar="FOLDER", help="a Snakemake profile, to run the jobs on a cluster"
    )
    made = with_study(command("make", _make, "make one artifact of a study, and what it needs"))
    made.add_argument("artifact", help="stage/label, such as encoder/convnext; 'aacstudy plan' lists them")
    with_study(command("plan", _plan, "list a study's artifacts: made or missing, seconds, folder"), "demo")
    one = with_study(command("notebook", _notebook, "execute one notebook into the study's reports"))
    one.add_argument("notebook", help="its name, such as 05_retrieval")
    with_study(command("index", _index, "gather results.json and write the study's index.html"))
    asked = command("search", _search, "find the clips that fit a text, or the captions that fit a sound")
    asked.add_argument("query", nargs="?", default="", help="a text, such as 'a dog barks before rain'")
    asked.add_argument("--audio", type=Path, metavar="FILE", help="a sound instead of a text")
    asked.add_argument("--study", default="demo", help="default: %(default)s")
    asked.add_argument("--overrides", default="{}", metavar="JSON", help="sections of the study to change")
    asked.add_argument("--data", metavar="FOLDER", help="your recordings, for a study such as own")
    with_captioner(asked)
    asked.add_argument("--k", type=int, default=5, metavar="N", help="results shown (default: %(default)s)")
    asked.add_argument("--seed", type=int, help="of the captioner; default: the study's first")
    several = command("compare", _compare, "one page of several studies side by side")
    several.add_argument("studies", nargs="+", metavar="STUDY", help="pages of studies/ that have run")
    told = command("summary", _summary, "what finished studies found, as Markdown, with command and commit")
    told.add_argument("studies", nargs="+", metavar="STUDY", help="pages of studies/ that have run")
    told.add_argument(
        "--into",
        nargs="+",
        type=Path,
        default=(),
        metavar="FILE",
        help="write between its marks <!-- summary --> and <!-- /summary -->, also findings, ablations",
    )
    matrix = command(
        "retrieve",
        _retrieve,
        "every normalisation's search results of one matrix, ours or any other system's",
    )
    matrix.add_argument(
        "matrix", type=Path, help="losses.zarr; an .npz with score, loss or nll, and owners; a .csv of scores"
    )
    matrix.add_argument(
        "--owners", type=Path, metavar="CSV", help="for a .csv: caption,audio, whose is whose"
    )
    matrix.add_argument("--losses", action="store_true", help="the .csv holds losses: lower is better")
    matrix.add_argument("--tune", type=Path, metavar="MATRIX", help="other clips', to choose parameters on")
    matrix.add_argument("--tune-owners", type=Path, metavar="CSV", help="the same for a .csv")
    matrix.add_argument("--csv", type=Path, metavar="CSV", help="where the table is written")
    words = command("bias", _bias, "explain any system's losses of matched pairs by the captions' words")
    words.add_argument(
        "pairs", type=Path, help="a CSV: caption,loss and audio, or CoNeTTE's with losses and mrefs"
    )
    words.add_argument(
        "--training",
        type=Path,
        required=True,
        metavar="CSV",
        help="training captions: caption or caption_1..",
    )
    words.add_argument("--csv", type=Path, metavar="CSV", help="where the table of features is written")
    check = command("check-data", _check_data, "list everything wrong with a corpus, at once")
    check.add_argument(
        "kind",
        nargs="?",
        choices=("folder", "clotho", "audiocaps", "recordings"),
        default="folder",
        help="default: folder",
    )
    check.add_argument(
        "root",
        type=Path,
        help="folder: audio files and captions.csv (file_name,caption_1..caption_n); "
        "clotho: what holds CLOTHO_v2.1; audiocaps: what holds AUDIOCAPS; "
        "recordings: ESC-50, or a folder of recordings for each class",
    )
    check.add_argument(
        "--decode",
        action="store_true",
        help="read every sample, not headers alone (folder, recordings: always)",
    )
    check.add_argument("--cores", type=int, default=cores(), metavar="N", help="default: all (%(default)s)")
    bat = command("bat", _bat, "the test of perturbed captions for another system: write items, score losses")
    bat.add_argument(
        "captions",
        nargs="?",
        type=Path,
        help="a CSV: file_name,caption_1.., or one caption a row (clip,text)",
    )
    bat.add_argument("--out", type=Path, metavar="CSV", help="where the items are written")
    bat.add_argument("--scored", type=Path, metavar="CSV", help="items that came back with their losses")
    bat.add_argument("--train", type=Path, metavar="CSV", help="training captions, for the trigram control")
    scored = command("evaluate", _evaluate, "caption metrics of any system: its captions against references")
    scored.add_argument("candidates", type=Path, help="a CSV: file_name,caption, or our captions.csv")
    scored.add_argument("references", type=Path, help="a CSV: file_name,caption_1.., or one caption a row")
    scored.add_argument("--metrics", metavar="NAMES", help="such as cider_d,meteor; default: all there is")
    scored.add_argument("--tokenizer", choices=("auto", "ptb", "ours"), default="auto", help="default: auto")
    scored.add_argument("--training", type=Path, metavar="CSV", help="training captions, for new_captions")
    scored.add_argument("--csv", type=Path, metavar="CSV", help="where the table is written")
    scored.add_argument("--each", type=Path, metavar="CSV", help="where each caption's scores are written")
    fetched = command("download", _download, "fetch a public data set, weights, or what caption metrics need")
    fetched.add_argument(
        "what",
        nargs="+",
        help="clotho, audiocaps-captions, esc50, convnext, cnn14, yamnet, dcase2024, conette or metrics",
    )
    fetched.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER", help="copies at hand instead of the network"
    )
    fetched.add_argument(
        "--to", type=Path, metavar="FOLDER", help="default: $AACSTUDY_DATA, or data/ of the project"
    )
    command("doctor", _doctor, "say what is here, what is missing, and what each missing thing switches off")
    return parser


def _overrides(options) -> dict:
    try:
        overrides = json.loads(options.overrides)
    except json.JSONDecodeError as error:
        raise ValueError(f"--overrides is not JSON: {error}") from error
    if not isinstance(overrides, dict) or not isinstance(overrides.get("corpus", {}), dict):
        raise ValueError('--overrides wants sections, such as {"corpus": {"train": 200}}')
    if options.data:
        overrides.setdefault("corpus", {})["root"] = str(Path(options.data).resolve())
    return _with_captioner(options, overrides)


def _with_captioner(options, overrides: dict) -> dict:
    """The captioner of a study that trains none: the one asked for, or the best at hand."""
    from aacstudy.study import run
    from aacstudy.study.parameters import Study

    asked, own = options.captioner, Study.load(options.study).captioner_from
    if asked and not own:
        raise ValueError(
            f"study {options.study} trains its own captioner; --captioner is for studies such as own"
        )
    if not asked:
        if "captioner_from" in overrides or own != "demo":
            return overrides
        asked, said = run.best_captioner()
        print(said, file=sys.stderr)
    teacher = Study.load(asked)
    return {"seeds": list(teacher.seeds)} | overrides | {"captioner_from": asked}


def _study(options):
    from aacstudy.study.parameters import Study

    return Study.load(options.study, _overrides(options))


def _run(options) -> int:
    from aacstudy.study import run
    from aacstudy.study.parameters import Study

    started = time.time()
    overrides = _overrides(options)
    study = Study.load(options.study, overrides)
    if options.data and study.corpus.name == "soundscapes":
        raise ValueError(
            f"study {options.study} makes its own corpus; --data (DATA=) is for a folder, as in own"
        )
    if left_out := run.wanting_more_captions(study):
        overrides["notebooks"] = [name for name in study.notebooks if name not in left_out]
        print(f"left out, for want of captions: {', '.join(left_out)}")
        study = Study.load(options.study, overrides)
    status = run.run(study, options.study, overrides, options.cores, options.profile)
    index = paths.report(study.study) / "index.html"
    if status == 0:
        print(f"done in {time.time() - started:.0f} s: open {os.path.relpath(index)}")
    else:
        print(
            "the study did not end; what was made is kept, and the same command goes on from there",
            file=sys.stderr,
        )
    return status


def _make(options) -> None:
    from aacstudy.study import run

    run.end_with_run()
    print(run.find(_study(options), options.artifact).make(options.cores))


def _plan(options) -> None:
    from aacstudy.study import run

    study = _study(options)
    run.look_at_weights(study)
    for artifact in run.everything(study):
        state = f"{artifact.record()['seconds']:8.1f} s" if artifact.stamp.exists() else "   missing"
        print(f"{state}  {artifact.stage}/{artifact.name}")


def _notebook(options) -> None:
    from aacstudy.study import run

    run.end_with_run()
    run.run_notebook(_study(options), options.notebook)


def _index(options) -> None:
    from aacstudy.study import run

    run.end_with_run()
    print(run.build_index(_study(options)))


def _search(options) -> None:
    from aacstudy.study import search

    if bool(options.query) == bool(options.audio):
        raise ValueError("give either a text or --audio FILE")
    study = _study(options)
    if options.audio:
        found = search.describe(study, options.audio, options.k, options.seed)
    else:
        found = search.search(study, options.query, options.k, options.seed)
    print(search.text(found))
    print(f"open {os.path.relpath(search.write_page(found, paths.report(study.study)))}")


def _compare(options) -> None:
    from aacstudy.study import compare

    print(f"open {os.path.relpath(compare.compare(options.studies))}")


def _summary(options) -> None:
    from aacstudy.study import summary

    runs = summary.read(options.studies)
    if options.into:
        summary.fill_files(options.into, runs)
        print(f"written: {', '.join(map(str, options.into))}")
    else:
        print(summary.summary(runs))


def _retrieve(options) -> None:
    from aacstudy.study import retrieve

    table, about = retrieve.of_files(
        options.matrix, options.owners, options.losses, options.tune, options.tune_owners
    )
    print(about)
    print(retrieve.text(table))
    _write_csv(table, options.csv)


def _bias(options) -> None:
    from aacstudy.analysis import bias
    from aacstudy.options import StatisticsOptions
    from aacstudy.study import pairs

    training = pairs.read_captions(options.training)
    found = bias.of_pairs(pairs.read_pairs(options.pairs), training, StatisticsOptions())
    print(f"R² of all features: {found.r2}; {found.rows} captions")
    print(found.features.to_string(index=False, float_format="{:.3f}".format))
    print(found.coefficients.to_string(index=False, float_format="{:+.3f}".format))
    _write_csv(found.features, options.csv)


def _write_csv(table, path: Path | None) -> None:
    if path is not None:
        from aacstudy.paths import write_whole

        write_whole(path, table.to_csv(index=False).encode("utf-8"))
        print(f"written: {path}")


def _check_data(options) -> int:
    from aacstudy.corpus import NO_FILE, CorpusError, audiocaps, clotho, describe, folder, recordings

    readers = {"folder": folder, "clotho": clotho, "audiocaps": audiocaps, "recordings": recordings}
    reader = readers[options.kind]
    decode = options.decode or options.kind in ("folder", "recordings")
    corpus, defects = reader.check(options.root, decode, options.cores)
    if defects:
        raise CorpusError(defects)
    print(describe.summary(corpus))
    unusable = corpus.missing[corpus.missing["reason"] != NO_FILE]
    for clip, reason in zip(unusable["clip"], unusable["reason"]):
        print(f"left out: {clip}: {reason}")
    for split, published in getattr(reader, "SIZES", {}).items():
        named = sum((table["split"] == split).sum() for table in (corpus.clips, corpus.missing))
        if named != published:
            print(f"note: the table of {split} names {named} clips, the published one {published}")
    print("nothing wrong found" if decode else "nothing wrong found; --decode would read the samples too")
    return 0


def _bat(options) -> None:
    from aacstudy.study import bat

    if options.scored and not (options.captions or options.out):
        print(bat.report(bat.read_scored(options.scored, options.train)).to_string(index=False))
    elif options.captions and options.out and not options.scored:
        items, left_out = bat.write_items(options.captions, options.out)
        print(items["test"].value_counts(sort=False).rename("items").to_string())
        print(f"\nleft out:\n{left_out.to_string(index=False)}")
    else:
        raise ValueError(
            "give captions.csv --out items.csv to write items, or --scored items.csv to score them"
        )


def _evaluate(options) -> None:
    from aacstudy.analysis.captions.tables import evaluate_files

    names = options.metrics.split(",") if options.metrics else None
    print(
        evaluate_files(
            options.candidates,
            options.references,
            options.training,
            names,
            options.tokenizer,
            options.csv,
            options.each,
        )
    )


def _download(options) -> None:
    from aacstudy.study.download import download

    for what in options.what:
        print(download(what, options.to, options.source))


def _doctor(options) -> int:
    from aacstudy.study.doctor import report

    return report()


if __name__ == "__main__":
    sys.exit(main())
