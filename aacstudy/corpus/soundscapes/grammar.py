"""Captions of a scene: paraphrases, adverbs and relations, with the exact clause swap of each
sequence.

The rates are chosen so that what real captions do to a captioner happens here too: frequent short
sentences, generic ones that fit every clip, words that the audio cannot explain (measured in
LOG.md).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aacstudy.corpus.soundscapes import esc50

# class -> paraphrases (subject, finite verb, gerund), the most usual first; "an animal" etc. below.
PHRASES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "dog": (("a dog", "barks", "barking"), ("a puppy", "yaps", "yapping"), ("a hound", "bays", "baying"), ("dogs", "bark", "barking")),
    "cat": (("a cat", "meows", "meowing"), ("a kitten", "mews", "mewing"), ("a cat", "cries", "crying"), ("a feline", "yowls", "yowling")),
    "bird": (("a bird", "chirps", "chirping"), ("birds", "sing", "singing"), ("a bird", "tweets", "tweeting"), ("a songbird", "whistles", "whistling")),
    "cow": (("a cow", "moos", "mooing"), ("cattle", "low", "lowing"), ("a cow", "bellows", "bellowing"), ("a bull", "groans", "groaning")),
    "cricket": (("crickets", "chirp", "chirping"), ("insects", "buzz", "buzzing"), ("a cricket", "trills", "trilling"), ("a cicada", "stridulates", "stridulating")),
    "rain": (("rain", "falls", "falling"), ("rain", "pours down", "pouring down"), ("raindrops", "patter", "pattering"), ("a shower", "drums on a roof", "drumming on a roof")),
    "wind": (("wind", "blows", "blowing"), ("wind", "howls", "howling"), ("a breeze", "gusts", "gusting"), ("the wind", "whooshes", "whooshing")),
    "thunder": (("thunder", "rumbles", "rumbling"), ("thunder", "rolls", "rolling"), ("a storm", "booms", "booming"), ("thunder", "cracks", "cracking")),
    "stream": (("water", "flows", "flowing"), ("a stream", "trickles", "trickling"), ("a brook", "babbles", "babbling"), ("water", "gurgles", "gurgling")),
    "man": (("a man", "speaks", "speaking"), ("a man", "talks", "talking"), ("a male voice", "narrates", "narrating"), ("a guy", "gives a speech", "giving a speech")),
    "woman": (("a woman", "speaks", "speaking"), ("a woman", "talks", "talking"), ("a female voice", "narrates", "narrating"), ("a lady", "gives a speech", "giving a speech")),
    "crowd": (("people", "talk", "talking"), ("a crowd", "chatters", "chattering"), ("many voices", "murmur", "murmuring"), ("a group of people", "converses", "conversing")),
    "baby": (("a baby", "cries", "crying"), ("an infant", "wails", "wailing"), ("a toddler", "whines", "whining"), ("a newborn", "bawls", "bawling")),
    "laugh": (("a person", "laughs", "laughing"), ("someone", "chuckles", "chuckling"), ("a child", "giggles", "giggling"), ("somebody", "cackles", "cackling")),
    "applause": (("people", "clap", "clapping"), ("an audience", "applauds", "applauding"), ("hands", "clap together", "clapping together"), ("spectators", "give applause", "giving applause")),
    "footsteps": (("a person", "walks", "walking"), ("footsteps", "approach", "approaching"), ("someone", "steps on a hard floor", "stepping on a hard floor"), ("shoes", "click on the ground", "clicking on the ground")),
    "knock": (("someone", "knocks on a door", "knocking on a door"), ("a person", "raps on wood", "rapping on wood"), ("a fist", "pounds on a door", "pounding on a door"), ("somebody", "bangs on a door", "banging on a door")),
    "typing": (("a person", "types", "typing"), ("someone", "types on a keyboard", "typing on a keyboard"), ("a keyboard", "clacks", "clacking"), ("fingers", "tap on keys", "tapping on keys")),
    "clock": (("a clock", "ticks", "ticking"), ("a watch", "ticks away", "ticking away"), ("a timer", "counts down", "counting down"), ("a metronome", "clicks", "clicking")),
    "bell": (("a bell", "rings", "ringing"), ("a bell", "tolls", "tolling"), ("chimes", "sound", "sounding"), ("a gong", "resonates", "resonating")),
    "phone": (("a phone", "rings", "ringing"), ("a telephone", "rings", "ringing"), ("a cell phone", "warbles", "warbling"), ("a ringtone", "plays", "playing")),
    "glass": (("glass", "breaks", "breaking"), ("glass", "shatters", "shattering"), ("dishes", "clink", "clinking"), ("a bottle", "smashes", "smashing")),
    "engine": (("an engine", "runs", "running"), ("an engine", "idles", "idling"), ("a motor", "hums", "humming"), ("a vehicle", "revs its engine", "revving its engine")),
    "helicopter": (("a helicopter", "flies", "flying"), ("a helicopter", "hovers", "hovering"), ("rotor blades", "thump", "thumping"), ("an aircraft", "flies overhead", "flying overhead")),
    "siren": (("a siren", "wails", "wailing"), ("an ambulance", "sounds its siren", "sounding its siren"), ("an emergency vehicle", "passes", "passing"), ("a police car", "races by", "racing by")),
    "horn": (("a horn", "honks", "honking"), ("a car", "honks", "honking"), ("a truck", "blows its horn", "blowing its horn"), ("a vehicle", "toots", "tooting")),
    "vacuum": (("a vacuum cleaner", "runs", "running"), ("a vacuum", "whirs", "whirring"), ("someone", "vacuums the floor", "vacuuming the floor"), ("a hoover", "drones", "droning")),
    "alarm": (("an alarm", "beeps", "beeping"), ("an alarm", "goes off", "going off"), ("a smoke detector", "chirps", "chirping"), ("a buzzer", "sounds", "sounding")),
    "drip": (("water", "drips", "dripping"), ("a faucet", "drips", "dripping"), ("drops", "plop into a sink", "plopping into a sink")),
    "frog": (("a frog", "croaks", "croaking"), ("frogs", "croak", "croaking"), ("a toad", "ribbits", "ribbiting")),
    "snore": (("a person", "snores", "snoring"), ("someone", "snores", "snoring"), ("a sleeper", "breathes heavily", "breathing heavily")),
    "saw": (("someone", "saws wood", "sawing wood"), ("a saw", "cuts", "cutting"), ("a hand saw", "rasps", "rasping")),
    "train": (("a train", "passes", "passing"), ("a train", "rattles", "rattling"), ("a locomotive", "clatters", "clattering")),
    "hammer": (("someone", "hammers", "hammering"), ("a hammer", "strikes metal", "striking metal"), ("a worker", "pounds nails", "pounding nails")),
}  # fmt: skip

_ANIMAL = ("an animal", "makes a sound", "making a sound")
_PERSON = ("a person", "makes a sound", "making a sound")
_NATURE = ("weather", "makes noise", "making noise")
_WATER = ("water", "makes noise", "making noise")
_MACHINE = ("a machine", "makes noise", "making noise")
_OBJECT = ("an object", "makes a sound", "making a sound")
SUPERORDINATE = (
    {name: _ANIMAL for name in ("dog", "cat", "bird", "cow", "cricket", "frog")}
    | {name: _PERSON for name in ("man", "woman", "crowd", "baby", "laugh", "applause", "snore")}
    | {name: _NATURE for name in ("rain", "wind", "thunder")}
    | {name: _WATER for name in ("stream", "drip")}
    | {name: _MACHINE for name in ("engine", "helicopter", "siren", "horn", "vacuum", "alarm", "phone", "train")}
    | {name: _OBJECT for name in ("footsteps", "knock", "typing", "clock", "bell", "glass", "saw", "hammer")}
)  # fmt: skip

# The same of every kind of sound that captions can name: the synthesiser's first, in the order of
# EVENTS.
ALL_PHRASES = PHRASES | esc50.PHRASES
_GROUPS = {
    "animal": _ANIMAL,
    "person": _PERSON,
    "water": _WATER,
    "machine": _MACHINE,
    "object": _OBJECT,
    "something": ("something", "makes a sound", "making a sound"),
}
ALL_SUPERORDINATE = SUPERORDINATE | {
    name: _GROUPS[group] for group, names in esc50.GROUPS.items() for name in names
}

MANNERS = ("loudly", "quietly", "repeatedly", "continuously", "softly", "steadily", "rapidly")
PLACES = (
    "in the distance",
    "nearby",
    "outside",
    "in the background",
    "in a room",
    "down the street",
    "close by",
)

GENERIC = (
    "Several sounds are heard.",
    "Different noises happen one after another.",
    "Some noise can be heard in the background.",
    "Something makes a sound.",
    "Various sounds are heard in the distance.",
    "There is a noise and then another noise.",
    "A recording of different sounds.",
    "Sounds are heard nearby.",
)

# (name, template, form of the first-heard clause, form of the second, weight); {a} is heard first.
SEQUENCE = (
    ("followed by", "{a} followed by {b}", "finite", "gerund", 5),
    ("followed by", "{a} followed by {b}", "gerund", "gerund", 4),
    ("then", "{a} then {b}", "finite", "finite", 5),
    ("and then", "{a} and then {b}", "finite", "finite", 4),
    ("before", "{a} before {b}", "finite", "finite", 5),
    ("before", "{a} before {b}", "gerund", "gerund", 2),
    ("after", "{b} after {a}", "finite", "finite", 5),
    ("after", "after {a}, {b}", "finite", "finite", 2),
)
OVERLAP = (
    ("while", "{a} while {b}", "finite", "finite", 6),
    ("as", "{a} as {b}", "finite", "finite", 5),
    ("and", "{a} and {b}", "finite", "finite", 3),
    ("with", "{a} with {b}", "finite", "gerund", 3),
)
AND = (("and", "{a} and {b}", "finite", "finite", 2), ("and", "{a} and {b}", "gerund", "gerund", 1))


@dataclass(frozen=True)
class Rates:
    """Shares of the captions of a scene with two events, and of phrases inside a caption.

    ``rare`` turns every list of paraphrases and relations round: what is usual here is rare there,
    and the other way.
    """

    generic: float = 0.05
    partial: float = 0.10
    unordered: float = 0.10
    misordered: float = 0.08
    superordinate: float = 0.06
    progressive: float = 0.15
    adverb_single: float = 0.6
    adverb_pair: float = 0.15
    rare: bool = False


@dataclass(frozen=True)
class Caption:
    """One caption of a scene; ``swap`` is its before/after counterpart, empty where there is none.

    kind: single, sequence, overlap, unordered, misordered, partial or generic. ``mentions`` lists
    the events in the order in which the text says that they are heard. A swap exchanges exactly the
    two clauses, each re-rendered in the grammatical form of its new place, and keeps the
    connective.
    """

    text: str
    kind: str
    connective: str = ""
    form: str = ""
    mentions: tuple[str, ...] = ()
    swap: str = ""


def _zipf(rng: np.random.Generator, n: int, rare: bool) -> int:
    weights = 1.0 / np.arange(1, n + 1)
    drawn = int(rng.choice(n, p=weights / weights.sum()))
    return n - 1 - drawn if rare else drawn


def _weighted(rng: np.random.Generator, templates, rare: bool):
    weights = np.array([template[-1] for template in templates], dtype=float)
    weights = 1 / weights if rare else weights
    return templates[int(rng.choice(len(templates), p=weights / weights.sum()))]


@dataclass(frozen=True)
class _Clause:
    subject: str
    finite: str
    gerund: str
    adverbs: str
    progressive: bool

    def render(self, form: str) -> str:
        verb = self.gerund
        if form == "finite" and self.progressive:
            verb = f"{'is' if self.finite.split()[0].endswith('s') else 'are'} {self.gerund}"
        elif form == "finite":
            verb = self.finite
        return " ".join(part for part in (self.subject, verb, self.adverbs) if part)


def _clause(event: str, rng: np.random.Generator, rates: Rates, adverb: float) -> _Clause:
    choices = ALL_PHRASES[event]
    phrase = choices[_zipf(rng, len(choices), rates.rare)]
    if rng.random() < rates.superordinate:
        phrase = ALL_SUPERORDINATE[event]
    adverbs = []
    if rng.random() < adverb:
        adverbs.append(MANNERS[_zipf(rng, len(MANNERS), rates.rare)])
    if rng.random() < adverb:
        adverbs.append(PLACES[_zipf(rng, len(PLACES), rates.rare)])
    return _Clause(*phrase, " ".join(adverbs), bool(rng.random() < rates.progressive))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _relation(
    kind: str, first: str, second: str, templates, rng: np.random.Generator, rates: Rates
) -> Caption:
    template = _weighted(rng, templates, rates.rare)
    a = _clause(first, rng, rates, rates.adverb_pair)
    b = _clause(second, rng, rates, rates.adverb_pair)
    return _joined(kind, (first, second), template, a, b)


def _joined(kind: str, mentions: tuple[str, str], chosen, a: _Clause, b: _Clause) -> Caption:
    name, template, form_a, form_b, _ = chosen
    text = _sentence(template.format(a=a.render(form_a), b=b.render(form_b)))
    swap = _sentence(template.format(a=b.render(form_a), b=a.render(form_b)))
    if kind != "sequence" or (a.subject, a.gerund) == (b.subject, b.gerund):
        swap = ""  # "an animal ... before an animal ...": exchanged, it says the same
    fronted = "fronted " if template.startswith("after") else ""
    return Caption(text, kind, name, f"{fronted}{form_a}/{form_b}", mentions, "" if swap == text else swap)


def caption(kind: str, events: tuple[str, ...], rng: np.random.Generator, rates: Rates = Rates()) -> Caption:
    """Write one caption of a scene.

    kind is the scene's: ``single`` (one event), ``sequence`` (two, in the order heard) or
    ``overlap`` (two at once).
    """
    draw = rng.random()
    if draw < rates.generic:
        return Caption(GENERIC[_zipf(rng, len(GENERIC), rates.rare)], "generic")
    draw -= rates.generic
    if kind == "single" or draw < rates.partial:
        event = events[int(rng.integers(len(events)))]
        clause = _clause(event, rng, rates, rates.adverb_single)
        form = "finite" if rng.random() < 0.6 else "gerund"
        return Caption(
            _sentence(clause.render(form)),
            "single" if kind == "single" else "partial",
            form=form,
            mentions=(event,),
        )
    draw -= rates.partial
    shuffled = events if rng.random() < 0.5 else events[::-1]
    if draw < rates.unordered:
        return _relation("unordered", *shuffled, AND, rng, rates)
    draw -= rates.unordered
    if kind == "overlap":
        return _relation("overlap", *shuffled, OVERLAP, rng, rates)
    if draw < rates.misordered:
        return _relation("misordered", *events[::-1], SEQUENCE, rng, rates)
    return _relation("sequence", *events, SEQUENCE, rng, rates)


def captions(
    kind: str,
    events: tuple[str, ...],
    n: int,
    rng: np.random.Generator,
    taken: set[str],
    rates: Rates = Rates(),
) -> list[Caption]:
    """Write ``n`` captions of a scene, none of whose texts is in ``taken``; their texts are added
    to it.
    """
    found: list[Caption] = []
    while len(found) < n:
        for _ in range(200):
            candidate = caption(kind, events, rng, rates)
            if candidate.text not in taken:
                break
        else:
            raise RuntimeError(f"the grammar has no unused caption left for {kind} {events}")
        taken.add(candidate.text)
        found.append(candidate)
    return found


def class_phrases(phrases: Mapping[str, Sequence[tuple[str, str, str]]] = PHRASES) -> dict[str, str]:
    """One caption per class, of its most usual phrase: ``{"dog": "A dog barks."}``, in their order.

    They are labels for zero-shot tagging, so no two may be equal: ValueError naming such classes.
    """
    found: dict[str, str] = {}
    for name, (usual, *_) in phrases.items():
        subject, finite, _ = usual
        text = _sentence(f"{subject} {finite}")
        if twin := next((other for other, said in found.items() if said == text), None):
            raise ValueError(f"the classes {twin!r} and {name!r} have the same phrase: {text!r}")
        found[name] = text
    return found


def pair_captions(
    events: tuple[str, str], rng: np.random.Generator, rates: Rates = Rates(superordinate=0)
) -> list[tuple[Caption, Caption, Caption]]:
    """Captions of a first event before a second, of the second before the first, and of both at
    once.

    One triple per connective of ``SEQUENCE``. The first two exchange exactly the two clauses; the
    third has the same clauses, joined by ``while`` or ``as``.
    """
    triples = []
    for connective in dict.fromkeys(name for name, *_ in SEQUENCE):
        template = _weighted(rng, [one for one in SEQUENCE if one[0] == connective], rates.rare)
        at_once = _weighted(rng, [one for one in OVERLAP if one[0] in ("while", "as")], rates.rare)
        a, b = (_clause(event, rng, rates, rates.adverb_pair) for event in events)
        # "water ... water ...": no order to tell
        while (a.subject, a.gerund) == (b.subject, b.gerund):
            b = _clause(events[1], rng, rates, rates.adverb_pair)
        triples.append(
            (
                _joined("sequence", events, template, a, b),
                _joined("sequence", events[::-1], template, b, a),
                _joined("overlap", events, at_once, a, b),
            )
        )
    return triples


def exchange_subjects(text: str, mentions: tuple[str, ...]) -> str:
    """The caption with the subjects of its two events exchanged: "A dog falls while rain barks.";
    empty if it has none.

    It has none where a subject cannot be found, where one is plural and the other is not (the verbs
    would give it away), and where both are of one kind ("a man speaks while a woman talks" is as
    true the other way round).
    """
    if len(mentions) != 2 or len({ALL_SUPERORDINATE.get(event) for event in mentions}) == 1:
        return ""
    lower = text[:1].lower() + text[1:]
    found = [_subject(lower, event) for event in mentions if event in ALL_PHRASES]
    if len(found) < 2 or None in found:
        return ""
    (subject_a, at_a, number_a), (subject_b, at_b, number_b) = sorted(found, key=lambda one: one[1])
    if subject_a == subject_b or number_a != number_b or at_b < at_a + len(subject_a):
        return ""
    between, rest = lower[at_a + len(subject_a) : at_b], lower[at_b + len(subject_b) :]
    exchanged = lower[:at_a] + subject_b + between + subject_a + rest
    return exchanged[0].upper() + exchanged[1:]


def _subject(lower: str, event: str) -> tuple[str, int, bool] | None:
    """Subject of an event's clause in a caption, where it stands and whether it is singular; None
    if not just once.
    """
    found = set()
    for subject, finite, gerund in (*ALL_PHRASES[event], ALL_SUPERORDINATE[event]):
        for match in re.finditer(rf"\b{subject} ((is |are )?{gerund}|{finite})\b", lower):
            found.add((subject, match.start(), finite.split()[0].endswith("s")))
    return found.pop() if len(found) == 1 else None
