"""Where torch computes, and with how many threads."""

import os

import torch


def use() -> torch.device:
    """Set torch's threads and return the device.

    Threads: $AACSTUDY_THREADS, else 1. On a busy machine waiting threads of one process burn the
    cores that others need (two threads took ten times one thread's time in LOG.md), so cores are
    filled with processes instead. Device: $AACSTUDY_DEVICE, else CUDA where present, else the CPU.
    """
    torch.set_num_threads(int(os.environ.get("AACSTUDY_THREADS") or 1))
    return torch.device(os.environ.get("AACSTUDY_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
