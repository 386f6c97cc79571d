"""The built pages in a real browser, without network."""

from pathlib import Path

import pytest
from test_report import build_report

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build_report(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, built):
    """Open a page at a width; at the end assert that it asked for nothing from outside and reported no error."""
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


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["index.html", "01_small.html"])
def test_nothing_overflows(visit, name, width):
    page = visit(name, width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_wide_tables_scroll_in_their_box(visit):
    page = visit("01_small.html", 400)
    page.evaluate("document.querySelector('.table th').style.minWidth = '900px'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
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


def test_contents_are_beside_the_text_or_folded(visit):
    assert visit("01_small.html", 1280).locator("nav.contents.wide").is_visible()
    narrow = visit("01_small.html", 400)
    assert not narrow.locator("nav.contents.wide").is_visible()
    assert narrow.locator("details.contents.narrow").is_visible()


def test_links_lead_to_the_pages(visit):
    page = visit("index.html")
    page.get_by_role("link", name="Does it work?").click()
    assert page.locator("h1").inner_text() == "Does it work?"
    page.get_by_role("link", name="all questions").click()
    assert page.url.endswith("index.html")


@pytest.mark.parametrize("width", [1280, 400])
def test_every_page_of_a_study_loads_clean(browser, smoke, width):
    """Pages of the smoke study: no error, no request to anywhere, nothing wider than the window, links that resolve."""
    folder = smoke.reports / "smoke"
    complaints = []
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for file in sorted(folder.glob("*.html")):
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
        links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.getAttribute('href'))")
        broken = [
            link for link in links if not link.startswith(("http", "#")) and not (folder / link).exists()
        ]
        assert not broken, f"{file.name}: {broken}"
        anchors = [link[1:] for link in links if link.startswith("#")]
        assert all(page.evaluate("id => !!document.getElementById(id)", anchor) for anchor in anchors), (
            file.name
        )
    context.close()
    assert complaints == []


def test_players_of_a_study_play(browser, smoke):
    page = browser.new_page()
    page.goto((smoke.reports / "smoke" / "01_corpus.html").as_uri())
    ready = """async () => {
        const audio = document.querySelector('audio');
        audio.load();
        await new Promise(done => audio.addEventListener('loadedmetadata', done, { once: true }));
        return audio.duration;
    }"""
    assert page.evaluate(ready) == pytest.approx(3.0, abs=0.2)
    page.close()
