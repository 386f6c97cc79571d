"""The scored pools of a study with their banks and priors, from the files that the stages left."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from aacstudy.analysis.retrieval.methods import Pool
from aacstudy.scoring.matrix import Losses
from aacstudy.study.session import Session
from aacstudy.study.stages import plan


def of(session: Session, variant: str) -> list[tuple[Pool, Pool | None]]:
    """Of each seed of a variant the scored pool and the pool that parameters are chosen on.

    A matrix of another system comes without bank and without a pool for tuning.
    """
    matrices = session.losses(variant)
    if session.study.scoring.matrix:
        return [(alone(losses), None) for losses in matrices]
    banks = [session.use(plan.bank(session.study, variant, seed)) for seed in session.study.seeds]
    return [read(folder / "bank.npz", losses) for folder, losses in zip(banks, matrices)]


def alone(losses: Losses) -> Pool:
    """A matrix without bank and priors."""
    return Pool(losses.nll, losses.tokens, losses.owners)


def read(path: Path, losses: Losses) -> tuple[Pool, Pool | None]:
    """The scored pool of a loss matrix and the tuning pool, each with its banks and priors (see
    bank.py).

    Without bank and tuning pool (None) where the captioner's corpus had no splits for them.
    ValueError where the file was made for another matrix.
    """
    with np.load(path) as file:
        stored = {name: file[name] for name in file.files}
    audios, captions = losses.nll.shape
    if stored["pool_null"].shape[1] != captions:
        raise ValueError(f"{path}: was made for {stored['pool_null'].shape[1]} captions, not {captions}")
    if "pool_audio_bank" not in stored:
        return replace(alone(losses), priors=_nulls(stored, "pool")), None
    if len(stored["pool_caption_bank"]) != audios:
        raise ValueError(f"{path}: was made for {len(stored['pool_caption_bank'])} audios, not {audios}")

    def pool(name: str, nll: np.ndarray, tokens: np.ndarray, owners: np.ndarray) -> Pool:
        priors = _nulls(stored, name) | {"trigram": -stored[f"{name}_trigram"]}
        banks = stored[f"{name}_audio_bank"], stored[f"{name}_caption_bank"], stored["bank_tokens"]
        return Pool(nll, tokens, owners, *banks, priors)

    tune = (stored[f"tune_{field}"] for field in ("nll", "tokens", "owners"))
    return pool("pool", losses.nll, losses.tokens, losses.owners), pool("tune", *tune)


def _nulls(stored: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return dict(zip(stored["nulls"].tolist(), -stored[f"{name}_null"].astype(np.float64)))
