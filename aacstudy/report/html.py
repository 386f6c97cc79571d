"""HTML that needs nothing from the network: whole documents, and the parts of a page.

Jinja escapes every text; only what is made here and by nbconvert is Markup. Each document also
carries a policy by which the browser allows data inside of it and one script.
"""

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import mistune
import numpy as np
import soundfile
from latex2mathml.converter import convert
from markupsafe import Markup, escape

from aacstudy.paths import write_whole

TEMPLATES = Path(__file__).parent / "templates"
DOCUMENT_BYTES = 5_000_000
# what makes a browser ask another host; links (<a href>) only do so when followed
REMOTE = re.compile(
    r"<(?:script|link|img|iframe|audio|video|source|embed|object|image|use)\b[^>]*?"
    r"\b(?:src|href|data|srcset)\s*=\s*[\"']?\s*(?:https?:)?//[^\"'\s>]+",
    re.IGNORECASE,
)
STYLE = re.compile(r"<style\b[^>]*>(.*?)</style>|\bstyle=\"([^\"]*)\"", re.IGNORECASE | re.DOTALL)
REMOTE_STYLE = re.compile(r"@import\b[^;]*|url\(\s*[\"']?(?:https?:)?//[^)]*", re.IGNORECASE)

SHOWN_ROWS = 200  # of a table; the CSV always holds all rows
FIRST_ROWS = 20  # shown before the rest is unfolded, see templates/notebook.css
VERDICTS = {  # of claims and of questions
    "reproduced": "✓", "not reproduced": "✗", "yes": "✓", "in part": "◐", "no": "✗", "cannot tell": "?",
    "not tested here": "–",
}  # fmt: skip
# Keys of a claim and the headings of their columns; a column that no claim fills is left out.
CLAIM = {"id": "", "claim": "Claim", "verdict": "Verdict", "measured": "Measured",
         "interval": "95\u00a0% interval", "n": "n", "published": "Published",
         "evidence": "Evidence"}  # fmt: skip

MATHML = "{http://www.w3.org/1998/Math/MathML}"
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
DEPTH = 60  # dB below the brightest pixel that a spectrogram shows


def write(path: Path, template: str, **values) -> Path:
    """Render a template of `templates/`, every text escaped, and write the document.

    ValueError where it would load something from elsewhere; a warning where it is larger than 5 MB.
    """
    text = _templates().get_template(template).render(**values)
    styles = " ".join(first or second for first, second in STYLE.findall(text))
    if remote := REMOTE.search(text) or REMOTE_STYLE.search(styles):
        raise ValueError(f"{path.name} would load {remote[0][:200]!r}; a report must not need the network")
    content = text.encode("utf-8")
    if len(content) > DOCUMENT_BYTES:
        size = f"{path.name} has {len(content) / 1e6:.1f} MB, more than 5"
        warnings.warn(f"{size}; show fewer or rasterised figures, or less audio", stacklevel=3)
    write_whole(path, content)
    return path


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (TEMPLATES / "document.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    # everything lies in the document; of scripts only our own runs, none that a caption brings
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    environment.globals.update(script=Markup(script), policy=policy)
    return environment


def _part(macro: str, *values) -> Markup:
    """A macro of templates/macros.html.j2, filled."""
    return getattr(_templates().get_template("macros.html.j2").module, macro)(*values)


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# --- texts and formulas -------------------------------------------------------------------------


def tex_to_mathml(tex: str, display: bool = False) -> Markup:
    """MathML of a TeX formula, or its source as code where that fails or gives more than maths."""
    # latex2mathml copies the inside of \text{…} into its output unescaped and follows \href
    plain = tex.replace("<", r"\lt ").replace(">", r"\gt ")
    try:
        mathml = convert(plain.strip(), display="block" if display else "inline")
        elements = list(ElementTree.fromstring(mathml).iter())
    except Exception:  # the converter has no common base error
        elements = []
    links = any({"href", "src", "style"} & set(element.attrib) for element in elements)
    if not elements or links or not all(element.tag.startswith(MATHML) for element in elements):
        return Markup("<code>{}</code>").format(tex)
    return Markup(f'<div class="formula">{mathml}</div>' if display else mathml)


class _Renderer(mistune.HTMLRenderer):
    """mistune's renderer with MathML, unique heading ids and no remote images."""

    def __init__(self, headings: list, escape: bool):
        super().__init__(escape=escape)
        self.headings = headings

    def text(self, text: str) -> str:
        return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", super().text(text))

    def heading(self, text: str, level: int, **attributes) -> str:
        level = max(level, 2)  # the document has one h1, its title
        plain = Markup(text).striptags()
        stem = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "section"
        taken = {anchor for _, anchor, _ in self.headings}
        anchor = next(a for a in (stem, *(f"{stem}-{i}" for i in range(2, 1000))) if a not in taken)
        self.headings.append((level, anchor, plain))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        if url.startswith("data:image/"):
            return f'<img src="{escape(url)}" alt="{escape(text)}">'
        return self.link(str(escape(text)) or "image", url)

    def table(self, text: str) -> str:
        about = 'class="scroll" tabindex="0" role="region" aria-label="table"'
        return f"<div {about}><table>\n{text}</table></div>\n"

    def block_code(self, code: str, info: str | None = None) -> str:
        # what scrolls must be reachable with the keyboard
        return super().block_code(code, info).replace("<pre>", '<pre tabindex="0">', 1)

    def block_math(self, tex: str) -> str:
        return str(tex_to_mathml(tex, display=True))

    def inline_math(self, tex: str) -> str:
        return str(tex_to_mathml(tex))


def markdown_to_html(source: str, headings: list | None = None, raw_html: bool = False) -> Markup:
    """HTML of a markdown text; raw HTML in it is shown as text unless `raw_html`.

    Headings found are appended to `headings` as (level, anchor, text), with anchors unique there.
    """
    renderer = _Renderer([] if headings is None else headings, escape=not raw_html)
    markdown = mistune.create_markdown(renderer=renderer, plugins=["strikethrough", "table", "math"])
    return Markup(str(markdown(source)).strip())


def inline_markdown(source: str) -> Markup:
    """HTML of one line of markdown, such as a title, without the paragraph around it."""
    return Markup(re.sub(r"^<p>(.*)</p>$", r"\1", str(markdown_to_html(source.strip())), flags=re.S))


# --- figures, tables, provenance ----------------------------------------------------------------


def drawn(figure, stem: str, form: str, **options) -> bytes:
    """A matplotlib figure as "svg", "pdf" or "webp", byte for byte the same from run to run."""
    import matplotlib  # half a second, and most commands that need this module draw nothing

    dated = {"svg": ("Date", "Creator", "Format", "Type"), "pdf": ("CreationDate", "Creator", "Producer")}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": stem, "svg.fonttype": "path", "pdf.fonttype": 42}):
        metadata = dict.fromkeys(dated[form]) if form in dated else None
        figure.savefig(buffer, format=form, bbox_inches="tight", metadata=metadata, **options)
    return buffer.getvalue()


def figure_html(svg: bytes, stem: str, alt: str, caption: str, files: Mapping | None = None) -> Markup:
    """A drawn figure inside the page, described by `alt`, with links to its `files` by ending.

    Its ids are made unique among the figures of a page; its own width is told to the style sheet,
    which lets a narrow screen shrink it by so much and no more.
    """
    text = svg.decode("utf-8")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{stem}-", text[text.index("<svg") :])
    width = re.search(r'\bwidth="([\d.]+pt)"', text)
    style = f' style="--width: {width[1]}"' if width else ""
    picture = text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"{style}', 1)
    return _part("figure", Markup(picture), caption, files or {})


def table_html(frame, caption: str, formats: Mapping, files: Mapping | None = None) -> Markup:
    """A data frame: 20 rows, up to 200 when unfolded; `formats` by column, `files` by ending."""
    columns, texts = [], []
    for (name, column), missing in zip(frame.items(), frame.isna().to_numpy().T):
        number, form = column.dtype.kind in "iuf", formats.get(name)
        long = max(map(len, map(str, column)), default=0) > 30
        columns.append((name, "number" if number else "long" if long else None))
        cells = zip(column.head(SHOWN_ROWS), missing)
        texts.append([("–", None) if gone else _cell(value, form, number) for value, gone in cells])
    return _part("table", columns, list(zip(*texts)), len(frame), FIRST_ROWS, caption, files or {})


def _cell(value, form: str | Callable | None, number: bool) -> tuple[str, str | None]:
    """The text of a cell and, of a formatted number, its full precision, for sorting."""
    if form is None:
        return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value), None
    text = form(value) if callable(form) else form.format(value)
    return str(text), f"{float(value):.9g}" if number else None


def scorecard_html(claims: Sequence[Mapping]) -> Markup:
    """Claims and what became of them, one row each (keys of `CLAIM`; see `Page.scorecard`)."""
    filled = {key for claim in claims for key in CLAIM if claim[key] not in (None, "")}
    filled.discard("published")  # it stands below its claim
    columns = {key: head for key, head in CLAIM.items() if key in filled}
    return _part("scorecard", claims, columns, VERDICTS)


def provenance_html(record: Mapping) -> Markup:
    """A definition list of the record, long values folded."""
    return _part("provenance", {str(key): _plain(value) for key, value in record.items()})


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


# --- sounds -------------------------------------------------------------------------------------


def explorer_html(data: str) -> Markup:
    """The explorer's controls around its data, JSON in which no "<" is left."""
    return _part("explorer", Markup(data))


def player(sound, sample_rate: int | None, label: str, text: str = "") -> Markup:
    """A player under the spectrogram of a file, or of samples `[time]` or `[time, channel]`."""
    if isinstance(sound, str | Path):
        sound, sample_rate = soundfile.read(sound, dtype="float32")
    samples = np.asarray(sound, dtype=np.float32)
    if sample_rate is None:
        raise ValueError(f"{label or 'audio'}: samples need their sample_rate")
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"{label or 'audio'}: the samples are empty or hold NaN or infinity")
    from matplotlib.image import imsave  # see drawn

    rate = int(sample_rate)
    about = f"{len(samples) / rate:.1f} s from left to right, 0 to {rate / 2000:g} kHz upwards"
    picture = io.BytesIO()
    looks = {"cmap": "magma", "vmin": -DEPTH, "vmax": 0, "format": "webp", "pil_kwargs": {"quality": 55}}
    imsave(picture, log_mel(samples.reshape(len(samples), -1).mean(axis=1), rate), **looks)
    audio = _encoded(np.clip(samples, -1, 1), rate)
    return _part("sound", label, text, about, data_uri(picture.getvalue(), "image/webp"), audio)


def log_mel(samples: np.ndarray, rate: int, columns: int = 320, rows: int = 64) -> np.ndarray:
    """Power of samples [n] in dB below the brightest [rows, columns], rows even in mel, high first.

    A picture only: windows of 32 ms and plain averages. The encoder hears models/frontend.py.
    """
    size = max(64, round(0.032 * rate))
    samples = np.pad(samples.astype(float), (0, max(0, size - len(samples))))
    # twice as many windows as columns, so that no click falls between two
    starts = np.linspace(0, len(samples) - size, 2 * columns).astype(int)
    windows = samples[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2  # [2 columns, frequencies]
    power = power.reshape(columns, 2, -1).max(axis=1)
    top = 2595 * np.log10(1 + rate / 2 / 700)  # mel, O'Shaughnessy 1987
    edges = 700 * (10 ** (np.linspace(0, top, rows + 1) / 2595) - 1) * size / rate
    low = np.minimum(edges[:-1].astype(int), power.shape[1] - 1)
    high = np.maximum(low + 1, np.ceil(edges[1:]).astype(int))
    bands = np.stack([power[:, a:b].mean(axis=1) for a, b in zip(low, high)])  # [rows, columns]
    decibel = 10 * np.log10(np.maximum(bands, 1e-20))
    return (decibel - decibel.max())[::-1]


def _encoded(samples: np.ndarray, rate: int) -> str:
    """Samples as a data URI: MP3, or WAV where libsndfile cannot write MP3 at this rate."""
    buffer = io.BytesIO()
    mp3 = rate in MP3_RATES and "MP3" in soundfile.available_formats()
    soundfile.write(buffer, samples, rate, format="MP3" if mp3 else "WAV", subtype=None if mp3 else "PCM_16")
    return data_uri(buffer.getvalue(), "audio/mpeg" if mp3 else "audio/wav")
