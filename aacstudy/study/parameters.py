"""A study: its parameters, read from one YAML page and checked key by key."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, StrictInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aacstudy import options, paths
from aacstudy.options import EXACT, Many

BASE = "base"  # the variant of a study that is the study itself
# What a page of studies/ablations says about itself, not about the study that it varies.
_OWN = ("study", "description", "extends", "notebooks")
_ONLY_NAMED = ("08_ablations", "10_own_recordings")  # takes its time; for a folder of one's own


class StudyError(ValueError):
    """A parameter that does not exist, or whose value cannot be."""


def batch_notebooks() -> tuple[str, ...]:
    """The notebooks that a study can run: those of the folder, but for the one to begin with."""
    found = (path.stem for path in (paths.root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return tuple(sorted(name for name in found if not name.startswith("00_")))


def default_notebooks() -> tuple[str, ...]:
    """Those that a study runs if its page names none."""
    return tuple(name for name in batch_notebooks() if name not in _ONLY_NAMED)


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed counts once")
    return seeds


@dataclass(frozen=True, config=EXACT)
class Study:
    """Everything that decides a study's numbers; one section per stage."""

    study: str = "demo"
    description: str = ""
    extends: str = ""
    # a study whose trained encoder and captioner are used, none trained here
    captioner_from: str = ""
    notebooks: Many[str] = field(default_factory=default_notebooks)
    seeds: Annotated[Many[StrictInt], Field(min_length=1), AfterValidator(_each_once)] = (1234, 1235, 1236)
    corpus: options.CorpusOptions = options.CorpusOptions()
    frontend: options.FrontendOptions = options.FrontendOptions()
    encoder: options.EncoderOptions = options.EncoderOptions()
    tagging: options.TaggingOptions = options.TaggingOptions()
    decoder: options.DecoderOptions = options.DecoderOptions()
    training: options.TrainingOptions = options.TrainingOptions()
    decoding: options.DecodingOptions = options.DecodingOptions()
    scoring: options.ScoringOptions = options.ScoringOptions()
    retrieval: options.RetrievalOptions = options.RetrievalOptions()
    peer: options.PeerOptions = options.PeerOptions()
    before_after: options.BeforeAfterOptions = options.BeforeAfterOptions()
    ablations: options.AblationOptions = options.AblationOptions()
    statistics: options.StatisticsOptions = options.StatisticsOptions()

    @classmethod
    def load(cls, name: str | Path, overrides: Mapping[str, Any] | None = None) -> "Study":
        """Read ``studies/<name>.yml`` (or a file), what it extends first; overrides come last."""
        values = _read(name)
        base = f" (extends {values['extends']})" if values.get("extends") else ""
        source = f"{_shown(_file(name))}{base}{' and what overrides it' if overrides else ''}"
        return _build(_merge(values, overrides or {}), source)

    @classmethod
    def from_notebook(cls, variables: Mapping[str, Any]) -> "Study":
        """The study of a notebook: its ``parameters`` cell and whatever papermill put over it.

        ``variables`` is the notebook's ``globals()``. papermill only warns of a parameter that does
        not exist; this raises. Call it in the first cell after ``parameters``, before any of yours.
        """
        if isinstance(variables.get("study"), Study):
            return variables["study"]
        given = {name: value for name, value in variables.items() if _is_given(name, value)}
        name = str(given.pop("study", "demo"))
        # a page of another place, which papermill has read, says what it extends
        if "extends" in given and not (paths.root() / "studies" / f"{name}.yml").exists():
            base = _read(given["extends"]) if given["extends"] else {}
            return _build(_merge(base, given | {"study": name}), "the notebook's parameters")
        return cls.load(name, given)

    def parameters(self) -> dict[str, Any]:
        """Plain values, as ``studies/*.yml`` and papermill have them."""
        return _STUDY.dump_python(self, mode="json")

    @property
    def variants(self) -> tuple[str, ...]:
        """The captioners that the study compares, its own (``base``) first; see ``varied``."""
        compared = self.before_after.variants if "07_before_after" in self.notebooks else ()
        return tuple(dict.fromkeys((BASE, *compared)))

    def varied(self, variant: str) -> "Study":
        """This study with what ``studies/ablations/<variant>.yml`` changes; ``base`` is itself."""
        return self if variant == BASE else _varied(self, variant, paths.root())


_STUDY = TypeAdapter(Study)
_FIELDS = {one.name: one for one in fields(Study)}


@cache  # planning asks for the same variant again and again
def _varied(study: Study, variant: str, folder: Path) -> Study:
    path = _file(f"ablations/{variant}")
    changes = {name: value for name, value in _page(path).items() if name not in _OWN}
    return _build(_merge(study.parameters(), changes), f"{_shown(path)}, on study {study.study}")


def available() -> list[str]:
    """Names of the studies in ``studies/``."""
    folder = paths.root() / "studies"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yml"))


def _build(values: Mapping[str, Any], source: str) -> Study:
    try:
        study = _STUDY.validate_python(values)
    except ValidationError as error:
        wrong = "; ".join(map(_told, error.errors(include_url=False)))
        raise StudyError(f"{source}: {wrong}") from error
    if not paths.NAME.fullmatch(study.study):
        raise StudyError(f"{source}: study {study.study!r}: {paths.NAMED}")
    if study.captioner_from:
        _file(study.captioner_from, f"{source}: captioner_from: ")
        if study.captioner_from == study.study:
            raise StudyError(f"{source}: captioner_from: study {study.study} cannot take its own captioner")
    known = batch_notebooks()
    for name in study.notebooks:
        if name not in known:
            raise StudyError(f"{source}: notebooks: {name!r} does not exist{_nearest(name, known)}")
    for section, names in (
        ("before_after.variants", study.before_after.variants),
        ("ablations.pages", study.ablations.pages),
        ("ablations.elsewhere", study.ablations.elsewhere),
    ):
        for name in names:
            _file(f"ablations/{name}", f"{source}: {section}: ")
    return study


def _told(wrong: Mapping[str, Any]) -> str:
    """One of pydantic's findings in the words of a page."""
    kind, value, name = wrong["type"], wrong["input"], ".".join(map(str, wrong["loc"]))
    if kind in ("unexpected_keyword_argument", "invalid_key"):
        *section, key = wrong["loc"]
        known = [one.name for one in fields(_FIELDS[section[0]].type if section else Study)]
        return f"{name} is not a parameter{_nearest(str(key), known)}"
    if kind == "dataclass_type":
        return f"{name} is a section of parameters, not {value!r}"
    return options.told_of(wrong)


def _is_given(name: str, value: Any) -> bool:
    """Whether a notebook's variable is a parameter, be its name or its value right or wrong.

    All are but what stands in any notebook: None, IPython's own, what is imported, and what no
    parameters cell would hold, such as a table.
    """
    if value is None or name.startswith("_") or name in ("In", "Out"):
        return False
    if name in _FIELDS:
        return True
    plain = type(value).__module__.partition(".")[0] in ("builtins", "numpy", "pathlib")
    modules = [module for key, module in sys.modules.items() if key != "__main__"]
    imported = any(getattr(one, "__dict__", {}).get(name) is value for one in modules)
    return plain and not callable(value) and not imported


def _file(name: str | Path, where: str = "") -> Path:
    path = Path(name)
    if path.suffix not in (".yml", ".yaml") and not paths.NAME.fullmatch(str(name)):
        raise StudyError(f"{where}{str(name)!r} is no name of a study: {paths.NAMED}")
    if path.suffix not in (".yml", ".yaml"):
        path = paths.root() / "studies" / f"{name}.yml"
    if not path.exists():
        raise StudyError(f"{where}study {str(name)!r} does not exist{_nearest(str(name), available())}")
    return path


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
    values = {"study": _name(path)} | _page(path)
    base = values.get("extends")
    if not base:
        return values
    if not isinstance(base, str):
        raise StudyError(f"{path}: extends is {base!r}; it must be the name of one study")
    _file(base, f"{path}: extends: ")
    return _merge(_read(base, (*seen, str(path))), values)


def _page(path: Path) -> dict[str, Any]:
    """What stands on a page itself, not what it extends."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise StudyError(f"{path} is not YAML: {error}") from error
    if not values:
        raise StudyError(f"{path}: holds no parameter; 'extends: demo' would be the demo under its name")
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


def _shown(path: Path) -> str:
    """How an error names a page."""
    return str(path.relative_to(paths.root()) if path.is_relative_to(paths.root()) else path)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
