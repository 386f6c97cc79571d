"""Frame embeddings of clips: encoded one file at a time, unpadded, and kept in a folder of
safetensors files.

Each file holds ``frames`` [all times, dim] float32, ``lengths`` [clips] and the names of up to
``SHARD`` clips. They are written one after another and read through memory maps, so that their size
(4.7 GB for AudioCaps and 768 channels) is never held at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus.audio import AudioError, ahead, read

if TYPE_CHECKING:
    from aacstudy.models.tagger import Tagger

SHARD = 64  # clips of a file: what a kill loses


@torch.inference_mode()
def encode(
    encoder: Tagger,
    paths: Sequence[Path],
    workers: int = 1,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Frames of audio files: float32 [time, dim] each, on the CPU; ``workers`` threads decode
    ahead.

    Each file is encoded alone: padding a clip to another's length would change its last frames.
    ``change`` makes of a waveform [samples] and its place another one before it is encoded.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    rate = encoder.frontend.sample_rate
    waveforms = ahead(lambda path: torch.from_numpy(read(path, rate)), paths, workers)
    for place, (path, waveform) in enumerate(zip(paths, waveforms, strict=True)):
        if len(waveform) < encoder.minimum_samples:
            needed = encoder.minimum_samples / rate
            raise AudioError(f"{path}: lasts {len(waveform) / rate:.3f} s; this encoder needs {needed:.3f} s")
        waveform = change(waveform, place) if change else waveform
        yield encoder.frames(waveform[None].to(device))[0].cpu()


def encode_all(
    encoder: Tagger,
    clips: Sequence[str],
    paths: Sequence[Path],
    folder: Path,
    workers: int = 1,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> None:
    """Encode clips into a folder; a run that finds files of them continues there."""
    starts = range(0, len(clips), SHARD)
    shards = {folder / f"frames-{i:07d}.safetensors": slice(i, i + SHARD) for i in starts}
    for other in set(folder.glob("frames*.safetensors")) - set(shards):
        other.unlink()
    left = {shard: part for shard, part in shards.items() if not _is_whole(shard, clips[part])}
    places = [place for part in left.values() for place in range(len(clips))[part]]
    todo = [paths[place] for place in places]
    moved = change and (lambda waveform, i: change(waveform, places[i]))
    with tqdm(total=len(clips), initial=len(clips) - len(todo), desc="encoding", unit="clip") as progress:
        # one stream, so that decoding need not wait at a shard's end
        frames = encode(encoder, todo, workers, moved)
        for shard, part in left.items():
            made = []
            for _ in clips[part]:
                made.append(next(frames))
                progress.update()
            save(shard, clips[part], made)


def _is_whole(path: Path, clips: Sequence[str]) -> bool:
    """Whether a file of frames lies there and is of these clips."""
    if not path.is_file():
        return False
    try:
        return list(load(path)) == list(clips)
    except (SafetensorError, ValueError):  # the machine lost power while it was written
        return False


def save(path: Path, clips: Sequence[str], frames: Sequence[Tensor]) -> None:
    """Write frames [time, dim] of clips as one file, whole or not at all."""
    if len(clips) != len(frames):
        raise ValueError(f"{path}: {len(frames)} clips' frames for {len(clips)} names")
    if any(one.dtype != torch.float32 for one in frames) or len({one.shape[1] for one in frames}) != 1:
        raise ValueError(f"{path}: wants float32 frames of one width for at least one clip")
    if bad := [clip for clip, one in zip(clips, frames) if not one.isfinite().all()]:
        raise ValueError(f"{path}: the frames of {bad[0]!r} hold NaN or infinite numbers")
    tensors = {"frames": torch.cat(list(frames)), "lengths": torch.tensor([len(one) for one in frames])}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {"clips": json.dumps(list(clips))})
    os.replace(temporary, path)


def load(path: Path) -> dict[str, Tensor]:
    """Frames [time, dim] by clip of a folder or a file: views of memory maps, read when used."""
    files = [path] if path.is_file() else sorted(path.glob("frames*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{path}: holds no frames")
    by_clip = {}
    for one in files:
        with safe_open(one, framework="pt") as file:
            clips = json.loads(file.metadata()["clips"])
            lengths = file.get_tensor("lengths").tolist()
            by_clip |= zip(clips, file.get_tensor("frames").split(lengths), strict=True)
    return by_clip


def pad_frames(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Frames of clips [time, dim] -> [clips, longest, dim] and, unless all are equally long,
    padding.

    padding: bool [clips, longest], True behind a clip's end.
    """
    lengths = torch.tensor([len(one) for one in frames])
    padded = torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True)
    if (lengths == lengths[0]).all():
        return padded, None
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]
