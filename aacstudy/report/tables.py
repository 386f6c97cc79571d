"""Tables of a page as HTML: any data frame, and the scorecard of claims. All text is escaped here.

templates/page.js makes them sortable; how many rows show is a matter of templates/notebook.css and its <details>.
"""

import html
import math

import numpy as np

SHOWN_ROWS = 200  # of a table; the CSV always holds all rows
FIRST_ROWS = 20  # shown before the rest is unfolded
VERDICTS = {  # of claims and of questions
    "reproduced": "✓", "not reproduced": "✗", "yes": "✓", "in part": "◐", "no": "✗", "cannot tell": "?", "not tested here": "–",
}  # fmt: skip
# Keys of a claim and the headings of their columns; a column that no claim fills is left out.
COLUMNS = {"id": "", "claim": "Claim", "verdict": "Verdict", "measured": "Measured", "interval": "95\u00a0% interval",
           "n": "n", "published": "Published", "evidence": "Evidence"}  # fmt: skip


def _cell_text(value, form) -> str:
    number = isinstance(value, float | np.floating)
    if value is None or (number and math.isnan(value)) or str(value) in ("<NA>", "NaT"):
        return "–"
    if form is not None:
        return form(value) if callable(form) else form.format(value)
    return f"{value:.4g}" if number else str(value)


def table_html(frame, caption: str, formats: dict, links: str = "") -> str:
    """The table as HTML: 20 rows, up to 200 when unfolded. `links` is HTML already, everything else is escaped here."""
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
        cells = zip(values, forms, classes, numeric)
        rows.append(
            "<tr>"
            + "".join(f"<td{c}{_sorted_by(v, f, n)}>{_cell(v, f)}</td>" for v, f, c, n in cells)
            + "</tr>"
        )
    shown, whole = len(rows), len(frame)
    box = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table: {html.escape(caption)}"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    if shown > FIRST_ROWS:
        every = f"all {whole}" if shown == whole else f"{shown} of {whole}"
        box += f'<details class="rest"><summary>Show {every} rows</summary></details>'
    if shown < whole:
        links = f" <em>The first {SHOWN_ROWS} of {whole} rows; all are in the CSV file.</em>{links}"
    return f'<figure class="table"><figcaption>{html.escape(caption)}{links}</figcaption>{box}</figure>'


def _cell(value, form) -> str:
    return html.escape(str(_cell_text(value, form)))


def _sorted_by(value, form, number: bool) -> str:
    """The full-precision value of a formatted number, for sorting."""
    missing = not number or form is None or value is None or value != value
    return "" if missing else f' data-value="{float(value):.9g}"'


def scorecard_html(rows: list[dict]) -> str:
    """Claims and what became of them, one row each (keys `COLUMNS`, checked by `Page.scorecard`), all escaped."""
    filled = [key for key in COLUMNS if any(row[key] not in (None, "") for row in rows)]
    shown = [key for key in filled if key != "published"]  # stands below the claim
    number = ("id", "interval", "n")
    head = "".join(
        f'<th scope="col"{" class=number" * (key in number)}>{COLUMNS[key] or "<span class=hidden>Number</span>"}</th>'
        for key in shown
    )
    body = "".join(
        "<tr>" + "".join(_claim_cell(row, key, key in number) for key in shown) + "</tr>" for row in rows
    )
    table = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return (
        '<figure class="table scorecard"><div class="scroll" tabindex="0" role="region" aria-label="Table of the claims">'
        f"{table}</div></figure>"
    )


def _claim_cell(row: dict, key: str, number: bool) -> str:
    none = row[key] in (None, "")
    text = "–" if none else html.escape(str(row[key]))
    if key == "claim":
        published = f"<small>published: {html.escape(row['published'])}</small>" if row["published"] else ""
        return f'<th scope="row">{text}{published}</th>'
    if key == "verdict":
        kind, _, why = text.partition(": ")
        mark = f'<span aria-hidden="true">{VERDICTS[kind]}</span> {kind}'
        return f'<td class="verdict {kind.replace(" ", "-")}">{mark}{f"<small>{why}</small>" if why else ""}</td>'
    if key == "evidence" and row[key]:
        text = f'<a href="{text}">{_page_name(row[key])}</a>'
    kinds = {"measured": key == "measured", "number": number, "none": none}
    classes = " ".join(kind for kind, is_so in kinds.items() if is_so)
    return f'<td class="{classes}">{text}</td>' if classes else f"<td>{text}</td>"


def _page_name(link: str) -> str:
    return html.escape(link.split("#")[0].removesuffix(".html").replace("_", " "))
