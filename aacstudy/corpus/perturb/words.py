"""Small changes of a caption: one connective for another, two nouns exchanged, the words in another
order.
"""

import re

import numpy as np

# test -> what to look for, what to put there; a caption must hold exactly one of the words on the
# left.
REPLACEMENTS = {
    "before_after": {"before": "after", "after": "before"},
    "then_as": {"and then": "as", "then": "as"},
    "as_then": {"as": "then"},
}
# The word belongs to a phrase that has no counterpart.
_PHRASE = re.compile(
    r"\b(as (well|if|though|it|of|to|usual|expected)|such as|same as|known as|just as|(much|many|far|long"
    r"|soon|fast|loud) as"
    r"|before and after|one after|after (another|that|which|the other)|before (long|that)|(even|since|until"
    r"|by|back|now and) then"
    r"|then again)\b",
    re.IGNORECASE,
)


def replaced(caption: str, test: str) -> tuple[str, str]:
    """A caption with its one connective replaced as ``REPLACEMENTS[test]`` says: (text, connective
    that it had).

    Both are empty where the caption has none of them, several, or one inside a set phrase.
    """
    table = REPLACEMENTS[test]
    found = list(re.finditer(rf"\b({'|'.join(table)})\b", caption, re.IGNORECASE))
    if len(found) != 1 or _PHRASE.search(caption):
        return "", ""
    old = found[0].group()
    new = table[old.lower()]
    new = new.capitalize() if old[0].isupper() else new
    return caption[: found[0].start()] + new + caption[found[0].end() :], old.lower()


def shuffled(caption: str, rng: np.random.Generator) -> str:
    """The caption's words in another order, drawn; the capital and the full stop stay in place.
    Empty for equal words.
    """
    body = caption.rstrip(" .!?")
    words = body.split()
    lower = [words[0][0].lower() + words[0][1:], *words[1:]] if words else []
    if len(set(lower)) < 2:
        return ""
    drawn = lower
    while drawn == lower:
        drawn = [lower[i] for i in rng.permutation(len(lower))]
    text = " ".join(drawn)
    return (text[0].upper() + text[1:] if body[0].isupper() else text) + caption[len(body) :]
