"""What is wrong with a caption, as far as words show it: events, order, repetition, sameness.

Events are known for scenes that were composed, whose grammar also tells how each one is named; a
caption that names none of its paraphrases ("an animal makes a sound") names no event here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pandas as pd

from aacstudy.corpus.soundscapes.grammar import ALL_PHRASES
from aacstudy.corpus.text import tokenise

CATEGORIES = {
    "wrong_event": "names an event that is not there",
    "missing_event": "leaves out one of the events",
    "no_event": "names no event",
    "wrong_order": "says an order that is not so",
    "repeated_words": "uses a content word twice",
    "common_caption": "stands under three clips or more",
}
_COMMON = 3  # clips


@cache
def _patterns() -> list[tuple[str, re.Pattern]]:
    return [
        (event, re.compile(rf"\b{subject} (?:{finite}|(?:is |are )?{gerund})\b"))
        for event, phrases in ALL_PHRASES.items()
        for subject, finite, gerund in phrases
    ]


def named_events(caption: str) -> list[str]:
    """Sound events of the grammar that a caption names, in the order of its words."""
    text = " ".join(tokenise(caption))
    places: dict[str, int] = {}
    for event, pattern in _patterns():
        if found := pattern.search(text):
            places[event] = min(found.start(), places.get(event, len(text)))
    return sorted(places, key=places.get)


def said_order(caption: str) -> list[str]:
    """The two events of a caption in the order that it says; empty where it says none."""
    words = tokenise(caption)
    events = named_events(caption)
    text = f" {' '.join(words)} "
    said = [word for word in (" followed by ", " then ", " before ", " after ") if word in text]
    if len(events) != 2 or len(said) != 1:
        return []
    backwards = said == [" after "] and words[0] != "after"  # "b after a", but "after a, b"
    return events[::-1] if backwards else events


def find(captions: Sequence[str], clips: Sequence[str], events: pd.DataFrame) -> pd.DataFrame:
    """Faults of captions: bool [captions, categories], see ``CATEGORIES``; several may hold.

    clips: the clip of each caption. events: ``clip``, ``event``, ``onset``, ``offset`` (s); without
    rows only the categories that need no annotation are there.
    """
    from spacy.lang.en.stop_words import STOP_WORDS  # here, as importing spaCy takes a second

    words = [tokenise(caption) for caption in captions]
    often = Counter(words)
    table = {
        "repeated_words": [
            any(count > 1 and word not in STOP_WORDS for word, count in Counter(one).items()) for one in words
        ],
        "common_caption": [often[one] >= _COMMON for one in words],
    }
    if len(events):
        by_clip = {clip: rows.sort_values("onset") for clip, rows in events.groupby("clip")}
        empty = events.iloc[:0]
        rows = [_event_faults(caption, by_clip.get(clip, empty)) for caption, clip in zip(captions, clips)]
        table |= {name: [row[name] for row in rows] for name in rows[0]}
    return pd.DataFrame({name: table[name] for name in CATEGORIES if name in table})


def _event_faults(caption: str, events: pd.DataFrame) -> dict[str, bool]:
    named, there = set(named_events(caption)), list(events["event"])
    order = said_order(caption)
    faults = {
        "wrong_event": bool(named - set(there)),
        "missing_event": bool(named) and not set(there) <= named,
        "no_event": not named,
        "wrong_order": False,
    }
    if order and set(order) == set(there):
        faults["wrong_order"] = order != there or not in_turn(events)
    return faults


def in_turn(events: pd.DataFrame) -> bool:
    """Whether two events follow each other: they share less than half of the shorter."""
    first, second = events[["onset", "offset"]].to_numpy()
    shared = min(first[1], second[1]) - max(first[0], second[0])
    return shared < 0.5 * min(first[1] - first[0], second[1] - second[0])
