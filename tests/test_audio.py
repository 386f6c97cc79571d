"""Audio files in: every format to the same mono samples, every defect to an error that says what to
do.
"""

import shlex
import threading
import time

import numpy as np
import pytest
import soundfile

from aacstudy.corpus.audio import (
    LONGEST,
    SHORTEST,
    AudioError,
    ahead,
    examine,
    inspect,
    permute,
    read,
    resample,
)


def tone(seconds: float = 1.0, rate: int = 16000, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def error_of(path, function=lambda path: read(path, 16000)) -> str:
    with pytest.raises(AudioError) as caught:
        function(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_U8", 1e-2),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.flac", "PCM_16", 1e-4),
        ("a.aiff", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 0.05),
        ("with space & é.wav", "PCM_16", 1e-4),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_reads_formats_and_mixes_channels(tmp_path, name, subtype, tolerance, channels):
    gains = np.linspace(0.2, 1.0, channels) if channels > 1 else np.ones(1)
    soundfile.write(tmp_path / name, tone()[:, None] * gains, 16000, subtype)
    info, samples = inspect(tmp_path / name), read(tmp_path / name, 16000)
    assert (info.frames, info.samplerate, info.channels) == (16000, 16000, channels)
    assert samples.dtype == np.float32 and samples.shape == (16000,)
    np.testing.assert_allclose(samples, tone() * gains.mean(), atol=tolerance)


def test_reads_mp3(tmp_path):
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile has no MP3")
    soundfile.write(tmp_path / "a.mp3", tone(2.0, 32000), 32000)
    samples = read(tmp_path / "a.mp3", 32000)
    assert abs(len(samples) - 64000) < 3000
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(
    ("rate", "new_rate"),
    [(44100, 16000), (44100, 32000), (48000, 16000), (8000, 16000), (22050, 32000), (32000, 16000)],
)
def test_resamples(tmp_path, rate, new_rate):
    """The length is the duration's, rounded up, and a tone stays the same tone."""
    n = rate + 37
    soundfile.write(tmp_path / "a.wav", tone(n / rate, rate), rate, "FLOAT")
    samples = read(tmp_path / "a.wav", new_rate)
    assert samples.dtype == np.float32 and len(samples) == -(-n * new_rate // rate)
    wanted = tone(len(samples) / new_rate, new_rate)
    np.testing.assert_allclose(samples[500:-500], wanted[500:-500], atol=0.01)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    high = tone(1.0, 32000, 12000.0).astype(np.float32)
    assert np.abs(resample(high, 32000, 16000)[200:-200]).max() < 0.01


def test_missing(tmp_path):
    assert "no such file; put it there" in error_of(tmp_path / "none.wav")
    (tmp_path / "folder.wav").mkdir()
    assert "no such file" in error_of(tmp_path / "folder.wav")


@pytest.mark.parametrize(
    "content", [b"I am a text.\n" * 1000, b"", b"RIFF", b"fLaC" + bytes(100), bytes(5000)]
)
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_no_audio_inside(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    for function in (inspect, lambda path: read(path, 16000)):
        message = error_of(tmp_path / name, function)
        assert message.startswith("not readable by libsndfile (") and "convert it: ffmpeg -i a." in message
        assert str(tmp_path) not in message  # libsndfile's reason repeats the path; once is enough


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("a.m4a", "ffmpeg -i a.m4a a.wav"),
        ("a.webm", "ffmpeg -i a.webm a.wav"),
        ("-_a b'c.mp4", """ffmpeg -i './-_a b'"'"'c.mp4' './-_a b'"'"'c.wav'"""),
        ("a.wav", "ffmpeg -i a.wav a.flac"),  # never onto itself
        ("a.WAV", "ffmpeg -i a.WAV a.flac"),
    ],
)
def test_the_remedy_is_a_command(tmp_path, name, command):
    (tmp_path / name).write_bytes(b"\0\0\0 ftypM4A mp42isom" + bytes(500))
    assert error_of(tmp_path / name, inspect).endswith(f"convert it: {command}")
    assert len(shlex.split(command)) == 4


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "lasts 0.000 s; a clip needs at least 0.25 s"),
        (0.1, "lasts 0.100 s; a clip needs at least 0.25 s"),
        (SHORTEST - 1 / 8000, "lasts 0.250 s; a clip needs at least 0.25 s"),
        (LONGEST + 1 / 8000, "lasts 120.0 s; a clip has at most 120 s, cut it"),
        (150.0, "lasts 150.0 s; a clip has at most 120 s, cut it"),
    ],
)
def test_too_short_and_too_long(tmp_path, seconds, said):
    soundfile.write(tmp_path / "a.wav", tone(seconds, 8000), 8000)
    assert error_of(tmp_path / "a.wav", inspect) == error_of(tmp_path / "a.wav") == said


@pytest.mark.parametrize("seconds", [SHORTEST, LONGEST])
def test_the_limits_themselves_are_fine(tmp_path, seconds):
    soundfile.write(tmp_path / "a.wav", tone(seconds, 8000), 8000)
    assert len(read(tmp_path / "a.wav", 8000)) == seconds * 8000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    samples = np.stack([tone(), tone()], axis=1)
    samples[777, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, "FLOAT")
    assert "no numbers (NaN or infinite); export it again" in error_of(tmp_path / "a.wav")


def test_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((16000, 2)), 16000)
    assert "is silent, every sample is 0; replace it" in error_of(tmp_path / "a.wav")
    soundfile.write(tmp_path / "c.wav", np.stack([tone(), -tone()], axis=1), 16000, "FLOAT")
    said = error_of(tmp_path / "c.wav")
    assert said.startswith("its 2 channels cancel each other (opposite phase)") and "pan=mono|c0=c0" in said
    assert "is silent, every sample" not in said
    almost = np.zeros(16000)
    almost[5] = 1e-4
    soundfile.write(tmp_path / "b.wav", almost, 16000)
    assert read(tmp_path / "b.wav", 16000).any()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_file_that_ends_early(tmp_path, name, share):
    """A broken download: its header still tells the whole length, its end is missing."""
    if name == "a.mp3" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile has no MP3")
    noise = 0.1 * np.random.default_rng(0).standard_normal(64000)
    soundfile.write(tmp_path / name, noise, 16000)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: round(share * len(whole))])
    message = error_of(tmp_path / name)
    assert message.startswith("damaged") and message.endswith("copy or download it again")
    if name == "a.flac":  # found without decoding it
        assert error_of(tmp_path / name, inspect) == message


def test_a_file_with_a_hole(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(64000)
    soundfile.write(tmp_path / "a.flac", noise, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = b"\xff" * 400
    (tmp_path / "a.flac").write_bytes(content)
    assert error_of(tmp_path / "a.flac").startswith("damaged")


@pytest.mark.parametrize("workers", [1, 3])
def test_examine(tmp_path, workers):
    """Headers show length and format; samples must be read to find silence."""
    for i, samples in enumerate((tone(1.0), tone(0.1), np.zeros(16000), tone(2.5))):
        soundfile.write(tmp_path / f"{i}.wav", samples, 16000)
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    for decode in (False, True):
        found = list(examine(paths, decode, workers))
        assert [type(one) for one in found] == [
            float,
            AudioError,
            AudioError if decode else float,
            float,
            AudioError,
        ]
        assert found[0] == 1.0 and found[3] == 2.5
        assert "lasts 0.100 s" in str(found[1]) and "no such file" in str(found[4])
        assert not decode or "is silent" in str(found[2])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_ahead_keeps_order_and_waits(workers):
    """Results come in order, and never more than 4 per worker are made before they are wanted."""
    started, lock = [], threading.Lock()

    def double(i: int) -> int:
        with lock:
            started.append(i)
        time.sleep(0.001 * (i % 3))
        return 2 * i

    for asked, result in enumerate(ahead(double, range(60), workers), start=1):
        assert result == 2 * (asked - 1)
        with lock:
            assert len(started) <= asked + 4 * workers
    assert sorted(started) == list(range(60))
    assert list(ahead(double, [], workers)) == []


def test_ahead_passes_errors_on():
    found = ahead(lambda i: 1 / i, [1, 2, 0, 4], 2)
    assert [next(found), next(found)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(found)


# --- pieces in a drawn order --------------------------------------------------------------------


def test_permuted_pieces_are_the_same_pieces():
    samples = np.random.default_rng(0).normal(size=1050).astype(np.float32)
    found = permute(samples, 1000, 0.1, seed=3)
    assert found.shape == samples.shape and found.dtype == np.float32
    np.testing.assert_array_equal(found[1002:], samples[1002:])  # half a piece stays at the end
    inside = slice(2, 98)  # 2 ms of each end are faded
    before, after = (set(map(bytes, one[:1000].reshape(10, 100)[:, inside])) for one in (samples, found))
    assert before == after
    assert not np.array_equal(samples[:1000].reshape(10, 100)[:, 50], found[:1000].reshape(10, 100)[:, 50])
    np.testing.assert_array_equal(found, permute(samples, 1000, 0.1, seed=3))
    assert not np.array_equal(found, permute(samples, 1000, 0.1, seed=4))


def test_permuted_pieces_do_not_click():
    constant = np.ones(16000, dtype=np.float32)
    found = permute(constant, 16000, 0.32, seed=0)
    assert np.abs(np.diff(found)).max() < 0.05 and found.max() == 1
    with pytest.raises(ValueError, match="no sample"):
        permute(constant, 16000, 1e-5, seed=0)
