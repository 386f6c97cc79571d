"""Public data sets and weights from their own homes; how a file is fetched is fetch.py's."""

import csv
import difflib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests

from aacstudy import paths
from aacstudy.study.fetch import TIMEOUT, DownloadError, Remote, fetch, offline, unpack


def _zenodo(record: int, name: str, folder: str, md5: str, growth: float = 1.0) -> Remote:
    url = f"https://zenodo.org/records/{record}/files/{quote(name)}?download=1"
    return Remote(f"{folder}/{name}", url, f"md5:{md5}", growth)


_DCASE = "epoch_192-step_001544-mode_min-val_loss_3.3758.ckpt"
# Published checksums: Zenodo's, as the authors' registries have them.
CONVNEXT = _zenodo(
    8020843, "convnext_tiny_465mAP_BL_AC_70kit.pth", "weights", "0688ae503f5893be0b6b71cb92f8b428"
)
WEIGHTS = {  # name -> set that brings it, file
    "convnext_tiny_465mAP_BL_AC_70kit": ("convnext", CONVNEXT),
    "convnext_tiny_471mAP": (
        "convnext_tiny_471mAP",
        _zenodo(8020843, "convnext_tiny_471mAP.pth", "weights", "e069ecd1c7b880268331119521c549f2"),
    ),
    "convnext_tiny_465mAP_BL_AC_75kit": (
        "convnext_tiny_465mAP_BL_AC_75kit",
        _zenodo(
            10987498, "convnext_tiny_465mAP_BL_AC_75kit.pth", "weights", "f6f57c87b7eb664a23ae8cad26eccaa0"
        ),
    ),
    "Cnn14_mAP=0.431": (
        "cnn14",
        _zenodo(3987831, "Cnn14_mAP=0.431.pth", "weights", "541141fa2ee191a88f24a3219fff024e"),
    ),
    "dcase2024": (
        "dcase2024",
        _zenodo(10849427, _DCASE, "weights/dcase2024", "9514a8e6fa547bd01fb1badde81c6d10"),
    ),
    "dcase2024_tokenizer": (
        "dcase2024",
        _zenodo(10849427, "tokenizer.json", "weights/dcase2024", "ee3fef19f7d0891d820d84035483a900"),
    ),
    "conette": ("conette", Remote("weights/conette/model.safetensors", "")),  # see _conette
}
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
AUDIOCAPS_COMMIT = (
    "80fb3ade6d400d4311354a360db25da051a48cc1"  # of cdjkim/audiocaps; a commit's files cannot change
)
AUDIOCAPS_ROWS = {"train": 49838, "val": 2475, "test": 4875}  # version 1; 2.0 has other numbers


def sets() -> dict[str, Callable[[Path], str]]:
    """Names of what can be downloaded, and what fetches each into a data folder and says what it left."""
    single = {
        name: lambda folder, remotes=remotes: _weights(remotes, folder)
        for name, remotes in {
            "convnext": [CONVNEXT],
            "cnn14": [WEIGHTS["Cnn14_mAP=0.431"][1]],
            "dcase2024": [WEIGHTS["dcase2024"][1], WEIGHTS["dcase2024_tokenizer"][1], CONVNEXT],
            "convnext_tiny_471mAP": [WEIGHTS["convnext_tiny_471mAP"][1]],
            "convnext_tiny_465mAP_BL_AC_75kit": [WEIGHTS["convnext_tiny_465mAP_BL_AC_75kit"][1]],
        }.items()
    }
    whole = {"clotho": _clotho, "audiocaps-captions": _audiocaps, "conette": _conette, "metrics": _metrics}
    return whole | single


def download(what: str, folder: Path | None = None) -> str:
    """Fetch one of ``sets()`` into a data folder (``paths.data()``); returns a sentence on what is there now.

    Raises DownloadError with one message for an unknown name, no network, a full disk or a wrong checksum.
    """
    known = sets()
    if what not in known:
        close = difflib.get_close_matches(what, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise DownloadError(f"{what!r} cannot be downloaded; {hint}")
    folder = Path(folder).expanduser().resolve() if folder else paths.data()
    return known[what](folder)


def find_weights(name: str) -> Path:
    """File of published weights by name (``WEIGHTS``), or the file itself where ``name`` is one.

    Raises FileNotFoundError that names the download command, ValueError for an unknown name.
    """
    if Path(name).suffix in (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".tflite"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"weights {name} do not exist")
        return Path(name)
    if name not in WEIGHTS:
        close = difflib.get_close_matches(name, WEIGHTS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(WEIGHTS)}"
        raise ValueError(f"no published weights {name!r}; {hint}")
    brought_by, remote = WEIGHTS[name]
    file = paths.data() / remote.place
    if not file.is_file():
        raise FileNotFoundError(
            f"weights {name} are not in {file.parent}: run `python -m aacstudy download {brought_by}`"
        )
    return file


def _weights(remotes: list[Remote], folder: Path) -> str:
    files = [fetch(remote, folder) for remote in remotes]
    return f"weights in {files[0].parent}: {', '.join(file.name for file in files)}"


def _clotho(folder: Path) -> str:
    """Clotho v2.1: CSVs and audio in the layout that corpus/clotho.py reads; an archive goes once it is unpacked."""
    for name, md5 in CLOTHO_MD5.items():
        if name.endswith(".csv"):
            fetch(_zenodo(4783391, name, f"{CLOTHO}/clotho_csv_files", md5), folder)
    for split, clips in CLOTHO_CLIPS.items():
        audio = folder / CLOTHO / "clotho_audio_files" / split
        if len(list(audio.glob("*.wav"))) == clips:
            print(f"{split}: {clips} clips are there already", file=sys.stderr)
            continue
        name = f"clotho_audio_{split}.7z"
        archive = fetch(_zenodo(4783391, name, f"{CLOTHO}/archives", CLOTHO_MD5[name], growth=2.6), folder)
        unpack(archive, audio, clips)
        archive.unlink()
    return f"Clotho v2.1 in {folder / CLOTHO}"


def _audiocaps(folder: Path) -> str:
    """AudioCaps version 1, captions only: the audio is YouTube's."""
    base = f"https://raw.githubusercontent.com/cdjkim/audiocaps/{AUDIOCAPS_COMMIT}/dataset"
    for split, rows in AUDIOCAPS_ROWS.items():
        file = fetch(Remote(f"AUDIOCAPS/{split}.csv", f"{base}/{split}.csv"), folder)
        with file.open(encoding="utf-8", newline="") as lines:
            found = sum(1 for _ in csv.reader(lines)) - 1
        if found != rows:
            raise DownloadError(
                f"{file} has {found} captions; AudioCaps 1 has {rows}: remove it and try again"
            )
    return (
        f"AudioCaps captions in {folder / 'AUDIOCAPS'}. Their audio cannot be downloaded here: cut it from YouTube (ten seconds "
        "from start_time, with yt-dlp for instance) or take it from a colleague, and put it, at 32 kHz, as "
        "AUDIOCAPS/audio_32000Hz/{train,val,test}/{youtube_id}_{start_time}.flac; what is missing is left out and counted"
    )


def _conette(folder: Path) -> str:
    """CoNeTTE's weights and configuration from Hugging Face, which publishes the SHA-256 of large files."""
    home = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    url = f"{home}/api/models/Labbeti/conette/tree/main?recursive=true"
    try:
        answer = requests.get(url, timeout=TIMEOUT)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise offline(urlsplit(home).netloc, error) from error
    if not answer.ok:
        raise DownloadError(f"{url} answers {answer.status_code} {answer.reason}")
    remotes = []
    for entry in answer.json():
        path = entry["path"]
        if path.endswith((".safetensors", ".json")):  # the rest is code, or pickles
            digest = entry.get("lfs", {}).get("oid", "")
            checksum = f"sha256:{digest}" if digest else ""
            remotes.append(
                Remote(
                    f"weights/conette/{path}", f"{home}/Labbeti/conette/resolve/main/{quote(path)}", checksum
                )
            )
    if not any(remote.place == WEIGHTS["conette"][1].place for remote in remotes):
        raise DownloadError(f"{home}/Labbeti/conette has no model.safetensors any more")
    return _weights(remotes, folder)


def _metrics(folder: Path) -> str:
    """What the caption metrics need: from installed packages, then by aac-metrics' own download function."""
    from aacstudy.analysis.captions import METRICS, assets

    root = folder / "metrics"
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
    for job, (metric, host) in jobs.items():
        found = assets.find(root)
        if all(getattr(found, need) for need in assets.NEEDS[metric] if need != "java"):
            continue
        try:
            requests.head(f"https://{host}", timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise offline(host, error) from error
        chosen = {name: name == job for name in everything}
        code = f"from aac_metrics.download import download_metrics; download_metrics({str(root)!r}, verbose=1, **{chosen})"
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
        if done.returncode:
            raise DownloadError(f"aac-metrics could not download {job}; the last lines above say why")
    ready = assets.find(root)
    lacking = {METRICS[name]: why for name in METRICS if (why := ready.missing(name))}
    rest = "; ".join(f"{name} {why}" for name, why in lacking.items())
    return f"metrics in {root}" + (f"; still missing: {rest}" if rest else ": all are ready")
