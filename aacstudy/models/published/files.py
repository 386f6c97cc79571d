"""Weight files of others, read without running what they hold.

Training scripts save whole hyper-parameters beside the weights: paths, containers of settings,
methods of schedulers. A pickle brings such a thing back by calling whatever class or function the
file names; here a name is only a name, and tensors are built by this module alone.
"""

import io
import pickle
import struct
import sys
import textwrap
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# where training scripts put the weights, beside what else they save
WRAPPERS = ("model", "state_dict")
STORAGES = {
    f"{name}Storage": getattr(torch, dtype)
    for name, dtype in (
        ("Double", "float64"), ("Float", "float32"), ("Half", "float16"), ("BFloat16", "bfloat16"),
        ("Long", "int64"), ("Int", "int32"), ("Short", "int16"), ("Char", "int8"), ("Byte", "uint8"),
        ("Bool", "bool"),
    )
}  # fmt: skip


class _Inert(type):
    """Kind of the stand-ins: calling one, or filling it like a dict, does nothing and gives it
    back.
    """

    def __call__(cls, *args, **kwargs):
        return cls

    def __setitem__(cls, key, value):
        pass


def _stand_in(module: str, name: str) -> _Inert:
    """What stands for a class or function of a file: a class, so that a pickle can do with it all
    that pickles do.
    """
    nothing = staticmethod(lambda *_: None)
    body = dict.fromkeys(("__setstate__", "append", "extend", "add"), nothing)
    return _Inert(name, (), body | {"__module__": module, "__new__": lambda cls, *_, **__: cls})


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_) -> Tensor:
    if isinstance(storage, _Inert):
        return storage
    return storage.as_strided(size, stride, offset)  # which refuses what the storage does not hold


KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}


class _Unpickler(pickle.Unpickler):
    """Plain values, and tensors whose numbers are still to be read into ``storages``, by key."""

    def __init__(self, file, most: int = 0):
        super().__init__(file)
        self.most, self.storages, self.names = most, {}, set()  # most: bytes that a storage may have

    def find_class(self, module: str, name: str):
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if name not in STORAGES:
            self.names.add(f"{module}.{name}")
        return _stand_in(module, name)

    def persistent_load(self, pid):
        _, storage, key, _, count, *view = pid
        if storage.__name__ not in STORAGES:  # of other numbers than weights
            return storage
        dtype = STORAGES[storage.__name__]
        if any(view) or not 0 <= count * dtype.itemsize <= self.most:
            raise ValueError(f"storage {key!r} of {count} numbers cannot be in this file")
        return self.storages.setdefault(key, torch.empty(count, dtype=dtype))

    def fill(self, key: str, data: bytes) -> None:
        self.storages[key].view(torch.uint8).numpy()[:] = np.frombuffer(data, np.uint8)


def _saved(path: Path) -> tuple[object, set[str]]:
    """What torch.save wrote, in its form since torch 1.6 or the one before; and the stand-ins'
    names.
    """
    most = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            place = next(name for name in file.namelist() if name.rpartition("/")[2] == "data.pkl")
            reader = _Unpickler(io.BytesIO(file.read(place)), most)
            content = reader.load()
            for key in reader.storages:
                reader.fill(key, file.read(f"{place.removesuffix('data.pkl')}data/{key}"))
        return content, reader.names
    with open(path, "rb") as file:
        for _ in range(3):  # a magic number, a version, the machine
            _Unpickler(file).load()
        reader = _Unpickler(file, most)
        content = reader.load()
        for key in _Unpickler(file).load():
            (count,) = struct.unpack("<q", file.read(8))
            reader.fill(key, file.read(count * reader.storages[key].itemsize))
    return content, reader.names


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The weights of a ``.safetensors`` file or of a file of torch.save, flat or under ``model`` or
    ``state_dict``.

    Nothing in it is run: what is no tensor is left aside, and named on stderr where it is more than
    plain values. Raises FileNotFoundError, or ValueError naming the file: damaged, or of another
    kind.
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
        content, names = _saved(path)
    except Exception as error:  # damaged bytes raise nearly anything
        raise ValueError(f"{path}: damaged, or not a file of torch.save ({error!r})") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds {_kind(content)}, not tensors by name")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: '{name}' is {_kind(value)}, not a tensor")
    if names:
        told = textwrap.shorten(", ".join(sorted(names)), 300)
        print(f"{path}: left aside beside the weights, not run: {told}", file=sys.stderr)
    return dict(content)


def _kind(value: object) -> str:
    if isinstance(value, _Inert):
        return f"{value.__module__}.{value.__qualname__}, which was not run"
    return f"a {type(value).__name__}"


def read_plain(path: str | Path, data: bytes):
    """The dicts, lists, strings and numbers of a pickle inside a file; nothing in it is run.

    Raises ValueError naming the file where it is damaged.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # damaged bytes raise nearly anything
        raise ValueError(f"{path}: the pickle inside it is damaged ({error!r})") from error


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
