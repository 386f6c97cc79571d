"""Captions out of a captioner: beam search, with words that may not repeat. Not used for
retrieval scores.

`beam_search` keeps the keys and values of what is decided and adds one token a step;
`beam_search_reference` runs the decoder on every whole prefix. Source: arXiv 2309.00454, section on
decoding, and the authors' code.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus.text import BOS, EOS, PAD, UNK, Vocabulary
from aacstudy.models.captioner import Captioner
from aacstudy.models.frames import pad_frames
from aacstudy.options import REPEAT_MODES, DecodingOptions

# NLTK's English list (its stopwords corpus, a download) as far as a word of it can be a token: what
# has an apostrophe never is, "don't" being "do" and "n't".
NLTK_STOP_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers
herself it its itself they them their theirs themselves what which who whom this that these those am is are
was were be been being have has had having do does did doing a an the and but if or because as until while of
at by for with about against between into through during before after above below to from up down in out on
off over under again further then once here there when where why how all any both each few more most other
some such no nor not only own same so than too very s t can will just don should now d ll m o re ve y ain
aren couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn
"""


class Hypothesis(NamedTuple):
    """A generated caption: its tokens without BOS and EOS, and its score."""

    tokens: list[int]
    # mean natural-log probability per generated token, EOS included where it was reached
    score: float


def forbidden_repeats(vocabulary: list[str], mode: str, free: Sequence[str] | None = None) -> Tensor:
    """Vocabulary in id order -> bool [vocabulary], True for entries that may stand only once in a
    caption.

    "none": no entry; "all": every entry; "content" and "published": every entry, specials too, that
    is no English stop word, or not among the ``free`` words, which a published captioner brings
    along. "published" takes NLTK's stop words, as the authors do; "content" spaCy's, which let
    number words ("one", "two") and frequent verbs, adverbs and places ("make", "several", "back",
    "front") repeat too. Raises ValueError for another mode.
    """
    if mode not in REPEAT_MODES:
        raise ValueError(f"mode must be one of {REPEAT_MODES}, got {mode!r}")
    if mode in ("none", "all"):
        return torch.full((len(vocabulary),), mode == "all")
    if free is None and mode == "published":
        free = NLTK_STOP_WORDS.split()
    elif free is None:
        # here, as importing spaCy takes a second
        from spacy.lang.en.stop_words import STOP_WORDS as free
    free = frozenset(free)
    return torch.tensor([word not in free for word in vocabulary], dtype=torch.bool)


def write(
    captioner: Captioner,
    frames: Sequence[Tensor],
    vocabulary: Vocabulary,
    options: DecodingOptions,
    may_repeat: Sequence[str] | None = None,
    batch: int = 64,
) -> Iterator[list[Hypothesis]]:
    """`beam_search` of clips [time, dim] of any lengths; ``may_repeat``: as `free` of
    `forbidden_repeats`.
    """
    device = next(captioner.parameters()).device
    forbidden = forbidden_repeats(list(vocabulary.words), options.forbid_repeats, may_repeat).to(device)
    for i in tqdm(range(0, len(frames), batch), desc="writing captions", unit="batch", leave=False):
        clips, padding = pad_frames([frames[row] for row in range(i, min(i + batch, len(frames)))])
        padding = None if padding is None else padding.to(device)
        yield from beam_search(captioner, clips.to(device), padding, options, forbidden, vocabulary.bos)


def _checked(
    captioner: Captioner, options: DecodingOptions, forbidden: Tensor | None, bos: int, device
) -> Tensor:
    """The forbidden mask on the device, after refusing what could not be searched."""
    if captioner.training:
        raise ValueError("the captioner is in training mode, with dropout: call captioner.eval() first")
    size = captioner.vocabulary_size
    if not 0 <= bos < size or bos in (PAD, EOS):
        raise ValueError(f"bos must be an id below {size} and neither PAD nor EOS, got {bos}")
    if forbidden is None:
        forbidden = torch.zeros(size, dtype=torch.bool)
    if forbidden.shape != (size,) or forbidden.dtype != torch.bool:
        raise ValueError(f"forbidden must be bool [{size}], got {forbidden.dtype} {tuple(forbidden.shape)}")
    words = torch.ones(size, dtype=torch.bool)
    words[[PAD, BOS, EOS, UNK, bos] if options.forbid_specials else [EOS]] = False
    words[bos] &= ~forbidden[bos].cpu()  # every prefix holds it already
    once = words & forbidden.cpu()
    if bool((words == once).all()) and int(once.sum()) < options.min_tokens:
        raise ValueError(
            f"{int(once.sum())} words, none of which may repeat, cannot fill min_tokens = "
            f"{options.min_tokens}"
        )
    return forbidden.to(device)


def _log_probs(
    logits: Tensor, prefix: Tensor, options: DecodingOptions, forbidden: Tensor, bos: int
) -> Tensor:
    """Logits [rows, vocabulary] after prefixes [rows, n], BOS first -> log-probabilities of the
    next token.

    Masked before the log-softmax, so what is left is renormalised. BOS counts as a token of the
    prefix.
    """
    masked = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, prefix, True) & forbidden
    if options.forbid_specials:
        masked[:, [PAD, BOS, UNK, bos]] = True
    if prefix.shape[1] - 1 < options.min_tokens:
        masked[:, EOS] = True
    return logits.float().masked_fill(masked, float("-inf")).log_softmax(dim=1)


class _Memory:
    """Keys and values of clips and of the tokens decided so far: one step of the decoder costs one
    token.
    """

    def __init__(self, captioner: Captioner, frames: Tensor, frame_padding: Tensor | None):
        memory = captioner.project(frames)  # [clips, frames, d]
        self.decoder = captioner.decoder
        self.heads = captioner.options.heads
        # [clips, 1, 1, frames]
        self.seen = None if frame_padding is None else ~frame_padding[:, None, None]
        self.clips = []  # per layer keys and values, each [clips, heads, frames, d / heads]
        for layer in self.decoder.layers:
            cross = layer.multihead_attn
            d = cross.embed_dim
            kv = F.linear(memory, cross.in_proj_weight[d:], cross.in_proj_bias[d:])
            self.clips.append(tuple(self._split(part).contiguous() for part in kv.chunk(2, dim=2)))
        self.tokens: list[tuple[Tensor, Tensor] | None] = [None] * len(
            self.clips
        )  # [rows, heads, n, d / heads]

    def _split(self, x: Tensor) -> Tensor:
        """[batch, n, d] -> [batch, heads, n, d / heads]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def keep_clips(self, clips: Tensor) -> None:
        """Forget all other clips."""
        self.clips = [(key[clips], value[clips]) for key, value in self.clips]
        self.seen = None if self.seen is None else self.seen[clips]

    def follow(self, rows: Tensor) -> None:
        """Let each hypothesis go on from the one of ``rows`` that it extends."""
        self.tokens = [(key[rows], value[rows]) for key, value in self.tokens]

    def step(self, tokens: Tensor, position: int) -> Tensor:
        """Next tokens [clips, width] at a position -> logits [clips * width, vocabulary] of what
        follows.
        """
        clips, width = tokens.shape
        # [rows, 1, d]
        x = self.decoder.embed(tokens.view(-1, 1)) + self.decoder.positions[position]
        for i, layer in enumerate(self.decoder.layers):
            own, cross = layer.self_attn, layer.multihead_attn
            d = own.embed_dim
            query, *kv = map(self._split, F.linear(x, own.in_proj_weight, own.in_proj_bias).chunk(3, dim=2))
            if self.tokens[i] is not None:
                kv = [torch.cat(pair, dim=2) for pair in zip(self.tokens[i], kv)]
            self.tokens[i] = tuple(kv)
            attended = F.scaled_dot_product_attention(query, *kv)  # [rows, heads, 1, d / heads]
            x = layer.norm1(x + own.out_proj(attended.transpose(1, 2).flatten(2)))
            query = F.linear(x, cross.in_proj_weight[:d], cross.in_proj_bias[:d]).view(clips, width, d)
            # a clip's hypotheses ask together: its keys and values are not repeated
            attended = F.scaled_dot_product_attention(self._split(query), *self.clips[i], attn_mask=self.seen)
            x = layer.norm2(x + cross.out_proj(attended.transpose(1, 2).reshape(clips * width, 1, d)))
            x = layer.norm3(x + layer.linear2(layer.activation(layer.linear1(x))))
        return self.decoder.classifier(x[:, 0])


@torch.inference_mode()
def beam_search(
    captioner: Captioner,
    frames: Tensor,
    frame_padding: Tensor | None,
    options: DecodingOptions,
    forbidden: Tensor | None,
    bos: int = BOS,
) -> list[list[Hypothesis]]:
    """Beam search: for each clip at most `options.beam` hypotheses, best mean log-probability
    first.

    Frames [batch, frames, frame_dim]; `frame_padding` bool [batch, frames], True where padded, or
    None; `forbidden` bool [vocabulary] from `forbidden_repeats` or a published checkpoint, or None;
    `bos` is the first token, where a checkpoint has one for each task. Inside the search the sum of
    log-probabilities decides. A hypothesis that reaches EOS is frozen and its place is not filled
    again, so the beam narrows; after `max_tokens` those still alive are frozen without EOS. Raises
    ValueError in training mode.
    """
    forbidden = _checked(captioner, options, forbidden, bos, frames.device)
    memory = _Memory(captioner, frames, frame_padding)
    finished: list[list[Hypothesis]] = [[] for _ in frames]
    clips = torch.arange(len(frames), device=frames.device)  # those whose search goes on
    prefix = torch.full((len(frames), 1, 1), bos, device=frames.device)  # [clips, width, 1 + steps]
    # [clips, width], -inf where a place is closed
    sums = torch.zeros(len(frames), 1, device=frames.device)
    places = torch.full((len(frames),), options.beam, device=frames.device)
    for step in range(options.max_tokens):
        logits = memory.step(prefix[:, :, -1], step)
        # [rows, vocabulary]
        log_probs = _log_probs(logits, prefix.flatten(0, 1), options, forbidden, bos)
        # a closed place may have no token left, whose log-probabilities are then NaN
        totals = sums.view(-1, 1) + log_probs.masked_fill(sums.view(-1, 1) == -torch.inf, -torch.inf)
        totals = totals.view(len(clips), -1)  # [clips, width * vocabulary]
        sums, chosen = totals.topk(min(options.beam, totals.shape[1]), dim=1)  # [clips, new width]
        width, size = prefix.shape[1], captioner.vocabulary_size
        parent, token = chosen // size, chosen % size
        prefix = torch.cat(
            [prefix.gather(1, parent[:, :, None].expand(-1, -1, step + 1)), token[:, :, None]], dim=2
        )
        within = torch.arange(sums.shape[1], device=frames.device) < places[:, None]
        sums = sums.masked_fill(~within, -torch.inf)
        ends = (sums > -torch.inf) & ((token == EOS) | (step + 1 == options.max_tokens))
        places = places - ends.sum(dim=1)
        for clip, tokens, total in zip(
            clips[ends.nonzero()[:, 0]].tolist(), prefix[ends].tolist(), sums[ends].tolist()
        ):
            words = tokens[1:-1] if tokens[-1] == EOS else tokens[1:]
            finished[clip].append(Hypothesis(words, total / (step + 1)))
        sums = sums.masked_fill(ends, -torch.inf)
        live = (sums > -torch.inf).any(dim=1)
        going = live.nonzero()[:, 0]
        if not len(going):
            break
        # [clips, new width]
        rows = torch.arange(len(clips), device=frames.device)[:, None] * width + parent
        if 2 * len(going) <= len(clips):  # seldom, as what remains is copied
            clips, prefix, sums, places, rows = (x[going] for x in (clips, prefix, sums, places, rows))
            memory.keep_clips(going)
        memory.follow(rows.flatten())
    return [sorted(found, key=lambda hypothesis: -hypothesis.score) for found in finished]


@torch.inference_mode()
def beam_search_reference(
    captioner: Captioner,
    frames: Tensor,
    frame_padding: Tensor | None,
    options: DecodingOptions,
    forbidden: Tensor | None,
    bos: int = BOS,
) -> list[list[Hypothesis]]:
    """As `beam_search`, the plain way: every step runs the decoder on the whole prefix of every
    hypothesis.
    """
    forbidden = _checked(captioner, options, forbidden, bos, frames.device)
    memory = captioner.project(frames)  # [batch, frames, d_model]
    batch = len(frames)
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    # one row per live hypothesis of any clip; all are equally long
    clips = list(range(batch))
    prefixes = [[bos] for _ in range(batch)]
    sums = [0.0] * batch
    for step in range(options.max_tokens):
        if not clips:
            break
        rows = torch.tensor(clips, device=frames.device)
        prefix = torch.tensor(prefixes, device=frames.device)  # [rows, 1 + step]
        logits = captioner.decode_embedded(
            memory[rows],  # [rows, frames, d_model]
            None if frame_padding is None else frame_padding[rows],  # [rows, frames]
            captioner.embed(prefix),
            None,  # prefixes are equally long, and a generated PAD is a token like any other
        )[:, -1]
        log_probs = _log_probs(logits, prefix, options, forbidden, bos)  # [rows, vocabulary]
        # a clip's best `beam` candidates are among the best `beam` of each of its rows
        best, tokens = log_probs.topk(
            min(options.beam, captioner.vocabulary_size), dim=1
        )  # [rows, beam] each
        candidates: list[list[tuple[float, int, int]]] = [[] for _ in range(batch)]
        for row, (values, ids) in enumerate(zip(best.tolist(), tokens.tolist())):
            candidates[clips[row]] += [
                (sums[row] + value, row, token) for value, token in zip(values, ids) if value > float("-inf")
            ]
        next_clips, next_prefixes, next_sums = [], [], []
        for clip in sorted(set(clips)):
            places = options.beam - len(finished[clip])
            for total, row, token in sorted(candidates[clip], key=lambda item: -item[0])[:places]:
                words = prefixes[row][1:]
                if token == EOS:
                    finished[clip].append(Hypothesis(words, total / (step + 1)))
                elif step + 1 == options.max_tokens:
                    finished[clip].append(Hypothesis([*words, token], total / (step + 1)))
                else:
                    next_clips.append(clip)
                    next_prefixes.append([*prefixes[row], token])
                    next_sums.append(total)
        clips, prefixes, sums = next_clips, next_prefixes, next_sums
    return [sorted(found, key=lambda hypothesis: -hypothesis.score) for found in finished]
