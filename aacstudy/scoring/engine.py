"""The loss matrix, fast: what captions or clips share is computed once, and nothing is padded.

Captions are prefix trees (``trie``). One clip at a time passes through one tree of up to some
thousand nodes, so every matrix product has that many rows, cross-attention needs no copy of a
clip's keys and values, and no number of a clip depends on its company. The first self-attention
hears no audio, so it is computed once for all clips. The rest is torch, or in bfloat16 on a
processor that has it, compiled C (``compiled``).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aacstudy.models.captioner import Captioner
from aacstudy.scoring import compiled
from aacstudy.scoring.layers import Heard, Layer, logit_layer
from aacstudy.scoring.trie import QUERIES, WIDTH, Trie, check, tries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
# a CPU has caches for some thousand rows; a GPU wants all there are
NODES = {"cpu": 2048, "cuda": 65536}
FRAMES = 1024  # of a clip, more than 5 minutes, for the room that attention takes
# share what is computed once for all clips; more would gain no percent and show progress late
CLIPS = 64
LOGITS = {"cpu": 128, "cuda": 16384}  # rows of [rows, vocabulary] at once
# rows of cross-attention at once; a GPU's fused kernel keeps no scores
SCORES = {"cpu": 1024, "cuda": 65536}


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


@dataclass(frozen=True)
class _Block:
    """A tree on the device, with what needs no audio."""

    state: Tensor  # [nodes, d] after the first self-attention
    query: Tensor  # [nodes, d] of the first cross-attention
    groups: list[tuple[Tensor, Tensor]]
    edge_node: Tensor
    edge_token: Tensor
    # nodes from, to and their edges from, to: logits done at once
    parts: list[tuple[int, int, int, int]]
    path: Tensor


class Engine:
    """Losses of captions on any audio: sums over words and EOS in nats, as ``nll_reference``.

    float32 equals the reference within 1e-4; bfloat16 ranks alike and is 1.4 to 1.6 times as fast,
    2.2 to 2.8 times with compiled C, which is used wherever this machine can (measured in LOG.md;
    ``use_c`` False: with torch alone). ``memory`` (bytes or ``'2GB'``) bounds what is held beside
    the model, the captions and the result; if not even the smallest block fits, the smallest block
    is used. ``label_smoothing`` shares out that part of each target among the whole vocabulary, as
    the training loss does; the ranking loss has none. Results of an audio are the same bits
    whatever other audios are in the call. Most weights are copied: build anew after training.

    Raises ValueError for another dtype, unreadable memory, captions without a target, with padding,
    ids outside the vocabulary, or more tokens than positions.
    """

    def __init__(
        self,
        captioner: Captioner,
        captions: Sequence[list[int]],
        dtype: str = "float32",
        memory: str | int = "2GB",
        label_smoothing: float = 0.0,
        use_c: bool = True,
    ):
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        captioner.eval()
        self.captioner, self.dtype, self.memory = captioner, DTYPES[dtype], parse_bytes(memory)
        self.label_smoothing = label_smoothing
        decoder = captioner.decoder
        self.device = decoder.embedding.weight.device
        use_c = (
            use_c and dtype == "bfloat16" and self.device.type == "cpu" and compiled.fits(captioner.options)
        )
        with torch.inference_mode():
            if use_c and not compiled.why_not():
                self.compiled = compiled.Decoder(captioner)
                self.layers = [Layer(decoder.layers[0], torch.float32)]  # for what needs no audio
            else:
                self.compiled = None
                self.layers = [Layer(layer, self.dtype) for layer in decoder.layers]
                self.kv = [torch.cat(parts) for parts in zip(*(layer.kv for layer in self.layers))]
                self.classifier = logit_layer(decoder.classifier, self.dtype)
        self._size()
        if self.device.type == "cpu" and not self.compiled:
            # glibc gives freed memory back, and each block pays for its pages again, until it has
            # seen a large piece go
            torch.empty(31 * 2**20, dtype=torch.uint8)
        self.set_captions(captions)

    def _size(self) -> None:
        """Rows of a block and of its logits, by memory."""
        options, e = self.captioner.options, self.dtype.itemsize
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        # states, products, the keys that groups gather, their scores and masks, the paths
        per_row = e * (20 * options.d_model + 2 * options.d_ff + 6 * options.heads * WIDTH) + 512
        # logits, logarithms of probabilities, what is packed
        per_logits = 12 * self.captioner.vocabulary_size
        self.nodes = max(QUERIES, min(NODES[kind], self.memory // 8 // per_row))
        # each thread works on a clip of its own, all of them in a third of the memory
        if self.compiled:
            least, more = (
                self.compiled.workspace(rows, FRAMES, 4 * WIDTH) for rows in (QUERIES, 2 * QUERIES)
            )
            self.threads = max(1, min(torch.get_num_threads(), self.memory // 3 // least))
            room = (self.memory // 3 // self.threads - least) // (more - least) * QUERIES
            self.nodes = max(QUERIES, min(self.nodes, room))
        self.score_rows = SCORES[kind]
        self.logit_rows = max(8, min(LOGITS[kind], self.memory // 16 // per_logits))

    def set_captions(self, captions: Sequence[list[int]]) -> None:
        """Score other captions from now on: columns of ``nll`` are these."""
        check(captions, self.captioner.vocabulary_size, len(self.captioner.decoder.positions))
        self.captions = len(captions)
        # terms of each sum
        self.tokens = np.array([len(ids) - 1 for ids in captions], dtype=np.int64)
        self.tries: list[Trie] = tries(captions, self.nodes)

    def clips_at_once(self, frames: int) -> int:
        """Clips whose keys and values take a sixth of the memory, from 1 to ``CLIPS``."""
        options = self.captioner.options
        padded = max(1, -(-frames // WIDTH)) * WIDTH
        size = 2 * options.layers * options.d_model * padded * self.dtype.itemsize
        if self.compiled:
            size = self.compiled.bytes_per_clip(padded)
        return max(1, min(CLIPS, self.memory // 6 // size))

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
                sums = [one for one, _ in zip(self._each(block, heard), done if last else rows)]
                found = torch.stack(sums).cpu().numpy()  # [band, distinct captions]
                result[start : start + len(heard), trie.rows] = found[:, trie.distinct]
            del heard  # before the next band's
        next(done, None)
        return result

    def hear(self, clip: Tensor) -> list[Heard] | compiled.Heard:
        """Frames [time, dim] -> keys and values of every layer's cross-attention."""
        memory = self.captioner.project(clip[None].to(self.device))[0]  # [time, d]
        if self.compiled:
            return self.compiled.hear(memory)
        memory = memory.to(self.dtype)
        heads = self.captioner.options.heads
        kv = F.linear(memory, *self.kv).view(len(memory), len(self.layers), 2, heads, -1)
        kv = F.pad(
            kv.permute(1, 2, 3, 0, 4), (0, 0, 0, -len(memory) % WIDTH)
        )  # [layers, 2, heads, padded, d / heads]
        rows = max(
            QUERIES,
            min(self.score_rows, self.memory // 12 // (2 * heads * kv.shape[3] * self.dtype.itemsize)),
        )
        return [Heard(layer[:1], layer[1:], len(memory), rows) for layer in kv]

    def _block(self, trie: Trie) -> _Block | compiled.Block:
        decoder, device = self.captioner.decoder, self.device
        first, dtype = self.layers[0], torch.float32 if self.compiled else self.dtype

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        groups = []
        for keys, seen in zip(trie.keys, map(put, trie.seen)):
            bias = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -math.inf)
            bias = bias[:, None].expand(-1, first.heads, -1, -1)  # [groups, heads, QUERIES, keys]
            groups.append((put(keys).flatten(), bias.contiguous() if device.type == "cpu" else bias))
        embedded = decoder.embed(put(trie.token)) + decoder.positions[put(trie.depth)]
        state = first.attend_self(embedded.to(dtype), groups)  # [nodes, d]
        if self.compiled:
            return self.compiled.block(trie, state)
        starts = np.arange(0, len(trie.token), self.logit_rows)
        stops = np.minimum(starts + self.logit_rows, len(trie.token))
        edges = np.searchsorted(trie.edge_node, np.append(starts, len(trie.token)))
        parts = [tuple(map(int, part)) for part in zip(starts, stops, edges, edges[1:])]
        local = trie.edge_node - np.repeat(starts, np.diff(edges))  # row inside its part
        return _Block(
            state, first.query(state), groups, put(local), put(trie.edge_token), parts, put(trie.path)
        )

    def _losses(self, block: _Block | compiled.Block, heard: list[Heard] | compiled.Heard) -> Tensor:
        """Loss of every edge [edges], float32, for one clip."""
        if self.compiled:
            return self.compiled.losses(block, heard, self.label_smoothing)
        x = self.layers[0].attend_clip(block.state, block.query, heard[0])
        for layer, kv in zip(self.layers[1:], heard[1:]):
            x = layer.attend_self(x, block.groups)
            x = layer.attend_clip(x, layer.query(x), kv)
        losses = []
        for start, stop, first, last in block.parts:
            logits = self.classifier(x[start:stop])  # [rows, vocabulary], float32
            logp = F.log_softmax(logits, dim=1)
            node = block.edge_node[first:last]
            loss = logp[node, block.edge_token[first:last]]
            if self.label_smoothing:
                loss = torch.lerp(loss, logp.mean(dim=1)[node], self.label_smoothing)
            losses.append(loss)
        return torch.cat(losses).neg_()

    def _each(self, block: _Block | compiled.Block, heard: list) -> Iterable[Tensor]:
        """``_sums`` of clip after clip; the compiled path takes several at once."""
        if not self.compiled:
            yield from (self._sums(block.path, self._losses(block, clip)) for clip in heard)
            return
        longest = max(clip.clip.frames for clip in heard)
        size = self.compiled.workspace(block.tree.rows, longest, block.longest)
        works: SimpleQueue[Tensor] = SimpleQueue()
        # taken here, since a thread's heap keeps what it took
        for _ in range(min(self.threads, len(heard))):
            works.put(torch.empty(size, dtype=torch.uint8))

        @torch.inference_mode()  # which each thread must say for itself
        def one(clip: compiled.Heard) -> Tensor:
            work = works.get()
            try:
                losses = self.compiled.losses(block, clip, self.label_smoothing, work)
            finally:
                works.put(work)  # whatever happens: another thread may wait for it
            return self._sums(block.path, losses)

        if self.threads == 1:
            yield from map(one, heard)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(one, heard)

    def _sums(self, path: Tensor, losses: Tensor) -> Tensor:
        """Loss of a block's distinct captions [distinct captions], float32, from its edges'."""
        return F.pad(losses, (0, 1))[path].sum(dim=1)  # the padding edge costs nothing

    @torch.inference_mode()
    def token_nll(self, clip: Tensor) -> list[np.ndarray]:
        """Losses [tokens] of each caption on one clip [time, dim], float32: they sum to ``nll``."""
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
    """Negative log-likelihoods [pairs] of (audio, caption) index pairs, float32; see ``Engine``."""
    engine = Engine(captioner, [], dtype, memory)
    audio, caption = np.asarray(audio), np.asarray(caption)
    result = np.empty(len(audio), dtype=np.float32)
    for a in progress(np.unique(audio)):
        pairs = np.flatnonzero(audio == a)
        engine.set_captions([captions[c] for c in caption[pairs]])
        result[pairs] = engine.nll([frames[a]])[0]
    return result
