"""What a study that ran left behind, read back: its pages' records, its numbers, and how both are shown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

# How numbers are shown: factor, format, unit.
FORMS = {
    "percent": (100, ".1f", "%"),
    "points": (100, "+.1f", "points"),
    "number": (1, ".4g", ""),
    "score": (1, ".3f", ""),
    "change": (1, "+.3f", ""),
    "size": (1, ",.0f", ""),
}


def read(folder: Path) -> dict[str, dict]:
    """The records of ``pages/*.json`` by notebook name."""
    files = sorted((Path(folder) / "pages").glob("*.json"))
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {record["notebook"]: record for record in records}


def merge(records: Mapping[str, dict]) -> dict[str, float]:
    """The results of all pages, sorted by key; ValueError where two pages give the same key."""
    merged, owner = {}, {}
    for page in records.values():
        for key, value in page["results"].items():
            if key in merged:
                raise ValueError(f"result {key!r} is given by both {owner[key]} and {page['notebook']}")
            merged[key], owner[key] = value, page["notebook"]
    return dict(sorted(merged.items()))


def provenances(records: Mapping[str, dict]) -> list[dict]:
    """The pages' provenances, of those that have one."""
    return [record["provenance"] for record in records.values() if record["provenance"]]


def distinct(records: Mapping[str, dict], field: str) -> str:
    """The values of one field of the pages' provenances, each once."""
    return ", ".join(sorted({str(one[field]) for one in provenances(records) if one.get(field)}))


def facts(
    records: Mapping[str, dict],
    notebooks: Sequence[str],
    sizes: Mapping[str, int],
    seeds: Sequence[int] = (),
    device: str = "",
) -> dict[str, str]:
    """What was run, in words; a fact that no page knows is left out. seeds and device: instead of those of the pages."""
    seeds = seeds or sorted({seed for one in provenances(records) for seed in one.get("seeds", [])})
    found = {label: count(size) for label, size in sizes.items()} | {
        "seeds": ", ".join(map(str, seeds)),
        "commit": distinct(records, "commit"),
        "device": device or distinct(records, "device"),
        "computing time": duration(_computing_seconds(provenances(records))),
        "notebooks run": f"{sum(name in records for name in notebooks)} of {len(notebooks)}",
    }
    return {label: fact for label, fact in found.items() if fact}


def _computing_seconds(found: Sequence[dict]) -> float:
    """Seconds of the notebooks and of every artifact they used, each once; jobs side by side count in full."""
    artifacts = {
        (one["stage"], one["key"]): one.get("seconds", 0) for p in found for one in p.get("artifacts", [])
    }
    return sum(p.get("seconds", 0) for p in found) + sum(artifacts.values())


def count(size) -> str:
    return f"{size:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(size, int) else str(size)


def duration(seconds: float) -> str:
    """Seconds in words: '40 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def formatted(results: Mapping[str, float], key: str, kind: str) -> tuple[list[str | None], str]:
    """Value, low and high of a result as texts, None where there is none, and their unit; kind is one of `FORMS`."""
    factor, form, unit = FORMS[kind]
    keys = (f"{key}.mean" if f"{key}.mean" in results else key, f"{key}.low", f"{key}.high")
    return [format(factor * results[one], form) if one in results else None for one in keys], unit


def headline(results: Mapping[str, float], label: str, key: str, kind: str, note: str = "") -> dict:
    """One row of the headline table, formatted; `bar` are low, value, high in 0…100 where the number is a percentage."""
    if kind not in ("percent", "number"):
        raise ValueError(f"headline {label!r}: kind is {kind!r}, not 'percent' or 'number'")
    (value, low, high), unit = formatted(results, key, kind)
    unit = f"\N{NO-BREAK SPACE}{unit}" if unit else ""
    numbers = [None if text is None else float(text) for text in (value, low, high)]
    drawn = kind == "percent" and all(x is not None and 0 <= x <= 100 for x in numbers)
    return {
        "label": label,
        "note": note,
        "value": f"{value}{unit}" if value else None,
        "interval": f"{low} – {high}{unit}" if low and high else None,
        "n": count(int(results[f"{key}.n"])) if f"{key}.n" in results else None,
        "bar": numbers if drawn else None,
    }
