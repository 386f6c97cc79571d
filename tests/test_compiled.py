"""The compiled path against the plain reference, and what happens where it cannot be had."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import CAPTIONS, many
from test_scoring import SIZES, captioner, clips, some_captions

from aacstudy.corpus.text import BOS, EOS
from aacstudy.scoring import compiled
from aacstudy.scoring.engine import Engine
from aacstudy.scoring.reference import nll_reference

PER_TOKEN = 0.03  # nats: bfloat16's relative step is 2 ** -8, logits here are some units
here = pytest.mark.skipif(bool(compiled.why_not()), reason=f"no compiled path: {compiled.why_not()}")
ODD = {"heads of 6": {"d_model": 24, "heads": 4, "d_ff": 10}, "heads of 80": {"d_model": 160, "heads": 2}}


@pytest.fixture
def afresh(monkeypatch, tmp_path):
    """Asks anew what this machine can do, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for one in (compiled._load, compiled.why_not):
        one.cache_clear()
    yield monkeypatch
    for one in (compiled._load, compiled.why_not):
        one.cache_clear()


def test_pack_by_hand():
    packed = compiled.pack(torch.arange(33 * 4, dtype=torch.float32).view(33, 4))  # n 33, k 4
    assert packed.shape == (2, 2, 32, 2) and packed.dtype == torch.bfloat16
    assert packed[0, 0, 0].tolist() == [0, 1] and packed[0, 1, 0].tolist() == [2, 3]
    assert packed[0, 1, 5].tolist() == [22, 23]  # row 5, columns 2 and 3
    assert packed[1, 0, 0].tolist() == [128, 129] and not packed[1, :, 1:].any()


@here
@settings(max_examples=20, deadline=None)
@given(
    made=CAPTIONS,
    memory=st.sampled_from([1, 20_000, "2GB"]),
    positions=st.sampled_from(["none", "sinusoidal"]),
)
def test_any_captions(made, memory, positions):
    network, heard = captioner(frame_positions=positions), clips(lengths=(1, 6, 33))
    captions = [*made, made[0], [BOS, EOS], [BOS, *[4, 5] * 19, EOS], [BOS, 4, 5, 4, EOS, 6, EOS]]
    scorer = Engine(network, captions, "bfloat16", memory)
    assert scorer.compiled
    difference = np.abs(scorer.nll(heard) - nll_reference(network, heard, captions).numpy())
    assert (difference / [len(ids) - 1 for ids in captions]).max() <= PER_TOKEN


@here
@pytest.mark.parametrize("size", [*SIZES, *ODD])
def test_closer_to_the_reference_than_torch(size):
    network, captions = captioner(words=33, **(SIZES | ODD)[size]), some_captions(lengths=(1, 4, 11, 20, 38))
    heard = clips(lengths=(1, 3, 31, 32, 35, 100))
    plain = nll_reference(network, heard, captions).numpy()
    own, torchs = (Engine(network, captions, "bfloat16", use_c=c).nll(heard) - plain for c in (True, False))
    print(
        f"{size}: root mean square {(own**2).mean() ** 0.5:.3f} nats, with torch "
        f"{(torchs**2).mean() ** 0.5:.3f}"
    )
    assert (np.abs(own) / [len(ids) - 1 for ids in captions]).max() <= PER_TOKEN
    assert (own**2).mean() < (torchs**2).mean()
    # the same without the last frame is another clip, and seen to be: the bounds above can fail
    less = Engine(network, captions, "bfloat16").nll([clip[:-1] for clip in heard[1:]]) - plain[1:]
    assert (np.abs(less) / [len(ids) - 1 for ids in captions]).max() > 2 * PER_TOKEN


@here
def test_rows_are_the_same_bits_in_any_company_and_number_of_threads():
    network, heard = captioner(), clips(lengths=(1, 5, 9, 5, 40, 32, 5))
    scorer = Engine(network, many(200), "bfloat16")
    whole, threads = scorer.nll(heard), torch.get_num_threads()
    assert scorer.compiled
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            for rows in ([0], [4], [6, 2], [5, 4, 3, 2, 1, 0], [3, 3, 3]):
                np.testing.assert_array_equal(scorer.nll([heard[a] for a in rows]), whole[rows])
    finally:
        torch.set_num_threads(threads)


@here
def test_label_smoothing_and_token_losses():
    network, captions, heard = captioner(), some_captions(lengths=(1, 4, 11)), clips(lengths=(3, 35))
    scorer = Engine(network, captions, "bfloat16", label_smoothing=0.3)
    found, plain = scorer.nll(heard), nll_reference(network, heard, captions, 0.3).numpy()
    assert (np.abs(found - plain) / [len(ids) - 1 for ids in captions]).max() <= PER_TOKEN
    assert np.abs(found - Engine(network, captions, "bfloat16").nll(heard)).max() > 1
    tokens = scorer.token_nll(heard[1])
    np.testing.assert_allclose([one.sum() for one in tokens], found[1], rtol=1e-5)


def test_sizes_that_do_not_come_in_pairs_are_torchs():
    network, captions, heard = captioner(d_model=6, heads=2), some_captions(lengths=(1, 4)), clips()
    scorer = Engine(network, captions, "bfloat16")
    assert scorer.compiled is None
    assert np.isfinite(scorer.nll(heard)).all()


def test_float32_is_always_torchs():
    assert Engine(captioner(), many(3)).compiled is None


def works_without(reason):
    """The engine says why there is no compiled path, and gives torch's numbers."""
    network, captions, heard = captioner(), some_captions(lengths=(1, 4)), clips()
    scorer = Engine(network, captions, "bfloat16")
    assert reason in compiled.why_not() and scorer.compiled is None
    np.testing.assert_array_equal(
        scorer.nll(heard), Engine(network, captions, "bfloat16", use_c=False).nll(heard)
    )
    with pytest.raises(RuntimeError, match="no compiled path"):
        compiled.Decoder(network)


def test_another_processor(afresh):
    afresh.setattr(compiled, "FEATURES", ("avx512f", "no_such_feature"))
    works_without("the processor has no no_such_feature")


@here
def test_no_compiler(afresh, tmp_path):
    afresh.setenv("PATH", str(tmp_path))
    works_without("no C compiler")


@here
def test_what_does_not_compile_is_said_once_and_leaves_nothing(afresh, tmp_path):
    broken = tmp_path / "broken.c"
    broken.write_text("int x = ;")
    afresh.setattr(compiled, "SOURCE", broken)
    with pytest.warns(RuntimeWarning, match="torch does the work") as said:
        works_without("broken.c could not be compiled")
    assert len(said) == 1
    assert not list((tmp_path / "cache" / "aacstudy").iterdir())


@here
def test_a_cache_that_cannot_be_written(afresh, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(RuntimeWarning, match="torch does the work"):
        works_without("could not be compiled and loaded")


@here
def test_a_cache_that_others_can_write_is_not_run(afresh, tmp_path):
    (tmp_path / "cache" / "aacstudy").mkdir(parents=True)
    (tmp_path / "cache" / "aacstudy").chmod(0o777)
    with pytest.warns(RuntimeWarning, match="torch does the work"):
        works_without("can be written by all")


@here
def test_nobodys_home(afresh):
    afresh.delenv("XDG_CACHE_HOME")
    afresh.setattr(
        compiled.Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home")))
    )
    with pytest.warns(RuntimeWarning, match="torch does the work"):
        works_without("no home")


@here
def test_compiled_once_and_again_when_the_file_is_no_library(afresh, tmp_path):
    place = tmp_path / "cache" / "aacstudy" / "x.so"
    place.parent.mkdir(parents=True)
    places = iter([place, place, place.with_name("y.so")])
    afresh.setattr(compiled, "_place", lambda compiler: next(places))
    compiled._opened(["cc"])
    whole, before = place.read_bytes(), place.stat().st_mtime_ns
    compiled._opened(["cc"])
    compiled._build(["cc"], place)  # another job that began at the same time: the first one's stays
    assert place.stat().st_mtime_ns == before
    place.with_name("y.so").write_bytes(whole[:100])
    compiled._opened(["cc"])
    assert {one.name: len(one.read_bytes()) for one in place.parent.iterdir()} == {
        "x.so": len(whole),
        "y.so": len(whole),
    }


@here
def test_a_word_that_cannot_be_said_and_a_weight_that_is_none():
    network, captions, heard = captioner(), [[BOS, 4, 5, EOS], [BOS, 6, EOS]], clips(lengths=(3,))
    with torch.no_grad():
        network.decoder.classifier.bias[20] = -torch.inf
    found = Engine(network, captions, "bfloat16").nll(heard)
    assert np.abs(found - nll_reference(network, heard, captions).numpy()).max() <= 3 * PER_TOKEN
    for weight in (network.decoder.classifier.bias, network.decoder.layers[0].linear1.weight):
        kept = weight.data.clone()
        with torch.no_grad():
            weight.view(-1)[21] = torch.nan
        assert np.isnan(Engine(network, captions, "bfloat16").nll(heard)).all()
        weight.data = kept


@here
def test_weights_are_copied():
    network, captions, heard = captioner(), some_captions(lengths=(4,)), clips(lengths=(3,))
    scorer = Engine(network, captions, "bfloat16")
    before = scorer.nll(heard)
    with torch.no_grad():
        for layer in network.decoder.layers:
            layer.multihead_attn.in_proj_weight.mul_(3)
            layer.norm2.weight.mul_(3)
        network.decoder.classifier.weight.mul_(3)
    np.testing.assert_array_equal(scorer.nll(heard), before)
