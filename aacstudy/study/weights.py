"""Published weights by name: which file each is, its home, and where it lies once it is downloaded.

Planning a study asks here, so nothing of how a file is fetched is known to this module.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from aacstudy import paths


@dataclass(frozen=True)
class Remote:
    """A file below the data folder, its address and, where they are published, its checksums.

    ``checksum``: "md5:…" or "sha256:…"; several, of which any will do, are separated by spaces.
    """

    place: str
    url: str
    checksum: str = ""
    # disk that it needs in the end, archive included, as a multiple of its size
    growth: float = 1.0


def zenodo(record: int, place: str, md5: str, growth: float = 1.0) -> Remote:
    """A file of a Zenodo record by where it shall lie, and its checksum there."""
    name = quote(Path(place).name)
    url = f"https://zenodo.org/records/{record}/files/{name}?download=1"
    return Remote(place, url, f"md5:{md5}", growth)


_CONVNEXT = "convnext_tiny_465mAP_BL_AC_70kit"
_DCASE = "weights/dcase2024/epoch_192-step_001544-mode_min-val_loss_3.3758.ckpt"
WEIGHTS = {  # name -> set that brings it, file
    _CONVNEXT: (
        "convnext",
        zenodo(8020843, f"weights/{_CONVNEXT}.pth", "0688ae503f5893be0b6b71cb92f8b428"),
    ),
    "convnext_tiny_471mAP": (
        "convnext_tiny_471mAP",
        zenodo(8020843, "weights/convnext_tiny_471mAP.pth", "e069ecd1c7b880268331119521c549f2"),
    ),
    "convnext_tiny_465mAP_BL_AC_75kit": (
        "convnext_tiny_465mAP_BL_AC_75kit",
        zenodo(10987498, "weights/convnext_tiny_465mAP_BL_AC_75kit.pth", "f6f57c87b7eb664a23ae8cad26eccaa0"),
    ),
    "Cnn14_mAP=0.431": (
        "cnn14",
        zenodo(3987831, "weights/Cnn14_mAP=0.431.pth", "541141fa2ee191a88f24a3219fff024e"),
    ),
    "dcase2024": ("dcase2024", zenodo(10849427, _DCASE, "9514a8e6fa547bd01fb1badde81c6d10")),
    "dcase2024_tokenizer": (
        "dcase2024",
        zenodo(10849427, "weights/dcase2024/tokenizer.json", "ee3fef19f7d0891d820d84035483a900"),
    ),
    # its home lists its address
    "conette": ("conette", Remote("weights/conette/model.safetensors", "")),
    "yamnet": (
        "yamnet",
        Remote(
            "weights/yamnet/yamnet.tflite",
            "https://storage.googleapis.com/mediapipe-models/audio_classifier/yamnet/float32/1/yamnet.tflite",
            # The build of that address, as its documentation gives it, and the one with int8
            # weights.
            "sha256:4d8b4a53282dc83ef04e3e7dbc4fbc98082e34e44ed798e16c3a0cdd4c584faf "
            "sha256:469be6a3421cbc52cf97e9f2f966cba984198e8e7af9854d68b3e3ebb1e04194",
        ),
    ),
    "yamnet_class_map": (
        "yamnet",
        Remote(
            "weights/yamnet/yamnet_class_map.csv",
            "https://raw.githubusercontent.com/tensorflow/models/master/research/audioset/yamnet/"
            "yamnet_class_map.csv",
            "sha256:cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
        ),
    ),
}


def find_weights(name: str) -> Path:
    """File of published weights by name (``WEIGHTS``), or the file itself where ``name`` is one.

    Raises FileNotFoundError that names the download command, ValueError for an unknown name.
    """
    if Path(name).suffix in (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".tflite"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"weights {name} do not exist")
        return Path(name)
    if name not in WEIGHTS:
        raise ValueError(f"no published weights {name!r}; {nearest(name, WEIGHTS)}")
    brought_by, remote = WEIGHTS[name]
    file = paths.data() / remote.place
    if not file.is_file():
        raise FileNotFoundError(
            f"weights {name} are not in {file.parent}: run `python -m aacstudy download {brought_by}`"
        )
    return file


def nearest(name: str, known) -> str:
    """A hint for a name that is none of the known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
