"""Checkpoints: exact round trips, and files that are refused by name."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from aacstudy.corpus.text import BOS, SPECIALS, Vocabulary
from aacstudy.models import checkpoint
from aacstudy.models.captioner import Captioner
from aacstudy.models.convnext import TaggingEncoder
from aacstudy.models.encoder import build_encoder
from aacstudy.options import DecoderOptions, EncoderOptions, FrontendOptions

WORDS = Vocabulary((*SPECIALS, "a", "dog", "barks", "n't", "café"))
OPTIONS = DecoderOptions(
    d_model=32, layers=2, heads=4, d_ff=48, frame_positions="sinusoidal", max_positions=30
)
FRONTEND = FrontendOptions(sample_rate=16000, n_fft=512, hop=320, n_mels=64, f_min=50.0, f_max=7800.0)
ENCODER = EncoderOptions(depths=(1, 1, 2), dims=(4, 8, 16), kernel=5, layer_scale=0.1, drop_path=0.1)
CLASSES = ("dog", "rain", "heli")


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(0)
    return Captioner(12, len(WORDS), OPTIONS)


@pytest.fixture
def path(tmp_path, captioner):
    checkpoint.save_captioner(tmp_path / "captioner.safetensors", captioner, WORDS, {"epoch": 3})
    return tmp_path / "captioner.safetensors"


def tampered(path, change_tensors=None, change_metadata=None):
    """Rewrite a checkpoint after changing its tensors or metadata in place."""
    tensors, metadata = checkpoint.load(path)
    if change_tensors:
        change_tensors(tensors)
    if change_metadata:
        change_metadata(metadata)
    checkpoint.save(path, tensors, metadata)
    return path


def test_captioner_round_trip(path, captioner):
    loaded, words, extra = checkpoint.load_captioner(path)
    assert (words, extra) == (WORDS, {"epoch": 3})
    assert (loaded.options, loaded.frame_dim, loaded.training) == (OPTIONS, 12, False)
    frames, tokens = torch.randn(2, 5, 12), torch.tensor([[BOS, 4, 5], [BOS, 6, 0]])
    assert torch.equal(loaded(frames, None, tokens), captioner.eval()(frames, None, tokens))


def test_a_vocabulary_keeps_its_rules_and_its_first_token(path, captioner):
    words = Vocabulary(WORDS.words, rules="dcase2024", bos=8)
    checkpoint.save_captioner(path, captioner, words, {})
    _, loaded, _ = checkpoint.load_captioner(path)
    assert loaded == words
    assert loaded.encode("A dog") == [8, 4, 5, 2]


@pytest.mark.parametrize(
    "options",
    [ENCODER, EncoderOptions(kind="cnn14", dims=(4, 8, 16), weights="somewhere.pth")],
    ids=["convnext", "cnn14"],
)
def test_encoder_round_trip(tmp_path, options):
    encoder = build_encoder(FRONTEND, options, len(CLASSES))
    encoder(torch.randn(2, 8000))  # moves the running statistics of bn0
    checkpoint.save_encoder(tmp_path / "e.safetensors", encoder, CLASSES)
    loaded, classes = checkpoint.load_encoder(tmp_path / "e.safetensors")
    assert classes == CLASSES
    assert type(loaded) is type(encoder)
    assert (loaded.frontend, loaded.options, loaded.training) == (FRONTEND, options, False)
    waveform = torch.randn(1, 8000)
    assert torch.equal(loaded(waveform), encoder.eval()(waveform))
    assert loaded.bn0.num_batches_tracked == 1


def test_round_trip_is_byte_stable(path, tmp_path):
    loaded, words, extra = checkpoint.load_captioner(path)
    checkpoint.save_captioner(tmp_path / "again.safetensors", loaded, words, extra)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_loading_keeps_the_random_state(path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    checkpoint.load_captioner(path)
    assert torch.equal(torch.rand(3), expected)


def test_nothing_else_is_left_in_the_folder(path, captioner):
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        checkpoint.save_captioner(
            path.parent / "bad.safetensors", captioner, WORDS, {"tensor": torch.zeros(1)}
        )
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_failed_write_keeps_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full_disk(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, {}, {})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_heads_are_restored_and_matter(path, captioner):
    """The tensors of 4 heads fit 8 heads just as well, and would silently give other losses."""
    loaded, _, _ = checkpoint.load_captioner(path)
    assert [layer.self_attn.num_heads for layer in loaded.decoder.layers] == [4, 4]
    eight = Captioner(12, len(WORDS), DecoderOptions(**(vars(OPTIONS) | {"heads": 8}))).eval()
    eight.load_state_dict(captioner.state_dict(), strict=True)
    frames, tokens = torch.randn(2, 5, 12), torch.tensor([[BOS, 4, 5], [BOS, 6, 7]])
    assert (loaded(frames, None, tokens) - eight(frames, None, tokens)).abs().max() > 1e-4


def test_heads_are_never_guessed(path):
    tampered(path, change_metadata=lambda m: m["options"].pop("heads"))
    with pytest.raises(ValueError, match=r"captioner\.safetensors: DecoderOptions .* missing \['heads'\]"):
        checkpoint.load_captioner(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bos": 9}, "bos is 1 or the id of a word, not 9"),
        ({"rules": "wordpiece"}, "rules are one of .* not 'wordpiece'"),
        ({"words": ["a"]}, "a vocabulary starts with"),
    ],
)
def test_an_impossible_vocabulary(path, change, message):
    tampered(path, change_metadata=lambda m: m["vocabulary"].update(change))
    with pytest.raises(ValueError, match=rf"captioner\.safetensors: Vocabulary in the metadata: .*{message}"):
        checkpoint.load_captioner(path)


def test_another_kind_of_encoder(tmp_path):
    encoder = build_encoder(FRONTEND, EncoderOptions(kind="cnn14", dims=(4, 8)), len(CLASSES))
    checkpoint.save_encoder(tmp_path / "e.safetensors", encoder, CLASSES)
    tampered(tmp_path / "e.safetensors", change_metadata=lambda m: m["options"].pop("kind"))
    with pytest.raises(ValueError, match=r"e\.safetensors: EncoderOptions .* missing \['kind'\]"):
        checkpoint.load_encoder(tmp_path / "e.safetensors")


def test_unknown_option(path):
    tampered(path, change_metadata=lambda m: m["options"].update(nheads=4))
    with pytest.raises(ValueError, match=r"captioner\.safetensors: .* unknown \['nheads'\]"):
        checkpoint.load_captioner(path)


def test_impossible_option(path):
    tampered(path, change_metadata=lambda m: m["options"].update(heads=5))
    with pytest.raises(ValueError, match=r"captioner\.safetensors: .* heads must divide"):
        checkpoint.load_captioner(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoint.load_captioner(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64])
def test_not_safetensors(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.safetensors: not a safetensors file"):
        checkpoint.load_captioner(path)


def test_truncated_file(path):
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"captioner\.safetensors: not a safetensors file"):
        checkpoint.load_captioner(path)


def test_a_pickle_is_refused_unopened(tmp_path):
    """A torch.save file whose pickle would leave a mark when opened."""
    mark = tmp_path / "mark"

    class Trap:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    with pytest.raises(ValueError, match="not a safetensors file"):
        path = tmp_path / "old.pth"
        path.write_bytes(pickle.dumps(Trap()))
        checkpoint.load_encoder(path)
    assert not mark.exists()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_missing_metadata(tmp_path, captioner, metadata):
    save_file(captioner.state_dict(), tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"x\.safetensors: no 'aacstudy' metadata"):
        checkpoint.load_captioner(tmp_path / "x.safetensors")


@pytest.mark.parametrize("header, message", [("{", "not JSON"), (json.dumps([1]), "list, not a mapping")])
def test_broken_metadata(tmp_path, captioner, header, message):
    save_file(captioner.state_dict(), tmp_path / "x.safetensors", metadata={"aacstudy": header})
    with pytest.raises(ValueError, match=rf"x\.safetensors: .*{message}"):
        checkpoint.load_captioner(tmp_path / "x.safetensors")


def test_missing_field(path):
    tampered(path, change_metadata=lambda m: m.pop("vocabulary"))
    with pytest.raises(ValueError, match=r"captioner\.safetensors: .*'vocabulary' is missing"):
        checkpoint.load_captioner(path)


def test_another_model(path):
    with pytest.raises(
        ValueError, match=r"captioner\.safetensors: holds model 'Captioner', not 'TaggingEncoder'"
    ):
        checkpoint.load_encoder(path)


def test_all_wrong_tensors_are_listed(path):
    def change(tensors):
        tensors["decoder.classifier.bias"] = torch.zeros(3)
        tensors["projection.1.bias"] = tensors["projection.1.bias"].half()
        tensors["decoder.final"] = tensors.pop("decoder.embedding.weight")

    tampered(path, change_tensors=change)
    with pytest.raises(ValueError) as caught:
        checkpoint.load_captioner(path)
    message = str(caught.value)
    assert str(path) in message
    assert "missing tensor 'decoder.embedding.weight'" in message
    assert "unexpected tensor 'decoder.final'" in message
    assert (
        f"tensor 'decoder.classifier.bias' is (3,) torch.float32, not ({len(WORDS)},) torch.float32"
        in message
    )
    assert "tensor 'projection.1.bias' is (32,) torch.float16, not (32,) torch.float32" in message


def test_names_must_fit_the_network(tmp_path, captioner):
    with pytest.raises(ValueError, match=r"x\.safetensors: 8 words for a captioner of 9"):
        checkpoint.save_captioner(tmp_path / "x.safetensors", captioner, Vocabulary(WORDS.words[:-1]), {})
    with pytest.raises(ValueError, match=r"x\.safetensors: 2 class names for an encoder of 3"):
        encoder = TaggingEncoder(FRONTEND, ENCODER, 3)
        checkpoint.save_encoder(tmp_path / "x.safetensors", encoder, CLASSES[:2])
