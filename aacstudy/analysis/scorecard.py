"""The scorecard: each claim of the paper and each question it leaves, with a verdict that follows
from measured intervals.

Rules, not opinions: a verdict is a function of a study's results (``results.json``), so other
numbers give another one. A claim is tested in kind on whatever corpus the study has, and in number
on the corpus of the paper alone. Claims and numbers: arXiv 2308.15090, [P] the paper itself, [sum]
a summary of it; [S] its sibling arXiv 2309.00454.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aacstudy.analysis.heard_order import HEARS, NOT_DETECTED
from aacstudy.analysis.heard_order import verdict as order_verdict
from aacstudy.analysis.retrieval import generic, predictions
from aacstudy.analysis.statistics import Interval

REPRODUCED, NOT_REPRODUCED, CANNOT_TELL = "reproduced", "not reproduced", "cannot tell"
NOT_TESTED = "not tested here: needs "
YES, NO, IN_PART = "yes", "no", "in part"  # of questions
ABLATIONS = "make ablations"
TEN_POINTS = 0.1  # what may hide in an interval of an accuracy and still be called nothing
TWO_POINTS = 0.02  # the same for a difference of hit rates

Results = Mapping[str, float]
Judged = tuple[str, int, str]  # what was measured, in words; its n; the verdict


@dataclass(frozen=True)
class Claim:
    """A claim or question; ``judge`` gives None where the results it needs are missing."""

    id: str
    text: str
    published: str  # with its mark, or empty
    evidence: str  # the notebook that shows it
    needs: str
    judge: Callable[[Results, str], Judged | None]
    otherwise: str = ""  # what would have given another verdict


@dataclass(frozen=True)
class Row:
    """One line of the scorecard."""

    id: str
    claim: str
    published: str
    measured: str
    n: int
    verdict: str
    evidence: str
    otherwise: str  # what would have given another verdict

    @property
    def kind(self) -> str:
        """The verdict without its reason: ``reproduced``, ``cannot tell``, ``not tested here`` …"""
        return self.verdict.partition(": ")[0]

    def shown(self) -> dict:
        """As ``Page.scorecard`` takes it."""
        page = f"{self.evidence}.html" if self.evidence else ""
        about = {"id": self.id, "claim": self.claim, "published": self.published, "measured": self.measured}
        return about | {"interval": "", "n": self.n or None, "verdict": self.verdict, "evidence": page}


def rows(results: Results, corpus: str, notebooks: tuple[str, ...]) -> list[Row]:
    """Every claim judged by a study's results on a corpus (``corpus.name``); evidence only where
    that notebook is run."""
    found = []
    for claim in CLAIMS:
        judged = claim.judge(results, corpus)
        measured, n, verdict = judged or ("", 0, NOT_TESTED + claim.needs)
        evidence = claim.evidence if judged and claim.evidence in notebooks else ""
        found.append(
            Row(claim.id, claim.text, claim.published, measured, n, verdict, evidence, claim.otherwise)
        )
    return found


def interval(results: Results, key: str) -> Interval | None:
    """A result with its interval; None where the study has none."""
    if any(name not in results for name in (key, f"{key}.low", f"{key}.high", f"{key}.n")):
        return None
    return Interval(
        results[key], results[f"{key}.low"], results[f"{key}.high"], int(results[f"{key}.n"]), "audios"
    )


def exceeds(found: Interval, bar: float, negligible: float = 0.0) -> str:
    """Whether a number lies above a bar: reproduced where its whole interval does.

    Not reproduced where nothing worth mentioning can hide in the interval: its upper end is at most
    ``negligible`` above the bar. Otherwise the data cannot tell, nor can an interval without width.
    """
    if found.low == found.high:  # nothing varied in the sample: such an interval knows nothing
        return CANNOT_TELL
    if found.low > bar:
        return REPRODUCED
    return NOT_REPRODUCED if found.high <= bar + negligible else CANNOT_TELL


def _percent(found: Interval, points: bool = False) -> str:
    sign = "+" if points else ""
    value, low, high = (f"{100 * number:{sign}.1f}" for number in found[:3])
    return f"{value} {'points' if points else '%'} [{low}, {high}]"


def _above(key: str, bar: str | float, name: str, negligible: float = 0.0, points: bool = False):
    """A judge: a result against a bar, which is a number or the key of another result."""

    def judge(results: Results, corpus: str) -> Judged | None:
        found = interval(results, key)
        if found is None or (isinstance(bar, str) and bar not in results):
            return None
        level = results[bar] if isinstance(bar, str) else bar
        against = "" if points else f", chance {100 * level:.1f} %" if isinstance(bar, str) else ""
        return f"{name} {_percent(found, points)}{against}", found.n, exceeds(found, level, negligible)

    return judge


def _published(key: str, numbers: Mapping[str, float], name: str):
    """A judge: the published number of a corpus against the interval measured on that corpus."""

    def judge(results: Results, corpus: str) -> Judged | None:
        found = interval(results, key)
        if found is None or corpus not in numbers:
            return None
        number = numbers[corpus]
        verdict = REPRODUCED if found.low <= number <= found.high else NOT_REPRODUCED
        if verdict == REPRODUCED and found.high - found.low > 0.2 * number:
            verdict = CANNOT_TELL  # so wide an interval would hold many numbers
        return f"{name} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]", found.n, verdict

    return judge


def _captions(results: Results, corpus: str) -> Judged | None:
    own, over = (interval(results, f"captioning.{key}cider_d") for key in ("", "over_nearest."))
    if own is None or over is None:
        return None
    measured = (
        f"CIDEr-D {own.value:.3f} [{own.low:.3f}, {own.high:.3f}], minus the nearest clip's caption "
        f"{over.value:+.3f} [{over.low:+.3f}, {over.high:+.3f}]"
    )
    return measured, own.n, exceeds(over, 0.0)


def _finds(results: Results, corpus: str) -> Judged | None:
    """Above chance, and level with a peer that was trained to retrieve on the same frames."""
    found = interval(results, "t2a.hit@1")
    if found is None or "chance.t2a.hit@1" not in results:
        return None
    level = results["chance.t2a.hit@1"]
    measured = f"hit@1 {_percent(found)}, chance {100 * level:.1f} %"
    above = exceeds(found, level)
    over = interval(results, "peer.captioner_minus_dual_encoder.t2a.hit@1")
    if above != REPRODUCED or over is None:
        return (
            measured,
            found.n,
            f"{IN_PART}: above chance, no peer to beat" if above == REPRODUCED else above,
        )
    measured += f"; minus a dual encoder's {_percent(over, points=True)}"
    if over.low > -TWO_POINTS:
        return measured, found.n, REPRODUCED
    return (
        measured,
        found.n,
        f"{IN_PART}: above chance, below a dual encoder" if over.high < 0 else CANNOT_TELL,
    )


def _needs_scaling(results: Results, corpus: str) -> Judged | None:
    """Scaling captions helps audio-to-text; scaling audios, which could help text-to-audio, does
    not.
    """
    gain, other = (interval(results, f"{key}_minus_raw.hit@1") for key in ("a2t.min_max", "t2a.min_max"))
    if gain is None or other is None:
        return None
    needs, spared = exceeds(gain, 0.0, TWO_POINTS), exceeds(other, 0.0, TWO_POINTS)
    measured = (
        f"min-max − raw {_percent(gain, points=True)} audio-to-text, per audio "
        f"{_percent(other, points=True)} text-to-audio"
    )
    if needs == NOT_REPRODUCED or spared == REPRODUCED:
        return measured, gain.n, NOT_REPRODUCED
    return measured, gain.n, REPRODUCED if (needs, spared) == (REPRODUCED, NOT_REPRODUCED) else CANNOT_TELL


def _before_after(results: Results, corpus: str) -> Judged | None:
    # its false captions are as likely as its true ones, whoever listens
    if corpus == "soundscapes":
        return None
    return _above("bat.accuracy", 0.5, "accuracy", TEN_POINTS)(results, corpus)


def _stronger_encoder(results: Results, corpus: str) -> Judged | None:
    """The encoder that tags better must be the one whose captioner captions and retrieves
    better."""
    own, better = interval(results, "tagging.map"), interval(results, "ablation.cnn14.tagging.map.minus_base")
    changes = [
        interval(results, f"ablation.cnn14.{name}.minus_base") for name in ("t2a.hit@1", "captioning.cider_d")
    ]
    if own is None or better is None or None in changes:
        return None
    retrieval, captions = changes
    measured = (
        f"mAP ConvNeXt {_percent(own)}; CNN14 − ConvNeXt: mAP {_percent(better, points=True)}, hit@1 "
        f"{_percent(retrieval, points=True)}, CIDEr-D {captions.value:+.3f} [{captions.low:+.3f}, "
        f"{captions.high:+.3f}]"
    )
    tags, signs = _sign(better), [_sign(change) for change in changes]
    if not tags or 0 in signs:
        return measured, retrieval.n, CANNOT_TELL
    return measured, retrieval.n, REPRODUCED if signs == [tags, tags] else NOT_REPRODUCED


def _sign(change: Interval) -> int:
    """1 or −1 where a difference is above or below 0 by its interval, else 0."""
    return (change.low > 0) - (change.high < 0)


def _hears(prefix: str):
    """A judge: whether a captioner hears order, by the rule of chapter 7."""
    variant = prefix.partition(".")[2] or "base"

    def judge(results: Results, corpus: str) -> Judged | None:
        names = ("accuracy", "over_blind", "over_permuted_audio")
        found, blind, control = (interval(results, f"{prefix}.{name}") for name in names)
        if found is None or blind is None or control is None:
            return None
        effects = {"over blind": blind, "over its own sound in drawn orders": control}
        measured = f"accuracy {_percent(found)}, " + ", ".join(
            f"{name} {_percent(one, points=True)}" for name, one in effects.items()
        )
        parts = {
            "of after alone": f"{prefix}.after.accuracy",
            "sequence against overlap, group score": f"pairs.{variant}.overlap.group",
        }
        for name, key in parts.items():
            if (part := interval(results, key)) is not None:
                measured += f"; {name} {_percent(part)}"
        heard = order_verdict(effects)
        answer = {HEARS: f"{YES}: it hears order", NOT_DETECTED: f"{NO}: {heard}"}
        return measured, found.n, answer.get(heard.answer, CANNOT_TELL)

    return judge


def _why(results: Results, corpus: str) -> Judged | None:
    """What min-max works by, by the rule of chapter 6."""
    found = {name: interval(results, f"minmax.prediction.{name}") for name in predictions.DECIDE}
    if None in found.values():
        return None
    shift, scale, tail = (_percent(one, points=True) for one in found.values())
    measured = (
        f"shift by the maximum − min-max {shift}; min-max − scale alone {scale}; 99 % quantile − mean as "
        f"location {tail}"
    )
    words = {
        predictions.UPPER_TAIL: "the location of each caption's upper tail; the scale does nothing",
        predictions.LOCATION: "the location of each caption's losses; the scale does nothing",
        predictions.SCALE: "the scale of each caption's losses",
        predictions.BOTH: "location and scale of each caption's losses",
    }
    answer = predictions.verdict(found)
    return measured, found["upper_tail"].n, f"{YES}: {words[answer]}" if answer in words else CANNOT_TELL


def _tells_related(results: Results, corpus: str) -> Judged | None:
    found = interval(results, "perturbed.base.related.accuracy")
    blind = interval(results, "perturbed.base.related.over_blind")
    if found is None or blind is None:
        return None
    verdict = {REPRODUCED: YES, NOT_REPRODUCED: NO}.get(exceeds(blind, 0.0, TWO_POINTS), CANNOT_TELL)
    return f"accuracy {_percent(found)}, over blind {_percent(blind, points=True)}", found.n, verdict


def _frozen(results: Results, corpus: str) -> Judged | None:
    change = interval(results, "ablation.finetuned.t2a.hit@1.minus_base")
    if change is None:
        return None
    verdict = {1: f"{NO}: fine-tuned is better", -1: f"{YES}: fine-tuned is worse"}.get(
        _sign(change), CANNOT_TELL
    )
    return f"fine-tuned − frozen, text-to-audio hit@1 {_percent(change, points=True)}", change.n, verdict


def _cause(results: Results, corpus: str) -> Judged | None:
    """Leaving out the captions that the claim blames, the cheaper half, must cure what min-max
    cures.
    """
    share = interval(results, "variance.caption")
    keys = ("min_max_minus_raw", "fall")
    gain, fall = (interval(results, f"without_cheaper_half.{key}.a2t.hit@1") for key in keys)
    if share is None or gain is None or fall is None:
        return None
    verdicts = {generic.ALONE: REPRODUCED, generic.NOT_THEIRS: NOT_REPRODUCED, generic.IN_PART: IN_PART}
    measured = (
        f"{_percent(share)} of the variance between captions; without the cheaper half of the captions "
        f"min-max still gains {_percent(gain, points=True)}, {_percent(fall, points=True)} less than with all"
    )
    return measured, share.n, verdicts.get(generic.verdict(gain, fall), CANNOT_TELL)


def _elsewhere(results: Results, corpus: str) -> Judged | None:
    """The bias pattern on a corpus that the captioner was not trained on: captions decide, and
    scaling helps."""
    caption, gain = (
        interval(results, f"transfer.base_on_other_sounds.{name}") for name in ("caption", "gain")
    )
    if caption is None or gain is None:
        return None
    both = [exceeds(caption, 0.5), exceeds(gain, 0.0, TWO_POINTS)]
    words = {(REPRODUCED, REPRODUCED): YES, (NOT_REPRODUCED, NOT_REPRODUCED): NO}
    measured = (
        f"share of variance between captions {_percent(caption)}, min-max − raw {_percent(gain, points=True)}"
    )
    return measured, gain.n, words.get(tuple(both), CANNOT_TELL if CANNOT_TELL in both else IN_PART)


CLAIMS = (
    Claim("C1", "A frozen tagging encoder and a transformer decoder caption well: better than the nearest "
        "training clip's caption.",
          "", "04_captioning", "chapter 4", _captions,
          otherwise="not reproduced: CIDEr-D at or below that of the nearest clip's caption, by the whole "
              "interval"),
    Claim("C1", "… with a SPIDEr-FL of 0.298 on Clotho, 0.472 on AudioCaps.", "0.298, 0.472 [P]",
        "04_captioning",
          "Clotho or AudioCaps, and what aacstudy download metrics brings",
          _published("captioning.spider_fl", {"clotho": 0.298, "audiocaps": 0.472}, "SPIDEr-FL"),
          otherwise="not reproduced: the published number outside the interval; cannot tell: an interval "
              "wider than a fifth of it"),
    Claim("C2", "The encoder tags above chance.", "mAP 0.462 on AudioSet [P]", "02_encoder",
        "an encoder trained here",
          _above("tagging.map", "chance.tagging.map", "mAP"),
          otherwise="not reproduced: the whole interval at or below a random order's mAP"),
    Claim("C3", "The captioner's cross-entropy finds audio for a text query, without fine-tuning.", "",
        "05_retrieval",
          "chapter 5", _finds,
          otherwise="in part: above chance, yet the whole difference to the dual encoder below 0; not "
              "reproduced: not above chance"),
    Claim("C3", "… with R@1 0.382 on AudioCaps.", "0.382 [P]", "05_retrieval", "AudioCaps",
          _published("t2a.hit@1", {"audiocaps": 0.382}, "hit@1"),
          otherwise="not reproduced: 0.382 outside the interval; cannot tell: an interval wider than a fifth "
              "of it"),
    Claim("C4", "Audio-to-text needs per-caption min-max scaling of the losses; text-to-audio does not.",
        "claimed [P]",
          "05_retrieval", "chapter 5", _needs_scaling,
          otherwise="not reproduced: min-max gains at most two points audio-to-text, or scaling per audio "
              "gains text-to-audio"),
    Claim("C5", "The cause: some captions' losses are almost always lower than the others', for all audio "
        "files.",
          "claimed [P]", "06_bias", "chapter 6",
          _cause,
          otherwise="reproduced: nothing left for min-max without the cheaper half of the captions; not "
          "reproduced: all of its gain left"),
    Claim("C6", "The captioner prefers the true order in the Before-After Test.", "76.8 % [sum]",
        "07_before_after",
          "recordings: in soundscapes both captions are equally likely by construction", _before_after,
          otherwise="not reproduced: an accuracy that reaches 50 % and ends below 60 %"),
    Claim("C7", "A stronger tagging encoder gives better captions and retrieval.",
          "ConvNeXt above CNN14 on both corpora [S]", "08_ablations", ABLATIONS, _stronger_encoder,
          otherwise="not reproduced: the encoder with the clearly higher mAP clearly lower in retrieval or "
              "captioning"),
    Claim("Q1", "Does the published captioner hear order, beyond what words alone tell?", "",
        "07_before_after",
          "chapter 7", _hears("bat"),
          otherwise="no: a difference to a control reaches 0 and ends below ten points; yes: both lie above "
              "0"),
    Claim("Q2", "Does it with positions on the audio frames?", "", "07_before_after", "chapter 7 with the "
        "variant positions",
          _hears("bat.positions"),
          otherwise="no: a difference to a control reaches 0 and ends below ten points; cannot tell: it ends "
              "above"),
    Claim("Q3", "Why does min-max work: does it estimate something of a caption's losses?", "", "06_bias",
        "chapter 6 with a bank", _why,
          otherwise="by location and scale: the shift by the maximum falls short of min-max, and so does the "
              "scale alone"),
    Claim("Q4", "Does the captioner tell a matching caption from one that shares a sound with it, beyond "
        "words?", "",
          "07_before_after", "a corpus whose sounds are known", _tells_related,
          otherwise="no: at most two points over other clips' audio"),
    Claim("Q5", "Is a frozen encoder best?", "", "08_ablations", ABLATIONS, _frozen,
          otherwise="yes: fine-tuned clearly worse in text-to-audio hit@1; no: clearly better"),
    Claim("Q6", "Does the bias pattern hold on another draw of the generator?", "", "08_ablations",
          ABLATIONS, _elsewhere,
          otherwise="no: neither half of the variance between captions nor a gain of min-max above two "
              "points; in part: one of them"),
)  # fmt: skip
