"""The clause swap of a real caption: words and their places alone, no parser; what is left out has
a reason.

A caption is kept when it has exactly one connective and its halves can change places without
nonsense. The rules are closed lists of English function words: they judge whether the second half
can begin a caption, never what it means.
"""

import re
from typing import NamedTuple

CONNECTIVES = ("followed by", "and then", "then", "before", "after")
STRICT = ("before", "after")  # the Before-After Test as it was published first (arXiv 2303.10667)
REASONS = ("no connective", "idiom", "several connectives", "no comma", "short half", "anaphora",
    "elided subject", "same halves")  # fmt: skip

_CONNECTIVE = re.compile(rf"\b({'|'.join(CONNECTIVES)})\b", re.IGNORECASE)
# The connective belongs to a phrase, not to two clauses; most are met in AudioCaps or Clotho.
_IDIOM = re.compile(
    r"\bbefore and after\b|\bafter and before\b|\bone (\w+ )?after (another|the (other|next))\b|\b(\w+) "
    r"after \4\b"
    r"|\b(shortly|soon|right|just|immediately|moments?|seconds?|long|well|ever) (before|after)\b"
    r"|\b(even|since|until|by|back|now and) then\b|\b(before|after) (long|all|which|that|this|a (while|moment"
    r"|bit|second|pause))\b"
    r"|\bthen again\b|\b(look|looks|looking|name|named|run|runs|running|go|goes|chase|chases) after\b"
    r"|\bbefore (him|her|them|us|me|it)\b|\b(the )?(day|night|year|hour|moment) (before|after)$",
    re.IGNORECASE,
)
# Words that lean on what was said before them, so that the half they stand in cannot come first.
_ANAPHORA = re.compile(
    r"^(its|their|his|her) |\b(it|they|them|theirs|he|him|she|hers|this|that|these|those|which|who|another"
    r"|other|others|"
    r"more|less|again|same|both|each|either|next(?! to)|second|third|last|final|finally|eventually|ultimately"
    r"|also|too|"
    r"louder|quieter|faster|slower|closer|further|farther|"
    r"still|continue|continues|continued|continuing|resume|resumes|resuming|stops|stopping|repeats)\b",
    re.IGNORECASE,
)  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words(
    "a an the some several many multiple numerous various few two three four five six seven eight nine ten "
    "one "
    "someone somebody something people men women children kids birds dogs cats frogs horses cows ducks pigs "
    "goats "
    "sheep insects bees crickets footsteps voices vehicles cars trucks engines sirens horns bells dishes "
    "leaves "
    "waves tires wheels keys papers objects glass guitars drums gunshots explosions vibrations adults males "
    "females "
    "pigeons guns gears pots babies girls boys sounds noises fireworks raindrops"
)
# Verbs without an ending of their own, auxiliaries, adverbs and prepositions.
_NO_SUBJECT = _words(
    "is are was were be been being am has have had do does did can could will would may might must gets got "
    "get "
    "begin began start started stop stopped talk speak laugh bark chirp sing cry ring blow fade rev honk "
    "slow cut "
    "turn go come move open close shut run drive fly hit break trot cheer clap into in on off out over under "
    "up down "
    "at by with from to for as while and or but suddenly slowly quickly softly quietly loudly gradually "
    "nearby "
    "sharply abruptly briefly immediately not then poured silent silently"
)
_NOT_GERUND = _words("thing something anything nothing string spring ring wing king lightning building")


class Outcome(NamedTuple):
    """``swap`` and how the caption is built, or the ``reason`` why it has none (one of
    ``REASONS``).
    """

    swap: str = ""
    connective: str = ""
    form: str = ""  # "infix" (A before B) or "fronted" (After A, B)
    reason: str = ""


def clause_swap(caption: str) -> Outcome:
    """Exchange the two clauses of a caption around its one connective, which stays.

    ``A dog barks, then rain falls.`` gives ``Rain falls, then a dog barks.`` and ``After rain
    falls, a dog barks`` gives ``After a dog barks, rain falls``: a fronted clause ends at the first
    comma. Full stop, comma before the connective and the capital of the first word stay where they
    are.
    """
    text = " ".join(caption.split())
    body = text.rstrip(" .!")
    end = text[len(body) :]
    found = list(_CONNECTIVE.finditer(body))
    if not found:
        return Outcome(reason="no connective")
    if _IDIOM.search(body):
        return Outcome(reason="idiom")
    if len(found) > 1:
        return Outcome(reason="several connectives")
    connective = found[0].group().lower()
    before, after = body[: found[0].start()], body[found[0].end() :]
    fronted = not before.strip()
    if fronted and connective in STRICT:
        first, comma, second = (part.strip() for part in after.partition(","))
        if not comma:
            return Outcome(reason="no comma")
    else:
        first, second = before.strip(), after.strip(" ,")
    reason = _reason(first.rstrip(" ,"), second, connective)
    if reason:
        return Outcome(reason=reason)
    link = found[0].group()
    if fronted:
        return Outcome(f"{link} {_lower(second)}, {_lower(first)}{end}", connective, "fronted")
    comma = first[len(first.rstrip(" ,")) :]
    first = first.rstrip(" ,")
    head = second[0].upper() + second[1:] if first[0].isupper() else second
    return Outcome(f"{head}{comma} {link} {_lower(first)}{end}", connective, "infix")


def _reason(first: str, second: str, connective: str) -> str:
    if min(len(first.split()), len(second.split())) < 2:
        return "short half"
    if _ANAPHORA.search(second):
        return "anaphora"
    if not _begins_a_clause(second, connective):
        return "elided subject"
    return "same halves" if first.lower() == second.lower() else ""


def _begins_a_clause(half: str, connective: str) -> bool:
    word = half.split()[0].strip(",").lower()
    if word in _DETERMINERS:
        return True
    if word in _NO_SUBJECT or word.endswith("ly"):
        return False
    if connective == "followed by":
        # what follows "by" is named, not told: "followed by laughing", "followed by clicks"
        return True
    # "then speaks", "before speaking": the subject is the first half's
    return not word.endswith(("s", "ed")) and (not word.endswith("ing") or word in _NOT_GERUND)


def _lower(half: str) -> str:
    """The half inside a sentence: its first letter small, but not that of "I" or of an
    abbreviation.
    """
    word = half.split()[0].strip(",")
    return half if (len(word) > 1 and word.isupper()) or word == "I" else half[0].lower() + half[1:]
