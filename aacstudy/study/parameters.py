"""A study: its parameters, read from one YAML page and checked key by key."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from aacstudy import paths
from aacstudy.options import (
    AblationOptions,
    BeforeAfterOptions,
    CorpusOptions,
    DecoderOptions,
    DecodingOptions,
    EncoderOptions,
    FrontendOptions,
    PeerOptions,
    RetrievalOptions,
    ScoringOptions,
    StatisticsOptions,
    TaggingOptions,
    TrainingOptions,
)
from aacstudy.study import notebooks

DEFAULT_NOTEBOOKS = (  # all that come with the project but 08_ablations, which takes its time
    "01_corpus",
    "02_encoder",
    "03_training",
    "04_captioning",
    "05_retrieval",
    "06_bias",
    "07_before_after",
    "09_scorecard",
)

BASE = "base"  # the variant of a study that is the study itself
# What a page of studies/ablations says about itself, not about the study that it varies.
_OWN = ("study", "description", "extends", "notebooks")


class StudyError(ValueError):
    """A parameter that does not exist, or whose value cannot be."""


@dataclass(frozen=True)
class Study:
    """Everything that decides a study's numbers; one section per stage."""

    study: str = "demo"
    description: str = ""
    extends: str = ""
    captioner_from: str = ""  # a study whose trained encoder and captioner are used instead of training here
    notebooks: tuple[str, ...] = DEFAULT_NOTEBOOKS
    seeds: tuple[int, ...] = (1234, 1235, 1236)
    corpus: CorpusOptions = field(default_factory=CorpusOptions)
    frontend: FrontendOptions = field(default_factory=FrontendOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    tagging: TaggingOptions = field(default_factory=TaggingOptions)
    decoder: DecoderOptions = field(default_factory=DecoderOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    peer: PeerOptions = field(default_factory=PeerOptions)
    before_after: BeforeAfterOptions = field(default_factory=BeforeAfterOptions)
    ablations: AblationOptions = field(default_factory=AblationOptions)
    statistics: StatisticsOptions = field(default_factory=StatisticsOptions)

    @classmethod
    def load(cls, name: str | Path, overrides: Mapping[str, Any] | None = None) -> "Study":
        """Read ``studies/<name>.yml`` (or a file), what it extends first, and apply overrides last."""
        values = _read(name)
        source = _shown(_file(name), values.get("extends"), overrides)
        return cls._build(_merge(values, overrides or {}), source)

    @classmethod
    def from_notebook(cls, variables: Mapping[str, Any]) -> "Study":
        """The study of a notebook: its ``parameters`` cell and whatever papermill put over it.

        ``variables`` is the notebook's ``globals()``. papermill only warns of a parameter that does not exist; this
        raises. Call it in the first cell after ``parameters``, before names of your own are defined.
        """
        if isinstance(variables.get("study"), Study):
            return variables["study"]
        given = {
            name: value
            for name, value in variables.items()
            if name == name.lower() and not name.startswith("_") and _is_plain(value)
        }
        name = given.pop("study", "demo")
        if (paths.root() / "studies" / f"{name}.yml").exists():
            return cls.load(name, given)
        if not given:
            raise StudyError(f"studies/{name}.yml does not exist; there are {', '.join(available())}")
        base = _read(given["extends"]) if given.get("extends") else {}
        return cls._build(_merge(base, given | {"study": name}), "the notebook's parameters")

    @classmethod
    def _build(cls, values: Mapping[str, Any], source: str) -> "Study":
        study = _section(cls, values, "", source)
        if not study.seeds:
            raise StudyError(f"{source}: seeds is empty; a captioner needs at least one")
        if len(set(study.seeds)) < len(study.seeds):
            raise StudyError(f"{source}: seeds has {list(study.seeds)}; each seed counts once")
        if study.captioner_from:
            _exists(study.captioner_from, f"{source}: captioner_from")
            if study.captioner_from == study.study:
                raise StudyError(
                    f"{source}: captioner_from: study {study.study} cannot take its own captioner"
                )
        known = notebooks.names()
        # a folder of studies alone can be planned
        if known and (unknown := [name for name in study.notebooks if name not in known]):
            raise StudyError(
                f"{source}: notebooks: {unknown[0]!r} does not exist{_nearest(unknown[0], known)}"
            )
        for section, names in (
            ("before_after.variants", study.before_after.variants),
            ("ablations.pages", study.ablations.pages),
            ("ablations.elsewhere", study.ablations.elsewhere),
        ):
            for name in names:
                _exists(f"ablations/{name}", f"{source}: {section}")
        return study

    def parameters(self) -> dict[str, Any]:
        """Plain values, as ``studies/*.yml`` and papermill have them."""
        return _plain(dataclasses.asdict(self))

    @property
    def variants(self) -> tuple[str, ...]:
        """The captioners that the study compares, its own (``base``) first; see ``varied``."""
        compared = self.before_after.variants if "07_before_after" in self.notebooks else ()
        return tuple(dict.fromkeys((BASE, *compared)))

    def varied(self, variant: str) -> "Study":
        """This study with what ``studies/ablations/<variant>.yml`` changes of it; ``base`` is the study itself."""
        return self if variant == BASE else _varied(self, variant, paths.root())


@cache  # planning asks for the same variant again and again
def _varied(study: Study, variant: str, folder: Path) -> Study:
    path = _file(f"ablations/{variant}")
    changes = {name: value for name, value in _page(path).items() if name not in _OWN}
    return Study._build(
        _merge(study.parameters(), changes), f"{_shown(path, None, None)}, on study {study.study}"
    )


def available() -> list[str]:
    """Names of the studies in ``studies/``."""
    folder = paths.root() / "studies"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yml"))


def _file(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = paths.root() / "studies" / f"{name}.yml"
    if not path.exists():
        raise StudyError(f"study {str(name)!r} does not exist{_nearest(str(name), available())}")
    return path


def _exists(name: str, where: str) -> None:
    try:
        _file(name)
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(name: str | Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = _file(name)
    if str(path) in seen:
        raise StudyError(f"{path} extends itself: {' -> '.join((*seen, str(path)))}")
    values = _page(path)
    values.setdefault("study", _name(path))
    base = values.get("extends")
    if not base:
        return values
    if not isinstance(base, str):
        raise StudyError(f"{path}: extends is {base!r}; it must be the name of one study")
    _exists(base, f"{path}: extends")
    return _merge(_read(base, (*seen, str(path))), values)


def _page(path: Path) -> dict[str, Any]:
    """What stands on a page itself, not what it extends."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise StudyError(f"{path}: a study is a mapping of sections, not a {type(values).__name__}")
    return values


def _name(path: Path) -> str:
    """A page's name: where it lies below ``studies/``, as in ``ablations/positions``."""
    folder = paths.root() / "studies"
    path = path.resolve().with_suffix("")
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = {**merged[name], **value} if both else value
    return merged


def _shown(path: Path, base: str | None, overrides: Mapping[str, Any] | None) -> str:
    """How an error names where a parameter stands."""
    path = path.relative_to(paths.root()) if path.is_relative_to(paths.root()) else path
    shown = f"{path} (extends {base})" if base else str(path)
    return f"{shown} and what overrides it" if overrides else shown


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return (
        all(map(_is_plain, value))
        if isinstance(value, (list, tuple))
        else isinstance(value, (str, int, float, bool))
    )


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _section(kind: type, values: Mapping[str, Any], prefix: str, source: str):
    if not isinstance(values, Mapping):
        raise StudyError(f"{source}: {prefix.rstrip('.')} is a section of parameters, not {values!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    default = kind()
    converted = {}
    for name, value in values.items():
        if name not in fields:
            raise StudyError(f"{source}: {prefix}{name} is not a parameter{_nearest(str(name), fields)}")
        converted[name] = _convert(getattr(default, name), value, f"{prefix}{name}", source)
    try:
        return kind(**converted)
    except StudyError:
        raise
    except ValueError as error:
        raise StudyError(f"{source}: {prefix.rstrip('.')}: {error}") from error


def _convert(default: Any, value: Any, name: str, source: str) -> Any:
    if dataclasses.is_dataclass(default):
        return _section(type(default), value, f"{name}.", source)
    try:
        if isinstance(default, bool):
            if isinstance(value, bool):
                return value
        elif isinstance(default, int):
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        elif isinstance(default, float):
            # YAML reads 1e-3 as text.
            if not isinstance(value, bool) and math.isfinite(float(value)):
                return float(value)
        elif isinstance(default, str):
            if isinstance(value, str):
                return value
        elif isinstance(default, tuple) and isinstance(value, (list, tuple)):
            return tuple(_convert(default[0] if default else "", item, name, source) for item in value)
    except (TypeError, ValueError):
        pass
    wanted = type(default).__name__
    if isinstance(default, tuple):
        wanted = f"a list of {type(default[0] if default else '').__name__}"
    raise StudyError(f"{source}: {name} is {value!r}; it must be {wanted}, such as {default!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
