"""The decoder as compiled C, for bfloat16 on processors that multiply it: 1.3 times as fast as
torch at paper size, twice at the demo's.

``compiled.c`` is compiled by the machine's own C compiler when it is first wanted, a matter of
seconds, and kept in the user's cache. Without such a processor or compiler the engine's torch path
does the same work, and ``why_not`` says what is missing.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.models.captioner import Captioner
from aacstudy.options import DecoderOptions
from aacstudy.scoring.trie import QUERIES, WIDTH, Trie

SOURCE = Path(__file__).with_suffix(".c")
# as Linux names them
FEATURES = ("fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16")
FLAGS = ["-O3", "-mprefer-vector-width=512", "-shared", "-fPIC"]
FLAGS += [f"-m{name.replace('_', '')}" for name in FEATURES]
COLUMNS = 32  # of a panel of a packed matrix
SUBLAYERS = ("qkv", "own", "query", "cross", "up", "down")

_pointer, _long = ctypes.c_void_p, ctypes.c_int64


class _Linear(ctypes.Structure):
    _fields_ = [("weight", _pointer), ("bias", _pointer), ("k", _long), ("n", _long)]


class _Layer(ctypes.Structure):
    _fields_ = [(name, _Linear) for name in SUBLAYERS] + [
        ("scale", _pointer * 3),
        ("shift", _pointer * 3),
        ("eps", ctypes.c_float * 3),
    ]


class _Model(ctypes.Structure):
    _fields_ = [(name, _long) for name in ("d", "heads", "ff", "layers", "vocabulary")] + [
        ("layer", ctypes.POINTER(_Layer)),
        ("classifier", _Linear),
    ]


class _Groups(ctypes.Structure):
    _fields_ = [("groups", _long), ("keys", _long), ("key", _pointer), ("seen", _pointer)]


class _Tree(ctypes.Structure):
    _fields_ = [(name, _long) for name in ("rows", "kinds", "edges")] + [
        ("state", _pointer),
        ("kind", ctypes.POINTER(_Groups)),
        ("node", _pointer),
        ("token", _pointer),
    ]


class _Clip(ctypes.Structure):
    _fields_ = [("frames", _long), ("padded", _long), ("key", _pointer), ("value", _pointer)]


@cache
def why_not() -> str:
    """What keeps this machine from the compiled path, in words; nothing where it works."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The compiled functions, or why there are none."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if platform.machine() == "x86_64" and info.exists() else []
    if lacking := [name for name in FEATURES if name not in flags]:
        return None, f"the processor has no {lacking[-1]}"
    compiler = shlex.split(os.environ.get("CC", "cc")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        return None, f"there is no C compiler ({compiler[0]})"
    try:
        library = _opened(compiler)
    # RuntimeError: nobody's home folder
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        reason = f"{SOURCE.name} could not be compiled and loaded: {said[0] if said else compiler[0]}"
        warnings.warn(f"{reason}; torch does the work, more slowly", RuntimeWarning, stacklevel=2)
        return None, reason
    library.workspace.restype = _long
    library.workspace.argtypes = [_pointer, _long, _long, _long]
    library.losses.restype = None
    library.losses.argtypes = [_pointer, _pointer, _pointer, ctypes.c_float, _pointer, _pointer]
    return library, ""


def _opened(compiler: list[str]) -> ctypes.CDLL:
    """The library, made if it is not there; one that does not open is made again, once."""
    path = _place(compiler)
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            path.unlink()
    _build(compiler, path)
    return ctypes.CDLL(str(path))


def _place(compiler: list[str]) -> Path:
    """Where in the user's cache the library for this source, compiler and C library belongs."""
    version = subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True, timeout=60)
    about = [*compiler, version.stdout, platform.machine(), *platform.libc_ver(), *FLAGS, str(QUERIES)]
    key = hashlib.sha256(SOURCE.read_bytes() + "\0".join(about).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aacstudy"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = home / f"{SOURCE.stem}-{key}.so"
    for one in filter(Path.exists, (home, path)):  # what is loaded is run: it must be ours
        if one.stat().st_uid != os.getuid() or one.stat().st_mode & 0o002:
            raise PermissionError(f"{one} belongs to another user or can be written by all")
    return path


def _build(compiler: list[str], path: Path) -> None:
    """Compile to a file of its own, then link it to ``path``: the first of several jobs wins."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [*compiler, *FLAGS, f"-DQUERIES={QUERIES}", "-o", str(made), str(SOURCE), "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(made, path)


def fits(options: DecoderOptions) -> bool:
    """Whether a decoder has the even sizes that products in pairs want."""
    return options.d_ff % 2 == 0 and options.d_model % (2 * options.heads) == 0


def pack(matrix: Tensor) -> Tensor:
    """[..., n, k] -> bfloat16 panels [..., ceil(n / 32), k / 2, 32, 2] for C, zeros behind n."""
    n, k = matrix.shape[-2:]
    rows = F.pad(matrix.to(torch.bfloat16), (0, 0, 0, -n % COLUMNS))
    return rows.unflatten(-1, (k // 2, 2)).unflatten(-3, (-1, COLUMNS)).transpose(-3, -2).contiguous()


@dataclass(frozen=True)
class Heard:
    """A clip's keys and values of every layer, packed."""

    clip: _Clip
    held: tuple[Tensor, Tensor]  # what it points to


@dataclass(frozen=True)
class Block:
    """A tree with what needs no audio."""

    tree: _Tree
    path: Tensor
    longest: int  # keys of a group
    held: list  # what it points to


class Decoder:
    """A captioner's decoder, weights packed once. RuntimeError where ``why_not`` has a reason."""

    def __init__(self, captioner: Captioner):
        self.library, reason = _load()
        if self.library is None:
            raise RuntimeError(f"no compiled path: {reason}")
        options, decoder = captioner.options, captioner.decoder
        self.heads, self.held = options.heads, []
        self.kv = []
        layers = (_Layer * options.layers)()
        for layer, torchs in zip(layers, decoder.layers):
            self._fill(layer, torchs)
        classifier = decoder.classifier
        self.model = _Model(
            options.d_model, options.heads, options.d_ff, options.layers, captioner.vocabulary_size, layers,
            self._linear(classifier.weight, classifier.bias, behind=-torch.inf),
        )  # fmt: skip
        self.held.append(layers)

    def _vector(self, values: Tensor, behind: float = 0.0) -> int:
        padded = F.pad(values.detach().float(), (0, -len(values) % COLUMNS), value=behind).clone()
        self.held.append(padded)
        return padded.data_ptr()

    def _linear(self, weight: Tensor, bias: Tensor, behind: float = 0.0) -> _Linear:
        packed = pack(weight.detach())
        self.held.append(packed)
        return _Linear(packed.data_ptr(), self._vector(bias, behind), weight.shape[1], weight.shape[0])

    def _fill(self, layer: _Layer, torchs: nn.TransformerDecoderLayer) -> None:
        own, cross, d = torchs.self_attn, torchs.multihead_attn, torchs.self_attn.embed_dim
        # dot products are divided by sqrt(d / heads): in the weights of the queries that costs
        # nothing
        scale = torch.ones(3 * d, 1)
        scale[:d] = (d // self.heads) ** -0.5
        layer.qkv = self._linear(own.in_proj_weight * scale, own.in_proj_bias * scale[:, 0])
        layer.own = self._linear(own.out_proj.weight, own.out_proj.bias)
        layer.query = self._linear(
            cross.in_proj_weight[:d] * scale[:d], cross.in_proj_bias[:d] * scale[:d, 0]
        )
        layer.cross = self._linear(cross.out_proj.weight, cross.out_proj.bias)
        layer.up = self._linear(torchs.linear1.weight, torchs.linear1.bias)
        layer.down = self._linear(torchs.linear2.weight, torchs.linear2.bias)
        for i, norm in enumerate((torchs.norm1, torchs.norm2, torchs.norm3)):
            layer.scale[i], layer.shift[i] = self._vector(norm.weight), self._vector(norm.bias)
            layer.eps[i] = norm.eps
        self.kv.append((cross.in_proj_weight[d:].detach().clone(), cross.in_proj_bias[d:].detach().clone()))

    def bytes_per_clip(self, frames: int) -> int:
        """What ``hear`` keeps of a clip."""
        width = self.model.d + self.heads * -(-self.model.d // self.heads // COLUMNS) * COLUMNS
        return 2 * self.model.layers * width * -(-frames // WIDTH) * WIDTH

    def hear(self, memory: Tensor) -> Heard:
        """Memory [frames, d] -> keys and values of every layer's cross-attention."""
        frames, padding, layers = len(memory), -len(memory) % WIDTH, self.model.layers
        held = ()  # of keys and of values [layers, heads, panels, pairs, 32, 2]
        for number, (weight, bias) in enumerate(self.kv):
            kv = F.linear(memory, weight, bias).view(frames, 2, self.heads, -1).permute(1, 2, 0, 3)
            # each [heads, padded, d / heads]
            key, value = F.pad(kv.to(torch.bfloat16), (0, 0, 0, padding))
            packed = pack(key), pack(value.transpose(1, 2))
            held = held or tuple(torch.empty(layers, *one.shape, dtype=one.dtype) for one in packed)
            for whole, one in zip(held, packed):
                whole[number] = one
        return Heard(_Clip(frames, frames + padding, *(one.data_ptr() for one in held)), held)

    def block(self, trie: Trie, state: Tensor) -> Block:
        """A tree and its states [nodes, d], float32, after the first self-attention."""
        kinds = (_Groups * len(trie.keys))()
        held = [kinds, state := state.contiguous()]

        def put(array: np.ndarray) -> int:
            held.append(np.ascontiguousarray(array))
            return held[-1].ctypes.data

        for kind, keys, seen in zip(kinds, trie.keys, trie.seen):
            kind.groups, kind.keys = keys.shape
            kind.key, kind.seen = put(keys), put(np.packbits(seen, axis=-1, bitorder="little"))
        tree = _Tree(
            len(trie.token), len(kinds), len(trie.edge_node), state.data_ptr(), kinds,
            put(trie.edge_node), put(trie.edge_token),
        )  # fmt: skip
        longest = max(keys.shape[1] for keys in trie.keys)
        return Block(tree, torch.from_numpy(trie.path), longest, held)

    def workspace(self, rows: int, frames: int, keys: int) -> int:
        """Bytes that ``losses`` works in, for a tree's rows, a clip's frames and a group's keys."""
        return self.library.workspace(ctypes.byref(self.model), rows, -(-frames // WIDTH) * WIDTH, keys)

    def losses(
        self, block: Block, heard: Heard, label_smoothing: float = 0.0, work: Tensor | None = None
    ) -> Tensor:
        """Loss of every edge [edges], float32, for one clip.

        ``work``: bytes that it may use, at least ``workspace``, of each thread that calls its own.
        """
        if work is None:
            size = self.workspace(block.tree.rows, heard.clip.frames, block.longest)
            work = torch.empty(size, dtype=torch.uint8)
        model, tree, clip = map(ctypes.byref, (self.model, block.tree, heard.clip))
        result = torch.empty(block.tree.edges)
        self.library.losses(model, tree, clip, label_smoothing, result.data_ptr(), work.data_ptr())
        return result
