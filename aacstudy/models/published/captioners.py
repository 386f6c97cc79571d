"""Published captioners as ours: the DCASE 2024 baseline and CoNeTTE, with their vocabularies.

Names, shapes and settings: arXiv 2309.00454, and the public code of both. How many attention heads
a file was trained with stands in none of its tensors, and another number loads and gives other
losses: it must be said.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from aacstudy.corpus.text import Vocabulary, tokenise
from aacstudy.models.captioner import Captioner
from aacstudy.models.checkpoint import fill
from aacstudy.models.decoder import sinusoids
from aacstudy.models.published.encoders import INSIDE_CONETTE, convnext_of
from aacstudy.models.published.files import read_plain, read_tensors, without_prefix
from aacstudy.models.tagger import Tagger
from aacstudy.options import DecoderOptions

EMBEDDING, PROJECTION = "decoder.emb_layer.weight", "projection.2.weight"
FEED_FORWARD, POSITIONS = "decoder.layers.0.linear1.weight", "decoder.pos_encoding.pos_embedding"
REPEATS = "forbid_rep_mask"
# theirs are computed in float32: 4e-4 off at position 5000, 7e-6 in the first hundred
POSITIONS_TOLERANCE = 2e-3

# our names -> published names
_CAPTIONER = [
    (r"projection\.1\.", "projection.2."),
    (r"decoder\.embedding\.", "decoder.emb_layer."),
]
# Everything that clean-up may treat: capitals, accents, quotes, signs, hyphens, spaces.
PROBE = (
    "  A CAFÉ e\u0301 - “dog’s” `bark`, it can't; rock&roll… (high -pitched) [8:30] {x}*y×2 #1/+_~ʘ\\ 5%!? "
    "<b>.\tend "
)
TOKENIZER = (
    "added_tokens",
    "decoder",
    "model",
    "normalizer",
    "padding",
    "post_processor",
    "pre_tokenizer",
    "truncation",
)
# What CoNeTTE's tokenizer must say of itself for our rules to be its own.
CONETTE_TEXT = {"level": "word", "lowercase": True, "punctuation_mode": "remove", "normalize": True}


def import_dcase2024(
    checkpoint: str | Path, tokenizer: str | Path, heads: int
) -> tuple[Captioner, Vocabulary, dict]:
    """The captioner of the DCASE 2024 baseline, in eval mode, its vocabulary, and what else is
    worth keeping.

    ``checkpoint`` is Lightning's file, ``tokenizer`` the tokenizer.json beside it; the published
    one has 8 heads. Its encoder is ``convnext_tiny_465mAP_BL_AC_70kit``. The extra mapping has
    ``source``, and ``may_repeat``: the words that may stand twice in a generated caption, where the
    file says so. Raises FileNotFoundError, or ValueError naming the file and what in it is wrong.
    """
    tensors = without_prefix(checkpoint, read_tensors(checkpoint), EMBEDDING)
    vocabulary = _dcase2024_vocabulary(tokenizer)
    captioner, extra = _captioner(checkpoint, tensors, vocabulary, heads)
    return captioner, vocabulary, extra


def import_conette(path: str | Path, heads: int, task: str) -> tuple[Tagger, Captioner, Vocabulary, dict]:
    """CoNeTTE's encoder and captioner, in eval mode, its vocabulary, and what else is worth
    keeping.

    ``task`` names the data set whose captions it shall write or score (``clotho``, ``audiocaps``,
    ...): that task's token takes the place of BOS. The published file has 8 heads. Extra mapping
    and errors as in `import_dcase2024`.
    """
    tensors = read_tensors(path)
    for name in ("_extra_state_", "model.task_id_to_token_id"):
        if name not in tensors:
            raise ValueError(f"{path}: tensor '{name}' is missing: not a file of CoNeTTE")
    words = _conette_words(path, read_plain(path, bytes(tensors.pop("_extra_state_").tolist())))
    tokens = tensors.pop("model.task_id_to_token_id").long().flatten().tolist()
    tasks = {}
    for token in tokens:
        word = words[token] if 0 <= token < len(words) else ""
        if not re.fullmatch("<bos_.+>", word):
            raise ValueError(
                f"{path}: token {token} stands for a task, and its word is {word!r}, not <bos_...>"
            )
        tasks[word[5:-1]] = token
    if task not in tasks:
        raise ValueError(f"{path}: task must be one of {', '.join(tasks)}, got {task!r}")
    vocabulary = _vocabulary(path, words, "conette", tasks[task])
    ours = {name: tensor for name, tensor in tensors.items() if name.startswith(INSIDE_CONETTE)}
    encoder = convnext_of(path, ours)
    rest = {name: tensor for name, tensor in tensors.items() if name not in ours}
    captioner, extra = _captioner(path, without_prefix(path, rest, EMBEDDING), vocabulary, heads)
    return encoder, captioner, vocabulary, extra | {"task": task}


def import_captioner(path: Path, heads: int, task: str) -> tuple[Captioner, Vocabulary, dict]:
    """A captioner by its file: CoNeTTE's ``.safetensors``, or the baseline's and tokenizer.json."""
    if path.suffix == ".safetensors":
        return import_conette(path, heads, task)[1:]
    return import_dcase2024(path, path.with_name("tokenizer.json"), heads)


def _captioner(
    path: str | Path, tensors: Mapping[str, Tensor], vocabulary: Vocabulary, heads: int
) -> tuple[Captioner, dict]:
    """The captioner of tensors by their published names, sizes read off them; what else to keep."""
    rest = dict(tensors)
    for name, axes in ((EMBEDDING, 2), (PROJECTION, 2), (FEED_FORWARD, 2), (POSITIONS, 3)):
        if name not in rest or rest[name].ndim != axes:
            raise ValueError(f"{path}: tensor '{name}' is missing, or has other than {axes} axes")
    size, d_model = rest[EMBEDDING].shape
    if size != len(vocabulary):
        raise ValueError(f"{path}: its decoder knows {size} words, its tokenizer {len(vocabulary)}")
    positions = rest.pop(POSITIONS)  # [positions, 1, d_model]
    expected = sinusoids(len(positions), d_model)[:, None]
    if positions.shape != expected.shape or not (positions - expected).abs().max() <= POSITIONS_TOLERANCE:
        raise ValueError(f"{path}: tensor '{POSITIONS}' does not hold the sinusoids of {d_model} columns")
    layers = {int(n) for name in rest for n in re.findall(r"^decoder\.layers\.(\d+)\.", name)}
    options = DecoderOptions(
        d_model=d_model,
        layers=len(layers),
        heads=heads,
        d_ff=len(rest[FEED_FORWARD]),
        frame_positions="none",
        max_positions=len(positions),
    )
    extra = {"source": Path(path).name} | _may_repeat(path, rest.pop(REPEATS, None), vocabulary)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        captioner = Captioner(rest[PROJECTION].shape[1], size, options)
    names = {}
    for name in captioner.state_dict():
        names[name] = name
        for pattern, theirs in _CAPTIONER:
            names[name] = re.sub(f"^{pattern}", theirs, names[name])
    fill(path, captioner, rest, names)
    return captioner.eval(), extra


def _may_repeat(path: str | Path, mask: Tensor | None, vocabulary: Vocabulary) -> dict:
    if mask is None:
        return {}
    if mask.shape != (len(vocabulary),) or mask.dtype != torch.bool:
        raise ValueError(
            f"{path}: tensor '{REPEATS}' is {mask.dtype} {tuple(mask.shape)}, not a bool per word"
        )
    return {"may_repeat": [word for word, once in zip(vocabulary.words, mask.tolist()) if not once]}


def _in_order(path: str | Path, ids: object) -> tuple[str, ...]:
    """Words by id from ids by word, which must count from 0 without a gap."""
    if not isinstance(ids, Mapping) or not all(
        isinstance(word, str) and type(i) is int for word, i in ids.items()
    ):
        raise ValueError(f"{path}: the vocabulary is not a mapping of words to ids")
    if set(ids.values()) != set(range(len(ids))):
        raise ValueError(f"{path}: the vocabulary's ids do not count from 0 to {len(ids) - 1}")
    return tuple(sorted(ids, key=ids.__getitem__))


def _vocabulary(path: str | Path, words: tuple[str, ...], rules: str, bos: int = 1) -> Vocabulary:
    try:
        return Vocabulary(words, rules, bos)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _dcase2024_vocabulary(path: str | Path) -> Vocabulary:
    """The vocabulary of a tokenizer.json, whose clean-up and split must be those of our rules."""
    from tokenizers import Tokenizer

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        known = {name: content[name] for name in TOKENIZER if name in content}
        # the baseline writes a version of its own over the library's
        tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0"} | known))
    except FileNotFoundError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{path}: not a tokenizer.json ({error})") from error
    model = content["model"]
    if model.get("type") != "WordLevel":
        raise ValueError(f"{path}: its model is {model.get('type')!r}, not WordLevel")
    text = PROBE if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(PROBE)
    split = [] if tokenizer.pre_tokenizer is None else tokenizer.pre_tokenizer.pre_tokenize_str(text)
    theirs, ours = [word for word, _ in split], list(tokenise(PROBE, "dcase2024"))
    if theirs != ours:
        raise ValueError(f"{path}: it splits {PROBE!r} into {theirs}, the DCASE 2024 baseline into {ours}")
    return _vocabulary(path, _in_order(path, model.get("vocab")), "dcase2024")


def _conette_words(path: str | Path, state: object) -> tuple[str, ...]:
    """The words of CoNeTTE's tokenizer, whose settings must be those that our rules restate."""
    states = (
        [value for value in state.values() if isinstance(value, Mapping)] if isinstance(state, dict) else []
    )
    if len(states) != 1 or not isinstance(states[0].get("tokenizer"), Mapping):
        raise ValueError(f"{path}: '_extra_state_' does not hold one tokenizer")
    tokenizer = states[0]["tokenizer"]
    says = tokenizer.get("hparams")
    for name, wanted in CONETTE_TEXT.items():
        if not isinstance(says, Mapping) or says.get(name, wanted) != wanted:
            raise ValueError(
                f"{path}: its tokenizer was made with other settings: {says}; {name} must be {wanted}"
            )
    return _in_order(path, tokenizer.get("stoi"))
