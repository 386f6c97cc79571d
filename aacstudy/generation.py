"""Captions out of a captioner: greedy and beam search, with words that may not repeat.

Plain on purpose: every step runs the decoder on the whole prefix of every hypothesis. Not used for retrieval scores.
Source: arXiv 2309.00454, section on decoding, and the authors' code.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aacstudy.corpus.text import BOS, EOS, PAD, UNK
from aacstudy.models.captioner import Captioner
from aacstudy.options import REPEAT_MODES, DecodingOptions


class Hypothesis(NamedTuple):
    """A generated caption: its tokens without BOS and EOS, and its score."""

    tokens: list[int]
    score: float  # mean natural-log probability per generated token, EOS included where it was reached


def forbidden_repeats(vocabulary: list[str], mode: str) -> Tensor:
    """Vocabulary in id order -> bool [vocabulary], True for entries that may stand only once in a caption.

    "none": no entry; "all": every entry; "content": every entry, specials too, that is no English stop word.
    The authors use NLTK's stop words, which need a download; these are spaCy's, a longer list. It also frees number
    words ("one", "two") and frequent verbs, adverbs and places ("make", "several", "back", "front"), so a few more
    words may repeat here; in turn it lacks a few ("having", "theirs"). Raises ValueError for another mode.
    """
    if mode not in REPEAT_MODES:
        raise ValueError(f"mode must be one of {REPEAT_MODES}, got {mode!r}")
    if mode != "content":
        return torch.full((len(vocabulary),), mode == "all")
    from spacy.lang.en.stop_words import STOP_WORDS  # here, as importing spaCy takes a second

    return torch.tensor([word not in STOP_WORDS for word in vocabulary], dtype=torch.bool)


def _checked(captioner: Captioner, options: DecodingOptions, forbidden: Tensor | None, device) -> Tensor:
    """The forbidden mask on the device, after refusing what could not be searched."""
    if captioner.training:
        raise ValueError("the captioner is in training mode, with dropout: call captioner.eval() first")
    size = captioner.vocabulary_size
    if forbidden is None:
        forbidden = torch.zeros(size, dtype=torch.bool)
    if forbidden.shape != (size,) or forbidden.dtype != torch.bool:
        raise ValueError(f"forbidden must be bool [{size}], got {forbidden.dtype} {tuple(forbidden.shape)}")
    words = torch.ones(size, dtype=torch.bool)
    words[[PAD, BOS, EOS, UNK] if options.forbid_specials else [EOS]] = False
    words[BOS] &= ~forbidden[BOS].cpu()  # every prefix holds it already
    once = words & forbidden.cpu()
    if bool((words == once).all()) and int(once.sum()) < options.min_tokens:
        raise ValueError(
            f"{int(once.sum())} words, none of which may repeat, cannot fill min_tokens = {options.min_tokens}"
        )
    return forbidden.to(device)


def _next_log_probs(
    captioner: Captioner,
    memory: Tensor,
    frame_padding: Tensor | None,
    prefix: Tensor,
    options: DecodingOptions,
    forbidden: Tensor,
) -> Tensor:
    """Prefixes [rows, n], BOS first -> log-probabilities of the next token [rows, vocabulary].

    Masked before the log-softmax, so what is left is renormalised. BOS counts as a token of the prefix.
    """
    # no token padding: prefixes are equally long, and a generated PAD is a token like any other
    embedded = captioner.embed(prefix)  # [rows, n, d_model]
    logits = captioner.decode_embedded(memory, frame_padding, embedded, None)[
        :, -1
    ].float()  # [rows, vocabulary]
    masked = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, prefix, True) & forbidden
    if options.forbid_specials:
        masked[:, [PAD, BOS, UNK]] = True
    if prefix.shape[1] - 1 < options.min_tokens:
        masked[:, EOS] = True
    return logits.masked_fill(masked, float("-inf")).log_softmax(dim=1)


@torch.inference_mode()
def greedy(
    captioner: Captioner,
    frames: Tensor,
    frame_padding: Tensor | None,
    options: DecodingOptions,
    forbidden: Tensor | None,
) -> list[list[Hypothesis]]:
    """The likeliest next token, again and again: for each clip a list of one hypothesis, as `beam_search` gives.

    Frames [batch, frames, frame_dim]; `frame_padding` bool [batch, frames], True where padded, or None; `forbidden`
    from `forbidden_repeats`, or None. `options.beam` is not used. Raises ValueError in training mode.
    """
    forbidden = _checked(captioner, options, forbidden, frames.device)
    memory = captioner.project(frames)  # [batch, frames, d_model]
    batch = len(frames)
    prefix = torch.full((batch, 1), BOS, dtype=torch.int64, device=frames.device)
    total = torch.zeros(batch, device=frames.device)
    length = torch.zeros(batch, dtype=torch.int64, device=frames.device)
    live = torch.ones(batch, dtype=torch.bool, device=frames.device)
    for _ in range(options.max_tokens):
        log_probs = _next_log_probs(captioner, memory, frame_padding, prefix, options, forbidden)
        best, token = log_probs.max(dim=1)  # [batch]
        total = torch.where(live, total + best, total)
        length = length + live
        prefix = torch.cat([prefix, token.where(live, EOS)[:, None]], dim=1)  # [batch, 1 + steps]
        live = live & (token != EOS)
        if not live.any():
            break
    means = (total / length).tolist()
    captions = [[token for token in row if token != EOS] for row in prefix[:, 1:].tolist()]
    return [[Hypothesis(tokens, mean)] for tokens, mean in zip(captions, means)]


@torch.inference_mode()
def beam_search(
    captioner: Captioner,
    frames: Tensor,
    frame_padding: Tensor | None,
    options: DecodingOptions,
    forbidden: Tensor | None,
) -> list[list[Hypothesis]]:
    """Beam search: for each clip at most `options.beam` hypotheses, best mean log-probability first.

    Inside the search the sum of log-probabilities decides. A hypothesis that reaches EOS is frozen and its place
    is not filled again, so the beam narrows; after `max_tokens` those still alive are frozen without EOS.
    Arguments and errors as in `greedy`.
    """
    forbidden = _checked(captioner, options, forbidden, frames.device)
    memory = captioner.project(frames)  # [batch, frames, d_model]
    batch = len(frames)
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    # one row per live hypothesis of any clip; all are equally long
    clips = list(range(batch))
    prefixes = [[BOS] for _ in range(batch)]
    sums = [0.0] * batch
    for step in range(options.max_tokens):
        if not clips:
            break
        rows = torch.tensor(clips, device=frames.device)
        log_probs = _next_log_probs(
            captioner,
            memory[rows],  # [rows, frames, d_model]
            None if frame_padding is None else frame_padding[rows],  # [rows, frames]
            torch.tensor(prefixes, device=frames.device),  # [rows, 1 + step]
            options,
            forbidden,
        )
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
