"""Published captioners in our network, against a plain computation on the file's tensors."""

import json
import pickle

import pytest
import torch
from published_tensors import captioner_plain, captioner_tensors, convnext_tensors
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import WordLevelTrainer

from aacstudy.corpus.text import EOS, SPECIALS, UNK, Vocabulary, tokenise
from aacstudy.models.checkpoint import load_captioner, save_captioner
from aacstudy.models.published import captioners
from aacstudy.models.published.captioners import PROBE, import_conette, import_dcase2024
from aacstudy.models.published.files import read_plain
from aacstudy.scoring.engine import nll_pairs

CAPTIONS = [
    "A dog barks, twice.",
    "the dog's bark",
    "A dog and a cat",
    "rain falls",
    "a dog",
    "rain, rain, rain",
]
TASKS = (
    "clotho",
    "audiocaps",
    "macs",
    "wavcaps_audioset_sl",
    "wavcaps_bbc_sound_effects",
    "wavcaps_freesound",
    "wavcaps_soundbible",
)
WORDS = (*SPECIALS, "a", "dog", "barks", "the", "'s", "bark", "cat", "and", "rain", "falls")
ALL_WORDS = (*WORDS, *(f"<bos_{task}>" for task in TASKS))
HPARAMS = {
    "level": "word",
    "lowercase": True,
    "punctuation_mode": "remove",
    "normalize": True,
    "backend": "spacy",
}


def baseline_tokenizer(clean: bool = True) -> dict:
    """A tokenizer.json as the baseline's library writes it: word ids by frequency, clean-up and
    split beside them.
    """
    tokenizer = Tokenizer(models.WordLevel({}, "<unk>"))
    steps = [normalizers.Lowercase(), normalizers.Strip(), normalizers.StripAccents()]
    if clean:
        pairs = {"“": '"', "”": '"', "`": "'", "’": "'", ";": ",", "…": "..."}
        steps += [normalizers.Replace(old, new) for old, new in pairs.items()]
        signs = "".join(f"\\{sign}" for sign in '.!?;:"(){}[]*×-#/+_~ʘ\\')
        for pattern, new in ((r"\s*-\s*", "-"), (f"[{signs}]", " "), (r"\s+", " ")):
            steps.append(normalizers.Replace(Regex(pattern), new))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    tokenizer.train_from_iterator(
        CAPTIONS, WordLevelTrainer(special_tokens=list(SPECIALS), show_progress=False)
    )
    return json.loads(tokenizer.to_str()) | {"pad_token": "<pad>", "version": 1}


def conette_state(words=ALL_WORDS, **changes) -> dict:
    tokenizer = {
        "hparams": HPARAMS | changes,
        "itos": dict(enumerate(words)),
        "stoi": {word: i for i, word in enumerate(words)},
        "vocab": dict.fromkeys(words, 3),
        "added_special_tokens": [],
    }
    return {
        "model.tokenizers.0._extra_state": {"_version_": "2.2.0", "_type_": "txt", "tokenizer": tokenizer}
    }


def conette_tensors(state: object = None) -> dict[str, torch.Tensor]:
    """All 307 tensors of CoNeTTE's file, with few words."""
    tensors = {f"preprocessor.encoder.{k}": v for k, v in convnext_tensors("scale_layer").items()}
    tensors |= {f"model.{k}": v for k, v in captioner_tensors(len(ALL_WORDS)).items()}
    data = pickle.dumps(conette_state() if state is None else state)
    return tensors | {
        "model.forbid_rep_mask": torch.tensor([word not in ("a", "the", "and") for word in ALL_WORDS]),
        "model.task_id_to_token_id": torch.arange(len(WORDS), len(ALL_WORDS)),
        "_extra_state_": torch.frombuffer(bytearray(data), dtype=torch.uint8),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    tokenizer = baseline_tokenizer()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    words = tokenizer["model"]["vocab"]
    tensors = captioner_tensors(len(words)) | {
        "forbid_rep_mask": torch.tensor([w not in ("a", "the") for w in words])
    }
    lightning = {"epoch": 192, "hyper_parameters": {"betas": (0.9, 0.999)}, "state_dict": tensors}
    torch.save(lightning, folder / "baseline.ckpt")
    wrapped = {f"model.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": wrapped}, folder / "wrapped.ckpt")
    save_file(conette_tensors(), folder / "conette.safetensors")
    return folder


@pytest.fixture(scope="module")
def baseline(folder):
    return import_dcase2024(folder / "baseline.ckpt", folder / "tokenizer.json", heads=8)


@pytest.fixture(scope="module")
def conette(folder):
    return import_conette(folder / "conette.safetensors", heads=8, task="audiocaps")


def example(words: int):
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(3, 7, 768, generator=generator)
    return frames, torch.randint(1, words, (3, 9), generator=generator)


# The DCASE 2024 baseline


def test_the_baseline_is_the_published_network(baseline, folder):
    captioner, vocabulary, extra = baseline
    tensors = captioner_tensors(len(vocabulary))
    assert sum(name.startswith("decoder.") for name in tensors) == 112
    count = sum(p.numel() for p in captioner.parameters())
    assert count == 9_669_376 + 513 * len(vocabulary) and not captioner.training
    frames, tokens = example(len(vocabulary))
    with torch.inference_mode():
        logits = captioner(frames, None, tokens)
    expected = {heads: captioner_plain(tensors, frames, tokens, heads) for heads in (4, 8)}
    difference = float((logits - expected[8]).abs().max())
    print("logits: max difference", difference, "at std", float(logits.std()))
    assert logits.std() > 0.3 and difference < 1e-4
    assert (expected[4] - expected[8]).abs().max() > 0.1
    four, _, _ = import_dcase2024(folder / "baseline.ckpt", folder / "tokenizer.json", heads=4)
    with torch.inference_mode():
        assert (four(frames, None, tokens) - expected[4]).abs().max() < 1e-4
    assert extra == {"source": "baseline.ckpt", "may_repeat": ["a", "the"]}


def test_the_baselines_words_are_its_own(baseline, folder):
    _, vocabulary, _ = baseline
    assert vocabulary.rules == "dcase2024" and vocabulary.bos == 1
    counts = [sum(tokenise(c, "dcase2024").count(word) for c in CAPTIONS) for word in vocabulary.words[4:]]
    assert counts == sorted(counts, reverse=True)  # ids by frequency
    content = baseline_tokenizer()
    del content["pad_token"]
    theirs = Tokenizer.from_str(json.dumps(content | {"version": "1.0"}))
    for caption in [*CAPTIONS, "A zebra’s bark; rain - the DOG!", PROBE]:
        assert vocabulary.encode(caption)[1:-1] == theirs.encode(caption).ids, caption
    assert UNK in vocabulary.encode("a zebra") and vocabulary.encode("rain")[-1] == EOS


def test_a_wrapper_changes_nothing(baseline, folder):
    captioner, _, extra = import_dcase2024(folder / "wrapped.ckpt", folder / "tokenizer.json", heads=8)
    for name, tensor in captioner.state_dict().items():
        assert torch.equal(tensor, baseline[0].state_dict()[name]), name
    assert extra["may_repeat"] == ["a", "the"]


def test_an_imported_captioner_is_ours_from_then_on(baseline, tmp_path):
    captioner, vocabulary, extra = baseline
    save_captioner(tmp_path / "c.safetensors", captioner, vocabulary, extra)
    again, words, kept = load_captioner(tmp_path / "c.safetensors")
    assert (words, kept, again.options.heads) == (vocabulary, extra, 8)
    frames, tokens = example(len(vocabulary))
    with torch.inference_mode():
        assert torch.equal(again(frames, None, tokens), captioner(frames, None, tokens))


def test_heads_must_be_said(folder):
    with pytest.raises(TypeError, match="heads"):
        import_dcase2024(folder / "baseline.ckpt", folder / "tokenizer.json")
    with pytest.raises(TypeError, match="heads"):
        import_conette(folder / "conette.safetensors", task="clotho")
    with pytest.raises(ValueError, match="heads must divide"):
        import_dcase2024(folder / "baseline.ckpt", folder / "tokenizer.json", heads=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.norm.weight": torch.ones(256)}, r"c\.ckpt: .*unexpected tensor 'decoder\.norm\.weight'"),
        ({"decoder.layers.1.linear2.bias": None}, r"missing tensor 'decoder\.layers\.1\.linear2\.bias'"),
        ({"projection.2.bias": torch.ones(3)}, r"'projection\.2\.bias' is \(3,\)"),
        ({"projection.2.weight": None}, r"'projection\.2\.weight' is missing"),
        ({"decoder.emb_layer.weight": None}, r"0 tensors are called 'decoder\.emb_layer\.weight'"),
        ({"decoder.pos_encoding.pos_embedding": torch.zeros(5000, 1, 256)}, "does not hold the sinusoids"),
        ({"decoder.pos_encoding.pos_embedding": torch.zeros(5000, 2, 256)}, "does not hold the sinusoids"),
        (
            {"decoder.emb_layer.weight": torch.zeros(9, 256)},
            r"c\.ckpt: its decoder knows 9 words, its tokenizer",
        ),
        ({"forbid_rep_mask": torch.zeros(9)}, "forbid_rep_mask' is torch.float32"),
    ],
)
def test_what_does_not_fit_is_named(folder, tmp_path, change, message):
    words = len(baseline_tokenizer()["model"]["vocab"])
    tensors = captioner_tensors(words, layers=2) | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    torch.save({"state_dict": kept}, tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match=message):
        import_dcase2024(tmp_path / "c.ckpt", folder / "tokenizer.json", heads=8)


def without(content: dict, *path: str) -> dict:
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a tokenizer.json"),
        ("[1]", "not a tokenizer.json"),
        (json.dumps(without(baseline_tokenizer(), "model")), "not a tokenizer.json"),
        (json.dumps(baseline_tokenizer(clean=False)), "t.json: it splits .* the DCASE 2024 baseline into"),
        (json.dumps(baseline_tokenizer() | {"normalizer": None}), "it splits"),
        (json.dumps(without(baseline_tokenizer(), "model", "vocab", "dog")), "do not count from 0"),
    ],
)
def test_a_tokenizer_of_another_kind(folder, tmp_path, content, message):
    (tmp_path / "t.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        import_dcase2024(folder / "baseline.ckpt", tmp_path / "t.json", heads=8)
    with pytest.raises(FileNotFoundError):
        import_dcase2024(folder / "baseline.ckpt", tmp_path / "none.json", heads=8)


# CoNeTTE


def test_conette_is_the_published_network(conette, folder):
    encoder, captioner, vocabulary, extra = conette
    assert len(conette_tensors()) == 307
    assert sum(p.numel() for p in encoder.parameters()) == 28_222_767
    assert sum(p.numel() for p in captioner.parameters()) == 9_669_376 + 513 * len(ALL_WORDS)
    tensors = captioner_tensors(len(ALL_WORDS))
    frames, tokens = example(len(ALL_WORDS))
    with torch.inference_mode():
        logits = captioner(frames, None, tokens)
    difference = float((logits - captioner_plain(tensors, frames, tokens, 8)).abs().max())
    print("logits: max difference", difference, "at std", float(logits.std()))
    assert difference < 1e-4
    stem = convnext_tensors()["downsample_layers.0.0.weight"]
    assert torch.equal(encoder.convnext.stem[0].weight, stem)
    assert extra == {"source": "conette.safetensors", "may_repeat": ["a", "the", "and"], "task": "audiocaps"}
    assert vocabulary == Vocabulary(ALL_WORDS, "conette", len(WORDS) + 1)


def test_the_tasks_token_stands_in_front_and_matters(conette, folder):
    _, captioner, vocabulary, _ = conette
    ids = vocabulary.encode("The dog's bark!")
    assert ids == [vocabulary.words.index("<bos_audiocaps>"), 7, 5, 8, 9, EOS]
    clip = example(len(ALL_WORDS))[0][0]
    losses = [float(nll_pairs(captioner, [clip], [[first, *ids[1:]]], [0], [0])[0]) for first in (ids[0], 1)]
    targets = torch.tensor(ids[1:])
    logits = captioner_plain(captioner_tensors(len(ALL_WORDS)), clip[None], torch.tensor([ids[:-1]]), 8)[0]
    assert losses[0] == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum")), abs=1e-4
    )
    assert abs(losses[0] - losses[1]) > 1e-2


def test_a_task_that_there_is_not(folder):
    with pytest.raises(ValueError, match=r"task must be one of clotho, audiocaps, macs, .*, got 'esc50'"):
        import_conette(folder / "conette.safetensors", heads=8, task="esc50")


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"model.tokenizers.0._extra_state": Code()}, "does not hold one tokenizer"),
        ([1, 2], "does not hold one tokenizer"),
        ({"a": conette_state(), "b": conette_state()}, "does not hold one tokenizer"),
        (conette_state(punctuation_mode="keep_comma"), "punctuation_mode must be remove"),
        (conette_state(words=WORDS), "token 14 stands for a task, and its word is ''"),
        (conette_state(words=(*WORDS, "a b", *ALL_WORDS[15:])), "its word is 'a b', not <bos_...>"),
        (
            conette_state(words=(*ALL_WORDS, "more")),
            r"s\.safetensors: its decoder knows 21 words, its tokenizer 22",
        ),
    ],
)
def test_what_the_pickle_inside_may_not_hold(monkeypatch, state, message, capsys):
    # the file's way through safetensors is not at stake here
    monkeypatch.setattr(captioners, "read_tensors", lambda path: conette_tensors(state))
    monkeypatch.setattr(captioners, "convnext_of", lambda path, tensors: None)
    with pytest.raises(ValueError, match=message):
        import_conette("s.safetensors", heads=8, task="clotho")
    assert capsys.readouterr().out == ""


def test_every_tensor_of_conettes_file_is_accounted_for(monkeypatch):
    monkeypatch.setattr(captioners, "read_tensors", lambda path: tensors)
    for name, message in (
        ("stray", "unexpected tensors outside of 'model.': \\['stray'\\]"),
        ("model.stray", "unexpected tensor 'stray'"),
        ("preprocessor.encoder.stray", "unexpected tensor 'stray'"),
    ):
        tensors = conette_tensors() | {name: torch.ones(1)}
        with pytest.raises(ValueError, match=message):
            import_conette("c.safetensors", heads=8, task="clotho")
    tensors = captioner_tensors(5)
    with pytest.raises(ValueError, match="'_extra_state_' is missing: not a file of CoNeTTE"):
        import_conette("c.safetensors", heads=8, task="clotho")


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps({"a": [1, "b", None]})[:-3]])
def test_a_damaged_pickle(data):
    with pytest.raises(ValueError, match=r"x: the pickle inside it is damaged"):
        read_plain("x", data)


def test_plain_data_is_read():
    plain = {"a": [1, "b", None, 2.5], "c": {"d": (True, b"e")}}
    assert read_plain("x", pickle.dumps(plain)) == plain


def test_a_captioner_is_imported_by_its_file(folder, conette):
    from aacstudy.models.published.captioners import import_captioner
    from aacstudy.models.published.encoders import published_encoder
    from aacstudy.options import EncoderOptions, FrontendOptions

    path = folder / "conette.safetensors"
    captioner, vocabulary, extra = import_captioner(path, 8, "audiocaps")
    assert vocabulary == conette[2] and extra["task"] == "audiocaps"
    assert all(
        torch.equal(a, b) for a, b in zip(captioner.state_dict().values(), conette[1].state_dict().values())
    )
    encoder = published_encoder(path, FrontendOptions(), EncoderOptions(weights="conette"))
    assert all(
        torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), conette[0].state_dict().values())
    )
