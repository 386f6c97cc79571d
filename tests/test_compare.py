"""Studies side by side: from results.json as they would lie there."""

import json
import re
import shutil
from pathlib import Path

import pytest

from aacstudy import paths
from aacstudy.__main__ import main
from aacstudy.study import compare
from aacstudy.study.parameters import Study, StudyError

PROJECT = Path(__file__).resolve().parents[1]


def leave(root: Path, name: str, results: dict, parameters: dict) -> None:
    """What a study that ran leaves behind."""
    (root / "studies" / f"{name}.yml").write_text("extends: demo\n")
    (root / "reports" / name / "pages").mkdir(parents=True)
    (root / "reports" / name / "results.json").write_text(json.dumps(results))
    record = {"notebook": "05_retrieval", "provenance": {"parameters": parameters}}
    (root / "reports" / name / "pages" / "05_retrieval.json").write_text(json.dumps(record))


def measured(key: str, value: float, low: float, high: float) -> dict:
    return {key: value, f"{key}.low": low, f"{key}.high": high, f"{key}.n": 200, f"{key}.seed_1": value}


def lay_down(root: Path) -> None:
    """Two studies, one below a folder, with texts that must be escaped."""
    shutil.copytree(PROJECT / "studies", root / "studies")
    sizes = {"n.audios": 200, "n.captions": 1000}
    first = measured("t2a.hit@1", 0.34, 0.30, 0.38) | measured("bat.accuracy", 0.49, 0.42, 0.56) | sizes
    second = measured("t2a.hit@1", 0.36, 0.32, 0.40) | measured("bat.accuracy", 0.88, 0.83, 0.92) | sizes
    plain = {"study": "plain", "decoder": {"frame_positions": "none", "heads": 4}}
    other = {
        "study": "ablations/positions",
        "decoder": {"frame_positions": "<b>sinusoidal</b>", "heads": 4},
        "seeds": [1, 2],
    }
    leave(root, "plain", first | {"only.here": 1}, plain)
    leave(root, "ablations/positions", second | {"bat.accuracy.corrected": 0.9}, other)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("AACSTUDY_REPORTS", raising=False)
    lay_down(tmp_path)
    return tmp_path


def test_numbers_side_by_side(root):
    studies = [compare.Results.read(Study.load(name)) for name in ("plain", "ablations/positions")]
    table = compare.numbers(studies).set_index("number")
    assert list(table.index) == ["bat.accuracy", "n.audios", "n.captions", "t2a.hit@1"]
    accuracy = table.loc["bat.accuracy"]
    assert (
        accuracy["plain"] == 0.49
        and accuracy["plain: interval"] == "0.42\N{NO-BREAK SPACE}–\N{NO-BREAK SPACE}0.56"
    )
    assert accuracy["ablations/positions − plain"] == pytest.approx(0.39)
    assert list(table["intervals"]) == ["disjoint", "–", "–", "overlap"]
    changed = compare.parameters(studies).set_index("parameter")
    assert changed.to_dict("index") == {
        "decoder.frame_positions": {"plain": "none", "ablations/positions": "<b>sinusoidal</b>"},
        "seeds": {"plain": "–", "ablations/positions": "1, 2"},
    }


@pytest.mark.parametrize(
    "a, b, word",
    [
        ((0, 1), (2, 3), "disjoint"),
        ((2, 3), (0, 1), "disjoint"),
        ((0, 2), (2, 3), "overlap"),
        ((0, 9), (2, 3), "overlap"),
        (None, (0, 1), "–"),
    ],
)
def test_intervals(a, b, word):
    assert compare.apart(a, b) == word


def test_page(root, capsys):
    assert main(["compare", "plain", "ablations/positions"]) == 0
    page = root / "reports" / "compare" / "plain--ablations-positions.html"
    assert "plain--ablations-positions.html" in capsys.readouterr().out
    text = page.read_text()
    assert "&lt;b&gt;sinusoidal" in text and "<b>sinusoidal" not in text
    for link in re.findall(r'<a href="([^"#]+)"', text):
        assert (page.parent / link).parent.resolve() in (
            root / "reports" / "plain",
            root / "reports" / "ablations" / "positions",
        )
    words = re.sub(r"\s+", " ", re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", text, flags=re.S))
    assert "88.0\N{NO-BREAK SPACE}%" in text and "83.0 – 92.0" in words and "disjoint" in words
    assert "paired interval" in words and "Care:" not in words


def test_pools_of_other_sizes_are_pointed_out(root):
    leave(root, "larger", measured("t2a.hit@1", 0.2, 0.1, 0.3) | {"n.audios": 1045, "n.captions": 5225}, {})
    text = compare.compare(["plain", "larger", "ablations/positions"]).read_text()
    assert "pools of different sizes" in text and "larger − plain" in text and "larger: intervals" in text


def test_what_cannot_be_compared(root, capsys):
    with pytest.raises(StudyError, match=r"study demo has no results yet .* python -m aacstudy run demo"):
        compare.compare(["plain", "demo"])
    with pytest.raises(StudyError, match="two or more different studies, got plain, plain"):
        compare.compare(["plain", "plain"])
    with pytest.raises(StudyError, match="two or more different studies, got plain"):
        compare.compare(["plain"])
    leave(root, "other", {"else": 1}, {})
    with pytest.raises(StudyError, match="share no number"):
        compare.compare(["plain", "other"])
    assert main(["compare", "plain", "nowhere"]) == 2
    assert "study 'nowhere' does not exist" in capsys.readouterr().err


def test_a_name_never_leads_out_of_the_reports(root):
    assert paths.report("a/b") == root / "reports" / "a" / "b"
    for name in ("../up", "..", "", "/etc"):
        with pytest.raises(ValueError, match="outside of"):
            paths.report(name)
