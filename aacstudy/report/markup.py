"""Pieces of HTML that are safe to show and need nothing from the network: text, formulas, figures, provenance."""

import html
import re
from xml.etree import ElementTree

import mistune

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

    def block_code(self, code: str, info: str | None = None) -> str:
        # what scrolls must be reachable with the keyboard
        return super().block_code(code, info).replace("<pre>", '<pre tabindex="0">', 1)

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
    """The <svg> element alone, described by `alt`, its ids made unique among the figures of a page.

    Its own width is told to the style sheet, which lets a narrow screen shrink it by so much and no more.
    """
    svg = svg[svg.index("<svg") :]
    width = re.search(r'\bwidth="([\d.]+pt)"', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{stem}-", svg)
    style = f' style="--width: {width[1]}"' if width else ""
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"{style}', 1)


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def figure_svg(axes, stem: str, alt: str, caption: str = "") -> str:
    """A matplotlib figure (of these axes) as a <figure> whose SVG lies in the page; the figure is closed."""
    import io

    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": stem, "svg.fonttype": "path"}):
        axes.figure.savefig(
            buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    plt.close(axes.figure)
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="figure"><div class="card" tabindex="0">{inline_svg(buffer.getvalue(), stem, alt)}</div>{words}</figure>'


def provenance_html(record: dict) -> str:
    """A definition list of the record, nested values folded."""
    rows = []
    for key, value in record.items():
        text = html.escape(_plain(value))
        if len(text) > 120:
            text = f"<details><summary>show</summary>{text}</details>"
        rows.append(f"<div><dt>{html.escape(str(key).replace('_', ' '))}</dt><dd>{text}</dd></div>")
    return f'<dl class="provenance">{"".join(rows)}</dl>'
