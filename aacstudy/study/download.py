"""Public data sets and weights from their own homes or from a folder at hand, checked, whole or not
at all.

A file grows as ``<name>.part`` and gets its name when it is whole and its checksum right; a
download that broke continues where it stopped. ``downloads.json`` keeps origin, size and SHA-256 of
every file, published checksum or not.
"""

import hashlib
import json
import operator
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm

from aacstudy import paths
from aacstudy.corpus import tables
from aacstudy.study.weights import WEIGHTS, Remote, nearest, zenodo

TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 5  # without a byte between them
CHUNK = 1 << 15  # bytes; what of one did not come is fetched again
MARGIN = 200_000_000  # bytes that stay free
BOOK = "downloads.json"
CLOTHO = "CLOTHO_v2.1"
CLOTHO_CLIPS = {"development": 3839, "validation": 1045, "evaluation": 1045}
CLOTHO_MD5 = {
    "clotho_audio_development.7z": "c8b05bc7acdb13895bb3c6a29608667e",
    "clotho_audio_validation.7z": "7dba730be08bada48bd15dc4e668df59",
    "clotho_audio_evaluation.7z": "4569624ccadf96223f19cb59fe4f849f",
    "clotho_captions_development.csv": "d4090b39ce9f2491908eebf4d5b09bae",
    "clotho_captions_validation.csv": "5879e023032b22a2c930aaa0528bead4",
    "clotho_captions_evaluation.csv": "1b16b9e57cf7bdb7f13a13802aeb57e2",
    "clotho_metadata_development.csv": "170d20935ecfdf161ce1bb154118cda5",
    "clotho_metadata_validation.csv": "2e010427c56b1ce6008b0f03f41048ce",
    "clotho_metadata_evaluation.csv": "13946f054d4e1bf48079813aac61bf77",
}
# of cdjkim/audiocaps; a commit's files cannot change
AUDIOCAPS_COMMIT = "80fb3ade6d400d4311354a360db25da051a48cc1"
AUDIOCAPS_ROWS = {"train": 49838, "val": 2475, "test": 4875}  # version 1; 2.0 has other numbers
ESC50 = Remote("ESC-50-master.zip", "https://github.com/karoldvl/ESC-50/archive/master.zip", growth=2.2)
ESC50_SIZE = 2000, 50, 5  # clips, classes, folds


class DownloadError(ValueError):
    """Why a file could not be had, and what to do; what was fetched of it is kept."""


def sets() -> dict[str, Callable[[Path, Path | None], str]]:
    """Names of what can be downloaded, and what brings each into a data folder and says what it
    left.

    The second argument is a folder to take the files from instead of the network.
    """
    by_set: dict[str, list[Remote]] = {}
    for brought_by, remote in WEIGHTS.values():
        by_set.setdefault(brought_by, []).append(remote)
    by_set["dcase2024"] += by_set["convnext"]  # its encoder
    weights = {
        name: lambda folder, source, remotes=remotes: _weights(remotes, folder, source)
        for name, remotes in by_set.items()
    }
    whole = {"clotho": _clotho, "audiocaps-captions": _audiocaps, "esc50": _esc50, "metrics": _metrics}
    return whole | weights | {"conette": _conette}


def download(what: str, folder: Path | None = None, from_: Path | None = None) -> str:
    """Bring one of ``sets()`` into a data folder (``paths.data()``); returns a sentence on what is
    there now.

    ``from_``: a folder that has the files, flat or laid out as a data folder is; nothing is asked
    of the network. Raises DownloadError with one message for an unknown name, no network, a full
    disk or a wrong checksum.
    """
    known = sets()
    if what not in known:
        raise DownloadError(f"{what!r} cannot be downloaded; {nearest(what, known)}")
    if from_ is not None and not Path(from_).is_dir():
        raise DownloadError(f"{from_} is no folder to take {what} from")
    folder = Path(folder).expanduser().resolve() if folder else paths.data()
    return known[what](folder, Path(from_).resolve() if from_ else None)


def _weights(remotes: list[Remote], folder: Path, source: Path | None) -> str:
    files = [fetch(remote, folder, source) for remote in remotes]
    return f"weights in {files[0].parent}: {', '.join(file.name for file in files)}"


def _clotho(folder: Path, source: Path | None) -> str:
    """Clotho v2.1 in the layout that corpus/clotho.py reads; an archive goes once unpacked."""
    for name, md5 in CLOTHO_MD5.items():
        if name.endswith(".csv"):
            fetch(zenodo(4783391, f"{CLOTHO}/clotho_csv_files/{name}", md5), folder, source)
    for split, clips in CLOTHO_CLIPS.items():

        def check(found: Path, clips=clips) -> None:
            if (count := len(list(found.glob("*.wav")))) != clips:
                raise DownloadError(f"{found} has {count} WAV files, not {clips}")

        place = f"{CLOTHO}/clotho_audio_files/{split}"
        if len(list((folder / place).glob("*.wav"))) == clips:
            print(f"{split}: {clips} clips are there already", file=sys.stderr)
        elif source and (unpacked := _at_hand(place, source)):
            bring_folder(unpacked, folder / place, check)
        else:
            name = f"clotho_audio_{split}.7z"
            remote = zenodo(4783391, f"{CLOTHO}/archives/{name}", CLOTHO_MD5[name], growth=2.6)
            archive = fetch(remote, folder, source)
            bring_folder(archive, folder / place, check)
            archive.unlink()
    return f"Clotho v2.1 in {folder / CLOTHO}"


def _audiocaps(folder: Path, source: Path | None) -> str:
    """AudioCaps version 1, captions only: the audio is YouTube's."""
    base = f"https://raw.githubusercontent.com/cdjkim/audiocaps/{AUDIOCAPS_COMMIT}/dataset"
    for split, rows in AUDIOCAPS_ROWS.items():
        file = fetch(Remote(f"AUDIOCAPS/{split}.csv", f"{base}/{split}.csv"), folder, source)
        found = len(tables.records(file, "captions", bool)[1])
        if found != rows:
            raise DownloadError(
                f"{file} has {found} captions; AudioCaps 1 has {rows}: remove it and try again"
            )
    return (
        f"AudioCaps captions in {folder / 'AUDIOCAPS'}. Their audio cannot be downloaded here: cut it from "
        f"YouTube "
        "(ten seconds from start_time, with yt-dlp for instance) or take it from a colleague, and put it, "
        "at 32 kHz, as "
        "AUDIOCAPS/audio_32000Hz/{train,val,test}/{youtube_id}_{start_time}.flac; what is missing is left "
        "out and counted"
    )


def _esc50(folder: Path, source: Path | None) -> str:
    """ESC-50, of which no checksum is published: its table and its files are counted instead.

    A folder at hand may have a part of the clips, such as those of a free licence.
    """
    target = folder / "ESC-50"
    if not target.is_dir():
        unpacked = source and (_at_hand(target.name, source) or _at_hand("ESC-50-master", source))
        archive = unpacked or fetch(ESC50, folder, source)
        bring_folder(archive, target, lambda found: _check_esc50(found, whole=not unpacked))
        if not unpacked:
            archive.unlink()
    return f"ESC-50 in {target}: {_check_esc50(target, whole=False)} of {ESC50_SIZE[0]} clips"


def _check_esc50(folder: Path, whole: bool) -> int:
    """The number of clips; DownloadError where one lacks its row or file or sizes are wrong."""
    table = folder / "meta" / "esc50.csv"
    needed = ("filename", "fold", "target", "category")
    try:
        rows = tables.read(table, ",".join(needed), lambda names: set(needed) <= set(names))
    except ValueError as error:
        raise DownloadError(f"not ESC-50: {error}") from error
    odd = sorted(set(rows["filename"]) ^ tables.audio_names(folder / "audio"))
    odd += rows["filename"][rows["filename"].duplicated()].tolist()
    if odd:
        raise DownloadError(
            f"{table}: {odd[0]} and {len(odd) - 1} more have not one row and one file in audio/"
        )
    found = len(rows), len(rows.groupby(["target", "category"])), len(set(rows["fold"]))
    if found != ESC50_SIZE if whole else any(map(operator.gt, found, ESC50_SIZE)):
        counted = ["{} clips of {} classes in {} folds".format(*sizes) for sizes in (found, ESC50_SIZE)]
        raise DownloadError(f"{table}: has {counted[0]}, ESC-50 has {counted[1]}")
    return len(rows)


def _conette(folder: Path, source: Path | None) -> str:
    """CoNeTTE's weights and configuration from Hugging Face, which publishes the SHA-256 of large
    files.

    From a folder at hand the weights alone, which are all that is read.
    """
    if source:
        return _weights([WEIGHTS["conette"][1]], folder, source)
    home = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    url = f"{home}/api/models/Labbeti/conette/tree/main?recursive=true"
    answer = _ask(requests.get, url)
    if not answer.ok:
        raise DownloadError(f"{url} answers {answer.status_code} {answer.reason}")
    remotes = []
    for entry in answer.json():
        path = entry["path"]
        if path.endswith((".safetensors", ".json")):  # the rest is code, or pickles
            digest = entry.get("lfs", {}).get("oid", "")
            url = f"{home}/Labbeti/conette/resolve/main/{quote(path)}"
            remotes.append(Remote(f"weights/conette/{path}", url, f"sha256:{digest}" if digest else ""))
    if not any(remote.place == WEIGHTS["conette"][1].place for remote in remotes):
        raise DownloadError(f"{home}/Labbeti/conette has no model.safetensors any more")
    return _weights(remotes, folder, source)


def _metrics(folder: Path, source: Path | None) -> str:
    """What the caption metrics need: of installed packages, and by aac-metrics' own downloads."""
    # here, as no other set needs what computes metrics
    from aacstudy.analysis.captions import METRICS, assets

    root = folder / "metrics"
    if source:
        _copy_metrics(folder, source, assets.FROM_PYPI)
    linked = assets.link(root)
    print(
        f"{len(linked)} of {len(assets.FROM_PYPI)} files of METEOR and PTB from pycocoevalcap",
        file=sys.stderr,
    )
    environment = os.environ | {
        "FENSE_DATA": str(root / "fense_data"),
        "HF_HUB_CACHE": str(root / "huggingface"),
    }
    everything = ("ptb_tokenizer", "meteor", "spice", "fense", "bert_score")
    jobs = {  # aac-metrics' name -> metric that needs it, host
        "ptb_tokenizer": ("ptb", "github.com"),
        "meteor": ("meteor", "github.com"),
        "spice": ("spice", "nlp.stanford.edu"),
        "fense": ("fense", "huggingface.co"),
    }
    for job, (metric, host) in {} if source else jobs.items():
        found = assets.find(root)
        if all(getattr(found, need) for need in assets.NEEDS[metric] if need != "java"):
            continue
        _ask(requests.head, f"https://{host}")
        chosen = {name: name == job for name in everything}
        code = (
            f"from aac_metrics.download import download_metrics; download_metrics({str(root)!r}, verbose=1, "
            f"**{chosen})"
        )
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
        if done.returncode:
            raise DownloadError(f"aac-metrics could not download {job}; the last lines above say why")
    ready = assets.find(root)
    lacking = {METRICS[name]: why for name in METRICS if (why := ready.missing(name))}
    rest = "; ".join(f"{name} {why}" for name, why in lacking.items())
    return f"metrics in {root}" + (f"; still missing: {rest}" if rest else ": all are ready")


def _copy_metrics(folder: Path, source: Path, digests: dict[str, tuple[str, str]]) -> None:
    """Copy the metrics' files of a folder at hand; the jars of pycocoevalcap must be its own."""
    origin = _at_hand("metrics", source) or source
    for file in sorted(origin.rglob("*")):
        place = file.relative_to(origin)
        if place.parts[0] not in ("aac-metrics", "fense_data", "huggingface") or "blobs" in place.parts:
            continue  # a cache's blobs come as the files of its snapshots
        if file.is_dir():
            (folder / "metrics" / place).mkdir(parents=True, exist_ok=True)
        else:
            _, digest = digests.get(place.as_posix(), ("", ""))
            fetch(Remote(f"metrics/{place.as_posix()}", "", digest and f"sha256:{digest}"), folder, source)


def fetch(remote: Remote, folder: Path, source: Path | None = None) -> Path:
    """Bring one file below a folder, from its address or from a folder at hand, and continue what
    is there of it.

    A file that has its name already is checked and left. Where no checksum is published, a copy is
    checked against the one that was recorded when the folder at hand was downloaded, if it was.
    """
    if source and not remote.checksum and (source / BOOK).is_file():
        known = json.loads((source / BOOK).read_text(encoding="utf-8")).get(remote.place)
        remote = replace(remote, checksum=f"sha256:{known['sha256']}" if known else "")
    target = folder / remote.place
    locks = folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / remote.place.replace("/", "-")):
        if target.exists():
            if not _right(target, remote.checksum):
                raise DownloadError(
                    f"{target} is not the published file ({remote.checksum}): move it away, or remove it"
                )
            print(f"{target.name} is there already", file=sys.stderr)
            return target
        part = target.with_name(f"{target.name}.part")
        origin = remote.url if source is None else _copy(part, remote, source)
        if source is None:
            _fill(part, remote)
        if not _right(part, remote.checksum):
            found = _digest(part, remote.checksum.partition(":")[0])
            part.unlink()
            raise DownloadError(
                f"{origin} came with checksum {found}, published is {remote.checksum}: it was damaged on "
                "the way or changed at its home. It is thrown away; try again"
            )
        _record(folder, remote, part, origin)
        part.replace(target)
    return target


def _at_hand(place: str, source: Path) -> Path | None:
    """What a folder has of a place: the whole path or any end of it, the longest first."""
    parts = Path(place).parts
    ends = (source.joinpath(*parts[i:]) for i in range(len(parts)))
    return next((one for one in ends if one.exists()), None)


def _copy(part: Path, remote: Remote, source: Path) -> str:
    """Copy a file at hand to a part; returns where it came from."""
    found = _at_hand(remote.place, source)
    if found is None:
        raise DownloadError(f"{source} has no {remote.place}, nor {Path(remote.place).name} by itself")
    part.parent.mkdir(parents=True, exist_ok=True)
    _check_space(part, int(found.stat().st_size * remote.growth))
    with _writing(part):
        shutil.copyfile(found, part)
    return found.as_uri()


def _fill(part: Path, remote: Remote) -> None:
    """Append to a part until it is whole."""
    host = urlsplit(remote.url).netloc
    idle, error = 0, None
    while idle < ATTEMPTS:
        before = _size(part)
        try:
            if _continue(part, remote):
                return
        except requests.ConnectionError as caught:
            error = caught
            if _size(part) == 0:
                raise _offline(host, error) from error
        except (requests.Timeout, requests.exceptions.ChunkedEncodingError) as caught:
            error = caught
        idle = 0 if _size(part) > before else idle + 1
        time.sleep(min(idle, 3))
    raise DownloadError(
        f"the connection to {host} was lost {ATTEMPTS} times after {_size(part) / 1e6:.0f} MB of "
        f"{part.stem}; "
        "run the same command again, it goes on from there"
    ) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _continue(part: Path, remote: Remote) -> bool:
    """One request for what is missing of a part; True when it is whole."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing beyond what is there
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return True
            part.unlink()
            return False
        if not answer.ok:
            raise DownloadError(f"{remote.url} answers {answer.status_code} {answer.reason}")
        if answer.status_code != 206:  # the whole file again
            have = 0
        part.parent.mkdir(parents=True, exist_ok=True)
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total:
            _check_space(part, (total - have) + int(total * (remote.growth - 1)))
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=Path(remote.place).name)
        with bar, part.open("ab" if have else "wb") as file, _writing(part):
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or _size(part) == total


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Say which file cannot be written; a lost connection is an OSError too, left to others."""
    try:
        yield
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        raise DownloadError(f"{part} cannot be written: {error.strerror or error}") from error


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + MARGIN:
        raise DownloadError(
            f"{part.stem} needs {needed / 1e9:.1f} GB in {part.parent}, and {free / 1e9:.1f} GB are free; "
            "make room, or choose another disk with --to FOLDER or $AACSTUDY_DATA"
        )


def _ask(request: Callable[..., requests.Response], url: str) -> requests.Response:
    try:
        return request(url, timeout=TIMEOUT)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _offline(urlsplit(url).netloc, error) from error


def _offline(host: str, error: Exception) -> DownloadError:
    """The one message for a host that does not answer."""
    return DownloadError(
        f"cannot reach {host} ({type(error).__name__}): this machine has no network, or the host is down. "
        f"What was fetched "
        "before is kept. Elsewhere, run the same command with --to FOLDER, copy the folder here and set "
        "AACSTUDY_DATA to it"
    )


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _right(path: Path, checksum: str) -> bool:
    wanted = checksum.split()
    return not wanted or _digest(path, checksum.partition(":")[0]) in wanted


def _record(folder: Path, remote: Remote, file: Path, origin: str) -> None:
    book = folder / BOOK
    with FileLock(folder / ".locks" / book.name):
        known = json.loads(book.read_text(encoding="utf-8")) if book.exists() else {}
        known[remote.place] = {
            "url": origin,
            "bytes": file.stat().st_size,
            "published": remote.checksum or "no checksum is published",
            "sha256": _digest(file, "sha256").partition(":")[2],
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        paths.write_whole(book, json.dumps(known, indent=1, sort_keys=True).encode())


def bring_folder(origin: Path, target: Path, check: Callable[[Path], object]) -> None:
    """Unpack an archive's one folder, or copy a folder: checked, whole or not at all."""
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    print(f"{'copying' if origin.is_dir() else 'unpacking'} {origin.name}", file=sys.stderr)
    try:
        if origin.is_dir():
            shutil.copytree(origin, part / origin.name)
        elif origin.suffix == ".7z":
            import py7zr  # here, as only Clotho's archives need it

            with py7zr.SevenZipFile(origin) as file:
                file.extractall(part)
        else:
            shutil.unpack_archive(origin, part)
    except Exception as error:  # a damaged archive raises nearly anything
        raise DownloadError(
            f"{origin} could not be {'copied' if origin.is_dir() else 'unpacked'} to {part} ({error!r}); "
            "make room where the disk is full, else remove it and try again"
        ) from error
    inner = list(part.iterdir())
    found = inner[0] if len(inner) == 1 and inner[0].is_dir() else part
    check(found)
    shutil.rmtree(target, ignore_errors=True)
    found.replace(target)
    shutil.rmtree(part, ignore_errors=True)
