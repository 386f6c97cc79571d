"""Sizes and training of the dual encoder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DualOptions:
    """The contrastive peer of the captioner: how large it is and how it is trained."""

    width: int = 256  # of the space that audios and captions share
    hidden: int = 256
    words: int = 128  # width of a word's embedding
    dropout: float = 0.3
    word_dropout: float = 0.1  # share of a training caption's words that are left out
    frame_dropout: float = 0.3  # the same of a clip's frames, at most; drawn for each batch
    epochs: int = 20
    batch: int = 250  # clips, with all their captions
    learning_rate: float = 3e-3
    weight_decay: float = 0.05

    def __post_init__(self):
        for name in ("width", "hidden", "words", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch < 2:
            raise ValueError(f"batch must be at least 2, as clips are told from each other, got {self.batch}")
        for name in ("dropout", "word_dropout", "frame_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError(f"learning_rate must be above 0 and weight_decay not below, got {self}")
