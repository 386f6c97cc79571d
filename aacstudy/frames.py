"""Frame embeddings of clips: encoded one file at a time, unpadded, and kept in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus.audio import AudioError, read

if TYPE_CHECKING:
    from aacstudy.models.encoder import TaggingEncoder


@torch.inference_mode()
def encode(encoder: TaggingEncoder, paths: Sequence[Path]) -> list[Tensor]:
    """Frames of audio files: float32 [time, dim] each, on the CPU.

    Each file is encoded alone: padding a clip to another's length would change its last frames.
    """
    encoder.eval()
    device = encoder.bn0.weight.device
    rate = encoder.frontend.sample_rate
    frames = []
    for path in tqdm(paths, desc="encoding", unit="clip"):
        waveform = torch.from_numpy(read(path, rate))
        if len(waveform) < encoder.minimum_samples:
            needed = encoder.minimum_samples / rate
            raise AudioError(f"{path}: lasts {len(waveform) / rate:.3f} s; this encoder needs {needed:.3f} s")
        frames.append(encoder.frames(waveform[None].to(device))[0].cpu())
    return frames


def save(path: Path, clips: Sequence[str], frames: Sequence[Tensor]) -> None:
    """Write frames [time, dim] of clips, whole or not at all."""
    tensors = {"frames": torch.cat(list(frames)), "lengths": torch.tensor([len(one) for one in frames])}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"clips": json.dumps(list(clips))})
    os.replace(temporary, path)


def load(path: Path) -> dict[str, Tensor]:
    """Frames [time, dim] by clip id."""
    with safe_open(path, framework="pt") as file:
        clips = json.loads(file.metadata()["clips"])
        frames = file.get_tensor("frames")
        lengths = file.get_tensor("lengths").tolist()
    return dict(zip(clips, frames.split(lengths), strict=True))
