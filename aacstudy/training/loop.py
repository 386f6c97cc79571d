"""Epochs with progress, best-checkpoint selection and resume; what tagging and captioning share."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW without weight decay on one-dimensional parameters (biases, norms, layer scales)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate)


def run_epochs(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epochs: int,
    seed: int,
    train_epoch: Callable[[torch.Generator], dict[str, float]],
    validate: Callable[[int], dict[str, float]],
    better: str,
    folder: Path,
    name: str,
) -> pd.DataFrame:
    """Train, keep the best epoch's weights in ``model``, and return a row of numbers per epoch.

    ``better`` names the validation number that selects; a leading ``-`` means lower is better.
    ``validate`` is told the epoch, from 1, and may leave that number out of some, which are then
    not selected. After each epoch everything is saved in ``folder/resume.pt``; a run that finds it
    goes on and ends exactly as an unbroken one: random numbers follow from (seed, epoch). It stays
    until an artifact is whole, so that no kill loses the epochs.
    """
    file = folder / "resume.pt"
    history: list[dict[str, float]] = []
    best: dict[str, torch.Tensor] = {}
    state = torch.load(file, weights_only=True) if file.exists() else {}
    if state.get("seed") == seed:  # another's may have been left here
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        history, best = state["history"], state["best"]
    sign, key = (-1, better[1:]) if better.startswith("-") else (1, better)
    device = next(model.parameters()).device
    bar = tqdm(range(len(history), epochs), desc=name, unit="epoch", initial=len(history), total=epochs)
    for epoch in bar:
        torch.manual_seed(seed * 100_003 + epoch)
        model.train()
        row = {"epoch": epoch + 1} | train_epoch(torch.Generator().manual_seed(seed * 100_003 + epoch))
        model.eval()
        with torch.inference_mode():
            row |= validate(epoch + 1)
        if not all(map(math.isfinite, row.values())):
            raise FloatingPointError(f"{name}: epoch {epoch + 1} gave {row}; lower the learning rate")
        past = [sign * one[key] for one in history if key in one]
        if key in row and (not past or sign * row[key] > max(past)):
            best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        history.append(row)
        bar.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k != "epoch"})
        parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
        state = {part: one.state_dict() for part, one in parts.items()}
        _save_whole(file, state | {"seed": seed, "history": history, "best": best})
    model.load_state_dict({k: v.to(device) for k, v in best.items()})
    model.eval()
    return pd.DataFrame(history)


def _save_whole(file: Path, state: dict) -> None:
    temporary = file.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, file)
