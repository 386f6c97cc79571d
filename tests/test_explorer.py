"""The explorer: what the page ranks is what the analysis ranks."""

import base64
import json
import re

import numpy as np
import pytest
from markupsafe import Markup
from test_browser import axe_violations, browser  # noqa: F401

from aacstudy.analysis.retrieval.normalise import NORMALISERS
from aacstudy.report import explorer, html

CAPTIONS = [
    "A dog barks.",
    "Rain </script><b>falls</b>.",
    "A sound.",
    "A dog barks.",
    "Wind.",
    "src=http://a.example/x",
]
OWNERS = [0, 1, 1, 2, 2, 3]


def losses() -> tuple[np.ndarray, np.ndarray]:
    mean = np.random.default_rng(3).uniform(1, 4, (4, 6))
    mean[:, 2] -= 2.5  # a hub
    return mean, np.array([4, 3, 3, 4, 2, 3])


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):  # noqa: F811
    mean, tokens = losses()
    t = np.arange(explorer.RATE) / explorer.RATE
    sounds = [0.3 * np.sin(2 * np.pi * hertz * t) for hertz in (200, 400, 800, 1600)]
    clips = [f"test/{i}" for i in range(4)]
    body = explorer.explorer(mean, tokens, OWNERS, CAPTIONS, clips, sounds)
    file = html.write(
        tmp_path_factory.mktemp("explorer") / "explorer.html", "notebook.html.j2",
        study_name="demo", title="Which?", plain_title="Which?", answer="", body=Markup(body),
        headings=[], here="explorer.html", chapters=[], previous=None, following=None, notebook="x",
    )  # fmt: skip
    page = browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda one: one.url.startswith(("file:", "data:")) or complaints.append(one.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert complaints == []


def ranked(page) -> list[str]:
    return page.eval_on_selector_all(".ranked li span", "spans => spans.map(span => span.textContent)")


def choose(page, direction: str, method: str, query: int) -> None:
    page.check(f"input[value={direction}]")
    page.check(f"input[value={method}]")
    page.fill("input[name=filter]", "")
    page.select_option("select[name=query]", str(query))


@pytest.mark.parametrize("method", ["raw", "min_max", "z", "pmi"])
def test_ranks_are_those_of_the_analysis(page, method):
    mean, tokens = losses()
    if method == "pmi":
        sums = -mean * tokens
        scores = sums - np.log(np.mean(np.exp(sums), axis=0))
    else:
        scores = NORMALISERS[method](-mean)
    for clip in range(4):
        choose(page, "a2t", method, clip)
        order = sorted(range(6), key=lambda text: (-round(scores[clip, text], 3), mean[clip, text]))
        shown = [("✓ " if OWNERS[text] == clip else "") + CAPTIONS[text] for text in order]
        assert ranked(page) == shown
    for text in range(6):
        choose(page, "t2a", method, text)
        best = np.argsort(mean[:, text], kind="stable")
        place = 1 + list(best).index(OWNERS[text])
        assert f"The right clip is number {place} of 4." in page.inner_text(".status")
        assert page.inner_text(".ranked li:first-child small").startswith(f"test/{best[0]},")


def test_a_hub_is_seen_to_go(page):
    choose(page, "a2t", "raw", 0)
    assert "is so for 4 of 4" in page.inner_text(".status")
    page.check("input[value=min_max]")
    assert "is so for 4 of 4" not in page.inner_text(".status")


def test_captions_are_text(page):
    choose(page, "t2a", "raw", 1)
    assert page.query_selector(".explorer b") is None
    assert "</script><b>" in page.inner_text("select[name=query]")


def test_filter_and_sound(page):
    choose(page, "t2a", "raw", 0)
    page.fill("input[name=filter]", "DOG")
    assert (
        page.eval_on_selector_all("option", "options => options.map(o => o.textContent)")
        == ["A dog barks."] * 2
    )
    page.fill("input[name=filter]", "elephant")
    assert page.inner_text(".status") == "No query holds this." and ranked(page) == []
    page.fill("input[name=filter]", "")
    seconds = page.evaluate(
        """() => new Promise((done) => {
          const audio = document.querySelector(".ranked audio");
          audio.onloadedmetadata = () => done(audio.duration);
          audio.onerror = () => done(-1);
          audio.preload = "auto"; audio.load(); })"""
    )
    assert seconds == pytest.approx(1, abs=0.1)


def test_it_is_accessible(page):
    assert axe_violations(page) == []


def test_a_page_has_room_for_so_many_clips(monkeypatch):
    monkeypatch.setattr(explorer, "MOST", 2)
    mean, tokens = losses()
    sounds = [np.full(explorer.RATE, 0.1)] * 4
    text = explorer.explorer(mean, tokens, OWNERS, CAPTIONS, list("abcd"), sounds)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)[1])
    assert (data["clips"], data["owners"]) == (["a", "b"], [0, 1, 1])
    assert data["captions"] == CAPTIONS[:3] and data["tokens"] == tokens[:3].tolist()
    steps = np.frombuffer(base64.b64decode(data["losses"]), "<u2").reshape(2, 3) / 65535
    kept = data["low"] + (data["high"] - data["low"]) * steps
    np.testing.assert_allclose(kept, mean[:2, :3], atol=1e-4)
    assert len(data["sounds"]) == 2 and all(data["sounds"])


def test_sounds_have_a_budget(monkeypatch):
    mean, tokens = losses()
    monkeypatch.setattr(explorer, "SOUND_BYTES", 6000)
    sound = np.random.default_rng(0).normal(0, 0.1, explorer.RATE)
    text = explorer.explorer(mean, tokens, OWNERS, CAPTIONS, list("abcd"), [sound] * 4)
    (found,) = re.findall(r'"sounds": \[([^\]]*)\]', text)
    kept = [one for one in found.split(", ") if one != '""']
    assert 0 < len(kept) < 4 and len(found) < 6100
