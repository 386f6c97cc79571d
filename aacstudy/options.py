"""The parameters of a study, one frozen dataclass per section of its YAML file.

Light on purpose: knows no torch, so that planning a study costs nothing. Defaults are the paper's
(arXiv 2308.15090); ``studies/demo.yml`` shows the small values for the embedded corpus. A wrong
name or value raises pydantic's ValidationError, which is a ValueError.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

REPEAT_MODES = ("none", "all", "content", "published")
EXACT = ConfigDict(extra="forbid")  # a name that is no parameter raises

Item = TypeVar("Item")
Positive = Annotated[StrictInt, Field(ge=1)]
Count = Annotated[StrictInt, Field(ge=0)]
# YAML reads 1e-3 as text, and has lists alone; true is no number, and a set has no order.
FromText = BeforeValidator(lambda value: float(value) if isinstance(value, str) else value)
FromList = BeforeValidator(lambda value: tuple(value) if isinstance(value, list | range) else value)
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), FromText]
Many = Annotated[tuple[Item, ...], Field(strict=True), FromList]
NotNegative = Annotated[Number, Field(ge=0)]
AboveZero = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]


def told(error: ValueError) -> str:
    """What is wrong with parameters in one line: each with its value and what that should be."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(map(told_of, error.errors(include_url=False)))


def told_of(wrong: Mapping[str, Any]) -> str:
    """One of pydantic's findings so; of parameters that do not fit together, the reason alone."""
    name, value = ".".join(map(str, wrong["loc"])), wrong["input"]
    said = wrong["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    if isinstance(value, Mapping | ArgsKwargs):
        return f"{name}: {said}" if name else said
    return f"{name} is {value!r}: {said}"


@dataclass(frozen=True, config=EXACT)
class CorpusOptions:
    """Where clips and captions come from: soundscapes made here, your folder, or published."""

    name: Literal["soundscapes", "recordings", "folder", "clotho", "audiocaps"] = "soundscapes"
    # all but soundscapes: the folder that holds captions.csv, CLOTHO_v2.1, AUDIOCAPS or ESC-50,
    # absolute or from the project's; recordings without one are data/ESC-50
    root: str = ""
    seed: Count = 2308
    sample_rate: Annotated[StrictInt, Field(ge=8000)] = 16000  # of scenes that are composed here
    seconds: Annotated[Number, Field(ge=2.2)] = 6.0  # room for two events in sequence
    train: Positive = 1500
    validation: Positive = 150
    test: Positive = 200
    tagging_train: Count = 3000  # 0 where the encoder is published
    tagging_test: Count = 600
    tagging_seconds: Annotated[Number, Field(ge=0.8)] = 2.0
    # pairs of sounds, each a clip in both orders and at once: what order alone changes
    pairs: Count = 100
    captions_per_clip: Positive = 5
    events: Many[str] = ()  # kinds of sound, as grammar.ALL_PHRASES names them; none given are all
    wording: Literal["usual", "rare"] = "usual"  # rare turns the frequencies of paraphrases round
    snr_low: Number = 0.0  # dB, events over background noise
    snr_high: Number = 18.0
    # clotho, audiocaps: splits that need not be here, where nothing is trained; what needs them is
    # left out
    may_lack: Many[Literal["train", "validation"]] = ()
    # clotho, audiocaps: read every sample when indexed, not headers alone
    decode: StrictBool = False

    def __post_init__(self):
        if self.snr_low > self.snr_high:
            raise ValueError(f"snr_low must not exceed snr_high, got {self.snr_low} and {self.snr_high}")


@dataclass(frozen=True, config=EXACT)
class FrontendOptions:
    """Sizes of the log-mel spectrogram; the defaults are those of arXiv 2306.00830."""

    sample_rate: Positive = 32000  # Hz
    n_fft: Positive = 1024  # samples; also the length of the Hann window
    hop: Positive = 320  # samples: 10 ms at 32 kHz, 20 ms at 16 kHz
    n_mels: Positive = 224
    f_min: NotNegative = 50.0  # Hz
    f_max: Number = 14000.0  # Hz

    def __post_init__(self):
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= f_min < f_max <= sample_rate / 2 = {self.sample_rate / 2} must hold, "
                f"got f_min = {self.f_min}, f_max = {self.f_max}"
            )


@dataclass(frozen=True, config=EXACT)
class EncoderOptions:
    """Sizes of the encoder; the defaults are ConvNeXt-Tiny, as in arXiv 2306.00830.

    Kind ``cnn14`` (arXiv 1912.10211) reads ``dims`` alone, the channels of its blocks, and they
    must be given: the published network has (64, 128, 256, 512, 1024, 2048). Kind ``yamnet`` has
    one size and reads ``weights`` alone.
    """

    depths: Many[Positive] = (3, 3, 9, 3)  # blocks per stage, 1 to 4 stages
    dims: Many[Positive] = (96, 192, 384, 768)  # channels per stage
    kernel: Positive = 7  # depthwise kernel, odd
    layer_scale: Number = 1e-6  # initial value; a small network learns faster from 0.1
    drop_path: BelowOne = 0.0  # stochastic depth, training only
    kind: Literal["convnext", "cnn14", "yamnet"] = "convnext"
    weights: str = ""  # published weights, by name or file, instead of training here

    def __post_init__(self):
        if self.kind == "yamnet":
            if not self.weights:
                raise ValueError("kind yamnet needs weights, the published yamnet.tflite")
            return
        if self.kind == "cnn14":
            if self.dims == EncoderOptions.dims:
                raise ValueError(
                    "kind cnn14 needs dims, the channels of its blocks; published are 64 to 2048"
                )
            if not 2 <= len(self.dims) <= 6:
                raise ValueError(f"dims must be the channels of 2 to 6 blocks of cnn14, got {self.dims}")
            return
        if len(self.depths) != len(self.dims) or not 1 <= len(self.depths) <= 4:
            raise ValueError(
                f"depths and dims must both list the same 1 to 4 stages, got {self.depths} and {self.dims}"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")


@dataclass(frozen=True, config=EXACT)
class TaggingOptions:
    """How the encoder is trained to tag sound events."""

    epochs: Positive = 8
    batch: Positive = 32
    learning_rate: AboveZero = 3e-3
    weight_decay: NotNegative = 0.02
    time_mask: Count = 10  # spectrogram frames, at most, two stripes
    mel_mask: Count = 8  # mel bands, at most, two stripes
    seed: StrictInt = 1234


@dataclass(frozen=True, config=EXACT)
class DecoderOptions:
    """Sizes of the captioner; the defaults are those of arXiv 2308.15090."""

    d_model: Positive = 256
    layers: Positive = 6
    # the paper has 4 or 8; no tensor shape shows it, so a checkpoint must store it
    heads: Positive = 8
    d_ff: Positive = 2048
    dropout: BelowOne = 0.2
    projection_dropout: BelowOne = 0.5
    # the paper's are none; with the others order can be heard
    frame_positions: Literal["none", "sinusoidal", "learned"] = "none"
    # longest caption, and with frame positions longest clip, in frames
    max_positions: Positive = 5000

    def __post_init__(self):
        if self.d_model % 2:
            raise ValueError(f"d_model must be even for sine and cosine positions, got {self.d_model}")
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model = {self.d_model}, got {self.heads}")


@dataclass(frozen=True, config=EXACT)
class TrainingOptions:
    """How the captioner is trained on frozen frames."""

    epochs: Positive = 400
    batch: Positive = 512  # (clip, caption) pairs
    captions_per_epoch: Count = 1  # captions drawn per clip and epoch; 0 takes all of them
    learning_rate: AboveZero = 5e-4
    # per epoch, as published; one_cycle per step
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    weight_decay: NotNegative = 2.0  # never on one-dimensional parameters
    label_smoothing: BelowOne = 0.2
    clip_norm: AboveZero = 1.0
    # of the Beta distribution that frames and words are mixed by; 0 = off
    mixup_alpha: NotNegative = 0.4
    # the decoder's layers: each with weights of its own, or copies of the first, as published
    start: Literal["drawn", "copies"] = "drawn"
    # SpecAugment: stripes of frames, and as many of their dimensions; 0 = off
    mask_stripes: Count = 2
    mask_share: Share = 0.1  # of its axis, what a stripe stays below
    # what the kept epoch is best in; the paper's is fense
    select: Literal["validation_loss", "cider_d", "fense"] = "validation_loss"
    # epochs between captionings of the validation clips, for cider_d and fense
    validate_every: Positive = 1
    # bfloat16: products of the training step alone, by autocast
    precision: Literal["float32", "bfloat16"] = "float32"
    # the captioner by torch.compile: pays on a GPU, over hundreds of steps
    compile: StrictBool = False
    # a published captioner, dcase2024, conette or a file, instead of training here
    weights: str = ""
    task: str = ""  # of conette: the corpus whose captions it shall score and write, as clotho
    finetune_encoder: NotNegative = (
        0.0  # the encoder's learning rate, as a share of the captioner's; 0 = frozen
    )
    shuffle_frames: StrictBool = False  # frames lose their order in time: is order heard at all?
    # of the training clips that stays, drawn by the seed
    clip_share: Annotated[Share, Field(gt=0)] = 1.0
    captions_per_clip: Count = 0  # a training clip's first captions; 0 takes all
    # of the training captions of kind "sequence" that stays, drawn by the seed
    order_captions: Share = 1.0


@dataclass(frozen=True, config=EXACT)
class DecodingOptions:
    """How captions are searched, as in the paper for Clotho (AudioCaps: beam 2, max_tokens 30)."""

    beam: Positive = 3
    min_tokens: Count = 3  # words before EOS becomes possible
    max_tokens: StrictInt = 20  # generated tokens, EOS included
    # words that stand only once, see `forbidden_repeats`
    forbid_repeats: Literal[REPEAT_MODES] = "content"
    # PAD, BOS and UNK are never chosen; the authors' code lets them: False
    forbid_specials: StrictBool = True

    def __post_init__(self):
        if not self.min_tokens < self.max_tokens:
            raise ValueError(
                f"0 <= min_tokens < max_tokens must hold, got {self.min_tokens} and {self.max_tokens}"
            )


@dataclass(frozen=True, config=EXACT)
class ScoringOptions:
    """The audio × caption loss matrix."""

    split: Literal["train", "validation", "test"] = "test"
    # parts of its rows that are scored as separate jobs, on several cores or machines
    bands: Positive = 1
    # bfloat16 ranks alike and is 1.4 to 1.6 times as fast, compiled 2.2 to 2.8
    dtype: Literal["float32", "bfloat16"] = "float32"
    # what scoring may hold beside the model and the result; sets the size of its blocks
    memory: str = "2GB"
    label_smoothing: BelowOne = 0.0  # of the ranking loss; the paper ranks without
    # matrices of another system instead, one zarr group a seed: "mine/{seed}.zarr"
    matrix: str = ""


@dataclass(frozen=True, config=EXACT)
class RetrievalOptions:
    """What normalisations are fitted on, and tuned on; the choices never see the scored split."""

    # whose clips give the online normalisations statistics
    bank: Literal["train", "validation"] = "train"
    bank_clips: Count = 300  # of them, drawn by a seed; 0 takes all
    bank_captions: Count = 1000  # the same for captions, which normalise audios
    # split that chooses alpha, beta, tau and k
    tune_on: Literal["train", "validation"] = "validation"
    tune_clips: Count = 200  # of them, drawn by a seed, with all their captions; 0 takes all


@dataclass(frozen=True, config=EXACT)
class PeerOptions:
    """The dual encoder that the captioner is held against: its sizes and its training."""

    width: Positive = 256  # of the space that audios and captions share
    hidden: Positive = 256
    words: Positive = 128  # width of a word's embedding
    dropout: BelowOne = 0.3
    word_dropout: BelowOne = 0.1  # share of a training caption's words that are left out
    frame_dropout: BelowOne = 0.3  # the same of a clip's frames, at most; drawn for each batch
    epochs: Positive = 40
    batch: Annotated[StrictInt, Field(ge=2)] = 250  # clips, with all their captions
    learning_rate: AboveZero = 3e-3
    weight_decay: NotNegative = 0.05


@dataclass(frozen=True, config=EXACT)
class BeforeAfterOptions:
    """The Before-After Test and the captioners that it compares."""

    variants: Many[str] = ()  # pages of studies/ablations, beside the study's own captioner
    other_clips: Positive = 20  # clips whose audio gives the blind control
    # drawn orders of a clip's frames: the control hears what, but not when
    permutations: Positive = 3


@dataclass(frozen=True, config=EXACT)
class AblationOptions:
    """What notebook 08 compares with the study itself."""

    pages: Many[str] = ()  # of studies/ablations: each changes parameters, not the corpus
    elsewhere: Many[str] = ()  # pages that change the corpus: captioners are scored on each other's


@dataclass(frozen=True, config=EXACT)
class StatisticsOptions:
    """Intervals; what is neither a mean nor made of sums (R², mAP) resamples audios."""

    resamples: Positive = 1000
    confidence: Annotated[Number, Field(gt=0, lt=1)] = 0.95
    seed: Count = 0
