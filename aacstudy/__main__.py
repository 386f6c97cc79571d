"""Command line: ``python -m aacstudy --help``."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from aacstudy import __version__
from aacstudy.provenance import cores


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. What the user can mend is said in one message, without a traceback."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, KeyError, FileNotFoundError) as error:
        if os.environ.get("AACSTUDY_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"aacstudy {options.command}: {message}", file=sys.stderr)
        return 2


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
        added.add_argument("--data", metavar="FOLDER", help="your recordings: audio files and captions.csv")
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
    check = command("check-data", _check_data, "list everything wrong with a folder of recordings, at once")
    check.add_argument(
        "folder", type=Path, help="audio files and captions.csv (file_name,caption_1..caption_n)"
    )
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
    return overrides


def _study(options):
    from aacstudy.study import Study

    return Study.load(options.study, _overrides(options))


def _run(options) -> int:
    from aacstudy import batch

    started = time.time()
    study = _study(options)
    overrides = _overrides(options)
    if options.data and study.corpus.name != "folder":
        raise ValueError(
            f"study {options.study} makes its own corpus; --data (DATA=) is for studies of a folder, such as own"
        )
    status = batch.run(study, options.study, overrides, options.cores, options.profile)
    index = batch.report_folder(study) / "index.html"
    if status == 0:
        print(f"done in {time.time() - started:.0f} s: open {os.path.relpath(index)}")
    else:
        print(
            "the study did not end; what was made is kept, and the same command goes on from there",
            file=sys.stderr,
        )
    return status


def _make(options) -> None:
    from aacstudy import batch

    print(batch.find(_study(options), options.artifact).make(options.cores))


def _plan(options) -> None:
    from aacstudy import stages

    for artifact in stages.everything(_study(options)):
        state = f"{artifact.record()['seconds']:8.1f} s" if artifact.stamp.exists() else "   missing"
        print(f"{state}  {artifact.stage}/{artifact.name}")


def _notebook(options) -> None:
    from aacstudy import batch

    batch.run_notebook(_study(options), options.notebook)


def _index(options) -> None:
    from aacstudy import batch

    print(batch.build_index(_study(options)))


def _check_data(options) -> int:
    from aacstudy.corpus import CorpusError
    from aacstudy.corpus.folder import check

    corpus, defects = check(options.folder)
    if defects:
        raise CorpusError(defects)
    seconds = corpus.clips["seconds"]
    print(
        f"{len(corpus.clips)} clips of {seconds.min():.1f} to {seconds.max():.1f} s, {len(corpus.captions)} captions: "
        "nothing wrong found"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
