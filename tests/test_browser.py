"""The built pages in a real browser, without network."""

import shutil
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from test_compare import lay_down
from test_render import build_report

from aacstudy.report import html
from aacstudy.study import compare

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = build_report(tmp_path_factory.mktemp("browser"))
    frame = pd.DataFrame(
        {"name": ["b10", "B2", "b", "a", None], "share": [0.09, -0.2, 0.0001, 0.0002, np.nan]}
    )
    tables = [
        html.table_html(frame, "Shares.", {"share": lambda value: f"{100 * value:.1f} %"}),
        html.table_html(pd.DataFrame({"row": range(45)}), "Rows.", {}),
    ]
    sounds = [html.player(np.sin(np.arange(32000) / 9), 16000, name) for name in ("one", "two")]
    body = f'<h2 id="tables">Tables</h2>{"".join(tables)}<div class="listen">{"".join(sounds)}</div>'
    html.write(
        folder / "table.html", "notebook.html.j2", study_name="smoke", title="Tables", plain_title="Tables", answer=
            "",
        body=Markup(body), headings=[(2, "tables", "Tables")], here="table.html", chapters=[], previous=None, following=None,
        notebook="notebooks/01_small.ipynb",
    )  # fmt: skip
    root = tmp_path_factory.mktemp("compared")
    lay_down(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AACSTUDY_ROOT", str(root))
        patch.setenv("AACSTUDY_REPORTS", str(root / "reports"))
        shutil.copy(compare.compare(["plain", "ablations/positions"]), folder / "compared.html")
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, built):
    """Open a page at a width; at the end assert that it asked for nothing from outside and reported
    no error.
    """
    contexts, complaints = [], []

    def asked(request) -> None:
        if not request.url.startswith(("file:", "data:")):
            complaints.append(f"request: {request.url}")

    def said(message) -> None:
        if message.type == "error":
            complaints.append(f"console: {message.text}")

    def open_page(name: str, width: int = 1280, scheme: str = "light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.goto((built / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def eventually(page, expression: str, seconds: float = 10) -> None:
    """Wait until an expression holds; Playwright's own wait would need the eval that our pages
    forbid.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", ["index.html", "01_small.html", "compared.html"])
def test_nothing_overflows(visit, name, width):
    page = visit(name, width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_wide_tables_scroll_in_their_box(visit):
    page = visit("01_small.html", 360)
    page.evaluate("document.querySelector('.table th').style.minWidth = '900px'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("(b => b.scrollWidth > b.clientWidth)(document.querySelector('.table .scroll'))")


@pytest.mark.parametrize("name", ["index.html", "01_small.html"])
def test_folded_parts_open_with_the_keyboard(visit, name):
    page = visit(name)
    summary = page.locator("main summary").first
    for _ in range(30):
        page.keyboard.press("Tab")
        if summary.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    assert page.locator("main details").first.get_attribute("open") is not None


def test_sound_loads(visit):
    page = visit("01_small.html")
    state = page.evaluate(
        """() => new Promise((done, failed) => {
            const sound = document.querySelector('audio');
            sound.onloadeddata = () => done([sound.readyState, sound.duration]);
            sound.onerror = () => failed(new Error('audio: ' + sound.error.message));
            sound.preload = 'auto';
            sound.load();
        })"""
    )
    assert state[0] >= 1 and state[1] == pytest.approx(1, abs=0.1)


def test_dark_follows_the_system(visit):
    def ground(page, selector="body"):
        return page.eval_on_selector(selector, "e => getComputedStyle(e).backgroundColor")

    light, dark = visit("01_small.html"), visit("01_small.html", scheme="dark")
    assert ground(light) != ground(dark)
    assert ground(dark, ".figure .card") == "rgb(255, 255, 255)"  # figures stay on a light card
    assert dark.eval_on_selector(".figure .card", "e => getComputedStyle(e).filter") == "brightness(0.88)"


def test_contents_are_beside_the_text_or_folded(visit):
    assert visit("01_small.html", 1280).locator("nav.contents.wide").is_visible()
    narrow = visit("01_small.html", 360)
    assert not narrow.locator("nav.contents.wide").is_visible()
    assert narrow.locator("details.contents.narrow").is_visible()


def test_links_lead_to_the_pages(visit):
    page = visit("index.html")
    page.get_by_role("link", name="Does it work?").click()
    assert page.locator("h1").inner_text() == "Does it work?"
    page.get_by_role("link", name="all questions").click()
    assert page.url.endswith("index.html")


def column(page, number: int) -> list[str]:
    rows = page.locator("table.sortable").first.locator("tbody tr")
    return rows.evaluate_all(f"rows => rows.map(row => row.cells[{number}].textContent)")


def test_tables_sort_by_mouse_and_keyboard(visit):
    page = visit("table.html")
    headers = page.locator("table.sortable thead th")
    assert headers.first.get_attribute("aria-sort") is None
    for expected in (["a", "b", "B2", "b10", "–"], ["b10", "B2", "b", "a", "–"]):
        page.get_by_role("button", name="name").click()
        assert column(page, 0) == expected
    assert headers.nth(0).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")  # to the next header
    page.keyboard.press("Enter")
    assert column(page, 1) == ["-20.0 %", "0.0 %", "0.0 %", "9.0 %", "–"]
    assert column(page, 0)[1:3] == ["b", "a"]  # by the full value: 0.0001 and 0.0002 look the same
    assert headers.nth(0).get_attribute("aria-sort") is None
    assert headers.nth(1).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert column(page, 1) == ["9.0 %", "0.0 %", "0.0 %", "-20.0 %", "–"]


def test_long_tables_unfold(visit):
    page = visit("table.html")
    rows = page.locator("figure.table").nth(1).locator("tbody tr")
    visible = "rows => rows.filter(row => row.getClientRects().length).length"
    assert rows.evaluate_all(visible) == 20
    page.locator("details.rest summary").press("Enter")
    assert rows.evaluate_all(visible) == 45
    page.emulate_media(media="print")
    page.locator("details.rest summary").evaluate("summary => summary.parentNode.open = false")
    assert rows.evaluate_all(visible) == 45  # paper does not unfold


def test_code_shows_at_once(visit):
    page = visit("01_small.html")
    button = page.get_by_role("button", name="Show all code")
    button.click()
    assert page.eval_on_selector_all("details.code", "all => all.every(one => one.open)")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert page.eval_on_selector_all("details.code", "all => all.every(one => !one.open)")


def test_one_sound_plays_at_a_time_and_its_picture_follows(visit):
    page = visit("table.html")
    playing = "() => [...document.querySelectorAll('audio')].map(audio => !audio.paused)"
    page.locator(".look").nth(1).click(position={"x": 100, "y": 10})
    eventually(page, "document.querySelectorAll('audio')[1].currentTime > 0")
    assert page.evaluate(playing) == [False, True]
    eventually(page, "Number(document.querySelectorAll('.look')[1].style.getPropertyValue('--at')) > 0")
    page.evaluate("() => document.querySelectorAll('audio')[0].play()")
    eventually(page, "document.querySelectorAll('audio')[1].paused")
    assert page.evaluate(playing) == [True, False]


def test_a_script_in_a_page_does_not_run(browser, built):
    """Were an escape forgotten, the browser would still refuse: the page's policy names our script
    alone.
    """
    text = (built / "01_small.html").read_text()
    evil = "<script>document.title = 'caught'</script><img src=x onerror=\"document.title = 'caught'\">"
    (built / "evil.html").write_text(text.replace("</main>", f"{evil}</main>"))
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.goto((built / "evil.html").as_uri())
    assert "caught" not in page.title() and any("Content Security Policy" in text for text in refused)
    page.close()
    (built / "evil.html").unlink()


def axe_violations(page) -> list[str]:
    """What axe-core finds wrong, a line each; the policy of our pages does not bind what the driver
    evaluates.
    """
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "01_small.html", "table.html", "compared.html"])
def test_pages_are_accessible(visit, name, scheme):
    assert axe_violations(visit(name, scheme=scheme)) == []


@pytest.fixture(scope="module")
def study(smoke) -> list[Path]:
    """All pages of the smoke study, those of a text and of a sound that were searched included."""
    status, output = smoke.aacstudy("search", "a dog barks before rain", "--study", "smoke", "--k", "3")
    assert status == 0 and "percentile" in output, output
    sound = next((smoke.artifacts / "corpus").rglob("*.wav"))
    status, output = smoke.aacstudy("search", "--audio", str(sound), "--study", "smoke", "--k", "3")
    assert status == 0, output
    pages = sorted((smoke.reports / "smoke").rglob("*.html"))
    assert {"index.html", "01_corpus.html", "a-dog-barks-before-rain.html"} <= {page.name for page in pages}
    return pages


@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_of_a_study_loads_clean(browser, study, width):
    """No error, no request to anywhere, nothing wider than the window, links that resolve, at most
    5 MB.
    """
    complaints = []
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for file in study:
        assert file.stat().st_size <= html.DOCUMENT_BYTES, file.name
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
        links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.getAttribute('href'))")
        files = [link.split("#")[0] for link in links if not link.startswith(("http", "#"))]
        broken = [link for link in files if not (file.parent / unquote(link)).exists()]
        assert not broken, f"{file.name}: {broken}"
        anchors = [link[1:] for link in links if link.startswith("#")]
        there = "id => !!document.getElementById(id)"
        assert all(page.evaluate(there, anchor) for anchor in anchors), file.name
    context.close()
    assert complaints == []


def test_every_page_of_a_study_is_accessible(browser, study):
    page = browser.new_page()
    for file in study:
        page.goto(file.as_uri())
        assert axe_violations(page) == [], file.name
    page.close()


def test_players_of_a_study_play(browser, study):
    page = browser.new_page()
    page.goto(next(file for file in study if file.name == "01_corpus.html").as_uri())
    assert page.locator(".sound img").count() == page.locator(".sound audio").count() > 0
    page.evaluate("document.querySelector('audio').play()")
    eventually(page, "document.querySelector('audio').currentTime > 0.1")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(3.0, abs=0.2)
    page.close()
