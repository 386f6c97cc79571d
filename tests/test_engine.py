"""The scoring engine against the plain reference: captions, sizes, company, dtype and memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from test_scoring import SIZES, TOLERANCE, captioner, clips, some_captions

from aacstudy.corpus.text import BOS, EOS, UNK
from aacstudy.models.captioner import token_nll as plain_token_nll
from aacstudy.scoring import engine, layers
from aacstudy.scoring.compiled import why_not
from aacstudy.scoring.engine import Engine, nll_pairs, parse_bytes
from aacstudy.scoring.reference import nll_reference
from aacstudy.scoring.trie import QUERIES, tries

# few words, so that prefixes are shared
WORDS = st.lists(st.sampled_from([UNK, *range(4, 9)]), max_size=12)
CAPTIONS = st.lists(WORDS.map(lambda words: [BOS, *words, EOS]), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(
    made=CAPTIONS,
    memory=st.sampled_from([1, 20_000, 200_000, "2GB"]),
    positions=st.sampled_from(["none", "sinusoidal", "learned"]),
)
def test_any_captions(made, memory, positions):
    network, heard = captioner(frame_positions=positions), clips(lengths=(1, 6, 33))
    captions = [
        *made,
        made[0],
        [BOS, EOS],
        [BOS, *[4, 5] * 19, EOS],
        [BOS, 4, EOS],
        [BOS, 4, 5, 4, EOS, 6, EOS],
    ]
    found = Engine(network, captions, memory=memory).nll(heard)
    assert np.abs(found - nll_reference(network, heard, captions).numpy()).max() <= TOLERANCE


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned"])
@pytest.mark.parametrize("size", SIZES)
def test_any_size(size, positions):
    network, captions = (
        captioner(**SIZES[size], frame_positions=positions),
        some_captions(lengths=(1, 4, 11, 20, 38)),
    )
    heard = clips(lengths=(3, 35))
    plain, fast = nll_reference(network, heard, captions).numpy(), Engine(network, captions).nll(heard)
    print(f"{size}, frame positions {positions}: max |difference| {np.abs(fast - plain).max():.1e} nats")
    assert fast.dtype == np.float32 and fast.shape == plain.shape
    assert np.abs(fast - plain).max() <= TOLERANCE


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_is_torchs(smoothing):
    network, captions, heard = captioner(), some_captions(lengths=(1, 4, 11)), clips(lengths=(3, 35))
    plain = nll_reference(network, heard, captions, smoothing).numpy()
    fast = Engine(network, captions, label_smoothing=smoothing).nll(heard)
    assert np.abs(fast - plain).max() <= TOLERANCE
    assert np.abs(fast - Engine(network, captions).nll(heard)).max() > 10 * TOLERANCE


def many(count, words=30, seed=0, longest=30):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest, count)
    return [[BOS, *np.minimum(rng.geometric(0.3, n) + 3, words - 1).tolist(), EOS] for n in lengths]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_the_same_bits_in_any_company(dtype):
    network, heard = captioner(), clips(lengths=(1, 5, 9, 5, 40, 32, 5))
    scorer = Engine(network, many(200), dtype)
    whole = scorer.nll(heard)
    for rows in ([0], [4], [6, 2], [5, 4, 3, 2, 1, 0], [3, 3, 3]):
        np.testing.assert_array_equal(scorer.nll([heard[a] for a in rows]), whole[rows])
    again = Engine(network, many(200), dtype)
    np.testing.assert_array_equal(again.nll(heard), whole)


def test_order_of_captions_and_blocks_change_nothing(monkeypatch):
    network, heard, captions = captioner(), clips(), many(300)
    whole = Engine(network, captions).nll(heard)
    order = np.random.default_rng(3).permutation(len(captions))
    np.testing.assert_array_equal(Engine(network, [captions[i] for i in order]).nll(heard), whole[:, order])
    for nodes in (16, 100, 1000):
        monkeypatch.setitem(engine.NODES, "cpu", nodes)
        scorer = Engine(network, captions)
        assert len(scorer.tries) > 1
        np.testing.assert_allclose(scorer.nll(heard), whole, rtol=0, atol=5e-5)


@pytest.mark.parametrize("nodes", [16, 64, 500, 10**6])
def test_trees_hold_each_prefix_once(nodes):
    captions = many(300)
    parts = tries(captions, nodes)
    assert sorted(row for part in parts for row in part.rows) == list(range(300))
    for part in parts:
        mine = [captions[row] for row in part.rows]
        assert part.nodes == len({tuple(ids[:n]) for ids in mine for n in range(1, len(ids))})
        assert part.nodes <= nodes or len(set(map(tuple, mine))) == 1
        edges = {tuple(ids[:n]) for ids in mine for n in range(2, len(ids) + 1)}
        assert len(part.edge_node) == len(edges)
        start = 0
        # following what a node sees, by depth, gives its prefix
        for keys, seen in zip(part.keys, part.seen):
            for group, sees in zip(keys, seen):
                for query in range(QUERIES):
                    node, visible = start + query, group[sees[query]]
                    assert part.depth[visible].tolist() == list(range(part.depth[node] + 1))
                    assert visible[-1] == node
                start += QUERIES
        for row, distinct in zip(part.rows, part.distinct):
            path = part.path[distinct, : len(captions[row]) - 1]
            assert part.token[part.edge_node[path]].tolist() == captions[row][:-1]
            assert part.edge_token[path].tolist() == captions[row][1:]


def test_logits_are_never_rounded():
    """The reference's logits of the same states, to float32's last digits: bfloat16 would be off by
    2 to the -9th.
    """
    network = captioner()
    states = torch.randn(50, network.options.d_model, dtype=torch.bfloat16)
    with torch.inference_mode():
        found = layers.logit_layer(network.decoder.classifier, torch.bfloat16)(states)
        plain = network.decoder.classifier(states.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("use_c", "least"),
    # rounding the weights alone, all else float32, gives 0.997
    [(False, 0.996), pytest.param(True, 0.998, marks=pytest.mark.skipif(bool(why_not()), reason=why_not()))],
)
def test_bfloat16_ranks_as_float32(use_c, least):
    """Trained for a while, so that losses are those of a captioner that hears."""
    torch.manual_seed(0)
    network = captioner(d_model=64, layers=3, heads=4, d_ff=128, dropout=0.0, projection_dropout=0.0)
    heard = clips(lengths=[6] * 40)
    captions = [[BOS, *(4 + (np.arange(5) * (a % 5 + 1) + a) % 26).tolist(), EOS] for a in range(40)]
    optimizer = torch.optim.Adam(network.train().parameters(), 2e-3)
    frames, tokens = torch.stack(heard), torch.tensor(captions)
    for _ in range(60):
        optimizer.zero_grad()
        plain_token_nll(network(frames, None, tokens[:, :-1]), tokens[:, 1:]).mean().backward()
        optimizer.step()
    plain = Engine(network, captions).nll(heard)
    fast = Engine(network, captions, "bfloat16", use_c=use_c).nll(heard)
    texts = np.array([spearmanr(plain[:, c], fast[:, c]).statistic for c in range(40)])
    audios = np.array([spearmanr(plain[a], fast[a]).statistic for a in range(40)])
    top = (plain.argmin(axis=0) == fast.argmin(axis=0)).mean()
    print(
        f"bfloat16: Spearman per text query mean {texts.mean():.5f}, least {texts.min():.5f}; same first "
        f"audio {top:.0%}"
    )
    print(
        f"matched {plain.diagonal().mean():.1f}, all {plain.mean():.1f} nats; max |difference| "
        f"{abs(plain - fast).max():.2f}"
    )
    assert plain.diagonal().mean() < 0.7 * plain.mean()
    assert min(texts.mean(), audios.mean()) >= 0.999
    assert min(texts.min(), audios.min()) >= least
    assert top >= 0.95


def test_pairs_and_tokens():
    network, heard, captions = captioner(frame_positions="sinusoidal"), clips(), some_captions()
    plain = nll_reference(network, heard, captions).numpy()
    rng = np.random.default_rng(1)
    audio, caption = rng.choice([0, 1, 3], 60), rng.integers(0, len(captions), 60)
    seen = []
    found = nll_pairs(
        network, heard, captions, audio, caption, lambda loop: (seen.append(a) or a for a in loop)
    )
    assert seen == [0, 1, 3] and found.dtype == np.float32
    np.testing.assert_allclose(found, plain[audio, caption], rtol=0, atol=TOLERANCE)
    for c, ids in enumerate(captions):
        (parts,) = Engine(network, [ids]).token_nll(heard[2])
        assert parts.shape == (len(ids) - 1,)
        np.testing.assert_allclose(np.cumsum(parts)[-1], plain[2, c], rtol=0, atol=TOLERANCE)
        for n in range(2, len(ids)):
            prefix = nll_reference(network, [heard[2]], [ids[:n]])[0, 0]
            assert abs(parts[: n - 1].sum() - prefix) <= TOLERANCE
    together = Engine(network, captions).token_nll(heard[2])
    assert [len(parts) for parts in together] == Engine(network, captions).tokens.tolist()


def test_machines_without_packed_weights(monkeypatch):
    network, heard, captions = captioner(), clips(), some_captions()
    plain = nll_reference(network, heard, captions).numpy()
    monkeypatch.setattr(layers, "_packs", lambda dtype: False)
    assert np.abs(Engine(network, captions).nll(heard) - plain).max() <= TOLERANCE


def test_nothing_to_score():
    network = captioner()
    assert Engine(network, []).nll(clips()).shape == (4, 0)
    assert Engine(network, some_captions()).nll([]).shape == (0, len(some_captions()))


@pytest.mark.parametrize(
    ("captions", "message"),
    [([[BOS]], "caption 0 has 1"), ([[BOS, EOS], [BOS, 30, EOS]], "caption 1 has ids"), ([[BOS, 0, EOS]],
        "ids outside"),
     ([[BOS, *[5] * 40, EOS]], "41 inputs; the captioner has 40 positions")],
)  # fmt: skip
def test_captions_that_cannot_be_scored(captions, message):
    with pytest.raises(ValueError, match=message):
        Engine(captioner(), captions)


def test_memory_and_dtype_are_checked():
    assert [parse_bytes(text) for text in ("2GB", "1.5 MiB", 7, "10")] == [2 * 10**9, 3 * 2**19, 7, 10]
    for text in ("2 XB", "GB", "-1GB", 0, "two"):
        with pytest.raises(ValueError, match="memory must be"):
            parse_bytes(text)
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16"):
        Engine(captioner(), [], "float16")


PEAK = """
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from test_engine import captioner, many
from aacstudy.scoring.engine import Engine
def peak():  # of this process alone: ru_maxrss would begin with the parent's
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
audios, captions, memory, dtype = int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:6]
torch.set_num_threads(int(sys.argv[6]))
network = captioner(words=9000, d_model=64, layers=2, d_ff=1024, heads=4)
frames = [torch.randn(1000, 12)] * audios  # one clip many times, so that the input itself does not grow
texts = many(captions, words=9000)
Engine(network, texts[:2], dtype, memory=1).nll(frames[:1])  # whatever libraries take
before = peak()
Engine(network, texts, dtype, memory).nll(frames)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("dtype", "threads", "budget", "unbounded"),
    [("float32", 1, 30e6, 60e6), ("bfloat16", 4, 40e6, 45e6)],
)
def test_memory_stays_within_the_budget(request, dtype, threads, budget, unbounded):
    def peak(audios, captions, memory):
        sizes = str(audios), str(captions), memory, dtype, str(threads)
        command = [sys.executable, "-c", PEAK, str(request.path.parent), *sizes]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    small, doubled = (peak(*size, f"{budget:.0f}B") for size in ((10, 100), (20, 200)))
    free = peak(30, 300, "2GB")
    print("peak MB:", [round(size / 1e6) for size in (small, doubled, free)])
    assert max(small, doubled) <= budget
    assert free > unbounded  # or the budget would have bounded nothing
