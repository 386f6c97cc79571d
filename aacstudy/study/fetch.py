"""Files from the network: checked, resumable, whole or not at all; and 7z archives unpacked.

A file grows as ``<name>.part`` and gets its name when it is whole and its checksum right; what a lost connection left is
gone on from. ``downloads.json`` keeps address, size and SHA-256 of every file, published checksum or not.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm

TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 5  # without a byte between them
CHUNK = 1 << 15  # bytes; what of one did not come is fetched again
MARGIN = 200_000_000  # bytes that stay free
UNPACKERS = (  # command, arguments before the archive, before the folder
    ("7zz", ("x", "-y", "-bso0"), "-o"),
    ("7z", ("x", "-y", "-bso0"), "-o"),
    ("7za", ("x", "-y", "-bso0"), "-o"),
    ("7zr", ("x", "-y", "-bso0"), "-o"),
    ("bsdtar", ("-xf",), "-C"),
)


class DownloadError(ValueError):
    """Why a file could not be had, and what to do; what was fetched of it is kept."""


@dataclass(frozen=True)
class Remote:
    """A file below the data folder, its address and, where one is published, its checksum ("md5:…" or "sha256:…")."""

    place: str
    url: str
    checksum: str = ""
    growth: float = 1.0  # disk that it needs in the end, archive included, as a multiple of its size


def fetch(remote: Remote, folder: Path) -> Path:
    """Bring one file below a folder, or go on with what is there of it; a file that has its name is checked and left."""
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
        _fill(part, remote)
        if not _right(part, remote.checksum):
            found = _digest(part, remote.checksum.partition(":")[0])
            part.unlink()
            raise DownloadError(
                f"{remote.url} came with checksum {found}, published is {remote.checksum}: it was damaged on "
                "the way or changed at its home. It is thrown away; try again"
            )
        _record(folder, remote, part)
        part.replace(target)
    return target


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
                raise offline(host, error) from error
        except (requests.Timeout, requests.exceptions.ChunkedEncodingError) as caught:
            error = caught
        idle = 0 if _size(part) > before else idle + 1
        time.sleep(min(idle, 3))
    raise DownloadError(
        f"the connection to {host} was lost {ATTEMPTS} times after {_size(part) / 1e6:.0f} MB of {part.stem}; "
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
        with bar, part.open("ab" if have else "wb") as file:
            try:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except OSError as error:
                if isinstance(error, requests.RequestException):
                    raise
                raise DownloadError(f"{part} cannot be written: {error.strerror or error}") from error
    return total is None or _size(part) == total


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + MARGIN:
        raise DownloadError(
            f"{part.stem} needs {needed / 1e9:.1f} GB in {part.parent}, and {free / 1e9:.1f} GB are free; "
            "make room, or choose another disk with --to FOLDER or $AACSTUDY_DATA"
        )


def offline(host: str, error: Exception) -> DownloadError:
    """The one message for a host that does not answer."""
    return DownloadError(
        f"cannot reach {host} ({type(error).__name__}): this machine has no network, or the host is down. What was fetched "
        "before is kept. Elsewhere, run the same command with --to FOLDER, copy the folder here and set AACSTUDY_DATA to it"
    )


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _right(path: Path, checksum: str) -> bool:
    return not checksum or _digest(path, checksum.partition(":")[0]) == checksum


def _record(folder: Path, remote: Remote, file: Path) -> None:
    book = folder / "downloads.json"
    with FileLock(folder / ".locks" / book.name):
        known = json.loads(book.read_text(encoding="utf-8")) if book.exists() else {}
        known[remote.place] = {
            "url": remote.url,
            "bytes": file.stat().st_size,
            "published": remote.checksum or "no checksum is published",
            "sha256": _digest(file, "sha256").partition(":")[2],
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        part = book.with_name(f"{book.name}.part")
        part.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
        part.replace(book)


def unpack(archive: Path, target: Path, clips: int) -> None:
    """Unpack the one folder of a 7z archive under a new name, whole or not at all, and count its WAV files.

    By the first of 7-Zip's commands, bsdtar or py7zr that is there. DownloadError where none is, or the count is wrong.
    """
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = next((one for one in UNPACKERS if shutil.which(one[0])), None)
    print(f"unpacking {archive.name}", file=sys.stderr)
    if command:
        name, arguments, into = command
        where = [f"{into}{part}"] if into == "-o" else [into, str(part)]
        done = subprocess.run(
            [name, *arguments, str(archive), *where], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DownloadError(f"{name} could not unpack {archive}: {done.stderr.strip()[-300:]}")
    else:
        try:
            import py7zr
        except ImportError:
            raise DownloadError(
                f"{archive} is there and right, but nothing here unpacks 7z: `pip install py7zr` or install 7-Zip "
                "(`apt install p7zip-full`), and run the same command again"
            ) from None
        with py7zr.SevenZipFile(archive) as file:
            file.extractall(part)
    inner = list(part.iterdir())
    source = inner[0] if len(inner) == 1 and inner[0].is_dir() else part
    found = len(list(source.glob("*.wav")))
    if found != clips:
        raise DownloadError(f"{archive} held {found} WAV files in {source.name}, not {clips}")
    shutil.rmtree(target, ignore_errors=True)
    source.replace(target)
    shutil.rmtree(part, ignore_errors=True)
