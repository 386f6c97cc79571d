"""The loss matrix, fast: what captions share and what clips share is computed once, and nothing is padded.

Captions are prefix trees (``trie``). One clip at a time passes through one tree of up to some thousand nodes, so every
matrix product has that many rows, cross-attention needs no copy of a clip's keys and values, and no number of a clip
depends on its company. The first self-attention hears no audio, so it is computed once for all clips.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.models.captioner import Captioner
from aacstudy.scoring.trie import QUERIES, WIDTH, Trie, check, tries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
NODES = {"cpu": 2048, "cuda": 65536}  # a CPU has caches for some thousand rows; a GPU wants all there are
CLIPS = 64  # share what is computed once for all clips; more would gain no percent and show progress late
LOGITS = {"cpu": 128, "cuda": 16384}  # rows of [rows, vocabulary] at once
SCORES = {"cpu": 1024, "cuda": 65536}  # rows of cross-attention at once; a GPU's fused kernel keeps no scores


def parse_bytes(text: str | int) -> int:
    """Bytes of ``'2GB'``, ``'512 MiB'`` or a plain number; ValueError for anything else."""
    number = str(text).strip().upper().rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = str(text).strip().upper()[len(number) :].strip() or "B"
    try:
        size = int(float(number) * UNITS[unit])
    except (KeyError, ValueError):
        size = 0
    if size < 1:
        raise ValueError(f"memory must be a number and one of {', '.join(UNITS)}, got {text!r}")
    return size


def _linear(weight: Tensor, bias: Tensor) -> Callable[..., Tensor]:
    """``f(x [rows, in], add=None, gelu=False)`` -> [rows, out]: a linear layer, then GELU (erf) or a sum.

    On a CPU oneDNN packs the weights once and does GELU or sum while the product is still in cache: the operators
    that inductor's weight freezing calls, without its minutes of compiling.
    """
    if weight.device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        plain, binary = torch.ops.mkldnn._linear_pointwise, torch.ops.mkldnn._linear_pointwise.binary

        def fused(x: Tensor, add: Tensor | None = None, gelu: bool = False) -> Tensor:
            if add is not None:
                return binary(x, add, packed, bias, "add")
            return plain(x, packed, bias, "gelu" if gelu else "none", [], "none" if gelu else "")

        return fused

    def unfused(x: Tensor, add: Tensor | None = None, gelu: bool = False) -> Tensor:
        y = F.linear(x, weight, bias)
        return F.gelu(y) if gelu else y if add is None else y.add_(add)

    return unfused


class _Layer:
    """One post-norm layer's weights in the engine's dtype, taken apart into what is done at different times."""

    def __init__(self, layer: nn.TransformerDecoderLayer, dtype: torch.dtype):
        def cast(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype)

        def linear(module: nn.Linear) -> Callable[..., Tensor]:
            return _linear(cast(module.weight), cast(module.bias))

        def norm(module: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
            weight, bias, eps = cast(module.weight), cast(module.bias), module.eps
            return lambda x: F.layer_norm(x, weight.shape, weight, bias, eps)

        own, cross = layer.self_attn, layer.multihead_attn
        d = own.embed_dim
        self.heads = own.num_heads
        # dot products are divided by sqrt(d / heads): in the weights of the queries that costs nothing
        scale = torch.ones(3 * d, 1, device=own.in_proj_weight.device)
        scale[:d] = (d // self.heads) ** -0.5
        self.qkv = _linear(cast(own.in_proj_weight * scale), cast(own.in_proj_bias * scale[:, 0]))
        self.own_out = linear(own.out_proj)
        self.query = _linear(cast(cross.in_proj_weight[:d] * scale[:d]), cast(cross.in_proj_bias[:d] * scale[:d, 0]))
        self.kv = cast(cross.in_proj_weight[d:]), cast(cross.in_proj_bias[d:])
        self.cross_out = linear(cross.out_proj)
        self.linear1, self.linear2 = linear(layer.linear1), linear(layer.linear2)
        self.norm1, self.norm2, self.norm3 = norm(layer.norm1), norm(layer.norm2), norm(layer.norm3)

    def attend_self(self, x: Tensor, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
        """States [nodes, d] after the first sublayer; groups: keys [n * seen] and bias [n (, heads), QUERIES, seen]."""
        d = x.shape[1]
        qkv, start, out = self.qkv(x), 0, []  # [nodes, 3 d]
        for keys, bias in groups:
            n, seen = len(keys) // bias.shape[-1], bias.shape[-1]
            stop = start + n * QUERIES
            query = qkv[start:stop, :d].view(n, QUERIES, self.heads, -1).transpose(1, 2)
            gathered = qkv[:, d:].index_select(0, keys).view(n, seen, 2, self.heads, -1)
            key, value = gathered.permute(2, 0, 3, 1, 4)  # each [n, heads, seen, d / heads]
            out.append(_attention(query, key, value, bias).transpose(1, 2).reshape(-1, d))
            start = stop
        return self.norm1(self.own_out(torch.cat(out) if len(out) > 1 else out[0], add=x))

    def attend_clip(self, x: Tensor, query: Tensor, heard: "Heard") -> Tensor:
        """States [nodes, d] after the second and third sublayer, from the query [nodes, d] of the second."""
        out = [
            _attention(part.view(1, len(part), self.heads, -1).transpose(1, 2), heard.key, heard.value, frames=heard.frames)
            .transpose(1, 2)
            .reshape(part.shape)
            for part in query.split(heard.rows)
        ]
        x = self.norm2(self.cross_out(torch.cat(out) if len(out) > 1 else out[0], add=x))
        return self.norm3(self.linear2(self.linear1(x, gelu=True), add=x))


@dataclass(frozen=True)
class Heard:
    """One layer's keys and values of a clip, each [1, heads, frames padded to WIDTH, d / heads]."""

    key: Tensor
    value: Tensor
    frames: int
    rows: int  # queries at once, so that scores [1, heads, rows, frames] fit


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, frames: int = 0) -> Tensor:
    """Attention [n, heads, queries, d / heads] whose scores are scaled already; keys from ``frames`` on are not seen.

    On a CPU three plain products beat the fused kernel, as long as rows of scores fill whole vectors.
    """
    if query.device.type != "cpu":
        if bias is None:
            key, value = key[:, :, :frames], value[:, :, :frames]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    n, heads, queries, _ = query.shape
    query, key, value = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), value.flatten(0, 1)
    if bias is None:
        scores = torch.bmm(query, key)  # [n * heads, queries, keys]
        scores[:, :, frames:] = -math.inf
    else:
        scores = torch.baddbmm(bias.flatten(0, 1), query, key)
    return torch.bmm(scores.softmax(dim=-1), value).view(n, heads, queries, -1)


@dataclass(frozen=True)
class _Block:
    """A tree on the device, with what needs no audio."""

    state: Tensor  # [nodes, d] after the first self-attention
    query: Tensor  # [nodes, d] of the first cross-attention
    groups: list[tuple[Tensor, Tensor]]
    edge_node: Tensor
    edge_token: Tensor
    parts: list[tuple[int, int, int, int]]  # nodes from, to and their edges from, to: logits done at once
    path: Tensor


class Engine:
    """Losses of captions on any audio: sums over a caption's words and EOS in nats, as ``nll_reference``.

    float32 equals the reference within 1e-4; bfloat16 is about twice as fast and ranks alike. ``memory`` (bytes or
    ``'2GB'``) bounds what is held beside the model, the captions and the result; if not even the smallest block fits,
    the smallest block is used. Results of an audio are the same bits whatever other audios are in the call. The
    captioner's weights are copied: build a new engine after training on.

    Raises ValueError for another dtype, unreadable memory, captions without a target, with padding, ids outside the
    vocabulary, or more tokens than positions.
    """

    def __init__(
        self,
        captioner: Captioner,
        captions: Sequence[list[int]],
        dtype: str = "float32",
        memory: str | int = "2GB",
    ):
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        captioner.eval()
        self.captioner, self.dtype, self.memory = captioner, DTYPES[dtype], parse_bytes(memory)
        decoder = captioner.decoder
        self.device = decoder.embedding.weight.device
        with torch.inference_mode():
            self.layers = [_Layer(layer, self.dtype) for layer in decoder.layers]
            self.kv = [torch.cat(parts) for parts in zip(*(layer.kv for layer in self.layers))]
            weight, bias = decoder.classifier.weight, decoder.classifier.bias
            self.classifier = _linear(weight.detach().to(self.dtype), bias.detach().to(self.dtype))
        self._size()
        if self.device.type == "cpu":
            # glibc gives freed memory back, and each block pays for its pages again, until it has seen a large piece go
            torch.empty(31 * 2**20, dtype=torch.uint8)
        self.set_captions(captions)

    def _size(self) -> None:
        """Rows of a block and of its logits, by memory."""
        options, e = self.captioner.options, self.dtype.itemsize
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        # states, products, the keys that groups gather, their scores and masks, the paths
        per_row = e * (20 * options.d_model + 2 * options.d_ff + 6 * options.heads * WIDTH) + 512
        per_logits = self.captioner.vocabulary_size * (2 * e + 8)
        self.nodes = max(QUERIES, min(NODES[kind], self.memory // 6 // per_row))
        self.score_rows = SCORES[kind]
        self.logit_rows = max(8, min(LOGITS[kind], self.memory // 12 // per_logits))

    def set_captions(self, captions: Sequence[list[int]]) -> None:
        """Score other captions from now on: columns of ``nll`` are these."""
        check(captions, self.captioner.vocabulary_size, len(self.captioner.decoder.positions))
        self.captions = len(captions)
        self.tokens = np.array([len(ids) - 1 for ids in captions], dtype=np.int64)  # terms of each sum
        self.tries: list[Trie] = tries(captions, self.nodes)

    def clips_at_once(self, frames: int) -> int:
        """Clips whose keys and values of all layers take a sixth of the memory, from 1 to ``CLIPS``."""
        options = self.captioner.options
        frames = -(-frames // WIDTH) * WIDTH
        return max(1, min(CLIPS, self.memory // 6 // (2 * options.layers * options.d_model * frames * self.dtype.itemsize)))

    @torch.inference_mode()
    def nll(self, frames: Sequence[Tensor], progress: Callable = iter) -> np.ndarray:
        """Negative log-likelihoods [audios, captions], float32, of frames [time, dim] per audio.

        ``progress`` wraps a loop over audios.
        """
        result = np.empty((len(frames), self.captions), dtype=np.float32)
        done = iter(progress(range(len(frames))))
        band = self.clips_at_once(max((len(clip) for clip in frames), default=1))
        for start in range(0, len(frames), band):
            heard = [self.hear(clip) for clip in frames[start : start + band]]
            rows = range(start, start + len(heard))
            for i, trie in enumerate(self.tries):
                block = self._block(trie)
                last = i == len(self.tries) - 1
                sums = [self._sums(block, clip) for clip, _ in zip(heard, done if last else rows)]
                found = torch.stack(sums).cpu().numpy()  # [band, distinct captions]
                result[start : start + len(heard), trie.rows] = found[:, trie.distinct]
            del heard  # before the next band's
        next(done, None)
        return result

    def hear(self, clip: Tensor) -> list[Heard]:
        """Frames [time, dim] -> keys and values of every layer's cross-attention."""
        memory = self.captioner.project(clip[None].to(self.device))[0].to(self.dtype)  # [time, d]
        heads = self.captioner.options.heads
        kv = F.linear(memory, *self.kv).view(len(memory), len(self.layers), 2, heads, -1)
        kv = F.pad(kv.permute(1, 2, 3, 0, 4), (0, 0, 0, -len(memory) % WIDTH))  # [layers, 2, heads, padded, d / heads]
        rows = max(QUERIES, min(self.score_rows, self.memory // 12 // (2 * heads * kv.shape[3] * self.dtype.itemsize)))
        return [Heard(layer[:1], layer[1:], len(memory), rows) for layer in kv]

    def _block(self, trie: Trie) -> _Block:
        decoder, device = self.captioner.decoder, self.device
        first = self.layers[0]

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        groups = []
        for keys, seen in zip(trie.keys, map(put, trie.seen)):
            bias = torch.zeros(seen.shape, dtype=self.dtype, device=device).masked_fill_(~seen, -math.inf)
            bias = bias[:, None].expand(-1, first.heads, -1, -1)  # [groups, heads, QUERIES, keys]
            groups.append((put(keys).flatten(), bias.contiguous() if device.type == "cpu" else bias))
        embedded = decoder.embed(put(trie.token)) + decoder.positions[put(trie.depth)]
        state = first.attend_self(embedded.to(self.dtype), groups)  # [nodes, d]
        starts = np.arange(0, len(trie.token), self.logit_rows)
        stops = np.minimum(starts + self.logit_rows, len(trie.token))
        edges = np.searchsorted(trie.edge_node, np.append(starts, len(trie.token)))
        parts = [tuple(map(int, part)) for part in zip(starts, stops, edges, edges[1:])]
        local = trie.edge_node - np.repeat(starts, np.diff(edges))  # row inside its part
        return _Block(
            state, first.query(state), groups, put(local), put(trie.edge_token), parts, put(trie.path)
        )

    def _losses(self, block: _Block, heard: list[Heard]) -> Tensor:
        """Loss of every edge [edges], float32, for one clip."""
        x = self.layers[0].attend_clip(block.state, block.query, heard[0])
        for layer, kv in zip(self.layers[1:], heard[1:]):
            x = layer.attend_self(x, block.groups)
            x = layer.attend_clip(x, layer.query(x), kv)
        losses = []
        for start, stop, first, last in block.parts:
            logits = self.classifier(x[start:stop])  # [rows, vocabulary]
            logp = F.log_softmax(logits, dim=1, dtype=torch.float32)
            losses.append(logp[block.edge_node[first:last], block.edge_token[first:last]])
        return torch.cat(losses).neg_()

    def _sums(self, block: _Block, heard: list[Heard]) -> Tensor:
        """Loss of every distinct caption of the block [distinct captions], float32."""
        losses = F.pad(self._losses(block, heard), (0, 1))  # the padding edge costs nothing
        return losses[block.path].sum(dim=1)

    @torch.inference_mode()
    def token_nll(self, clip: Tensor) -> list[np.ndarray]:
        """Losses [tokens] of each caption's words and EOS, float32, on one clip [time, dim]: they sum to ``nll``."""
        heard, result = self.hear(clip), [None] * self.captions
        for trie in self.tries:
            losses = self._losses(self._block(trie), heard).cpu().numpy()
            for column, distinct in zip(trie.rows, trie.distinct):
                result[column] = losses[trie.path[distinct, : self.tokens[column]]]
        return result


def nll_pairs(
    captioner: Captioner,
    frames: Sequence[Tensor],
    captions: Sequence[list[int]],
    audio: Sequence[int],
    caption: Sequence[int],
    progress: Callable = iter,
    dtype: str = "float32",
    memory: str | int = "2GB",
) -> np.ndarray:
    """Negative log-likelihoods [pairs] of chosen (audio, caption) index pairs, float32; see ``Engine``."""
    engine = Engine(captioner, [], dtype, memory)
    audio, caption = np.asarray(audio), np.asarray(caption)
    result = np.empty(len(audio), dtype=np.float32)
    for a in progress(np.unique(audio)):
        pairs = np.flatnonzero(audio == a)
        engine.set_captions([captions[c] for c in caption[pairs]])
        result[pairs] = engine.nll([frames[a]])[0]
    return result


def token_nll(captioner: Captioner, clip: Tensor, caption: list[int], dtype: str = "float32") -> np.ndarray:
    """Losses [tokens] of a caption's words and EOS on one clip [time, dim], in nats: what a pair's sum is made of."""
    return Engine(captioner, [caption], dtype).token_nll(clip)[0]
