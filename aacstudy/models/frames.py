"""Frame embeddings of clips: encoded one file at a time, unpadded, and kept in one safetensors file.

The file holds ``frames`` [all times, dim] float32, ``lengths`` [clips] and the clips' names. It is written as a stream
and read through a memory map, so that its size (4.7 GB for AudioCaps and 768 channels) is never held at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from aacstudy.corpus.audio import AudioError, ahead, read

if TYPE_CHECKING:
    from aacstudy.models.tagger import Tagger

SHARD = 64  # clips that are written together: what a kill loses


@torch.inference_mode()
def encode(
    encoder: Tagger,
    paths: Sequence[Path],
    workers: int = 1,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Frames of audio files: float32 [time, dim] each, on the CPU. The next files are decoded by ``workers`` threads.

    Each file is encoded alone: padding a clip to another's length would change its last frames. ``change`` makes of a
    waveform [samples] and its place another one before it is encoded.
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
    result: Path,
    workers: int = 1,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> None:
    """Encode clips into one file ``result``; beside it each finished shard of them waits until all are done.

    A run that finds shards of the same clips goes on behind them and ends with the same bytes as an unbroken one.
    """
    if _is_whole(result, clips):  # killed while it cleaned up
        for shard in result.parent.glob("shard-*"):
            shard.unlink()
        return
    shards = [
        (result.with_name(f"shard-{begin:07d}.safetensors"), slice(begin, begin + SHARD))
        for begin in range(0, len(clips), SHARD)
    ]
    left = [(shard, part) for shard, part in shards if not _is_whole(shard, clips[part])]
    places = [place for _, part in left for place in range(len(clips))[part]]
    todo = [paths[place] for place in places]
    moved = change and (lambda waveform, i: change(waveform, places[i]))
    with tqdm(total=len(clips), initial=len(clips) - len(todo), desc="encoding", unit="clip") as progress:
        frames = encode(
            encoder, todo, workers, moved
        )  # one stream, so that decoding need not wait at a shard's end
        for shard, part in left:
            made = []
            for _ in clips[part]:
                made.append(next(frames))
                progress.update()
            save(shard, clips[part], made)
    by_clip = {}
    for shard, _ in shards:
        by_clip |= load(shard)
    save(result, clips, list(by_clip.values()))
    for shard, _ in shards:
        shard.unlink()


def _is_whole(path: Path, clips: Sequence[str]) -> bool:
    """Whether a file of frames lies there and is of these clips."""
    if not path.is_file():
        return False
    try:
        return list(load(path)) == list(clips)
    except (SafetensorError, ValueError):  # the machine lost power while it was written
        return False


def save(path: Path, clips: Sequence[str], frames: Sequence[Tensor]) -> None:
    """Write frames [time, dim] of clips, whole or not at all; frames that lie in a memory map are not held at once."""
    if len(clips) != len(frames):
        raise ValueError(f"{path}: {len(frames)} clips' frames for {len(clips)} names")
    lengths = torch.tensor([len(one) for one in frames], dtype=torch.int64)
    if any(one.dtype != torch.float32 for one in frames) or len({one.shape[1] for one in frames}) != 1:
        raise ValueError(f"{path}: wants float32 frames of one width for at least one clip")
    times, width = int(lengths.sum()), frames[0].shape[1]
    # The safetensors format by hand, as its own writer wants the tensors whole: 8 bytes with the header's length, a
    # JSON header padded to a multiple of 8, then the tensors' bytes.
    middle = lengths.nbytes
    header = {
        "__metadata__": {"clips": json.dumps(list(clips))},
        "lengths": {"dtype": "I64", "shape": [len(frames)], "data_offsets": [0, middle]},
        "frames": {
            "dtype": "F32",
            "shape": [times, width],
            "data_offsets": [middle, middle + 4 * times * width],
        },
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in (lengths, *frames):
            file.write(tensor.contiguous().numpy())
    os.replace(temporary, path)


def load(path: Path) -> dict[str, Tensor]:
    """Frames [time, dim] by clip: views of a memory map, read from disk when they are used."""
    with safe_open(path, framework="pt") as file:
        clips = json.loads(file.metadata()["clips"])
        frames = file.get_tensor("frames")
        lengths = file.get_tensor("lengths").tolist()
    return dict(zip(clips, frames.split(lengths), strict=True))


def pad_frames(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Frames of clips [time, dim] -> ([clips, longest, dim], bool padding [clips, longest], None if all are equal)."""
    lengths = torch.tensor([len(one) for one in frames])
    padded = torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True)
    if (lengths == lengths[0]).all():
        return padded, None
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]
