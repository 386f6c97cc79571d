"""Before-After Test items from captions with a known clause swap."""

import numpy as np
import pandas as pd


def before_after_items(captions: pd.DataFrame) -> pd.DataFrame:
    """Captions that say an order and have a swap: ``clip``, ``connective``, ``form``, ``text``, ``swap``.

    Captions whose writer had the order wrong carry no swap and are no items.
    """
    kept = captions[(captions["kind"] == "sequence") & (captions["swap"] != "")]
    return kept[["clip", "connective", "form", "text", "swap"]].reset_index(drop=True)


def other_clips(owners: np.ndarray, n_clips: int, n_others: int, seed: int) -> np.ndarray:
    """For each item rows of other clips [items, others], drawn without repetition; never the item's own clip.

    Fewer than asked for where there are not that many clips.
    """
    rng = np.random.default_rng(seed)
    count = min(n_others, n_clips - 1)
    drawn = np.stack([rng.choice(n_clips - 1, size=count, replace=False) for _ in owners])
    return drawn + (drawn >= np.asarray(owners)[:, None])
