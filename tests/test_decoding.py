"""Beam search with cached keys against the plain one, enumeration, and a slow search written word
by word.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy.corpus.text import BOS, EOS, PAD, SPECIALS, UNK
from aacstudy.models.captioner import Captioner
from aacstudy.models.decoding import (
    NLTK_STOP_WORDS,
    _Memory,
    beam_search,
    beam_search_reference,
    forbidden_repeats,
)
from aacstudy.options import DecoderOptions, DecodingOptions

SMALL = DecoderOptions(d_model=16, layers=1, heads=2, d_ff=24, max_positions=30, frame_positions="sinusoidal")


def small(vocabulary: int, seed: int = 0, eos_bias: float = 0.0) -> Captioner:
    """A random captioner whose next-word distributions are far from flat."""
    torch.manual_seed(seed)
    captioner = Captioner(5, vocabulary, SMALL).eval()
    with torch.no_grad():
        captioner.decoder.classifier.weight *= 4
        captioner.decoder.classifier.bias[EOS] += eos_bias
    return captioner


def next_log_probs(captioner, memory, prefix: list[int], options, forbidden) -> np.ndarray:
    """Log-probabilities [vocabulary] after a prefix with BOS, in float64; memory is that of one
    clip.
    """
    embedded = captioner.embed(torch.tensor([prefix]))
    logits = captioner.decode_embedded(memory, None, embedded, None)[0, -1].double().numpy()
    for token in range(len(logits)):
        if (
            (token in prefix and forbidden[token])
            or (token == EOS and len(prefix) - 1 < options.min_tokens)
            or (token in (PAD, BOS, UNK) and options.forbid_specials)
        ):
            logits[token] = -np.inf
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@torch.inference_mode()
def slow_search(captioner, frames, options, forbidden) -> list[tuple[list[int], float]]:
    """One clip [frames, frame_dim]: the search as the measured facts state it, with slots that
    close at EOS.
    """
    memory = captioner.project(frames[None])
    slots, done = [([BOS], 0.0)], []
    for step in range(options.max_tokens):
        size = captioner.vocabulary_size
        scores = np.stack(
            [total + next_log_probs(captioner, memory, p, options, forbidden) for p, total in slots]
        )
        k = options.beam if step == 0 else len(slots)
        chosen = np.argsort(-scores.ravel(), kind="stable")[:k]
        kept = []
        for flat in chosen:
            prefix = [*slots[flat // size][0], int(flat % size)]
            ends = prefix[-1] == EOS or step == options.max_tokens - 1
            (done if ends else kept).append((prefix, scores.ravel()[flat]))
        slots = kept
        if not slots:
            break
    means = [([t for t in p[1:] if t != EOS], total / (len(p) - 1)) for p, total in done]
    return sorted(means, key=lambda item: -item[1])


@torch.inference_mode()
def every_caption(captioner, frames, options, forbidden) -> list[tuple[list[int], float]]:
    """One clip: every caption of words that can be generated, with its mean log-probability, best
    first.
    """
    memory = captioner.project(frames[None])
    words = [t for t in range(captioner.vocabulary_size) if t > UNK]
    after = functools.cache(
        lambda prefix: next_log_probs(captioner, memory, [BOS, *prefix], options, forbidden)
    )
    found = []
    for length in range(options.max_tokens + 1):
        for caption in itertools.product(words, repeat=length):
            generated = list(caption) if length == options.max_tokens else [*caption, EOS]
            total = 0.0
            for i, token in enumerate(generated):
                total += after(tuple(generated[:i]))[token]
                if total == -np.inf:
                    break
            if total > -np.inf:
                found.append((list(caption), total / len(generated)))
    return sorted(found, key=lambda item: -item[1])


def assert_same(ours, expected):
    assert [h.tokens for h in ours] == [tokens for tokens, _ in expected]
    assert [h.score for h in ours] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("mode", ["none", "all", "content"])
@pytest.mark.parametrize("seed", [0, 1])
def test_exhaustive_beam_finds_every_caption(mode, seed):
    captioner = small(vocabulary=7, seed=seed)
    vocabulary = [*SPECIALS, "dog", "and", "rain"]
    options = DecodingOptions(beam=200, min_tokens=1, max_tokens=4, forbid_repeats=mode)
    forbidden = forbidden_repeats(vocabulary, mode)
    frames = torch.randn(2, 4, 5)
    found = beam_search(captioner, frames, None, options, forbidden)
    for clip, ours in enumerate(found):
        expected = every_caption(captioner, frames[clip], options, forbidden)
        assert_same(ours, expected)
        generated = [min(len(h.tokens) + 1, 4) for h in ours]  # EOS included
        assert sum(math.exp(h.score * n) for h, n in zip(ours, generated)) == pytest.approx(1, abs=1e-5)
    counts = {"none": 3 + 9 + 27 + 81, "all": 3 + 6 + 6}  # 1 to 4 words; "all" runs out after three
    if mode in counts:
        assert [len(ours) for ours in found] == [counts[mode]] * 2


CASES = [
    DecodingOptions(beam, low, high, mode, specials)
    for (beam, low, high), mode, specials in zip(
        [
            (1, 0, 5),
            (2, 3, 6),
            (3, 3, 8),
            (3, 0, 9),
            (4, 2, 7),
            (5, 1, 3),
            (2, 0, 1),
            (8, 3, 6),
            (3, 3, 12),
            (6, 2, 4),
        ]
        * 2,
        itertools.cycle(["content", "all", "none"]),
        [True] * 10 + [False] * 10,
    )
]


LENGTHS = [6, 3, 1, 5]


def case(seed, options):
    """A random captioner, four clips of 1 to 6 frames in one padded batch, and their hypotheses."""
    words = ["a", "dog", "barks", "and", "then", "it", "rains", "loudly", "while", "birds", "sing"]
    vocabulary = [*SPECIALS, *words]
    captioner = small(len(vocabulary), seed, eos_bias=float(seed % 4))
    forbidden = forbidden_repeats(vocabulary, options.forbid_repeats)
    frames = torch.randn(4, 6, 5)
    padding = torch.arange(6)[None] >= torch.tensor(LENGTHS)[:, None]  # [4, 6]
    return captioner, frames, forbidden, beam_search(captioner, frames, padding, options, forbidden)


def test_a_published_captioner_brings_its_own_words_that_may_repeat():
    found = forbidden_repeats(["<pad>", "a", "dog", "the"], "content", ["dog"])
    assert found.tolist() == [True, True, False, True]


@pytest.mark.parametrize("seed, options", list(enumerate(CASES)))
def test_equals_the_slow_reference(seed, options):
    captioner, frames, forbidden, found = case(seed, options)
    for clip, length in enumerate(LENGTHS):
        assert_same(found[clip], slow_search(captioner, frames[clip, :length], options, forbidden))
        assert len(found[clip]) == options.beam


def test_the_cases_end_both_ways():
    """The comparison above means little unless hypotheses end by EOS and by the limit, also in one
    beam.
    """
    mixed = 0
    for seed, options in enumerate(CASES):
        for hypotheses in case(seed, options)[3]:
            limit = [len(h.tokens) == options.max_tokens for h in hypotheses]
            mixed += any(limit) and not all(limit)
    assert mixed >= 10, mixed


def assert_equal(fast, plain) -> float:
    """Identical tokens for every clip and place; returns the largest difference of scores."""
    assert [[h.tokens for h in one] for one in fast] == [[h.tokens for h in one] for one in plain]
    return max((abs(a.score - b.score) for x, y in zip(fast, plain) for a, b in zip(x, y)), default=0.0)


@st.composite
def searches(draw):
    """A random captioner and everything else that a search takes."""
    heads = draw(st.sampled_from([1, 2, 4]))
    options = DecoderOptions(
        d_model=8 * heads,
        layers=draw(st.integers(1, 3)),
        heads=heads,
        d_ff=16,
        max_positions=20,
        frame_positions=draw(st.sampled_from(["none", "sinusoidal"])),
    )
    vocabulary = draw(st.integers(8, 30))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    captioner = Captioner(5, vocabulary, options).eval()
    with torch.no_grad():
        # torch starts them at 0, where a forgotten one would not show
        for layer in captioner.decoder.layers:
            layer.self_attn.in_proj_bias.normal_()
            layer.multihead_attn.in_proj_bias.normal_()
        captioner.decoder.classifier.weight *= draw(st.sampled_from([2, 8]))
        captioner.decoder.classifier.bias[EOS] += draw(st.integers(-1, 3))
    lengths = torch.tensor(draw(st.lists(st.integers(1, 9), min_size=1, max_size=9)))
    frames = torch.randn(len(lengths), int(lengths.max()), 5)
    padding = torch.arange(frames.shape[1])[None] >= lengths[:, None]
    low = draw(st.integers(0, 3))
    decoding = DecodingOptions(
        draw(st.integers(1, 5)), low, draw(st.integers(low + 1, 12)), forbid_specials=draw(st.booleans())
    )
    forbidden = draw(st.sampled_from([None, torch.rand(vocabulary) < 0.5, torch.ones(vocabulary).bool()]))
    bos = draw(st.sampled_from([BOS, 4, vocabulary - 1]))
    return captioner, frames, padding if padding.any() else None, decoding, forbidden, bos


@settings(deadline=None, derandomize=True, max_examples=60)
@given(search=searches())
def test_equals_the_plain_search(search):
    difference = assert_equal(beam_search(*search), beam_search_reference(*search))
    assert difference < 1e-5
    captioner, frames, padding, options, forbidden, bos = search
    one = DecodingOptions(1, options.min_tokens, options.max_tokens, forbid_specials=options.forbid_specials)
    plain = beam_search_reference(captioner, frames, padding, one, forbidden, bos)
    assert assert_equal(beam_search(captioner, frames, padding, one, forbidden, bos), plain) < 1e-5


def test_clips_that_end_early_are_forgotten(monkeypatch):
    """Forty clips that end at different steps: what remains of the memory goes on with the right
    clips.
    """
    torch.manual_seed(3)
    captioner = Captioner(5, 40, DecoderOptions(d_model=32, layers=2, heads=4, d_ff=32)).eval()
    with torch.no_grad():
        captioner.decoder.classifier.weight *= 6
        captioner.decoder.classifier.bias[EOS] += 6
    frames = 3 * torch.randn(40, 7, 5)
    padding = torch.arange(7)[None] >= torch.randint(1, 8, (40, 1))
    sizes, plain = [], _Memory.keep_clips
    monkeypatch.setattr(_Memory, "keep_clips", lambda self, c: (sizes.append(len(c)), plain(self, c)))
    options = DecodingOptions(max_tokens=30)
    found = beam_search(captioner, frames, padding, options, None)
    difference = assert_equal(found, beam_search_reference(captioner, frames, padding, options, None))
    print(f"largest difference of scores {difference:.1e}; clips that remained: {sizes}")
    assert len(sizes) >= 2 and difference < 1e-5


def test_a_task_token_begins_and_is_never_written():
    captioner = small(9, seed=2)
    with torch.no_grad():
        captioner.decoder.classifier.bias[8] += 20
    frames = torch.randn(3, 4, 5)
    options = DecodingOptions(forbid_repeats="none")
    for search in (beam_search, beam_search_reference):
        other = search(captioner, frames, None, options, None)
        assert all(8 in h.tokens for one in other for h in one)
        assert all(
            8 not in h.tokens for one in search(captioner, frames, None, options, None, 8) for h in one
        )
        for bos in (PAD, EOS, -1, 9):
            with pytest.raises(ValueError, match=f"bos must be an id below 9 .* got {bos}"):
                search(captioner, frames, None, options, None, bos)


def test_captions_obey_the_options():
    vocabulary = [*SPECIALS, *(f"word{i}" for i in range(20)), "a", "and"]
    captioner = small(len(vocabulary), seed=5, eos_bias=2.0)
    options = DecodingOptions()
    found = beam_search(
        captioner, torch.randn(10, 4, 5), None, options, forbidden_repeats(vocabulary, "content")
    )
    assert [len(hypotheses) for hypotheses in found] == [3] * 10
    for hypotheses in found:
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for tokens, score in hypotheses:
            content = [t for t in tokens if vocabulary[t] not in ("a", "and")]
            assert len(content) == len(set(content))
            assert 3 <= len(tokens) <= 20
            assert min(tokens) > UNK
            assert score < 0


def test_specials_may_be_generated_when_allowed():
    captioner = small(8, seed=0)
    with torch.no_grad():
        captioner.decoder.classifier.bias[UNK] += 20
    frames = torch.randn(1, 4, 5)
    allowed = DecodingOptions(forbid_repeats="none", forbid_specials=False)
    assert UNK in beam_search(captioner, frames, None, allowed, None)[0][0].tokens
    never = DecodingOptions(forbid_repeats="none")
    assert UNK not in beam_search(captioner, frames, None, never, None)[0][0].tokens


def test_forbidden_repeats():
    vocabulary = [*SPECIALS, "a", "dog", "and", "barks", "it"]
    assert forbidden_repeats(vocabulary, "none").tolist() == [False] * 9
    assert forbidden_repeats(vocabulary, "all").tolist() == [True] * 9
    content = [True] * 4 + [False, True, False, True, False]
    assert forbidden_repeats(vocabulary, "content").tolist() == content
    # spaCy's stop words hold "front" and "two", NLTK's "theirs" and "mustn"
    apart = [*SPECIALS, "front", "two", "theirs", "mustn", "the"]
    assert forbidden_repeats(apart, "content").tolist() == [True] * 4 + [False, False, True, True, False]
    assert forbidden_repeats(apart, "published").tolist() == [True] * 4 + [True, True, False, False, False]
    assert forbidden_repeats(apart, "published", ["two"]).tolist() == [True] * 5 + [False] + [True] * 3
    assert len(set(NLTK_STOP_WORDS.split())) == len(NLTK_STOP_WORDS.split()) == 153
    with pytest.raises(ValueError, match="'content_words'"):
        forbidden_repeats(vocabulary, "content_words")


@pytest.mark.parametrize("search", [beam_search, beam_search_reference])
def test_errors(search):
    captioner, frames = small(8), torch.randn(1, 4, 5)
    forbidden = torch.ones(8, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"forbidden must be bool \[8\]"):
        search(captioner, frames, None, DecodingOptions(), forbidden[:7])
    with pytest.raises(ValueError, match="4 words, none of which may repeat"):
        search(captioner, frames, None, DecodingOptions(min_tokens=5), forbidden)
    full = search(captioner, frames, None, DecodingOptions(min_tokens=4), forbidden)
    assert sorted(full[0][0].tokens) == [4, 5, 6, 7]
    with pytest.raises(ValueError, match=r"captioner\.eval\(\)"):
        search(captioner.train(), frames, None, DecodingOptions(), None)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"forbid_repeats": "some"}, "'some'"),
        ({"beam": 0}, "beam"),
        ({"min_tokens": 20}, "min_tokens < max_tokens"),
    ],
)
def test_option_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        DecodingOptions(**wrong)
