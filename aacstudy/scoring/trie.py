"""Captions as prefix trees: a causal decoder's state depends on the prefix, so each comes once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aacstudy.corpus.text import PAD

# Neighbouring nodes that attend together: fewer gather more, more look at more they may not see.
QUERIES = 16
# keys of a group are a multiple: bfloat16 soft-max is up to 5 times slower beside full vectors
WIDTH = 32


@dataclass(frozen=True)
class Trie:
    """A set of captions as one tree; nodes are the prefixes that predict a token.

    Nodes are padded to groups of ``QUERIES`` neighbours in depth-first order. So whatever a node
    may see (itself and its ancestors) is either in its own group or an ancestor of the group's
    first node, and a group needs few keys and values. Groups that need equally many stand together.
    """

    token: np.ndarray  # [nodes] last token of the prefix
    depth: np.ndarray  # [nodes] its position in the caption, from 0
    nodes: int  # without the padding
    keys: list[np.ndarray]  # [groups, keys] nodes that a group looks at, for each number of keys
    seen: list[np.ndarray]  # [groups, QUERIES, keys] bool, True where a node may look
    edge_node: np.ndarray  # [edges] ascending: a node ...
    edge_token: np.ndarray  # [edges] ... and a token that follows it in some caption
    path: np.ndarray  # [distinct captions, longest] edges of each caption; their number as padding
    rows: np.ndarray  # [captions] columns of the result that this group fills ...
    distinct: np.ndarray  # [captions] ... and the distinct caption of each


def check(captions: Sequence[Sequence[int]], vocabulary_size: int, longest: int) -> None:
    """Raise ValueError for a caption without target, with an unknown id, padding, or too long."""
    for column, ids in enumerate(captions):
        if len(ids) < 2:
            raise ValueError(
                f"caption {column} has {len(ids)} tokens; it needs BOS and at least one to predict"
            )
        if min(ids) <= PAD or max(ids) >= vocabulary_size:
            raise ValueError(f"caption {column} has ids outside 1..{vocabulary_size - 1}: {list(ids)}")
        if len(ids) - 1 > longest:
            raise ValueError(
                f"caption {column} has {len(ids) - 1} inputs; the captioner has {longest} positions"
            )


def tries(captions: Sequence[Sequence[int]], nodes: int) -> list[Trie]:
    """Cut captions [token ids with BOS and EOS] into even trees of at most ``nodes`` nodes each.

    Captions are sorted, so that those with a common beginning share a tree; identical ones are
    computed once. A caption longer than ``nodes`` is a tree of its own.
    """
    columns: dict[tuple[int, ...], list[int]] = {}
    for column, ids in enumerate(captions):
        columns.setdefault(tuple(ids), []).append(column)
    order = sorted(columns)
    if not order:
        return []
    lengths = np.array([len(ids) - 1 for ids in order])  # inputs: all but the last token
    new = lengths.copy()  # nodes that a caption adds to those before it
    for i in range(1, len(order)):
        new[i] -= _common(order[i - 1][:-1], order[i][:-1])
    parts = -(-int(new.sum()) // nodes)
    # even, with room for a repeated path
    size = min(nodes, -(-int(new.sum()) // parts) + int(lengths.max()))
    cuts, held = [0], 0
    for i in range(len(order)):
        held += new[i]
        if held > size and i > cuts[-1]:
            cuts.append(i)
            held = lengths[i]
    return [
        _trie(part, [columns[ids] for ids in part])
        for part in (order[a:b] for a, b in zip(cuts, [*cuts[1:], len(order)]))
    ]


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    for i, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return i
    return min(len(one), len(other))


def _trie(captions: list[tuple[int, ...]], columns: list[list[int]]) -> Trie:
    """One tree of sorted distinct captions."""
    lengths = np.array([len(ids) - 1 for ids in captions])
    position = np.arange(lengths.max())
    tokens = np.full((len(captions), lengths.max() + 1), PAD)
    for i, ids in enumerate(captions):
        tokens[i, : len(ids)] = ids
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    valid = position < lengths[:, None]  # [captions, longest]
    # inputs end where their caption does: a last token is nobody's prefix unless another caption
    # goes on
    held = np.where(valid, inputs, -1)
    fresh = valid.copy()
    fresh[1:] &= np.logical_or.accumulate(held[1:] != held[:-1], axis=1)
    number = np.cumsum(fresh).reshape(fresh.shape) - 1  # row-major is depth-first
    # [captions, longest], valid or not
    node = np.maximum.accumulate(np.where(fresh, number, -1), axis=0)
    owner, depth = np.nonzero(fresh)
    count = len(depth)

    padded = -(-count // QUERIES) * QUERIES
    above = np.full((padded, len(position)), -1)  # node -> its ancestor (or itself) at each depth
    above[:count] = np.where(position <= depth[:, None], node[owner], -1)
    above[count:, 0] = np.arange(count, padded)  # padding sees itself: no 0 / 0
    depth = np.concatenate([depth, np.zeros(padded - count, dtype=depth.dtype)])
    token = np.concatenate([inputs[fresh], np.full(padded - count, PAD + 1)])
    place, keys, seen = _groups(above, depth)
    order = np.argsort(place)

    code = np.where(valid, place[node] * (tokens.max() + 1) + targets, np.iinfo(np.int64).max)
    edges, path = np.unique(code, return_inverse=True)
    edges = edges[edges < np.iinfo(np.int64).max]
    return Trie(
        token=token[order],
        depth=depth[order],
        nodes=count,
        keys=keys,
        seen=seen,
        edge_node=edges // (tokens.max() + 1),
        edge_token=edges % (tokens.max() + 1),
        path=path.reshape(code.shape),  # padding is the largest code, hence the number of edges
        rows=np.array([column for same in columns for column in same]),
        distinct=np.repeat(np.arange(len(columns)), [len(same) for same in columns]),
    )


def _groups(above: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Place of each node when groups are sorted by their keys, and the groups' keys and visibility.

    ``above`` [nodes, longest] and ``depth`` [nodes] are in depth-first order.
    """
    nodes = len(depth)
    first = np.arange(0, nodes, QUERIES)  # [groups]
    # room for the first node's ancestors and the group
    width = -(-(depth[first] + QUERIES) // WIDTH) * WIDTH
    order = np.argsort(width, kind="stable")
    place = np.empty(nodes, dtype=np.int64)
    place[(first[order][:, None] + np.arange(QUERIES)).ravel()] = np.arange(nodes)
    above = np.pad(above, ((0, 0), (0, int(width.max()))), constant_values=-1)
    keys, seen = [], []
    for size in np.unique(width):
        start = first[width == size]
        outside = np.arange(size - QUERIES)
        inner = start[:, None] + np.arange(QUERIES)  # [groups, QUERIES]
        ancestors = np.where(outside < depth[start][:, None], above[start, : len(outside)], -1)
        of_node = above[inner]  # [groups, QUERIES, longest]
        sees_outside = (of_node[:, :, : len(outside)] == ancestors[:, None]) & (ancestors[:, None] >= 0)
        at_depth = np.take_along_axis(of_node, depth[inner][:, None].repeat(QUERIES, axis=1), axis=2)
        sees_inner = at_depth == inner[:, None]  # [groups, QUERIES, QUERIES]
        keys.append(place[np.concatenate([np.maximum(ancestors, 0), inner], axis=1)])
        seen.append(np.concatenate([sees_outside, sees_inner], axis=2))
    return place, keys, seen
