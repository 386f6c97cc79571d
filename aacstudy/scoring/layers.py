"""The decoder's layers taken apart: weights packed once, sublayers called at different times."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacstudy.scoring.trie import QUERIES


def linear_layer(weight: Tensor, bias: Tensor) -> Callable[..., Tensor]:
    """``f(x [rows, in], add=None, gelu=False)`` -> [rows, out]: linear, then GELU (erf) or a sum.

    On a CPU oneDNN packs the weights once and does GELU or sum while the product is still in cache:
    the operators that inductor's weight freezing calls, without its minutes of compiling.
    """
    if weight.device.type == "cpu" and _packs(weight.dtype):
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


def logit_layer(classifier: nn.Linear, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """``f(x [rows, d] in dtype)`` -> logits [rows, vocabulary], always float32.

    Rounding logits to bfloat16 (0.03 nats at a logit of 10) costs more ranks than all other
    rounding together, and oneDNN rounds what it multiplies in bfloat16: a CPU takes float32.
    """
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    if weight.device.type == "cuda" and dtype != torch.float32:
        columns = weight.to(dtype).t()
        return lambda x: torch.mm(x, columns, out_dtype=torch.float32).add_(bias)
    product = linear_layer(weight, bias)
    return lambda x: product(x.float())


def _packs(dtype: torch.dtype) -> bool:
    """Whether this machine's oneDNN multiplies in this dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@dataclass(frozen=True)
class Heard:
    """One layer's keys and values of a clip, each [1, heads, frames padded to WIDTH, d / heads]."""

    key: Tensor
    value: Tensor
    frames: int
    rows: int  # queries at once, so that scores [1, heads, rows, frames] fit


class Layer:
    """One post-norm layer's weights in the engine's dtype, by what is done at different times."""

    def __init__(self, layer: nn.TransformerDecoderLayer, dtype: torch.dtype):
        def cast(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype)

        def linear(module: nn.Linear) -> Callable[..., Tensor]:
            return linear_layer(cast(module.weight), cast(module.bias))

        def norm(module: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
            weight, bias, eps = cast(module.weight), cast(module.bias), module.eps
            return lambda x: F.layer_norm(x, weight.shape, weight, bias, eps)

        own, cross = layer.self_attn, layer.multihead_attn
        d = own.embed_dim
        self.heads = own.num_heads
        # dot products are divided by sqrt(d / heads): in the weights of the queries that costs
        # nothing
        scale = torch.ones(3 * d, 1, device=own.in_proj_weight.device)
        scale[:d] = (d // self.heads) ** -0.5
        self.qkv = linear_layer(cast(own.in_proj_weight * scale), cast(own.in_proj_bias * scale[:, 0]))
        self.own_out = linear(own.out_proj)
        self.query = linear_layer(
            cast(cross.in_proj_weight[:d] * scale[:d]), cast(cross.in_proj_bias[:d] * scale[:d, 0])
        )
        self.kv = cast(cross.in_proj_weight[d:]), cast(cross.in_proj_bias[d:])
        self.cross_out = linear(cross.out_proj)
        self.linear1, self.linear2 = linear(layer.linear1), linear(layer.linear2)
        self.norm1, self.norm2, self.norm3 = norm(layer.norm1), norm(layer.norm2), norm(layer.norm3)

    def attend_self(self, x: Tensor, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
        """States [nodes, d] after the first sublayer; groups: keys [n * seen] and bias [n (,
        heads), QUERIES, seen]."""
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

    def attend_clip(self, x: Tensor, query: Tensor, heard: Heard) -> Tensor:
        """States [nodes, d] after the second and third sublayer, from the query [nodes, d] of the
        second."""
        out = [
            _attention(
                part.view(1, len(part), self.heads, -1).transpose(1, 2),
                heard.key,
                heard.value,
                frames=heard.frames,
            )
            .transpose(1, 2)
            .reshape(part.shape)
            for part in query.split(heard.rows)
        ]
        x = self.norm2(self.cross_out(torch.cat(out) if len(out) > 1 else out[0], add=x))
        return self.norm3(self.linear2(self.linear1(x, gelu=True), add=x))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, frames: int = 0
) -> Tensor:
    """Attention [n, heads, queries, d / heads] of scaled scores; ``frames`` keys are seen.

    On a CPU three plain products beat the fused kernel if rows of scores fill whole vectors.
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
