"""What a notebook shows and what it leaves behind."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from aacstudy.report import page as page_module
from aacstudy.report.html import log_mel, markdown_to_html, tex_to_mathml
from aacstudy.report.page import REPORT_FOLDER, Page


@pytest.fixture
def shown(monkeypatch):
    """The HTML of everything displayed, in order."""
    pieces = []
    monkeypatch.setattr(page_module, "display", lambda shown, **_: pieces.append(shown.data))
    return pieces


@pytest.fixture
def batch(tmp_path, monkeypatch, shown):
    monkeypatch.setenv(REPORT_FOLDER, str(tmp_path))
    return Page("05_retrieval", "smoke")


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def draw():
    axes = plt.figure(figsize=(3, 2)).gca()
    axes.plot([1, 2, 3], [2, 1, 3])
    axes.set_xlabel("k")
    return axes


def test_by_hand_nothing_is_written_and_cells_may_run_again(tmp_path, monkeypatch, shown):
    monkeypatch.delenv(REPORT_FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    page = Page("05_retrieval", "smoke")
    for _ in range(2):
        page.answer("Yes.")
        page.results({"a.mean": 1})
        page.figure(draw(), "curve", "A curve.", "It rises.")
        page.table(pd.DataFrame({"a": [1]}), "t", "A table.")
    page.provenance({"commit": "abc"})
    assert list(tmp_path.iterdir()) == []
    assert shown[0].startswith("<style>")
    assert 'href="figures/' not in "".join(shown)


def test_record_holds_everything(batch, tmp_path, shown):
    batch.answer("Yes, **47 %**.")
    batch.figure(draw(), "curve", "A curve.", "It rises.")
    batch.table(pd.DataFrame({"a": [1, 2]}), "numbers", "Numbers.")
    batch.results({"hit_1.mean": np.float32(0.5), "hit_1.n": np.int64(200)})
    assert not (tmp_path / "pages").exists()
    batch.provenance({"commit": "abc", "seconds": 3.0})
    record = json.loads((tmp_path / "pages" / "05_retrieval.json").read_text())
    assert record["answer"] == "Yes, **47 %**."
    assert record["figures"] == [
        {"name": "curve", "file": "figures/05_retrieval-curve.svg", "caption": "A curve.", "alt": "It rises."}
    ]
    assert record["tables"][0]["file"] == "tables/05_retrieval-numbers.csv"
    assert record["results"] == {"hit_1.mean": 0.5, "hit_1.n": 200}
    assert record["provenance"] == {"commit": "abc", "seconds": 3.0}
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(ValueError, match="must be last"):
        batch.figure(draw(), "late", "A curve.", "It rises.")


def test_figure_is_the_same_from_run_to_run_and_closed(batch, tmp_path, shown):
    figures = tmp_path / "figures"
    batch.figure(draw(), "curve", "A <i>curve</i>.", 'It "rises".')
    first = {path.suffix: path.read_bytes() for path in figures.iterdir()}
    Page("05_retrieval", "smoke").figure(draw().figure, "curve", "A curve.", "It rises.")
    assert first == {path.suffix: path.read_bytes() for path in figures.iterdir()}
    assert set(first) == {".svg", ".pdf", ".webp"}
    assert plt.get_fignums() == []
    assert 'role="img" aria-label="It &#34;rises&#34;."' in shown[0]
    assert "A &lt;i&gt;curve&lt;/i&gt;." in shown[0]
    ids = re.findall(r'\bid="([^"]+)"', shown[0])
    assert ids and all(identity.startswith("05_retrieval-curve-") for identity in ids)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', shown[0]))
    assert used and used <= set(ids)


def test_figure_takes_grids_and_needs_alt(batch, tmp_path):
    sns = pytest.importorskip("seaborn")
    frame = pd.DataFrame({"x": [1, 2, 3, 4], "y": [1, 3, 2, 4], "g": list("aabb")})
    batch.figure(sns.relplot(frame, x="x", y="y", col="g", height=2), "grid", "Two.", "Two clouds.")
    batch.figure(plt.subplots(1, 2)[1], "pair", "Two.", "Two empty frames.")
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 2
    with pytest.raises(ValueError, match="no alt text"):
        batch.figure(draw(), "bare", "A curve.", " ")


def test_table_escapes_formats_and_keeps_full_precision(batch, tmp_path, shown):
    frame = pd.DataFrame(
        {"hit": [1 / 3, np.nan], "caption": ["<script>alert(1)</script>", None]}, index=["a", "b"]
    )
    batch.table(frame.rename_axis("who"), "hits", "Hits & <b>captions</b>.", {"hit": "{:.1%}"})
    assert "<script>" not in shown[0] and "&lt;script&gt;alert(1)&lt;/script&gt;" in shown[0]
    assert "Hits &amp; &lt;b&gt;" in shown[0]
    assert (
        '<td class="number" data-value="0.333333333">33.3%</td>' in shown[0]
        and '<td class="number">–</td>' in shown[0]
    )
    back = pd.read_csv(tmp_path / "tables" / "05_retrieval-hits.csv")
    assert back["hit"][0] == 1 / 3 and list(back["who"]) == ["a", "b"]
    with pytest.raises(ValueError, match=r"no column \['hits'\]"):
        batch.table(frame, "again", "Hits.", {"hits": "{}"})


def test_long_table_is_cut_on_the_page_only(batch, tmp_path, shown):
    batch.table(pd.DataFrame({"a": range(1000)}), "long", "Many.")
    assert shown[0].count("<tr>") == 201 and "first 200 of 1000 rows" in shown[0]
    assert "<summary>Show 200 of 1000 rows</summary>" in shown[0]
    batch.table(pd.DataFrame({"a": range(20)}), "short", "Few.")
    batch.table(pd.DataFrame({"a": range(21)}), "folded", "Some.")
    assert "<details" not in shown[1] and "<summary>Show all 21 rows</summary>" in shown[2]
    assert len(pd.read_csv(tmp_path / "tables" / "05_retrieval-long.csv")) == 1000


@pytest.mark.parametrize("rate, kind", [(16000, "mpeg"), (12345, "wav")])
def test_audio_is_in_the_page(batch, shown, rate, kind):
    sound = np.sin(np.arange(rate) / 20)
    batch.listen([("a <dog>", (sound, rate))])
    assert f'src="data:audio/{kind};base64,' in shown[0]
    assert (
        'controls preload="metadata"' in shown[0] and "a &lt;dog&gt;" in shown[0] and "<dog>" not in shown[0]
    )


def test_every_sound_has_its_spectrogram(batch, shown):
    batch.listen(
        [(f"tone {i}", (np.sin(np.arange(96000) * 0.1 * i), 16000)) for i in (1, 2)]
        + [("click", (np.ones(3), 8000))]
    )
    pictures = re.findall(r'<img src="data:image/webp;base64,([^"]*)"[^>]*alt="([^"]*)"', shown[0])
    assert [alt for _, alt in pictures] == [
        "Spectrogram of tone 1: 6.0 s from left to right, 0 to 8 kHz upwards",
        "Spectrogram of tone 2: 6.0 s from left to right, 0 to 8 kHz upwards",
        "Spectrogram of click: 0.0 s from left to right, 0 to 4 kHz upwards",
    ]
    assert all(len(picture) < 15_000 for picture, _ in pictures)


@pytest.mark.parametrize("hertz", [500, 2000, 6000])
def test_spectrogram_puts_a_tone_where_mel_does(hertz):
    rate, rows = 16000, 64
    picture = log_mel(np.sin(2 * np.pi * hertz * np.arange(rate) / rate), rate, 100, rows)
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    row = rows - 1 - int(rows * mel(hertz) / mel(rate / 2))
    assert picture.shape == (rows, 100) and picture.max() == 0
    assert abs(int(picture.mean(axis=1).argmax()) - row) <= 1


def test_spectrogram_shows_when(rows=16):
    samples = np.zeros(16000)
    samples[8000:] = np.random.default_rng(0).standard_normal(8000)
    loud = log_mel(samples, 16000, 100, rows).max(axis=0)
    assert loud[:45].max() < -60 and loud[55:].min() > -30


CLAIM = {"id": "C1", "claim": "It <i>hears</i> order.", "measured": "88 %", "n": np.int64(200), "interval":
    "80 – 93 %",
         "verdict": "reproduced", "evidence": "07_before_after.html#order"}  # fmt: skip


def test_scorecard_is_shown_and_recorded(batch, tmp_path, shown):
    batch.answer("Yes.")
    other = {"id": "C2", "n": None, "evidence": "", "verdict": "not tested here: needs <Clotho>"}
    batch.scorecard([CLAIM, CLAIM | other])
    assert (
        "It &lt;i&gt;hears&lt;/i&gt; order." in shown[1] and 'href="07_before_after.html#order"' in shown[1]
    )
    assert (
        "✓</span> reproduced" in shown[1] and "not tested here<small>needs &lt;Clotho&gt;</small>" in shown[1]
    )
    assert "Published" not in shown[1]  # no claim has one
    batch.provenance({})
    rows = json.loads((tmp_path / "pages" / "05_retrieval.json").read_text())["scorecard"]
    assert rows[0] == CLAIM | {"n": 200, "published": ""} and rows[1]["n"] is None
    with pytest.raises(ValueError, match="already given"):
        batch.scorecard([CLAIM])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"verdict": "true"}, r"claim 'C1' has verdict 'true'; it must be one of reproduced, not reproduced"),
        ({"evidence": "https://a.example"}, "has evidence 'https://a.example'; it must be a page"),
        ({"evidence": "javascript:alert(1)"}, "it must be a page"),
        ({"more": 1}, "it must have id, claim, verdict"),
    ],
)
def test_scorecard_refuses(batch, change, words):
    with pytest.raises(ValueError, match=words):
        batch.scorecard([CLAIM | change])


def test_listen_reads_files(batch, shown, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 16000)
    batch.listen([("one", tmp_path / "a.wav", "silence & <more>"), ("two", (np.zeros(8000), 16000))])
    assert shown[0].count("<audio") == 2 and "silence &amp; &lt;more&gt;" in shown[0]
    with pytest.raises(ValueError, match="three: samples need their sample_rate"):
        batch.listen([("three", np.zeros(10))])
    with pytest.raises(ValueError, match="NaN"):
        batch.listen([("four", (np.array([np.nan]), 16000))])


@pytest.mark.parametrize(
    "numbers, error, words",
    [
        ({"a": float("nan")}, ValueError, "'a' is nan"),
        ({"a": np.float32("inf")}, ValueError, "'a' is inf"),
        ({"a": "3"}, TypeError, "not a number"),
        ({"a": True}, TypeError, "not a number"),
        ({"a b": 1}, ValueError, "result key 'a b'"),
        ({"known": 1}, ValueError, "already given"),
    ],
)
def test_results_refused(batch, numbers, error, words):
    batch.results({"known": 0})
    with pytest.raises(error, match=words):
        batch.results(numbers)


def test_answer_once_and_needed(batch):
    with pytest.raises(ValueError, match="never called"):
        batch.provenance({})
    batch.answer("Yes.")
    with pytest.raises(ValueError, match=r"already given: 'Yes\.'"):
        batch.answer("No.")


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_names_stay_below_the_folder(batch, name):
    with pytest.raises(ValueError, match="file name"):
        batch.figure(draw(), name, "A curve.", "It rises.")


@pytest.mark.parametrize(
    "text",
    ["<script>x</script>", "a <img src=x>", "![a](https://a.example/b.png)", "[b](javascript:alert(1))"],
)
def test_markdown_is_safe(text):
    shown = markdown_to_html(text)
    assert not re.search("<script|<img|<a href=.javascript", shown)


def test_tex_becomes_mathml():
    text = markdown_to_html(
        "A loss $x_k < 3$, `$code$`, $5 and $6, and\n\n$$\n\\frac{a}{b}\n= 1\n$$\n\nafter"
    )
    assert text.count("<math") == 2 and "<mfrac>" in text and "<code>$code$</code>" in text
    assert "$5 and $6" in text and "<p>after</p>" in text
    assert markdown_to_html("x $$ y_1 $$ z").count('display="block"') == 1


@pytest.mark.parametrize("tex", [r"\text{<img src=x onerror=alert(1)>}", r"\href{javascript:1}{x}", "}{", ""])
def test_tex_that_is_no_maths_stays_text(tex):
    text = tex_to_mathml(tex)
    assert "<img" not in text and "href=" not in text
