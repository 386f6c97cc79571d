"""The parameters of a study, one frozen dataclass per section of its YAML file.

Light on purpose: knows no torch, so that planning a study costs nothing. Defaults are the paper's
(arXiv 2308.15090); ``studies/demo.yml`` shows the small values for the embedded corpus.
"""

from dataclasses import dataclass

CORPORA = ("soundscapes", "folder", "clotho", "audiocaps", "recordings")
WORDINGS = ("usual", "rare")
FRAME_POSITIONS = ("none", "sinusoidal", "learned")
REPEAT_MODES = ("none", "all", "content")
SCHEDULES = ("cosine", "one_cycle")
ENCODERS = ("convnext", "cnn14")
SELECTIONS = ("validation_loss", "cider_d", "fense")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class CorpusOptions:
    """Where clips and captions come from: ``soundscapes`` (made here), ``folder`` (your own), or a published corpus."""

    name: str = "soundscapes"
    # all but soundscapes: the folder, absolute or from the project's, that holds captions.csv, CLOTHO_v2.1 or AUDIOCAPS
    root: str = ""
    seed: int = 2308
    sample_rate: int = 16000  # soundscapes only: what they are made at
    seconds: float = 6.0
    train: int = 1500
    validation: int = 150
    test: int = 200
    tagging_train: int = 3000
    tagging_test: int = 600
    tagging_seconds: float = 2.0
    pairs: int = 100  # pairs of sounds, each a clip in both orders and at once: what order alone changes
    captions_per_clip: int = 5
    events: tuple[
        str, ...
    ] = ()  # kinds of sound, by their names in soundscapes/events.py; none given are all
    wording: str = "usual"  # rare turns the frequencies of paraphrases round: other words for the same
    snr_low: float = 0.0  # dB, events over background noise
    snr_high: float = 18.0
    decode: bool = False  # clotho, audiocaps: read every sample when the corpus is indexed, not headers alone

    def __post_init__(self):
        if self.name not in CORPORA:
            raise ValueError(f"name must be one of {CORPORA}, got {self.name!r}")
        if self.wording not in WORDINGS:
            raise ValueError(f"wording must be one of {WORDINGS}, got {self.wording!r}")
        _at_least(self, 0, "seed", "pairs", "tagging_train", "tagging_test")
        _at_least(self, 1, "train", "validation", "test", "captions_per_clip")
        _at_least(self, 8000, "sample_rate")
        _at_least(self, 2.2, "seconds")  # room for two events in sequence
        _at_least(self, 0.8, "tagging_seconds")
        if self.snr_low > self.snr_high:
            raise ValueError(f"snr_low must not exceed snr_high, got {self.snr_low} and {self.snr_high}")


@dataclass(frozen=True)
class FrontendOptions:
    """Sizes of the log-mel spectrogram; the defaults are those of arXiv 2306.00830."""

    sample_rate: int = 32000  # Hz
    n_fft: int = 1024  # samples; also the length of the Hann window
    hop: int = 320  # samples: 10 ms at 32 kHz, 20 ms at 16 kHz
    n_mels: int = 224
    f_min: float = 50.0  # Hz
    f_max: float = 14000.0  # Hz

    def __post_init__(self):
        if min(self.sample_rate, self.n_fft, self.hop, self.n_mels) < 1:
            raise ValueError(f"sample_rate, n_fft, hop and n_mels must be positive, got {self}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= f_min < f_max <= sample_rate / 2 = {self.sample_rate / 2} must hold, "
                f"got f_min = {self.f_min}, f_max = {self.f_max}"
            )


@dataclass(frozen=True)
class EncoderOptions:
    """Sizes of the encoder; the defaults are ConvNeXt-Tiny, as in arXiv 2306.00830.

    Kind ``cnn14`` (arXiv 1912.10211) reads ``dims`` alone, the channels of its blocks, and they must be given: the
    published network has (64, 128, 256, 512, 1024, 2048).
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)  # blocks per stage, 1 to 4 stages
    dims: tuple[int, ...] = (96, 192, 384, 768)  # channels per stage
    kernel: int = 7  # depthwise kernel, odd
    layer_scale: float = 1e-6  # initial value; a small network learns faster from 0.1
    drop_path: float = 0.0  # stochastic depth, training only
    kind: str = "convnext"
    weights: str = ""  # published weights, by name or file, instead of training here

    def __post_init__(self):
        if self.kind not in ENCODERS:
            raise ValueError(f"kind must be one of {ENCODERS}, got {self.kind!r}")
        if self.kind == "cnn14":
            if self.dims == EncoderOptions.dims:
                raise ValueError(
                    "kind cnn14 needs dims, the channels of its blocks; published are 64 to 2048"
                )
            if not 2 <= len(self.dims) <= 6 or min(self.dims) < 1:
                raise ValueError(f"dims must be the channels of 2 to 6 blocks of cnn14, got {self.dims}")
            return
        if len(self.depths) != len(self.dims) or not 1 <= len(self.depths) <= 4:
            raise ValueError(
                f"depths and dims must both list the same 1 to 4 stages, got {self.depths} and {self.dims}"
            )
        if min(self.depths) < 1 or min(self.dims) < 1:
            raise ValueError(f"depths and dims must be positive, got {self.depths} and {self.dims}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and positive, got {self.kernel}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")


@dataclass(frozen=True)
class TaggingOptions:
    """How the encoder is trained to tag sound events."""

    epochs: int = 8
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    time_mask: int = 10  # spectrogram frames, at most, two stripes
    mel_mask: int = 8  # mel bands, at most, two stripes
    seed: int = 1234

    def __post_init__(self):
        _at_least(self, 1, "epochs", "batch")
        _at_least(self, 0, "weight_decay", "time_mask", "mel_mask")
        _positive(self, "learning_rate")


@dataclass(frozen=True)
class DecoderOptions:
    """Sizes of the captioner; the defaults are those of arXiv 2308.15090."""

    d_model: int = 256
    layers: int = 6
    heads: int = 8  # the paper has 4 or 8; no tensor shape shows it, so a checkpoint must store it
    d_ff: int = 2048
    dropout: float = 0.2
    projection_dropout: float = 0.5
    frame_positions: str = "none"  # the paper's; with "sinusoidal" or "learned" ones order can be heard
    max_positions: int = 5000  # longest caption, and with frame positions longest clip, in frames

    def __post_init__(self):
        if self.frame_positions not in FRAME_POSITIONS:
            raise ValueError(
                f"frame_positions must be one of {FRAME_POSITIONS}, got {self.frame_positions!r}"
            )
        if min(self.d_model, self.layers, self.heads, self.d_ff, self.max_positions) < 1:
            raise ValueError(f"sizes must be positive, got {self}")
        if self.d_model % 2:
            raise ValueError(f"d_model must be even for sine and cosine positions, got {self.d_model}")
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model = {self.d_model}, got {self.heads}")
        for name in ("dropout", "projection_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainingOptions:
    """How the captioner is trained on frozen frames."""

    epochs: int = 400
    batch: int = 512  # (clip, caption) pairs
    captions_per_epoch: int = 1  # captions drawn per clip and epoch; 0 takes all of them
    learning_rate: float = 5e-4
    schedule: str = "cosine"  # cosine per epoch as published; one_cycle per step for short runs
    weight_decay: float = 2.0  # never on one-dimensional parameters
    label_smoothing: float = 0.2
    clip_norm: float = 1.0
    mixup_alpha: float = 0.4  # of the Beta distribution that frames and previous words are mixed by; 0 = off
    mask_stripes: int = 2  # SpecAugment: stripes of frames, and as many of their dimensions; 0 = off
    mask_share: float = 0.1  # of its axis, the most that a stripe covers
    select: str = "validation_loss"  # what the kept epoch is best in; the paper's is fense
    validate_every: int = (
        1  # epochs from one captioning of the validation clips to the next, for cider_d and fense
    )
    precision: str = "float32"  # bfloat16: products of the training step alone, by autocast
    compile: bool = False  # the captioner by torch.compile: pays on a GPU, over hundreds of steps
    weights: str = ""  # a published captioner, dcase2024, conette or a file, instead of training here
    task: str = ""  # of conette: the corpus whose captions it shall score and write, as clotho
    finetune_encoder: float = (
        0.0  # learning rate of the encoder, as a share of the captioner's; 0 keeps it frozen
    )
    shuffle_frames: bool = False  # frames lose their order in time: is order heard at all?
    clip_share: float = 1.0  # share of the training clips that stays, drawn by the seed
    captions_per_clip: int = 0  # a training clip's first captions; 0 takes all
    order_captions: float = (
        1.0  # share of the training captions of kind "sequence" that stays, drawn by the seed
    )

    def __post_init__(self):
        for name, known in (("schedule", SCHEDULES), ("select", SELECTIONS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        _at_least(self, 1, "epochs", "batch", "validate_every")
        _at_least(self, 0, "captions_per_epoch", "weight_decay", "mixup_alpha", "mask_stripes")
        _at_least(self, 0, "finetune_encoder")
        _at_least(self, 0, "captions_per_clip")
        _positive(self, "learning_rate", "clip_norm")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        for name in ("mask_share", "order_captions"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 < self.clip_share <= 1:
            raise ValueError(f"clip_share must be in (0, 1], got {self.clip_share}")


@dataclass(frozen=True)
class DecodingOptions:
    """How captions are searched; the defaults are the paper's for Clotho (AudioCaps: beam 2, max_tokens 30)."""

    beam: int = 3
    min_tokens: int = 3  # words before EOS becomes possible
    max_tokens: int = 20  # generated tokens, EOS included
    forbid_repeats: str = "content"  # which words may stand only once in a caption, see `forbidden_repeats`
    forbid_specials: bool = True  # PAD, BOS and UNK never appear; the authors' code lets them: False

    def __post_init__(self):
        if self.forbid_repeats not in REPEAT_MODES:
            raise ValueError(f"forbid_repeats must be one of {REPEAT_MODES}, got {self.forbid_repeats!r}")
        if self.beam < 1:
            raise ValueError(f"beam must be at least 1, got {self.beam}")
        if not 0 <= self.min_tokens < self.max_tokens:
            raise ValueError(
                f"0 <= min_tokens < max_tokens must hold, got {self.min_tokens} and {self.max_tokens}"
            )


@dataclass(frozen=True)
class ScoringOptions:
    """The audio × caption loss matrix."""

    split: str = "test"
    bands: int = 1  # parts of its rows that are scored as separate jobs, on several cores or machines
    dtype: str = "float32"  # bfloat16 ranks alike and is 1.4 to 1.6 times as fast, compiled 2.2 to 2.8
    memory: str = "2GB"  # what scoring may hold beside the model and the result; sets the size of its blocks
    label_smoothing: float = 0.0  # of the ranking loss; the paper ranks without
    matrix: str = ""  # matrices of another system instead, one zarr group a seed: "mine/{seed}.zarr"

    def __post_init__(self):
        if self.split not in ("train", "validation", "test"):
            raise ValueError(f"split must be train, validation or test, got {self.split!r}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")
        if self.bands < 1:
            raise ValueError(f"bands must be at least 1, got {self.bands}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")


@dataclass(frozen=True)
class RetrievalOptions:
    """What normalisations are fitted on, and what they are tuned on; the choices never see the scored split."""

    bank: str = "train"  # split whose clips give statistics to the online normalisations
    bank_clips: int = 300  # of them, drawn by a seed; 0 takes all
    bank_captions: int = 1000  # the same for captions, which normalise audios
    tune_on: str = "validation"  # split that chooses alpha, beta, tau and k
    tune_clips: int = 200  # of them, drawn by a seed, with all their captions; 0 takes all

    def __post_init__(self):
        for name in ("bank", "tune_on"):
            if getattr(self, name) not in ("train", "validation"):
                raise ValueError(f"{name} must be train or validation, got {getattr(self, name)!r}")
        _at_least(self, 0, "bank_clips", "bank_captions", "tune_clips")


@dataclass(frozen=True)
class PeerOptions:
    """The dual encoder that the captioner is held against: its sizes and its training."""

    width: int = 256  # of the space that audios and captions share
    hidden: int = 256
    words: int = 128  # width of a word's embedding
    dropout: float = 0.3
    word_dropout: float = 0.1  # share of a training caption's words that are left out
    epochs: int = 30
    batch: int = 250  # clips
    captions: int = 5  # of each clip in a batch, drawn from its own
    learning_rate: float = 3e-3
    weight_decay: float = 0.05

    def __post_init__(self):
        _at_least(self, 1, "width", "hidden", "words", "epochs", "captions")
        _at_least(self, 2, "batch")  # clips are told from each other
        _at_least(self, 0, "weight_decay")
        _positive(self, "learning_rate")
        for name in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True)
class BeforeAfterOptions:
    """The Before-After Test and the captioners that it compares."""

    variants: tuple[str, ...] = ()  # pages of studies/ablations, beside the study's own captioner
    other_clips: int = 20  # clips whose audio gives the blind control
    permutations: int = 3  # drawn orders of a clip's frames, for the control that hears what, but not when

    def __post_init__(self):
        _at_least(self, 1, "other_clips", "permutations")


@dataclass(frozen=True)
class AblationOptions:
    """What notebook 08 compares with the study itself."""

    pages: tuple[
        str, ...
    ] = ()  # of studies/ablations: each changes some parameters of the study, not its corpus
    elsewhere: tuple[str, ...] = ()  # pages that change the corpus: captioners are scored on each other's


@dataclass(frozen=True)
class StatisticsOptions:
    """Intervals: clustered bootstrap over audios and seeds."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self):
        _at_least(self, 1, "resamples")
        _at_least(self, 0, "seed")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, got {self.confidence}")


def _at_least(options, least: float, *names: str) -> None:
    for name in names:
        if getattr(options, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(options, name)}")


def _positive(options, *names: str) -> None:
    for name in names:
        if getattr(options, name) <= 0:
            raise ValueError(f"{name} must be above 0, got {getattr(options, name)}")
