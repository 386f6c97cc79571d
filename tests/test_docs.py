"""The documents for newcomers do what they say: the tour runs, and so does every block of
docs/extending.md.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest
from conftest import PROJECT

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(section: str, language: str) -> list[str]:
    """The code of one section of docs/extending.md."""
    (text,) = [
        part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(f"{section}\n")
    ]
    return [block for kind, block in FENCE.findall(text) if kind == language]


def source(section: str, function: str) -> str:
    """The block that defines a function."""
    (found,) = [block for block in blocks(section, "python") if f"\ndef {function}(" in block]
    return found


def pasted(section: str, check: str, folder: Path, environment: dict[str, str]) -> str:
    """What a section's Python prints, pasted into one file and run in a folder, with lines of our
    own at its end.
    """
    file = folder / "pasted.py"
    file.write_text("\n".join([*blocks(section, "python"), check]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, file.name], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    file.unlink()
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(diff: str, package: Path) -> None:
    """Make the change of a diff without line numbers: its context stands once in the file."""
    head, _, body = diff.partition("+++ ")
    name, _, body = body.partition("\n")
    assert head == f"--- {name}\n"
    before, after = (
        "".join(line[1:] + "\n" for line in body.splitlines() if line[0] in (" ", sign)) for sign in "-+"
    )
    file = package.parent / name
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"docs/extending.md shows {name} as it is not"
    file.write_text(text.replace(before, after), encoding="utf-8")


# --- the tour -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tour_runs_on_the_smoke_study(smoke, tmp_path, monkeypatch):
    from aacstudy.report.execute import execute

    for name, value in smoke.environment.items():
        monkeypatch.setenv(name, value)
    notebook = smoke.folder / "notebooks" / "00_start_here.ipynb"
    execute(notebook, tmp_path / "tour.ipynb", {}, tmp_path)
    cells = nbformat.read(tmp_path / "tour.ipynb", as_version=4).cells
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert "is not there yet" not in said, "the tour wants what no chapter makes"
    page = json.loads((tmp_path / "pages" / "00_start_here.json").read_text(encoding="utf-8"))
    assert page["study"] == "smoke" and "16 sounds, 80 captions" in page["answer"]
    assert [figure["name"] for figure in page["figures"]] == ["spectrogram", "words", "hubs"]
    written = pd.read_csv(tmp_path / "tables" / "00_start_here-written.csv")
    assert list(written["rank"]) == [1, 2, 3] and written["caption"].str.len().min() > 0
    # a caption of the split is a hub: on more sounds among the ten best than an even share
    raw, scaled = map(int, re.findall(r"among the ten best of (\d+)", page["answer"]))
    assert 16 >= raw >= scaled >= 2


def test_the_tour_has_ten_cells():
    cells = nbformat.read(PROJECT / "notebooks" / "00_start_here.ipynb", as_version=4).cells
    assert cells[0].source.startswith("# What is this study, in ten cells?")
    assert sum(cell.cell_type == "code" for cell in cells) == 10


def test_every_notebook_has_the_same_parameters():
    import papermill

    paths = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    names = {path.stem: list(papermill.inspect_notebook(path)) for path in paths}
    assert len(names) == 12 and all(found == names["00_start_here"] for found in names.values()), names


# --- extending ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dropped_notebook_runs_in_the_batch(smoke):
    """The cells of the page in a new file: a page, a card and a number, and again only when what it
    reads changes.
    """
    plain = nbformat.read(smoke.folder / "notebooks" / "05_retrieval.ipynb", as_version=4)
    (parameters,) = (cell for cell in plain.cells if "parameters" in cell.metadata.get("tags", ()))
    begin, answer = map(nbformat.v4.new_code_cell, blocks("A notebook", "python"))
    question = nbformat.v4.new_markdown_cell("# Are long captions dear?")
    (metadata,) = blocks("A notebook", "json")
    notebook = nbformat.v4.new_notebook(
        cells=[question, parameters, begin, answer], metadata={**plain.metadata, **json.loads(metadata)}
    )
    (page,) = blocks("A notebook", "yaml")
    study, file = smoke.folder / "studies" / "length.yml", smoke.folder / "notebooks" / "10_length.ipynb"
    nbformat.write(notebook, file)
    study.write_text(page, encoding="utf-8")
    try:
        assert smoke.planned("length") == ["index", "notebook 05_retrieval", "notebook 10_length"]
        status, output = smoke.aacstudy("run", "length", "--cores", "2")
        assert status == 0, output
        assert smoke.planned("length") == []
        file.write_text(file.read_text(encoding="utf-8").replace("cost more", "cost much"), encoding="utf-8")
        assert smoke.planned("length") == ["index", "notebook 10_length"]
    finally:
        file.unlink()
        study.unlink()
    report = smoke.reports / "length"
    index = (report / "index.html").read_text(encoding="utf-8")
    assert 'href="10_length.html"' in index and "Are long captions dear?" in index
    assert "length.correlation" in json.loads((report / "results.json").read_text(encoding="utf-8"))
    assert "used what its metadata does not declare" not in output
    record = json.loads((report / "pages" / "10_length.json").read_text(encoding="utf-8"))
    assert {one["stage"] for one in record["provenance"]["artifacts"]} >= {
        "losses",
        "captioner",
        "corpus",
    }


@pytest.mark.slow
def test_a_normaliser_enters_the_grid(smoke):
    check = "print(sorted(mark for name, mark in cells if name == 'local_centre'), {type(v).__name__ for v in cells['local_centre', 'online'].values})"
    printed = pasted("A normaliser", check, smoke.folder, smoke.environment)
    assert printed.strip().endswith("['online', 'transductive'] {'int'}"), printed
    assert len(re.findall(r"^\d+ +local_centre", printed, re.MULTILINE)) == 2


@pytest.mark.slow
def test_a_captioner_gets_its_chapter(smoke):
    check = """
import numpy as np
scorer = Neighbours(train, heard["train"])
words = [word for word in scorer.vocabulary.words[4:]]
sums, counts = scorer.nll(heard["test"][:2], words)
end = scorer.nll(heard["test"][:2], [""])[0]
print(counts.max(), np.exp(-(sums - end)).sum(axis=1) + np.exp(-end[:, 0]))
"""
    printed = pasted("A captioner", check, smoke.folder, smoke.environment)
    count, *shares = map(float, re.findall(r"[\d.]+", printed))
    # one word and the end each; the probabilities of all words and the end make one, but for the
    # three that never come
    assert count == 2 and all(0.98 < share < 1 for share in shares), printed
    (page,) = blocks("A captioner", "yaml")
    file = smoke.folder / "studies" / "neighbours.yml"
    file.write_text(page, encoding="utf-8")
    try:
        status, output = smoke.aacstudy("notebook", "neighbours", "05_retrieval")
    finally:
        file.unlink()
    assert status == 0, output
    record = json.loads(
        (smoke.reports / "neighbours" / "pages" / "05_retrieval.json").read_text(encoding="utf-8")
    )
    results = record["results"]
    assert results["t2a.hit@1.n"] == 16 and 0 <= results["t2a.hit@1"] <= 1
    assert results["t2a.hit@1"] != results["chance.t2a.hit@1"]


@pytest.mark.slow
def test_a_perturbation_is_scored_beside_its_control(smoke):
    check = "print(len(items), items['own_text'].notna().all(), (items['text'] != items['swap']).all())"
    printed = pasted("A perturbation", check, smoke.folder, smoke.environment)
    count, finite, changed = printed.split()[-3:]
    assert int(count) > 5 and finite == changed == "True"
    assert re.search(rf"^voices +all +{count} +[\d.]+ \[", printed, re.MULTILINE), printed
    assert "over the blind control: " in printed


VOICES = [
    ("a", "A man speaks.", "A woman speaks."),
    ("a", "Male voice in a room", "Female voice in a room"),
    ("a", "A man talks to a man.", ""),  # two words for a voice
    ("b", "A guy talks.", ""),  # this clip is told with both
    ("b", "A woman talks.", ""),
    ("c", "Rain on mankind.", ""),
    ("d", "A lady sings", "A guy sings"),
]


def test_what_the_voices_example_takes():
    namespace: dict = {}
    exec(source("A perturbation", "voices"), namespace)
    items = namespace["voices"](pd.DataFrame(VOICES, columns=["clip", "text", "wanted"]))
    assert list(items[["clip", "text", "swap"]].itertuples(index=False, name=None)) == [
        row for row in VOICES if row[2]
    ]


def test_the_changes_to_the_package_can_be_made(tmp_path):
    """Both examples written into a copy of the package as the page says."""
    package = tmp_path / "aacstudy"
    shutil.copytree(PROJECT / "aacstudy", package, ignore=shutil.ignore_patterns("__pycache__"))
    for section, function, module in (
        ("A normaliser", "local_centre", "analysis/retrieval/normalise.py"),
        ("A perturbation", "voices", "corpus/perturb/items.py"),
    ):
        tree = ast.parse(source(section, function))
        text = "\n".join(
            ast.unparse(node) for node in tree.body if "aacstudy" not in ast.unparse(node).partition("\n")[0]
        )
        with (package / module).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{text}\n")
        for diff in blocks(section, "diff"):
            apply(diff, package)
    rows = [row[:2] for row in VOICES] * 2
    code = f"""
import pandas as pd
from aacstudy.corpus.perturb.controls import majority
from aacstudy.corpus.perturb.items import TESTS, perturbations
from aacstudy.analysis.retrieval.methods import METHODS
captions = pd.DataFrame({rows!r}, columns=["clip", "text"])
items, _ = perturbations(captions)
voices = items[items["test"] == "voices"]
shares = majority(items, items, list(captions["text"]))
print([method.name for method in METHODS].count("local_centre"), TESTS["voices"], len(voices), set(shares[voices.index]))
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1 man ↔ woman 6 {np.float64(0.5)}", done.stdout + done.stderr


# --- the picture --------------------------------------------------------------------------------


def test_the_picture_says_what_it_shows_and_asks_no_host():
    text = (PROJECT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    tree = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert tree.get("viewBox") == "0 0 700 470" and tree.get("role") == "img"
    assert tree.find(f"{space}title").text and tree.find(f"{space}desc").text
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"(?:https?:)?//[^\s\"']+|url\((?!#)", text) == ["http://www.w3.org/2000/svg"]
    for box in tree.iter(f"{space}rect"):
        assert float(box.get("x", 0)) + float(box.get("width")) <= 700
    page = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (alt,) = re.findall(r"!\[([^\]]+)\]\(architecture\.svg\)", page)
    assert len(alt) > 100


def test_the_picture_shows_every_stage():
    from aacstudy.study.stages import plan

    text = (PROJECT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    shown = set(re.findall(r'class="name"[^>]*>(\w+)<', text))
    assert {"corpus", "encoder", "frames", *plan.PER_CAPTIONER, "notebooks"} <= shown
