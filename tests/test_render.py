"""Notebooks run, pages and index: made here from small notebooks."""

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from papermill import PapermillExecutionError

from aacstudy.report import execute, index
from aacstudy.report.html import TEMPLATES

ROOT = Path(__file__).parent.parent
PARAMETERS = "study = 'smoke'\nseed: int = 1\n"
CELLS = [
    "# Does it *work*?\n\nA loss $\\ell_k$.",
    new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
    "## The numbers\n\n$$\n\\frac{1}{n}\n$$",
    """
import os, sys
import pandas as pd, numpy as np, matplotlib.pyplot as plt
from aacstudy.report.page import Page
page = Page("01_small", study)
from tqdm import tqdm
print(os.sep + "home/somebody/lib/x.py:3: UserWarning: <b>to stderr</b>", file=sys.stderr)
for _ in tqdm(range(40), desc="scoring", unit="audio", mininterval=0):
    pass
print("every", os.environ["TQDM_MININTERVAL"], "s, seed", seed, "here", os.path.basename(os.getcwd()))
""",
    "## The numbers\n\nThe same heading again.",
    """
page.table(pd.DataFrame({"caption": ["<script>alert(1)</script>"], "hit": [0.5]}), "t", "Captions.")
figure, axes = plt.subplots()
axes.plot([1, 2, 3])
page.figure(axes, "f", "A figure.", "A rising line.")
page.listen([("a tone", (np.sin(np.arange(16000) / 9), 16000), "<script>alert(2)</script>")])
page.results({"hit_1.mean": 0.47, "hit_1.low": 0.401, "hit_1.high": 0.538, "hit_1.n": 1200, "rank": 6})
page.answer("Yes: **47 %** of $n$ clips <script>alert(3)</script>.")
page.scorecard([
    {"id": 1, "claim": "It <b>works</b>.", "measured": "47 %", "n": 1200, "interval": "40 – 54 %",
     "verdict": "reproduced", "evidence": "01_small.html#the-numbers"},
    {"id": 2, "claim": "It sees.", "measured": None, "n": None, "interval": None, "verdict": "not tested here", "evidence": ""},
])
page.provenance({"commit": "abc", "seconds": 130.0, "device": "cpu", "seeds": [1, 2]})
""",
]


def write_notebook(path: Path, cells: list) -> Path:
    """A notebook from cells; a text that starts with '#' is markdown, any other is code."""
    made = [
        c
        if not isinstance(c, str)
        else new_markdown_cell(c)
        if c.startswith("#")
        else new_code_cell(c.strip())
        for c in cells
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=made), path)
    return path


def build_report(folder: Path) -> Path:
    """A report of one notebook that ran and one that did not; returns its folder."""
    source = write_notebook(folder / "notebooks" / "01_small.ipynb", CELLS)
    out = folder / "report {braces}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        execute.execute(source, out / "notebooks" / "01_small.ipynb", {"seed": 7}, out)
    notebooks = [("01_small", "Does it *work*?"), ("02_other", "And what <b>else</b>?")]
    pages = [(f"{name}.html", title) for name, title in notebooks]
    execute.to_html(out / "notebooks" / "01_small.ipynb", out / "01_small.html", "smoke", pages)
    index.gather_results(out)
    study = {
        "name": "smoke",
        "description": "Small & <i>quick</i>.",
        "corpus": {"clips": 1200},
        "seeds": [1, 2],
        "parameters": {"corpus": {"folder": "/home/somebody/clotho"}, "encoder": {"width": 768}},
    }
    headlines = [
        ("Hit@1", "hit_1", "percent", "z-score"),
        ("Rank", "rank", "number", ""),
        ("Order", "order", "percent", "chance 50 %"),
    ]
    index.index(
        out, study, notebooks, ["**It works** in 1 of 2 <b>runs</b>."], headlines, ROOT / "CITATION.cff"
    )
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def small(built) -> str:
    return (built / "01_small.html").read_text()


class Tags(HTMLParser):
    """All start tags, with attributes, and the levels of all headings in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        self.levels = [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_code_is_folded(small):
    assert '<details class="code"><summary>parameters, defaults</summary>' in small
    assert '<details class="code"><summary>parameters of this run</summary>' in small
    assert small.count("<summary>code</summary>") == 2
    assert not re.search(r"<details class=\"code\"[^>]*\bopen", small)


def test_answer_stands_under_the_title(small):
    assert "<h1>Does it <em>work</em>?</h1>" in small
    answer = small.index('class="answer"')
    assert small.index("</h1>") < answer < small.index("<main")
    assert small.count('class="answer"') == 1 and "<strong>47\N{NO-BREAK SPACE}%</strong>" in small


def test_parameters_environment_and_folder_reach_the_kernel(small):
    assert "every 10 s, seed 7 here notebooks" in small


def test_progress_is_one_line_and_messages_are_folded(small):
    bars = re.search(r'<pre class="output bars"[^>]*>(.*?)</pre>', small, re.S)[1]
    assert bars.count("\n") == 0 and bars.startswith("scoring: 100%|") and "40/40" in bars
    shown = re.sub(r"<details.*?</details>", "", small, flags=re.S)
    assert "to stderr" not in shown and "…/x.py:3: UserWarning: &lt;b&gt;to stderr&lt;/b&gt;" in small


def test_captions_are_text(small):
    assert small.count("<script") == 1  # the page's own
    for number in (1, 2, 3):
        assert f"&lt;script&gt;alert({number})&lt;/script&gt;" in small


def test_tex_becomes_mathml(small):
    assert small.count("<math") == 3
    assert "$" not in re.sub(
        r"<details.*?</details>|<(style|script)>.*?</\1>|base64,[^\"]*", "", small, flags=re.S
    )


@pytest.mark.parametrize("name", ["01_small.html", "index.html"])
def test_documents_are_whole(built, name):
    text = (built / name).read_text()
    page = Tags(text)
    for tag, attributes in page.tags:
        address = attributes.get("src") or attributes.get("href") or ""
        if tag != "a":
            assert not re.match(r"(https?:)?//", address), (tag, address)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in page.tags if t == "a" and a.get("href", "").startswith("#")}
    assert targets <= set(ids)
    assert page.levels[0] == 1 and page.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.levels, page.levels[1:]))
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert len(text) < 300_000 and "/home/" not in text and str(built) not in text


def test_navigation(small):
    assert '<a href="index.html">' in small and 'rel="next" href="02_other.html"' in small
    assert 'rel="prev"' not in small
    assert '<a href="#the-numbers">' in small and '<a href="#the-numbers-2">' in small


def test_index_shows_interval_answer_and_what_is_missing(built):
    text = (built / "index.html").read_text()
    words = re.sub(r"\s+", " ", re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", text, flags=re.S))
    assert index.QUESTION in words
    assert "1 It &lt;b&gt;works&lt;/b&gt;. ✓ reproduced 47 % 40 – 54 % 1200" in words
    assert 'href="01_small.html#the-numbers"' in text and "– not tested here" in words
    assert "@inproceedings{labbe2023," in text and "Labb{\\&#39;{e}}, {\\&#39;{E}}tienne" in text
    assert "47.0 % 40.1 – 53.8 %" in words and "1 200" in words
    assert "Rank 6 – –" in words and "Order chance 50 % not run yet" in words
    assert "And what &lt;b&gt;else&lt;/b&gt;? not run yet" in words and "1 of 2" in words
    assert "took 2 min 10 s" in words and "seeds 1, 2" in words and "…/clotho" in words
    assert "Small &amp; &lt;i&gt;quick&lt;/i&gt;." in text and 'href="02_other.html"' not in text
    assert '<img src="data:image/webp;base64,' in text and 'alt="A rising line."' in text


def test_results_are_gathered_and_duplicates_refused(built, tmp_path):
    assert list(json.loads((built / "results.json").read_text()))[:2] == ["hit_1.high", "hit_1.low"]
    (tmp_path / "pages").mkdir()
    for name in ("a", "b"):
        record = {"notebook": name, "results": {"same": 1}}
        (tmp_path / "pages" / f"{name}.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="'same' is given by both a and b"):
        index.gather_results(tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_no_private_paths_in_the_executed_notebook(built):
    metadata = nbformat.read(built / "notebooks" / "01_small.ipynb", as_version=4).metadata
    assert metadata.papermill.input_path == "01_small.ipynb" and str(built) not in json.dumps(metadata)


def test_unknown_parameter_names_the_nearest(tmp_path):
    source = write_notebook(tmp_path / "a.ipynb", CELLS)
    with pytest.raises(
        ValueError, match=r"a.ipynb: unknown parameter 'sed'; did you mean 'seed'\? It has study, seed"
    ):
        execute.execute(source, tmp_path / "out.ipynb", {"sed": 1}, tmp_path)
    bare = write_notebook(tmp_path / "b.ipynb", ["1 + 1"])
    with pytest.raises(ValueError, match=r"b.ipynb: unknown parameter 'sed'; it has none"):
        execute.execute(bare, tmp_path / "out.ipynb", {"sed": 1}, tmp_path)


def test_failed_run_leaves_no_output_and_names_the_cell(tmp_path):
    cells = [*CELLS[:3], "x = 1", "raise KeyError('no such clip')", "y = 2"]
    source = write_notebook(tmp_path / "bad.ipynb", cells)
    output = tmp_path / "out" / "bad.ipynb"
    before = dict(os.environ)
    with pytest.raises(PapermillExecutionError, match="KeyError: 'no such clip'") as raised:
        execute.execute(source, output, {"seed": 2}, tmp_path / "out")
    assert raised.value.source == cells[4] and "bad.ipynb did not run" in raised.value.__notes__[0]
    assert dict(os.environ) == before
    assert [path.name for path in output.parent.iterdir()] == ["bad.failed.ipynb"]
    page = tmp_path / "bad.html"
    execute.to_html(output.with_suffix(".failed.ipynb"), page, "smoke", [])
    assert "no such clip" in page.read_text() and "output_error" in page.read_text()


def test_dead_kernel_names_the_notebook(tmp_path):
    source = write_notebook(tmp_path / "dead.ipynb", [CELLS[1], "import os; os._exit(3)", "x = 1"])
    with pytest.raises(DeadKernelError) as raised:
        execute.execute(source, tmp_path / "out.ipynb", {}, tmp_path)
    assert "dead.ipynb did not run" in raised.value.__notes__[0]
    assert not (tmp_path / "out.ipynb").exists() and (tmp_path / "out.failed.ipynb").exists()


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://a.example/x.js"></script>',
        "<img alt='' src=//a.example/x.png>",
        "<style>@import 'x.css';</style>",
        '<p style="background: url(http://a.example/x)">x</p>',
    ],
)
def test_page_that_would_load_something_is_refused(tmp_path, tag):
    source = write_notebook(tmp_path / "a.ipynb", [f"# Title\n\n{tag}", CELLS[1]])
    with pytest.raises(ValueError, match=r"a.html would load"):
        execute.to_html(source, tmp_path / "a.html", "smoke", [])
    assert not (tmp_path / "a.html").exists()


def test_large_page_is_warned_of(tmp_path):
    source = write_notebook(tmp_path / "a.ipynb", ["# Title\n\n" + "words " * 900_000, CELLS[1]])
    with pytest.warns(UserWarning, match=r"5.4 MB, more than 5"):
        execute.to_html(source, tmp_path / "a.html", "smoke", [])


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme):
    style = "".join((TEMPLATES / name).read_text() for name in ("style.css", "notebook.css"))
    pairs = re.findall(r"(?<![\w-])(--\w+|color): light-dark\((#\w{6}), (#\w{6})\)", style)
    grounds = {
        name: pair[scheme] for name, *pair in pairs if name in ("--ground", "--panel", "--tint", "--code")
    }
    fronts = {(name, pair[scheme]) for name, *pair in pairs if name not in (*grounds, "--line")}
    assert len(grounds) == 4 and len(fronts) >= 12
    for name, front in sorted(fronts):
        for ground, behind in grounds.items():
            high, low = sorted((luminance(front), luminance(behind)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, front, ground)


def test_the_browser_is_told_to_load_and_run_nothing_else(small):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', small)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == rules["media-src"] == "data:"
    script = re.search(r"<script>(.*?)</script>", small, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"


def test_what_is_printed_is_shown_as_a_terminal_leaves_it(tmp_path):
    streams = [("stdout", "one\n"), ("stderr", "bar:  10%|█   | 1/10 [00:01]"), ("stdout", "\x1b[31mtwo\n")]
    streams += [("stderr", "\rbar: 100%|████| 10/10 [00:09]\n"), ("stderr", "\r  x\r   \r")]
    outputs = [new_output("stream", name=name, text=text) for name, text in streams]
    source = write_notebook(tmp_path / "a.ipynb", ["# Title", new_code_cell("1", outputs=outputs)])
    execute.to_html(source, tmp_path / "a.html", "smoke", [])
    shown = re.findall(r'<pre class="output[^>]*>(.*?)</pre>', (tmp_path / "a.html").read_text(), re.S)
    assert [re.sub("<[^>]*>", "", one).strip() for one in shown] == [
        "bar: 100%|████| 10/10 [00:09]",
        "one\ntwo",
    ]


@pytest.mark.parametrize(
    "line, bar",
    [
        ("scoring: 100%|██████████| 16/16 [00:01<00:00, 54.2audio/s]", True),
        ("12it [00:01, 10.2it/s]", True),
        ("encoding: 12clip [00:01, 10.2clip/s]", True),
        ("UserWarning: 100% of it", False),
        ("making corpus soundscapes-123 [00]", False),
    ],
)
def test_bars_are_told_from_messages(line, bar):
    assert execute.bars_and_messages(f"{line}\n\n") == ((line, "") if bar else ("", line))


@pytest.mark.parametrize(
    "answer, first",
    [
        ("mAP is **0.5** [0.4, 0.6]. It hears *dogs* best.", "mAP is **0.5** [0.4, 0.6]."),
        ("**A. B** is cut by no mark. More.", "**A. B** is cut by no mark. More."),
        ("Yes, 98.5% [1.2, 3.4] of it", "Yes, 98.5% [1.2, 3.4] of it"),
        ("One.\n\nTwo.", "One."),
    ],
)
def test_first_sentence(answer, first):
    assert index.first_sentence(answer) == first


def test_citation_is_escaped(tmp_path):
    page = tmp_path / "CITATION.cff"
    page.write_text(
        'title: "50 % {of} A_B & C"\nauthors: [{family-names: Müller-Łoś, given-names: Ågot}, {name: X & '
        "Y}]\n"
    )
    entry = index.bibtex(page)
    assert r"title = {{50 \% \{of\} A\_B \& C}}" in entry
    assert r"M{\"{u}}ller-Ło{\'{s}}, {\r{A}}got and {X \& Y}" in entry
    assert entry.startswith("@misc{mulleros,")
    page.write_text("- a list")
    with pytest.raises(ValueError, match=r"CITATION.cff: a citation file has at least title and authors"):
        index.bibtex(page)
