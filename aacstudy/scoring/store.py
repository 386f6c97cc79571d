"""Loss matrices on disk: bands of audios as they are scored, and the whole as a zarr group.

The group holds sums, token counts, ids and the parameters that made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

BAND = 64  # audios per chunk


@dataclass(frozen=True)
class Losses:
    """A scored corpus: rows are audios, columns are captions.

    nll [audios, captions] float32: sums of −log p over words and EOS; tokens [captions]: terms of each sum;
    owners [captions]: row of the audio that a caption describes; audios, captions: ids and texts in that order.
    """

    nll: np.ndarray
    tokens: np.ndarray
    owners: np.ndarray
    audios: list[str]
    captions: list[str]
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        shape = (len(self.audios), len(self.captions))
        if self.nll.shape != shape or self.tokens.shape != shape[1:] or self.owners.shape != shape[1:]:
            raise ValueError(
                f"nll {self.nll.shape}, tokens {self.tokens.shape}, owners {self.owners.shape} do not fit "
                f"{shape[0]} audios and {shape[1]} captions"
            )

    @property
    def mean(self) -> np.ndarray:
        """The paper's loss [audios, captions]: nats per token."""
        return self.nll / self.tokens

    def write(self, path: Path) -> None:
        """Store as a zarr group in bands of audios."""
        group = zarr.open_group(path, mode="w")
        audios, captions = self.nll.shape
        nll = group.create_array(
            "nll", shape=self.nll.shape, dtype="float32", chunks=(min(BAND, audios), captions)
        )
        nll[:] = self.nll
        for name in ("tokens", "owners"):
            values = getattr(self, name).astype(np.int64)
            group.create_array(name, shape=values.shape, dtype="int64", chunks=values.shape)[:] = values
        group.attrs.update({"audios": self.audios, "captions": self.captions, "parameters": self.parameters})

    @classmethod
    def read(cls, path: Path) -> "Losses":
        """Load what ``write`` stored."""
        group = zarr.open_group(path, mode="r")
        attributes = group.attrs.asdict()
        return cls(
            *(np.asarray(group[name][:]) for name in ("nll", "tokens", "owners")),
            audios=list(attributes["audios"]),
            captions=list(attributes["captions"]),
            parameters=dict(attributes["parameters"]),
        )


def write_band(path: Path, nll: np.ndarray, tokens: np.ndarray) -> None:
    """Write the sums of a band of audios [audios, captions] and the token counts [captions]."""
    np.savez(path, nll=nll.astype(np.float32), tokens=tokens.astype(np.int64))


def join(
    bands: Sequence[Path],
    owners: Sequence[int],
    audios: list[str],
    captions: list[str],
    parameters: dict[str, Any],
) -> Losses:
    """The whole matrix from its bands, in order; ValueError where they do not make it up (see ``Losses``)."""
    parts = [np.load(path) for path in bands]
    if any(not np.array_equal(one["tokens"], parts[0]["tokens"]) for one in parts):
        raise ValueError(f"bands of different captions: {', '.join(str(path) for path in bands)}")
    nll = np.concatenate([one["nll"] for one in parts])
    return Losses(nll, parts[0]["tokens"], np.array(owners), audios, captions, parameters)
