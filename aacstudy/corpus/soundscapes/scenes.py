"""Scenes of one event, two in sequence or two at once, over noise; tagging clips; pairs of scenes.

Everything about a clip follows from (seed, split, number), so clips can be made in any order and by
any number of processes. Audio is computed in float64 and rounded to 16 bits, which absorbs the
last-bit differences between processors: the files are the same bytes everywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import soundfile
from joblib import Parallel, delayed
from scipy import fft, signal
from tqdm import tqdm

from aacstudy.corpus import Corpus
from aacstudy.corpus.soundscapes import esc50, grammar
from aacstudy.corpus.soundscapes.events import EVENTS, active_rms, synthesise
from aacstudy.options import CorpusOptions

SPLITS = ("train", "validation", "test", "tagging_train", "tagging_test")
PAIRS = "pairs"  # the same two sounds in both orders and at once; scored, never trained on
ORDERS = ("ab", "ba", "both")
KINDS = ("single", "sequence", "overlap")
_STREAMS = (*SPLITS, PAIRS)

# Everyday sounds are not equally frequent; below, from frequent to rare (Zipf, exponent 0.6).
_FREQUENT_FIRST = (
    "man", "rain", "engine", "bird", "dog", "woman", "wind", "footsteps", "stream", "crowd",
    "typing", "bell", "horn", "thunder", "baby", "applause", "siren", "phone", "knock", "cat",
    "clock", "laugh", "alarm", "cricket", "helicopter", "cow", "vacuum", "glass",
)  # fmt: skip
BY_FREQUENCY = _FREQUENT_FIRST + tuple(event for event in EVENTS if event not in _FREQUENT_FIRST)


class Sounds(Protocol):
    """Where the sounds of scenes come from: the synthesiser, or recordings."""

    def __call__(
        self, split: str, event: str, rng: np.random.Generator, seconds: float, sample_rate: int
    ) -> np.ndarray:
        """One event during the whole span, for a clip of a split: as `synthesise` gives it."""


def synthesised(
    split: str, event: str, rng: np.random.Generator, seconds: float, sample_rate: int
) -> np.ndarray:
    """An event from nothing: the same in all splits."""
    return synthesise(event, rng, seconds, sample_rate)


@dataclass(frozen=True)
class Span:
    """One event of a scene; seconds from its start, level in dB relative to full active RMS."""

    event: str
    onset: float
    offset: float
    level: float


@dataclass(frozen=True)
class Scene:
    """What is heard in one clip; ``rng`` seeds continue where the plan's draws ended."""

    split: str
    number: int
    kind: str
    spans: tuple[Span, ...]
    seconds: float
    snr: float
    noise_slope: float
    hum: bool
    low_pass: float | None  # Hz
    peak: float
    order: str = ""  # of a pair's clip: one of ORDERS

    @property
    def clip(self) -> str:
        return (
            f"{self.split}/{self.number:04d}-{self.order}"
            if self.order
            else f"{self.split}/{self.number:05d}"
        )

    @property
    def events(self) -> tuple[str, ...]:
        return tuple(span.event for span in self.spans)


def _rng(options: CorpusOptions, split: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, _STREAMS.index(split), number, purpose])


def _distinct_events(
    rng: np.random.Generator, n: int, exponent: float, options: CorpusOptions
) -> tuple[str, ...]:
    known = options.events or EVENTS
    names = [event for event in (*BY_FREQUENCY, *esc50.PHRASES) if event in known]
    weights = 1.0 / np.arange(1, len(names) + 1) ** exponent
    chosen = rng.choice(len(names), size=n, replace=False, p=weights / weights.sum())
    return tuple(names[i] for i in chosen)


def _check_events(options: CorpusOptions) -> None:
    unknown = [event for event in options.events if event not in EVENTS]
    if unknown or len(set(options.events)) == 1:
        wrong = f"{unknown[0]!r} is no kind of sound" if unknown else "one kind of sound makes no pairs"
        raise ValueError(f"corpus.events: {wrong}; there are {', '.join(EVENTS)}")


def _spans(kind: str, events: tuple[str, ...], seconds: float, rng: np.random.Generator) -> tuple[Span, ...]:
    levels = rng.uniform(-8.0, 0.0, size=2)
    if kind == "single":
        length = rng.uniform(0.5, 1.0) * seconds
        onset = rng.uniform(0.0, seconds - length)
        times = [(onset, onset + length)]
    elif kind == "sequence":
        change, gap = rng.uniform(0.38, 0.62) * seconds, rng.uniform(-0.8, 0.4)
        times = [
            (rng.uniform(0.0, 0.1) * seconds, change - gap / 2),
            (change + gap / 2, rng.uniform(0.9, 1.0) * seconds),
        ]
    else:
        times = [(rng.uniform(0.0, 0.15) * seconds, rng.uniform(0.85, 1.0) * seconds) for _ in events]
    return tuple(
        Span(event, round(float(on), 3), round(float(off), 3), round(float(level), 2))
        for event, (on, off), level in zip(events, times, levels)
    )


def plan(split: str, number: int, options: CorpusOptions) -> Scene:
    """Draw what a clip holds: 20 % one event, 50 % two in sequence, 30 % two at once.

    Tagging clips hold one event in 60 %, else two at once.
    """
    rng = _rng(options, split, number, 0)
    tagging = split.startswith("tagging")
    seconds = options.tagging_seconds if tagging else options.seconds
    kind = KINDS[int(rng.choice(3, p=[0.6, 0.0, 0.4] if tagging else [0.2, 0.5, 0.3]))]
    # Tagging wants every class learnt: nearly uniform. Scenes are as unequal as everyday sounds.
    events = _distinct_events(rng, 1 if kind == "single" else 2, 0.1 if tagging else 0.6, options)
    return Scene(
        split, number, kind, _spans(kind, events, seconds, rng), seconds, **_surroundings(options, rng)
    )


def _surroundings(options: CorpusOptions, rng: np.random.Generator) -> dict:
    return {
        "snr": float(rng.uniform(options.snr_low, options.snr_high)),
        "noise_slope": float(rng.uniform(0.0, 1.0)),
        "hum": bool(rng.random() < 0.25),
        "low_pass": float(rng.uniform(0.22, 0.48)) * options.sample_rate if rng.random() < 0.5 else None,
        "peak": float(rng.uniform(0.2, 0.95)),
    }


def plan_pair(number: int, options: CorpusOptions) -> tuple[Scene, Scene, Scene]:
    """Three clips of the same two sounds: a before b, b before a, both at once; else the same.

    A sound is made once, long enough for the whole clip; where the two come in sequence, only its
    beginning is heard, the same samples in both orders.
    """
    rng = _rng(options, PAIRS, number, 0)
    seconds = options.seconds
    events = _distinct_events(rng, 2, 0.6, options)
    levels = [round(float(level), 2) for level in rng.uniform(-8.0, 0.0, size=2)]
    heard = [round(float(length), 3) for length in rng.uniform(0.40, 0.48, size=2) * seconds]
    gap = float(rng.uniform(0.0, 0.04)) * seconds
    start = float(rng.uniform(0.0, 1.0)) * (seconds - sum(heard) - gap)
    late = [start + length + gap for length in heard]  # where the other sound begins
    whole = [_whole(seconds)] * 2
    at_once = [float(onset) for onset in rng.uniform(0.0, 1.0, size=2) * (seconds - whole[0])]
    surroundings = _surroundings(options, rng)

    def scene(order: str, onsets: list[float], lengths: list[float]) -> Scene:
        rounded = [round(onset, 3) for onset in onsets]
        spans = [
            Span(event, onset, round(onset + length, 3), level)
            for event, onset, length, level in zip(events, rounded, lengths, levels)
        ]
        kind = "overlap" if order == "both" else "sequence"
        spans = spans[::-1] if order == "ba" else spans
        return Scene(PAIRS, number, kind, tuple(spans), seconds, **surroundings, order=order)

    return (
        scene("ab", [start, late[0]], heard),
        scene("ba", [late[1], start], heard),
        scene("both", at_once, whole),
    )


def _whole(seconds: float) -> float:
    """Length of a pair's sounds, of which a sequence has the beginning."""
    return round(0.9 * seconds, 3)


def background(n: int, sample_rate: int, slope: float, hum: bool, rng: np.random.Generator) -> np.ndarray:
    """Noise of spectrum 1/f^slope [n samples], RMS 1, with mains hum if asked for."""
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.arange(spectrum.size) * sample_rate / size, 20.0)
    noise = fft.irfft(spectrum * frequency ** (-slope / 2), size)[:n]
    noise = noise / np.sqrt(np.mean(noise**2))
    if hum:
        base = (50.0, 60.0)[int(rng.integers(2))]
        time = np.arange(n) / sample_rate
        noise = noise + sum(
            rng.uniform(0.1, 0.6) / k * np.sin(2 * np.pi * base * k * time) for k in (1, 2, 3)
        )
    return noise / np.sqrt(np.mean(noise**2))


def streams(scene: Scene, options: CorpusOptions) -> list[np.random.Generator]:
    """Generators of a scene's sounds, one for each span, and last that of its noise.

    A pair's sounds have streams of their own, whatever their order; others draw from one in turn.
    """
    rng = _rng(options, scene.split, scene.number, 1)
    if not scene.order:
        return [rng] * (len(scene.spans) + 1)
    numbers = [list(grammar.ALL_PHRASES).index(event) for event in scene.events]
    return [*(_rng(options, PAIRS, scene.number, 3 + number) for number in numbers), rng]


def render(scene: Scene, options: CorpusOptions, sounds: Sounds = synthesised) -> np.ndarray:
    """Mix a scene: int16 [samples] at ``options.sample_rate``."""
    n, rate = round(scene.seconds * options.sample_rate), options.sample_rate
    *own, of_noise = streams(scene, options)
    mix = np.zeros(n)
    for span, rng in zip(scene.spans, own):
        start = round(span.onset * rate)
        seconds = _whole(scene.seconds) if scene.order else span.offset - span.onset
        sound = sounds(scene.split, span.event, rng, seconds, rate)
        sound = (_beginning(sound, span, rate) if scene.order else sound)[: n - start]
        mix[start : start + sound.size] += sound * 10 ** (span.level / 20)
    noise = background(n, rate, scene.noise_slope, scene.hum, of_noise)
    mix = mix + noise * active_rms(mix, rate) * 10 ** (-scene.snr / 20)
    if scene.low_pass is not None:
        mix = signal.sosfilt(signal.butter(4, scene.low_pass, fs=rate, output="sos"), mix)
    return np.round(mix * (scene.peak * 32767 / np.max(np.abs(mix)))).astype(np.int16)


def _beginning(sound: np.ndarray, span: Span, rate: int) -> np.ndarray:
    """The beginning of a pair's sound, as long as the span says."""
    kept = round(round(span.offset - span.onset, 3) * rate)
    if kept >= sound.size:
        return sound
    fade = round(0.008 * rate)
    sound = sound[:kept].copy()
    sound[-fade:] *= np.linspace(1.0, 0.0, fade)
    return sound


def write_captions(scenes: list[Scene], options: CorpusOptions) -> pd.DataFrame:
    """Captions of scenes as a table; no text twice within validation or test.

    Duplicates would fill the top ranks.
    """
    taken: dict[str, set[str]] = {"validation": set(), "test": set()}
    rows, rates = [], grammar.Rates(rare=options.wording == "rare")
    for scene in scenes:
        rng = _rng(options, scene.split, scene.number, 2)
        used = taken.get(scene.split, set())
        if scene.order:  # a and b as in the plan: the clip "ba" tells them in the order heard
            events = scene.events[::-1] if scene.order == "ba" else scene.events
            written: Sequence = [
                triple[ORDERS.index(scene.order)]
                for triple in grammar.pair_captions(events, rng, replace(rates, superordinate=0))
            ]
        else:
            written = grammar.captions(scene.kind, scene.events, options.captions_per_clip, rng, used, rates)
        for caption in written:
            rows.append({"clip": scene.clip} | vars(caption) | {"mentions": " ".join(caption.mentions)})
    return pd.DataFrame(rows)


def planned(options: CorpusOptions) -> list[Scene]:
    """All scenes of a corpus, in the order of its clips: splits, then pairs."""
    scenes = [plan(split, number, options) for split in SPLITS for number in range(getattr(options, split))]
    return scenes + [scene for number in range(options.pairs) for scene in plan_pair(number, options)]


def compose(
    folder: Path, scenes: list[Scene], options: CorpusOptions, cores: int, sounds: Sounds = synthesised
) -> Corpus:
    """Mix scenes into ``folder`` and write their captions; the tables are not saved yet."""
    for split in {scene.split for scene in scenes}:
        (folder / "audio" / split).mkdir(parents=True, exist_ok=True)
    chunks = [scenes[i : i + 32] for i in range(0, len(scenes), 32)]
    jobs = Parallel(n_jobs=cores, return_as="generator_unordered")(
        delayed(_write_all)(chunk, folder, options, sounds) for chunk in chunks
    )
    _consume(jobs, len(scenes), options.name)
    clips = pd.DataFrame(
        [
            {
                "clip": s.clip,
                "split": s.split,
                "path": f"audio/{s.clip}.wav",
                "seconds": s.seconds,
                "kind": s.kind,
                "snr": round(s.snr, 2),
            }
            for s in scenes
        ]
    )
    events = pd.DataFrame([{"clip": s.clip} | vars(span) for s in scenes for span in s.spans])
    captioned = [scene for scene in scenes if not scene.split.startswith("tagging")]
    return Corpus(folder, clips, write_captions(captioned, options), events)


def build(folder: Path, options: CorpusOptions, cores: int = 1) -> Corpus:
    """Make the embedded corpus in ``folder``: audio and tables. Same options, same bytes.

    Raises ValueError for an unknown kind of sound in the options.
    """
    _check_events(options)
    corpus = compose(folder, planned(options), options, cores)
    corpus.save()
    return corpus


def _write_all(scenes: list[Scene], folder: Path, options: CorpusOptions, sounds: Sounds) -> int:
    for scene in scenes:
        mixed = render(scene, options, sounds)
        soundfile.write(folder / "audio" / f"{scene.clip}.wav", mixed, options.sample_rate, "PCM_16")
    return len(scenes)


def _consume(jobs: Iterator[int], total: int, name: str) -> None:
    with tqdm(total=total, desc=name, unit="clip") as bar:
        for done in jobs:
            bar.update(done)
