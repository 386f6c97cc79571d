"""A study's page: every key checked, every error naming the file and the nearest right name."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aacstudy import paths
from aacstudy.options import DecoderOptions, TrainingOptions
from aacstudy.study.parameters import BASE, Study, StudyError, available, batch_notebooks

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted(str(path.relative_to(PROJECT / "studies")) for path in (PROJECT / "studies").rglob("*.yml"))
# What the parameters cell of a notebook holds: a name, and None for each section left alone.
CELL = {"study": "demo", "description": None, "corpus": None, "decoder": None, "seeds": None}


@pytest.fixture(autouse=True)
def project_root(monkeypatch):
    monkeypatch.setenv("AACSTUDY_ROOT", str(PROJECT))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two notebooks; call it with pages to write into its studies/."""
    (tmp_path / "notebooks").mkdir()
    for name in ("00_start_here", "05_retrieval"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    (tmp_path / "studies").mkdir()
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))

    def write(**pages: str) -> Path:
        for name, text in pages.items():
            (tmp_path / "studies" / f"{name}.yml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def injected(page: str) -> dict:
    """What papermill's ``-f page`` puts over the parameters cell: the page's own values."""
    return CELL | yaml.safe_load((PROJECT / "studies" / page).read_text(encoding="utf-8"))


def error_of(function, *arguments, kind: type[ValueError] = StudyError) -> str:
    with pytest.raises(kind) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_loads(page):
    study = Study.load(page.removesuffix(".yml"))
    assert study.study == page.removesuffix(".yml")
    assert study.seeds and len(study.variants) >= 1
    assert Study.load(PROJECT / "studies" / page) == study  # by name or by file
    # All parameters, written down and read again, are the same study.
    assert Study.from_notebook(json.loads(json.dumps(study.parameters()))) == study


def test_available_names_pages_and_subfolders(project):
    folder = project(demo="seeds: [1]", other="seeds: [1]")
    (folder / "studies" / "ablations").mkdir()
    (folder / "studies" / "ablations" / "flat.yml").write_text("extends: demo\nseeds: [7]")
    assert available() == ["ablations/flat", "demo", "other"]
    assert Study.load("ablations/flat").seeds == (7,)
    assert Study.load("ablations/flat").study == "ablations/flat"


def test_what_a_page_does_not_name_is_the_default(project):
    project(plain="description: a plain one\n")
    assert Study.load("plain") == Study(study="plain", description="a plain one")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("corpsu: {train: 5}", ["corpsu is not a parameter", "did you mean corpus?"]),
        ("corpus: {trian: 5}", ["corpus.trian is not a parameter", "did you mean train?"]),
        ("tagging: {learningrate: 1.0e-3}", ["tagging.learningrate", "did you mean learning_rate?"]),
        ("corpus: {xyzzy: 5}", ["corpus.xyzzy is not a parameter", "there are name, root, seed"]),
        ("1: 2", ["1 is not a parameter"]),
        ("corpus: 5", ["corpus is a section of parameters, not 5"]),
        ("corpus:", ["corpus is a section of parameters, not None"]),
        ("corpus: [train]", ["corpus is a section of parameters"]),
        ("training: {epochs: true}", ["training.epochs is True", "valid integer"]),
        ("training: {epochs: '6'}", ["training.epochs is '6'", "valid integer"]),
        ("training: {epochs: 6.0}", ["training.epochs is 6.0", "valid integer"]),
        ("training: {epochs: null}", ["training.epochs is None", "valid integer"]),
        ("training: {learning_rate: true}", ["training.learning_rate is True", "valid number"]),
        ("training: {learning_rate: fast}", ["training.learning_rate is 'fast'", "float"]),
        ("training: {learning_rate: [1.0]}", ["training.learning_rate is [1.0]", "valid number"]),
        ("training: {learning_rate: .nan}", ["training.learning_rate is nan", "finite"]),
        ("training: {learning_rate: .inf}", ["training.learning_rate is inf", "finite"]),
        ("decoding: {forbid_specials: 1}", ["decoding.forbid_specials is 1", "valid boolean"]),
        ("decoder: {frame_positions: no}", ["decoder.frame_positions is False", "'sinusoidal'"]),
        ("scoring: {memory: 2}", ["scoring.memory is 2", "valid string"]),
        ("encoder: {depths: 3}", ["encoder.depths is 3", "should be a list"]),
        ("encoder: {depths: !!set {1, 2}}", ["encoder.depths is {1, 2}", "should be a list"]),
        ("encoder: {depths: [1, two]}", ["encoder.depths.1 is 'two'", "valid integer"]),
        ("seeds: []", ["seeds is []", "at least 1"]),
        ("seeds: 1234", ["seeds is 1234", "should be a list"]),
        ("seeds: [1, 2, 1]", ["seeds is [1, 2, 1]: each seed counts once"]),
        ("seeds: [true]", ["seeds.0 is True", "valid integer"]),
        ("notebooks: [05_retreival]", ["notebooks: '05_retreival'", "did you mean 05_retrieval?"]),
        ("notebooks: [00_start_here]", ["notebooks: '00_start_here' does not exist"]),
        ("decoder: {d_model: 32, heads: 5}", ["decoder: heads must divide d_model = 32, got 5"]),
        ("decoder: {d_model: 31, heads: 1}", ["decoder: d_model must be even"]),
        (
            "decoder: {frame_positions: sinus}",
            ["decoder.frame_positions is 'sinus'", "'none', 'sinusoidal' or 'learned'"],
        ),
        ("frontend: {f_max: 20000}", ["frontend: 0 <= f_min < f_max", "16000"]),
        ("encoder: {kernel: 4}", ["encoder: kernel must be odd", "4"]),
        ("encoder: {dims: [8, 16]}", ["encoder: depths and dims"]),
        ("corpus: {name: sounds}", ["corpus.name is 'sounds'", "'soundscapes', 'recordings', "]),
        ("corpus: {test: 0}", ["corpus.test is 0", "greater than or equal to 1"]),
        ("corpus: {seconds: 0.5}", ["corpus.seconds is 0.5", "greater than or equal to 2.2"]),
        ("corpus: {snr_low: 20}", ["corpus: snr_low must not exceed snr_high", "20"]),
        ("tagging: {epochs: 0}", ["tagging.epochs is 0", "greater than or equal to 1"]),
        ("training: {schedule: cosin}", ["training.schedule is 'cosin'", "'cosine' or 'one_cycle'"]),
        ("training: {learning_rate: -1}", ["training.learning_rate is -1", "greater than 0"]),
        ("training: {label_smoothing: 1}", ["training.label_smoothing is 1", "less than 1"]),
        ("decoding: {beam: 0}", ["decoding.beam is 0", "greater than or equal to 1"]),
        ("decoding: {min_tokens: 20}", ["decoding: 0 <= min_tokens < max_tokens", "20 and 20"]),
        (
            "decoding: {forbid_repeats: every}",
            ["decoding.forbid_repeats is 'every'", "'none', 'all', 'content' or 'published'"],
        ),
        ("scoring: {split: tset}", ["scoring.split is 'tset'", "'train', 'validation' or 'test'"]),
        ("before_after: {other_clips: 0}", ["before_after.other_clips is 0", "greater than or equal to 1"]),
        ("statistics: {confidence: 95}", ["statistics.confidence is 95", "less than 1"]),
        ("corpus: {test: 0}\nsede: 1", ["corpus.test is 0", "sede is not a parameter; did you mean seeds?"]),
        ("- corpus", ["a study is a mapping of sections, not a list"]),
        ("corpus: {train: 5", ["is not YAML"]),
        ("training: {epochs: 1}\ntraining: {batch: 2}", ["is not YAML", "training stands twice", "line 1"]),
        ("captioner_from: dmeo", ["captioner_from: study 'dmeo' does not exist", "did you mean demo?"]),
        ("captioner_from: mine", ["captioner_from: study mine cannot take its own captioner"]),
        ("extends: [demo]", ["extends is ['demo']", "one study"]),
        ("extends: dmeo", ["extends: study 'dmeo' does not exist", "did you mean demo?"]),
    ],
)
def test_what_a_wrong_page_is_told(project, page, said):
    project(mine=page, demo="")
    message = error_of(Study.load, "mine")
    for part in ("studies/mine.yml", *said):
        assert part in message


def test_a_page_that_is_not_utf8_is_named(project):
    folder = project()
    (folder / "studies" / "latin.yml").write_bytes("description: café".encode("latin-1"))
    assert "studies/latin.yml is not YAML" in error_of(Study.load, "latin")


def test_unknown_study_names_the_nearest():
    assert "'dmeo' does not exist; did you mean demo?" in error_of(Study.load, "dmeo")
    message = error_of(Study.load, "qqqqqqqqqqqq")
    assert "demo" in message and "smoke" in message
    assert "does not exist" in error_of(Study.load, "no/such/file.yml")


def test_numbers_as_yaml_reads_them(project):
    project(a="training: {learning_rate: 1e-3, weight_decay: 2}")
    training = Study.load("a").training
    assert training.learning_rate == 0.001 and isinstance(training.learning_rate, float)
    assert training.weight_decay == 2.0 and isinstance(training.weight_decay, float)


def test_extends_merges_sections_and_the_nearest_page_wins(project):
    project(
        base="description: of base\nseeds: [1, 2]\ntraining: {epochs: 3, batch: 8}\ncorpus: {train: 9}",
        middle="extends: base\ntraining: {epochs: 4}\ndecoder: {layers: 2}",
        top="extends: middle\nseeds: [5]\ntraining: {clip_norm: 2}",
    )
    study = Study.load("top", {"decoder": {"heads": 4}})
    assert (study.study, study.extends, study.description, study.seeds) == (
        "top",
        "middle",
        "of base",
        (5,),
    )
    assert study.training == TrainingOptions(epochs=4, batch=8, clip_norm=2.0)
    assert study.decoder == DecoderOptions(layers=2, heads=4)
    assert study.corpus.train == 9 and study.corpus.test == 200


def test_a_wrong_key_in_the_base_is_not_blamed_on_the_page_alone(project):
    project(base="corpus: {trian: 5}", top="extends: base")
    assert "studies/top.yml (extends base): corpus.trian" in error_of(Study.load, "top")


def test_a_wrong_key_in_an_override_says_so():
    message = error_of(Study.load, "demo", {"training": {"epoch": 3}})
    assert "studies/demo.yml and what overrides it: training.epoch" in message and "epochs?" in message


def test_cycles_are_named(project):
    project(a="extends: b", b="extends: c", c="extends: a", me="extends: me")
    message = error_of(Study.load, "a")
    assert "a.yml extends itself" in message
    assert [Path(path).name for path in message.split(": ")[1].split(" -> ")] == [
        f"{name}.yml" for name in "abca"
    ]
    assert "me.yml extends itself" in error_of(Study.load, "me")


def test_root(tmp_path, monkeypatch):
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path / "x" / ".."))
    assert paths.root() == tmp_path.resolve()
    monkeypatch.delenv("AACSTUDY_ROOT")
    monkeypatch.chdir(PROJECT / "notebooks")
    assert paths.root() == PROJECT
    monkeypatch.chdir(tmp_path)  # nowhere near: the folder that the package stands in
    assert paths.root() == PROJECT
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "aacstudy" / "paths.py"))
    assert "AACSTUDY_ROOT" in error_of(paths.root, kind=ValueError)


# --- notebooks ----------------------------------------------------------------------------------


def test_notebook_defaults_to_demo():
    assert Study.from_notebook({}) == Study.load("demo")
    assert Study.from_notebook(CELL) == Study.load("demo")
    assert Study.from_notebook(CELL | {"study": "smoke"}) == Study.load("smoke")


def test_notebook_overrides_by_hand():
    study = Study.from_notebook(CELL | {"seeds": [3], "decoder": {"heads": 2}})
    assert study == Study.load("demo", {"seeds": [3], "decoder": {"heads": 2}})
    assert study.decoder.heads == 2 and study.decoder.d_model == Study.load("demo").decoder.d_model


@pytest.mark.parametrize("page", PAGES)
def test_papermill_with_a_page_gives_the_page(page):
    name = page.removesuffix(".yml")
    assert Study.from_notebook(injected(page)) == Study.load(name)


def test_papermill_with_a_page_of_another_place(tmp_path):
    """``papermill -f /elsewhere/mine.yml``: no page of studies/ has that name."""
    text = "study: mine\nextends: smoke\ntraining: {epochs: 7}\n"
    (tmp_path / "mine.yml").write_text(text)
    study = Study.from_notebook(CELL | yaml.safe_load(text))
    assert study == Study.load(tmp_path / "mine.yml")
    assert study.training.epochs == 7 and study.corpus == Study.load("smoke").corpus


def test_notebook_raises_on_unknown_names():
    assert "decodr is not a parameter; did you mean decoder?" in error_of(
        Study.from_notebook, CELL | {"decodr": {"heads": 2}}
    )
    assert "decoder.head is not" in error_of(Study.from_notebook, CELL | {"decoder": {"head": 2}})
    assert "epochs is not a parameter" in error_of(Study.from_notebook, CELL | {"epochs": 3})
    message = error_of(Study.from_notebook, CELL | {"study": "dmeo"})
    assert "study 'dmeo' does not exist; did you mean demo?" in message
    assert "the notebook's parameters" in error_of(
        Study.from_notebook, CELL | {"study": "mine", "extends": "demo", "epochs": 3}
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"study": "dmeo", "seeds": [1]}, "study 'dmeo' does not exist; did you mean demo?"),
        ({"Corpus": {"train": 5}}, "Corpus is not a parameter; did you mean corpus?"),
        ({"SEEDS": [1]}, "SEEDS is not a parameter"),
        ({"EPOCHS": 3}, "EPOCHS is not a parameter"),
        ({"epochs": np.int64(3)}, "epochs is not a parameter"),
        ({"here": Path(".")}, "here is not a parameter"),
        ({"corpus": {"train": None}}, "corpus.train is None"),
        ({"corpus": {"train": np.int64(3)}}, "corpus.train is np.int64(3)"),
        ({"corpus": {"root": Path(".")}}, "corpus.root is PosixPath('.')"),
        ({"corpus": Path(".")}, "corpus is a section of parameters, not PosixPath('.')"),
        ({"corpus": json}, "corpus is a section of parameters, not <module"),
        ({"seeds": np.arange(3)}, "seeds is array([0, 1, 2])"),
        ({"seeds": [np.int64(3)]}, "seeds.0 is np.int64(3)"),
    ],
)
def test_notebook_drops_nothing_that_is_given(given, said):
    assert said in error_of(Study.from_notebook, CELL | given)


def test_notebook_takes_what_converts():
    study = Study.from_notebook(CELL | {"seeds": range(3), "training": {"learning_rate": np.float64(0.5)}})
    assert study.seeds == (0, 1, 2) and study.training.learning_rate == 0.5


def test_notebook_ignores_what_stands_in_any():
    variables = CELL | {
        "__name__": "__main__",
        "_": 5,
        "_i1": "study = 'demo'",
        "In": ["", "study = 'demo'"],
        "Out": {},
        "BASE": BASE,
        "json": json,
        "quit": print,
        "get_ipython": lambda: None,
        "Study": Study,
        "table": pd.DataFrame({"a": [1]}),
        "nothing": None,
    }
    assert Study.from_notebook(variables) == Study.load("demo")


def test_the_folder_is_the_list_of_notebooks(project):
    """A file that is put there can be named at once, and only a name of a chapter counts."""
    folder = project(mine="notebooks: [10_length]")
    assert "'10_length' does not exist; there are 05_retrieval" in error_of(Study.load, "mine")
    for name in ("10_length", "08_ablations", "untitled", "1_draft"):
        (folder / "notebooks" / f"{name}.ipynb").touch()
    assert Study.load("mine").notebooks == ("10_length",)
    assert Study().notebooks == ("05_retrieval", "10_length")
    assert batch_notebooks() == ("05_retrieval", "08_ablations", "10_length")


def test_a_study_passes_through():
    study = Study.load("smoke")
    assert Study.from_notebook({"study": study, "n": 3, "seed": 4}) is study


def test_variants():
    study = Study.load("demo")
    assert study.variants == ("base", "positions", "learned", "shuffled")
    assert Study.load("demo", {"notebooks": ["05_retrieval"]}).variants == ("base",)


def test_a_variant_changes_what_its_page_says_and_nothing_else():
    smoke = Study.load("smoke")
    assert smoke.varied("base") is smoke
    varied = smoke.varied("positions")
    assert varied.decoder == replace(smoke.decoder, frame_positions="sinusoidal")
    assert (
        replace(varied, decoder=smoke.decoder) == smoke
    )  # its size is the smoke study's, not that of the page's base
    assert varied.varied("positions") == varied


def test_a_page_of_ablations_is_a_study_of_its_own():
    study = Study.load("ablations/positions")
    assert study.study == "ablations/positions" and study.decoder.frame_positions == "sinusoidal"
    assert study.corpus == Study.load("demo").corpus


@pytest.mark.parametrize(
    "section", ["before_after: {variants: [position]}", "ablations: {pages: [position]}"]
)
def test_an_unknown_variant_stops_the_study(section, tmp_path):
    page = tmp_path / "mine.yml"
    page.write_text(f"extends: demo\n{section}\n")
    with pytest.raises(
        StudyError, match="ablations/position' does not exist; did you mean ablations/positions"
    ):
        Study.load(page)


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(
    number=st.one_of(
        st.floats(), st.integers(-(10**6), 10**6), st.booleans(), st.text(max_size=5), st.none(), st.just([])
    )
)
def test_a_float_parameter_takes_finite_numbers_only(number):
    """Whatever stands there: a finite number above 0, or a StudyError that names the parameter."""
    try:
        study = Study.load("demo", {"training": {"learning_rate": number}})
    except StudyError as error:
        assert "learning_rate" in str(error)
        assert isinstance(number, bool | str | list | None) or not (math.isfinite(number) and number > 0)
    else:
        assert study.training.learning_rate == float(number) > 0
