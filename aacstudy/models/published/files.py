"""Weight files of others, read without running what they hold."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# where training scripts put the weights, beside what else they save
WRAPPERS = ("model", "state_dict")


def _numpy_globals() -> list:
    """What numpy scalars and arrays are pickled with, under the names of numpy 1 and of numpy 2.

    Training scripts save their scores as numpy scalars beside the weights.
    """
    scalar, reconstruct = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    functions = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((scalar, "scalar"), (reconstruct, "_reconstruct"))
    ]
    kinds = ("float64", "float32", "int64", "int32", "bool")
    return [*functions, np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The weights of a ``.safetensors`` file or of a file of torch.save, flat or under ``model`` or
    ``state_dict``.

    Raises FileNotFoundError, or ValueError naming the file: damaged, of another kind, or one that
    wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise nearly anything
        reason = str(error).split("WeightsUnpickler error: ")[-1].strip().split("\n")[0].split(" Please ")[0]
        raise ValueError(
            f"{path}: damaged, or more than weights, which is not loaded as it could run code ({reason})"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: '{name}' is a {type(value).__name__}, not a tensor")
    return dict(content)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_plain(path: str | Path, data: bytes):
    """The dicts, lists, strings and numbers of a pickle inside a file.

    Raises ValueError naming the file where the pickle asks for anything else: a class or a function
    is code.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # damaged bytes raise nearly anything
        raise ValueError(f"{path}: the pickle inside it is not plain data ({error})") from error


def without_prefix(path: str | Path, tensors: Mapping[str, Tensor], marker: str) -> dict[str, Tensor]:
    """Names without what a wrapper put in front of them; ``marker`` is a tensor that the weights
    must have.

    Raises ValueError where it is not there once, or where a tensor lies outside of the wrapper.
    """
    found = [name for name in tensors if name == marker or name.endswith(f".{marker}")]
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} tensors are called '{marker}', where there must be one")
    prefix = found[0].removesuffix(marker)
    outside = [name for name in tensors if not name.startswith(prefix)]
    if outside:
        raise ValueError(f"{path}: unexpected tensors outside of '{prefix}': {outside}")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
