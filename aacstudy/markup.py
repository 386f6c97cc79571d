"""Pieces of HTML that are safe to show and need nothing from the network: text, formulas, tables, sounds."""

import base64
import html
import io
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import mistune
import numpy as np

SHOWN_ROWS = 200  # of a table; the CSV always holds all rows
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

MATHML = "{http://www.w3.org/1998/Math/MathML}"
BLOCK_MATH = r"^ {0,3}(?:\$\$(?P<dollars>[\s\S]+?)\$\$|(?P<environment>\\begin\{(?P<name>[a-z]+\*?)\}[\s\S]+?\\end\{(?P=name)\}))[ \t]*$"
INLINE_MATH = r"\$\$(?P<display>[^$]+?)\$\$|\$(?!\s)(?P<inline>[^$\n]+?)(?<![\s\\])\$(?!\d)"


def tex_to_mathml(tex: str, display: bool = False) -> str:
    """MathML of a TeX formula, or its source as code where it cannot be converted or holds anything but maths."""
    from latex2mathml.converter import convert

    # latex2mathml copies the inside of \text{…} into its output unescaped and follows \href.
    plain = tex.replace("<", r"\lt ").replace(">", r"\gt ")
    try:
        mathml = convert(plain.strip(), display="block" if display else "inline")
        elements = list(ElementTree.fromstring(mathml).iter())
    except Exception:  # the converter has no common base error
        elements = []
    links = any({"href", "src", "style"} & set(element.attrib) for element in elements)
    if not elements or links or not all(element.tag.startswith(MATHML) for element in elements):
        return f"<code>{html.escape(tex)}</code>"
    return f'<div class="formula">{mathml}</div>' if display else mathml


class _Renderer(mistune.HTMLRenderer):
    """mistune's renderer with MathML, unique heading ids and no remote images."""

    def __init__(self, headings: list, escape: bool):
        super().__init__(escape=escape)
        self.headings = headings

    def text(self, text: str) -> str:
        return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", super().text(text))

    def heading(self, text: str, level: int, **attributes) -> str:
        level = max(level, 2)  # the page has one h1, its title
        plain = html.unescape(re.sub(r"<annotation.*?</annotation>|<[^>]+>", "", text))
        stem = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "section"
        taken = {anchor for _, anchor, _ in self.headings}
        anchor = next(a for a in (stem, *(f"{stem}-{i}" for i in range(2, 1000))) if a not in taken)
        self.headings.append((level, anchor, plain))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        if url.startswith("data:image/"):
            return f'<img src="{html.escape(url)}" alt="{html.escape(text)}">'
        return f'<a href="{html.escape(self.safe_url(url))}">{html.escape(text) or "image"}</a>'

    def table(self, text: str) -> str:
        return f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table>\n{text}</table></div>\n'

    def block_math(self, tex: str) -> str:
        return tex_to_mathml(tex, display=True)

    def inline_math(self, tex: str) -> str:
        return tex_to_mathml(tex)


def _block_math(block, match, state) -> int:
    state.append_token({"type": "block_math", "raw": match["dollars"] or match["environment"]})
    return match.end() + 1


def _inline_math(inline, match, state) -> int:
    kind, tex = ("block_math", match["display"]) if match["display"] else ("inline_math", match["inline"])
    state.append_token({"type": kind, "raw": tex})
    return match.end()


def markdown_to_html(source: str, headings: list | None = None, raw_html: bool = False) -> str:
    """HTML of a markdown text; raw HTML in it is shown as text unless `raw_html`.

    Headings found are appended to `headings` as (level, anchor, text); anchors are unique within that list.
    """
    renderer = _Renderer([] if headings is None else headings, escape=not raw_html)
    markdown = mistune.create_markdown(renderer=renderer, plugins=["strikethrough", "table"])
    markdown.block.register("math", BLOCK_MATH, _block_math, before="fenced_code")
    markdown.inline.register("math", INLINE_MATH, _inline_math, before="escape")
    return str(markdown(source)).strip()


def inline_markdown(source: str) -> str:
    """HTML of one line of markdown, such as a title, without the paragraph around it."""
    return re.sub(r"^<p>(.*)</p>$", r"\1", markdown_to_html(source.strip()), flags=re.S)


def inline_svg(svg: str, stem: str, alt: str) -> str:
    """The <svg> element alone, described by `alt`, its ids made unique among the figures of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{stem}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)


def _cell_text(value, form) -> str:
    number = isinstance(value, float | np.floating)
    if value is None or (number and math.isnan(value)) or str(value) in ("<NA>", "NaT"):
        return "–"
    if form is not None:
        return form(value) if callable(form) else form.format(value)
    return f"{value:.4g}" if number else str(value)


def table_html(frame, caption: str, formats: dict) -> str:
    """The table as HTML; `caption` is HTML already, everything else is escaped here."""
    numeric = [frame[c].dtype.kind in "iuf" if frame.columns.is_unique else False for c in frame.columns]
    long = [max(map(len, map(str, column)), default=0) > 30 for column in frame.to_numpy(dtype=object).T]
    classes = [
        ' class="number"' if number else ' class="long"' if text else ""
        for number, text in zip(numeric, long)
    ]
    head = "".join(f'<th scope="col"{c}>{html.escape(name)}</th>' for name, c in zip(frame.columns, classes))
    forms = [formats.get(column) for column in frame.columns]
    rows = []
    for values in frame.head(SHOWN_ROWS).itertuples(index=False, name=None):
        texts = (html.escape(str(_cell_text(value, form))) for value, form in zip(values, forms))
        rows.append("<tr>" + "".join(f"<td{c}>{text}</td>" for text, c in zip(texts, classes)) + "</tr>")
    if len(frame) > SHOWN_ROWS:
        caption += f" <em>The first {SHOWN_ROWS} of {len(frame)} rows.</em>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="table">{table}</div>'
    return f'<figure class="table"><figcaption>{caption}</figcaption>{box}</figure>'


def _encoded(samples: np.ndarray, rate: int) -> str:
    """Samples as a data URI: MP3, or WAV where libsndfile cannot write MP3 at this rate."""
    import soundfile

    buffer = io.BytesIO()
    mp3 = rate in MP3_RATES and "MP3" in soundfile.available_formats()
    soundfile.write(buffer, samples, rate, format="MP3" if mp3 else "WAV", subtype=None if mp3 else "PCM_16")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:audio/{'mpeg' if mp3 else 'wav'};base64,{encoded}"


def player(path_or_array, sample_rate: int | None, label: str, text: str = "") -> str:
    """A <figure> with one audio player, its label and an optional text, both escaped."""
    if isinstance(path_or_array, str | Path):
        import soundfile

        samples, sample_rate = soundfile.read(path_or_array, dtype="float32")
    else:
        samples = np.asarray(path_or_array, dtype=np.float32)
    if sample_rate is None:
        raise ValueError(f"{label or 'audio'}: samples need their sample_rate")
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"{label or 'audio'}: the samples are empty or hold NaN or infinity")
    label = html.escape(label)
    source = _encoded(np.clip(samples, -1, 1), int(sample_rate))
    words = f"<strong>{label}</strong>" if label else ""
    words += f"<span>{html.escape(text)}</span>" if text else ""
    caption = f"<figcaption>{words}</figcaption>" if words else ""
    return f'<figure class="sound">{caption}<audio controls preload="none" aria-label="{label or "sound"}" src="{source}"></audio></figure>'


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def provenance_html(record: dict) -> str:
    """A definition list of the record, nested values folded."""
    rows = []
    for key, value in record.items():
        text = html.escape(_plain(value))
        if len(text) > 120:
            text = f"<details><summary>show</summary>{text}</details>"
        rows.append(f"<div><dt>{html.escape(str(key).replace('_', ' '))}</dt><dd>{text}</dd></div>")
    return f'<dl class="provenance">{"".join(rows)}</dl>'
