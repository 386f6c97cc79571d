"""The best audios of a text query without scoring every pair to its end.

The loss of a token is never negative, so the sum over a caption's first tokens bounds its total from below: an audio
whose partial sum exceeds the k-th best total known is out. All audios of one query have equally many tokens, so the
mean loss orders them as the sum does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aacstudy.models.captioner import Captioner
from aacstudy.scoring.engine import Engine

SLACK = 1e-3  # nats: more than two orders of summation differ by, so rounding never drops a winner


@dataclass(frozen=True)
class Found:
    """Answers to text queries, best first; equal losses stand in the audios' order."""

    audio: np.ndarray  # [captions, k] rows of the frames given
    nll: np.ndarray  # [captions, k] sums in nats, float32, the same bits as Engine's for that caption alone
    skipped: float  # share of (audio, caption, token) triples whose loss was never computed


class _Query:
    """One caption and what is known of it: totals of the audios that were followed to its end."""

    def __init__(self, ids: list[int], k: int):
        self.ids, self.k = ids, k
        self.audio: list[int] = []
        self.total: list[float] = []
        self.computed = 0  # losses of tokens

    def bound(self) -> float:
        """No audio above this is among the best k."""
        return (
            float(np.partition(self.total, self.k - 1)[self.k - 1]) + SLACK
            if len(self.total) >= self.k
            else np.inf
        )

    def add(self, audio: Tensor, total: Tensor) -> None:
        self.audio += audio.tolist()
        self.total += total.tolist()

    def finalists(self) -> list[int]:
        bound = self.bound()
        return sorted(a for a, total in zip(self.audio, self.total) if total <= bound)


class _Band:
    """Clips that stand together, their keys and values padded to the longest."""

    def __init__(self, engine: Engine, frames: Sequence[Tensor], start: int):
        heard = [engine.hear(clip) for clip in frames]
        width = max(layers[0].key.shape[2] for layers in heard)
        counts = torch.tensor([layers[0].frames for layers in heard], device=engine.device)
        self.hidden = torch.arange(width, device=engine.device) >= counts[:, None]  # [clips, width]
        self.kv = [
            torch.cat(
                [F.pad(torch.stack([c.key, c.value], 1), (0, 0, 0, width - c.key.shape[2])) for c in clips]
            )
            for clips in zip(*heard)
        ]  # a layer's: [clips, 2, heads, width, d / heads]
        self.audio = torch.arange(start, start + len(heard), device=engine.device)


class _Walk:
    """Audios on their way through a caption: which, how far, their sums and what the layers remember."""

    def __init__(self, engine: Engine, band: _Band, query: _Query):
        self.engine, self.band, self.query = engine, band, query
        ids = torch.tensor(query.ids, device=engine.device)
        self.inputs, self.targets = ids[:-1], ids[1:]
        self.row = torch.arange(len(band.audio), device=engine.device)
        self.sum = torch.zeros(len(self.row), device=engine.device)
        self.done = 0
        self.past: list[Tensor | None] = [None] * len(engine.layers)  # [audios, done, 2, heads, d / heads]
        decoder = engine.captioner.decoder
        # the first layer's self-attention hears no audio
        self.start = decoder.embed(self.inputs) + decoder.positions[: len(self.inputs)]

    def keep(self, chosen: Tensor) -> "_Walk":
        """The same walk for some of its audios (indices or a mask)."""
        other = object.__new__(_Walk)
        other.__dict__.update(self.__dict__, row=self.row[chosen], sum=self.sum[chosen])
        other.past = [None if past is None else past[chosen] for past in self.past]
        return other

    def advance(self, tokens: int) -> None:
        """Add the losses of the next tokens to the sums."""
        stop = min(self.done + tokens, len(self.inputs))
        audios, steps = len(self.row), stop - self.done
        x = self.start[self.done : stop].expand(audios, -1, -1).reshape(audios * steps, -1)
        for number, layer in enumerate(self.engine.layers):
            x = layer.norm1(layer.own_out(self._own(number, x), add=x))
            x = layer.norm2(layer.cross_out(self._cross(number, layer.query(x)), add=x))
            x = layer.norm3(layer.linear2(layer.linear1(x, gelu=True), add=x))
        targets = self.targets[self.done : stop].repeat(audios)  # [audios * steps]
        rows = self.engine.logit_rows
        losses = [
            F.cross_entropy(self.engine.classifier(part), wanted, reduction="none")
            for part, wanted in zip(x.split(rows), targets.split(rows))
        ]
        self.sum = self.sum + torch.cat(losses).view(audios, steps).sum(dim=1)
        self.done = stop
        self.query.computed += audios * steps

    def _own(self, number: int, x: Tensor) -> Tensor:
        layer, audios = self.engine.layers[number], len(self.row)
        qkv = layer.qkv(x).view(audios, -1, 3, layer.heads, x.shape[1] // layer.heads)
        now, past = qkv[:, :, 1:], self.past[number]
        self.past[number] = now if past is None else torch.cat([past, now], dim=1)
        query, steps = qkv[:, :, 0].transpose(1, 2), qkv.shape[1]
        key, value = self.past[number].permute(2, 0, 3, 1, 4)  # each [audios, heads, seen, d / heads]
        seen = torch.ones(steps, key.shape[2], dtype=torch.bool, device=x.device).tril(key.shape[2] - steps)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=1.0)
        return out.transpose(1, 2).reshape(x.shape)

    def _cross(self, number: int, query: Tensor) -> Tensor:
        layer, audios = self.engine.layers[number], len(self.row)
        split = query.view(audios, -1, layer.heads, query.shape[1] // layer.heads).transpose(1, 2)
        key, value = self.band.kv[number][self.row].unbind(1)  # each [audios, heads, width, d / heads]
        seen = ~self.band.hidden[self.row][:, None, None]  # [audios, 1, 1, width]
        out = F.scaled_dot_product_attention(split, key, value, attn_mask=seen, scale=1.0)
        return out.transpose(1, 2).reshape(query.shape)


def _follow(walk: _Walk, step: int, prune: bool) -> None:
    """Take a walk to its end, dropping on the way whoever is out, and report the totals."""
    query = walk.query
    while walk.done < len(walk.inputs) and len(walk.row):
        walk.advance(step)
        if prune:
            walk = walk.keep(walk.sum <= query.bound())
    query.add(walk.band.audio[walk.row], walk.sum)


@torch.inference_mode()
def search(
    captioner: Captioner,
    frames: Sequence[Tensor],
    captions: Sequence[list[int]],
    k: int,
    memory: str | int = "2GB",
    step: int = 2,
    progress: Callable = iter,
) -> Found:
    """The k audios of least loss for each caption, exactly those of the whole matrix, in float32.

    frames: [time, dim] per audio. captions: token ids with BOS and EOS. ``step`` tokens are computed before audios are
    dropped. After the first step the k most promising audios go to their end, so that there is a bound early. The
    finalists are scored once more by ``Engine``, each alone, so that a loss does not depend on company (not counted
    in ``skipped``). Raises ValueError if k is not in 1..audios or step is not positive, and as ``Engine`` does.
    """
    if not 1 <= k <= len(frames):
        raise ValueError(f"k must be in 1..{len(frames)}, the number of audios, got {k}")
    if step < 1:
        raise ValueError(f"step must be positive, got {step}")
    engine = Engine(captioner, captions, "float32", memory)
    queries = [_Query(list(ids), k) for ids in captions]
    size = engine.clips_at_once(max(len(clip) for clip in frames))
    for start in range(0, len(frames), size):
        band = _Band(engine, frames[start : start + size], start)
        for query in progress(queries):
            walk = _Walk(engine, band, query)
            walk.advance(step)
            order = torch.argsort(walk.sum, stable=True)
            if len(query.total) < k:  # no bound yet
                _follow(walk.keep(order[:k]), step, prune=False)
                order = order[k:]
            rest = walk.keep(order.sort().values)
            _follow(rest.keep(rest.sum <= query.bound()), step, prune=True)
    audio, nll = np.empty((len(captions), k), dtype=np.int64), np.empty((len(captions), k), dtype=np.float32)
    for i, query in enumerate(queries):
        engine.set_captions([query.ids])
        rows = np.array(query.finalists())
        sums = engine.nll([frames[a] for a in rows])[:, 0]
        best = np.argsort(sums, kind="stable")[:k]  # rows ascend, so ties stand in the audios' order
        audio[i], nll[i] = rows[best], sums[best]
    total = len(frames) * sum(len(ids) - 1 for ids in captions)
    return Found(audio, nll, 1 - sum(query.computed for query in queries) / total if total else 0.0)
