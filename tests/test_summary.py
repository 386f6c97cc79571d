"""Summaries of finished studies in Markdown; the README says what the reference run said."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_compare import measured

from aacstudy.__main__ import main
from aacstudy.report import index, provenance
from aacstudy.report.html import markdown_to_html
from aacstudy.study import findings, summary
from aacstudy.study.parameters import Study, StudyError

PROJECT = Path(__file__).resolve().parents[1]
PAGE = "extends: demo\nseeds: [1, 2]\nnotebooks: [05_retrieval, 09_scorecard]\nablations: {pages: [cnn14, smoothed]}\n"
HOSTILE = "Greatest hub: “a | <b>dog</b> ![x](http://a.example/x) [y](javascript:1)\n\n<!-- /summary --> in /home/somebody/x.wav”"
CLAIM = {"id": "C3", "claim": "It *finds* a|b.", "published": "0.382 [P]", "measured": "hit@1 34.0 % [30.0, "
    "38.0]",
         "interval": "", "n": 200, "verdict": "reproduced", "evidence": "05_retrieval.html"}  # fmt: skip
DIFFERENCE = measured("ablation.cnn14.t2a.hit@1.minus_base", 0.074, 0.023, 0.12)


def leave(
    root: Path, name: str, results: dict, answer: str = "**Yes.**", commit: str = "0123456789ab"
) -> Path:
    """What a finished study leaves; returns its folder."""
    file = root / "studies" / f"{name}.yml"
    if not file.exists():
        file.write_text(PAGE)
    study = Study.load(name)
    artifacts = [{"stage": "losses", "key": "k", "seconds": 60.0}]
    about = provenance.collect(study.parameters(), artifacts, datetime.now(UTC), "cpu", list(study.seeds))
    about |= {
        "commit": commit,
        "time": "2026-11-22T21:22:38+00:00",
        "seconds": 5.0,
        "host": "somebodys-laptop",
    }
    pages = {
        notebook: {"notebook": notebook, "answer": answer, "results": {}, "provenance": about}
        for notebook in study.notebooks
    }
    pages["05_retrieval"]["results"] = results
    pages["09_scorecard"]["scorecard"] = [CLAIM]
    folder = root / "reports" / name
    (folder / "pages").mkdir(parents=True)
    for notebook, record in pages.items():
        (folder / "pages" / f"{notebook}.json").write_text(json.dumps(record))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("AACSTUDY_REPORTS", raising=False)
    shutil.copytree(PROJECT / "studies", tmp_path / "studies")
    (tmp_path / "notebooks").symlink_to(PROJECT / "notebooks")
    return tmp_path


def numbers() -> dict:
    found = measured("t2a.hit@1", 0.34, 0.30, 0.38) | {
        "chance.t2a.hit@1": 0.005,
        "n.audios": 200,
        "n.captions": 1000,
    }
    return found | DIFFERENCE


def told(*names: str) -> str:
    return summary.summary(summary.read(names))


# --- what is said -------------------------------------------------------------------------------


def test_everything_of_a_run(root):
    leave(root, "tiny", numbers())
    lines = told("tiny").splitlines()
    for line in (
        "### `tiny`",
        "| command | `make study STUDY=tiny` |",
        "| commit | 0123456789ab |",
        "| seeds | 1, 2 |",
        "| date | 2026-11-22 |",
        # two notebooks of 5 s, one artifact of 60 s that both used
        "| computing time | 1 min 10 s |",
        "| notebooks run | 2 of 2 |",
        "| evaluation captions | 1\N{NARROW NO-BREAK SPACE}000 |",
        "| Text-to-audio hit@1 | 34.0 % [30.0, 38.0] | 200 | chance 0.5 % |",
        "- `05_retrieval`: **Yes.**",
        r"| C3 | It \*finds\* a\|b. | 0.382 [P] | hit@1 34.0 % [30.0, 38.0] | 200 | reproduced |",
        "| a small CNN14 as its encoder | +7.4 [+2.3, +12.0] | – | – |",
    ):
        assert line in lines, line
    versions = next(line for line in lines if line.startswith("| versions |"))
    assert "Python 3." in versions and "torch " in versions
    # of smoothed nothing was measured, and of most findings
    assert not any("smoothed" in line or "Captions: CIDEr-D" in line for line in lines)


def test_texts_from_outside_are_text(root):
    leave(root, "tiny", numbers(), HOSTILE)
    text = told("tiny")
    assert (
        "<" not in text.replace("&lt;", "")
        and "/home/somebody" not in text
        and "somebodys-laptop" not in text
    )
    assert str(root) not in text and "…/x.wav" in text
    shown = markdown_to_html(text, raw_html=True)
    assert not re.search(r"<(b|img|a|script)\b", shown) and "&lt;b&gt;dog&lt;/b&gt; ![x](http:" in shown
    rows = [row.count("<td") for row in re.findall(r"<tr>.*?</tr>", shown, re.DOTALL)]
    assert set(rows) == {0, 2, 4, 6}  # heads have th; no cell was split by a text


def test_what_is_shared_stands_once(root):
    leave(root, "first", numbers())
    leave(root, "second", numbers() | {"chance.t2a.hit@1": 0.006})
    _, first, second = re.split(r"^### .*$", told("first", "second"), flags=re.MULTILINE)
    assert "as above" not in first and "Of 5 rows and answers 4 are as above" in second
    assert first.count("34.0") == 2 and "chance 0.6 % |" in second and second.count("34.0") == 1


def test_a_tree_that_was_not_clean_and_other_parameters_are_said(root):
    leave(root, "tiny", numbers(), commit="0123456789ab + changes")
    (root / "studies" / "tiny.yml").write_text(PAGE + "description: Other words.\ncorpus: {train: 20}\n")
    text = told("tiny")
    assert "| commit | 0123456789ab + changes (the tree was not clean) |" in text
    assert "| not as on the study's page | corpus |" in text


def test_each_study_has_its_command(root):
    for name in ("demo", "ablations"):
        study = Study.load(name)
        run = summary.Run(study, {}, {one: {"answer": "x", "provenance": provenance.collect(study.parameters(), [], datetime.now(UTC),
            "cpu", list(study.seeds))} for one in study.notebooks})  # fmt: skip
        assert f"| command | `make {'study' if name == 'demo' else name}` |" in summary.summary([run])
        assert "not as on" not in summary.summary([run])


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("percent", "12.3 % [-1.0, 200.0]"), ("points", "+12.3 points [-1.0, +200.0]"), ("score",
        "0.123 [-0.010, 2.000]"),
     ("change", "+0.123 [-0.010, +2.000]"), ("number", "0.1234 [-0.01, 2]")],
)  # fmt: skip
def test_numbers_with_their_intervals(kind, shown):
    results = {"a@1": 0.12341, "a@1.low": -0.01, "a@1.high": 2.0}
    assert findings.shown(results, "a@1", kind) == shown
    assert findings.shown({"a@1": 0.12341}, "a@1", kind) == shown.partition(" [")[0]
    assert findings.shown({}, "a@1", kind) == "–"


def test_findings_name_kinds_that_exist():
    texts = [*findings.SENTENCES, *(one.note for one in findings.FINDINGS)]
    found = [kind for text in texts for _, kind in findings.NUMBER.findall(text)]
    assert len(found) == sum(text.count("{") for text in texts) > 20
    assert {*found, *(one.kind for one in findings.FINDINGS)} <= set(index.FORMS)


def test_what_was_not_measured_is_not_said():
    assert findings.sentences({}) == [] and findings.measured({}) == []
    results = {"t2a.hit@1": 0.25, "t2a.hit@1.low": 0.2, "t2a.hit@1.high": 0.3, "n.audios": 8}
    assert findings.sentences(results) == [] and findings.measured(results)[0].note == ""
    found = findings.sentences(results | {"chance.t2a.hit@1": 0.125})
    assert len(found) == 1 and "25.0 % [20.0, 30.0]" in found[0] and "among 8 in" in found[0]


# --- what cannot be said ------------------------------------------------------------------------


def test_what_is_missing_is_named(root):
    with pytest.raises(StudyError, match=r"study demo is not finished: its reports lack results.json, the "
        r"page of 01_corpus, .*aacstudy run demo"):  # fmt: skip
        told("demo")
    folder = leave(root, "tiny", numbers())
    (folder / "results.json").write_text(json.dumps(numbers() | {"t2a.hit@1": 0.9}))
    with pytest.raises(StudyError, match=r"results\.json does not hold its pages' numbers"):
        told("tiny")
    (folder / "pages" / "09_scorecard.json").unlink()
    with pytest.raises(
        StudyError, match="study tiny is not finished: its reports lack the page of 09_scorecard;"
    ):
        told("tiny")
    leave(root, "other", numbers())
    with pytest.raises(StudyError, match="different studies, got other, other"):
        told("other", "other")


# --- into files ---------------------------------------------------------------------------------

MARKED = "# Mine\n\nWrite `<!-- summary -->` and\n\n<!-- summary -->\nold\n<!-- /summary -->\n\nafter\n"


def test_only_what_stands_between_the_marks_changes(root, capsys):
    leave(root, "tiny", numbers(), HOSTILE)
    file = root / "page.md"
    file.write_text(MARKED + "<!-- ablations -->\n<!-- /ablations -->\n")
    for _ in range(2):  # again and again
        assert main(["summary", "tiny", "--into", str(file)]) == 0
        text = file.read_text()
        head, tail = (
            "# Mine\n\nWrite `<!-- summary -->` and\n\n<!-- summary -->\n\n### `tiny`",
            "<!-- /summary -->\n\nafter\n",
        )
        assert text.startswith(head) and text.count(tail) == 1 and "old" not in text
        assert text.split("<!-- ablations -->")[1].count("+7.4 [+2.3, +12.0]") == 1
    assert "written: " in capsys.readouterr().out and not list(root.glob("*.part"))
    assert main(["summary", "tiny"]) == 0
    assert capsys.readouterr().out.strip() in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Mine\n", "page.md: has no marks between which to write; .*<!-- summary --> … <!-- /summary -->"),
        ("Inline <!-- summary --> and <!-- /summary -->.\n", "has no marks"),
        ("<!-- summary -->\n", "page.md: wants one line <!-- summary --> and after it one line <!-- /summary "
            "-->"),
        ("<!-- /summary -->\n<!-- summary -->\n", "has <!-- /summary --> <!-- summary -->"),
        (MARKED + MARKED, "wants one line"),
        ("<!-- findings -->\n<!-- /findings -->\n", "study tiny cannot fill the findings: it has no "
            "tagging.map, "),
        ("<!-- ablations -->\n<!-- /ablations -->\n", "no study of tiny compares changes"),
    ],
)  # fmt: skip
def test_all_files_are_written_or_none(root, capsys, text, message):
    leave(root, "tiny", {key: value for key, value in numbers().items() if not key.startswith("ablation")})
    good, bad = root / "good.md", root / "page.md"
    good.write_text(MARKED)
    bad.write_text(text)
    assert main(["summary", "tiny", "--into", str(good), str(bad)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert good.read_text() == MARKED and bad.read_text() == text


def test_it_is_quick_to_load():
    code = "import sys, aacstudy.study.summary; sys.exit(bool({'torch', 'pandas', 'IPython'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


# --- the reference run --------------------------------------------------------------------------

README = (PROJECT / "README.md").read_text(encoding="utf-8")
REFERENCE = (PROJECT / "reports" / "README.md").read_text(encoding="utf-8")
FIGURE = r"[+-]?([\d,]+\.\d+)"


def between(text: str, name: str) -> str:
    (block,) = re.findall(rf"^<!-- {name} -->$(.*?)^<!-- /{name} -->$", text, re.MULTILINE | re.DOTALL)
    return block.strip()


def section(heading: str) -> str:
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    return text


def figures(text: str) -> set:
    """Numbers with a decimal point, and values with their intervals as threes, without signs."""
    threes = re.findall(rf"{FIGURE}[^\d\[\]|]*\[{FIGURE},\s{FIGURE}\]", text)
    return set(re.findall(FIGURE, text)) | set(threes)


def test_figures_are_read():
    assert figures("mAP 76.2 % [74.1, 78.7], 360 items | -8.3 points [-12.3, -4.8]") == {
        "76.2", "74.1", "78.7", "8.3", "12.3", "4.8", ("76.2", "74.1", "78.7"), ("8.3", "12.3", "4.8"),
    }  # fmt: skip


def test_each_reference_run_is_of_one_commit_without_changes():
    commits = re.findall(r"^\| commit \| (.*) \|$", between(REFERENCE, "summary"), re.MULTILINE)
    assert len(commits) == 2 and all(re.fullmatch("[0-9a-f]{12}", one) for one in commits)
    assert "not as on the study's page" not in REFERENCE


@pytest.mark.parametrize(("name", "rows"), [("findings", len(findings.FINDINGS)), ("ablations", len(Study.load(
    "ablations").ablations.pages))])  # fmt: skip
def test_tables_of_the_readme_are_of_the_reference_run(name, rows):
    table = between(README, name)
    assert len(table.splitlines()) == rows + 2
    assert table in between(REFERENCE, "summary")


@pytest.mark.parametrize("heading", ["What the demo found", "Ablations and the scorecard"])
def test_sentences_of_the_readme_say_what_the_reference_run_said(heading):
    said = figures(section(heading))
    assert len(said) > 20 and said - figures(between(REFERENCE, "summary")) == set()
