"""What a notebook shows, and what it leaves behind for the report when the study runs as a batch."""

import html
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from IPython.display import HTML, display

from aacstudy.paths import write_whole
from aacstudy.report.markup import inline_svg, markdown_to_html, provenance_html
from aacstudy.report.players import player
from aacstudy.report.tables import COLUMNS, VERDICTS, scorecard_html, table_html

REPORT_FOLDER = "AACSTUDY_REPORT"  # environment variable, set by report.execute only
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
EVIDENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.html(#[a-z0-9-]+)?")
THUMBNAIL = 640  # pixels of width: twice that of a card of the index


class Page:
    """One notebook's page: each method displays, and in a batch run also keeps what it was given.

    By hand (JupyterLab) nothing is written and a cell may be run again; in a batch run the answer is given
    once, names and keys are unique, and `provenance` comes last: it writes `pages/<notebook>.json`.
    """

    def __init__(self, notebook: str, study_name: str, title: str | None = None):
        self.notebook = _checked_name(notebook)
        folder = os.environ.get(REPORT_FOLDER)
        self.folder = Path(folder) if folder else None
        self.record = {"notebook": notebook, "study": study_name, "title": title, "answer": None,
                       "figures": [], "tables": [], "results": {}, "provenance": None}  # fmt: skip
        if self.folder is None:
            style = (Path(__file__).parent / "templates" / "notebook.css").read_text(encoding="utf-8")
            display(HTML(f"<style>{style}</style>"))

    def answer(self, markdown: str) -> None:
        """Show the notebook's computed answer; the report moves it to the top of the page."""
        if self.folder and self.record["answer"] is not None:
            raise ValueError(f"{self.notebook}: the answer was already given: {self.record['answer']!r}")
        if not markdown.strip():
            raise ValueError(f"{self.notebook}: the answer is empty")
        self.record["answer"] = markdown
        # the report's renderer finds the output by this metadata
        display(HTML(_box("answer", markdown)), metadata={"aacstudy": "answer"})

    def note(self, markdown: str) -> None:
        """Show a remark."""
        display(HTML(_box("note", markdown)))

    def figure(self, figure_or_axes, name: str, caption: str, alt: str) -> None:
        """Show a matplotlib figure (or the figure of these axes or this seaborn grid) and close it.

        In a batch run it is also saved as `figures/<notebook>-<name>.svg` and `.pdf`, byte for byte the same
        from run to run; the first figure also as a small `.webp` for the index. ValueError where `alt`,
        the description for those who cannot see it, is empty.
        """
        import matplotlib.pyplot as plt

        if not alt.strip():
            raise ValueError(f"{self.notebook}: figure {name!r} has no alt text")
        stem = self._new("figures", name)
        figure = np.ravel(np.asarray(figure_or_axes, dtype=object))[0].figure
        svg, pdf = io.BytesIO(), io.BytesIO()
        with plt.rc_context({"svg.hashsalt": stem, "svg.fonttype": "path", "pdf.fonttype": 42}):
            nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
            figure.savefig(svg, format="svg", bbox_inches="tight", metadata=nothing)
            nothing = dict.fromkeys(["CreationDate", "Creator", "Producer"])
            figure.savefig(pdf, format="pdf", bbox_inches="tight", metadata=nothing)
        if self.folder and not self.record["figures"]:
            write_whole(self.folder / "figures" / f"{stem}.webp", _thumbnail(figure))
        plt.close(figure)
        links = self._keep(
            "figures", name, {"svg": svg.getvalue(), "pdf": pdf.getvalue()}, caption=caption, alt=alt
        )
        picture = inline_svg(svg.getvalue().decode("utf-8"), stem, alt)
        caption = f"<figcaption>{html.escape(caption)}{links}</figcaption>"
        display(
            HTML(f'<figure class="figure"><div class="card" tabindex="0">{picture}</div>{caption}</figure>')
        )

    def table(
        self, dataframe, name: str, caption: str, formats: dict[str, str | Callable] | None = None
    ) -> None:
        """Show a data frame as an HTML table with every text escaped: 20 rows, up to 200 when unfolded.

        `formats` maps a column to a format string ("{:.1%}") or a function. In a batch run the whole frame is
        also saved, in full precision, as `tables/<notebook>-<name>.csv`.
        """
        self._new("tables", name)
        ranged = type(dataframe.index).__name__ == "RangeIndex"
        frame = dataframe.reset_index(drop=ranged)
        frame.columns = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
        if unknown := set(formats or {}) - set(frame.columns):
            raise ValueError(
                f"{self.notebook}: table {name!r} has no column {sorted(unknown)}; it has {list(frame.columns)}"
            )
        links = self._keep(
            "tables",
            name,
            {"csv": frame.to_csv(index=False).encode("utf-8")},
            caption=caption,
            rows=len(frame),
        )
        display(HTML(table_html(frame, caption, formats or {}, links)))

    def scorecard(self, rows: Iterable[dict]) -> None:
        """Show claims with their verdicts; in a batch run also keep them: the index shows them on top.

        Each row has the keys id, claim, verdict, measured, interval, n, evidence and, where it is known, published:
        texts as a reader should see them, None or "" where there is none; n is a number. verdict is one of
        `tables.VERDICTS`, alone or with a reason ("not tested here: needs Clotho"); evidence is a page of the report,
        with or without an anchor ("05_retrieval.html#ties"). ValueError where it is otherwise.
        """
        rows = [_checked_claim(self.notebook, dict(row)) for row in rows]
        if not rows:
            raise ValueError(f"{self.notebook}: the scorecard has no row")
        if self.folder and "scorecard" in self.record:
            raise ValueError(f"{self.notebook}: the scorecard was already given")
        self.record["scorecard"] = rows
        display(HTML(scorecard_html(rows)))

    def audio(self, path_or_array, sample_rate: int | None = None, label: str = "") -> None:
        """Show a player for a file or for samples `[time]` or `[time, channel]` in -1…1, under its spectrogram.

        The sound is in the page: 6 s take about 50 kB.
        """
        display(HTML(player(path_or_array, sample_rate, label)))

    def listen(self, items: Iterable[tuple]) -> None:
        """Show a grid of players from (label, path) or (label, path, text); a path may also be (samples, sample_rate)."""
        players = []
        for label, sound, *text in items:
            samples, rate = sound if isinstance(sound, tuple) else (sound, None)
            players.append(player(samples, rate, label, *text))
        display(HTML(f'<div class="listen">{"".join(players)}</div>'))

    def results(self, numbers: dict[str, float]) -> None:
        """Keep numbers under flat keys ("retrieval.t2a.hit_1.mean") for results.json.

        ValueError for a key given before or a number that is not finite, TypeError for what is no number.
        """
        for key, value in numbers.items():
            if not NAME.fullmatch(key):
                raise ValueError(
                    f"{self.notebook}: result key {key!r} is not made of letters, digits, '.', '_' and '-'"
                )
            if self.folder and key in self.record["results"]:
                raise ValueError(f"{self.notebook}: result {key!r} was already given")
            value = value.item() if hasattr(value, "item") else value  # numpy and torch scalars
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{self.notebook}: result {key!r} is {value!r}, not a number")
            if not math.isfinite(value):
                raise ValueError(
                    f"{self.notebook}: result {key!r} is {value}; leave it out or say why in a note"
                )
            self.record["results"][key] = value

    def provenance(self, record: dict) -> None:
        """Show where the page comes from (see provenance.collect) and, in a batch run, write the page's record."""
        display(HTML(provenance_html(record)))
        if self.folder is None:
            return
        if self.record["answer"] is None:
            raise ValueError(
                f"{self.notebook}: page.answer(…) was never called; every notebook answers its question"
            )
        self.record["provenance"] = record
        text = json.dumps(self.record, indent=1, ensure_ascii=False, default=str)
        write_whole(self.folder / "pages" / f"{self.notebook}.json", text.encode("utf-8"))

    def _new(self, kind: str, name: str) -> str:
        """Check a figure's or table's name; returns its file name without ending."""
        _checked_name(name)
        if self.record["provenance"] is not None:
            raise ValueError(f"{self.notebook}: {name!r} comes after page.provenance(…), which must be last")
        if self.folder and any(entry["name"] == name for entry in self.record[kind]):
            raise ValueError(f"{self.notebook}: {kind} already has one named {name!r}")
        return f"{self.notebook}-{name}"

    def _keep(self, kind: str, name: str, files: dict[str, bytes], **about) -> str:
        """Record a figure or table; in a batch run write its files and return the links to them as HTML."""
        paths = {ending: f"{kind}/{self.notebook}-{name}.{ending}" for ending in files}
        self.record[kind].append({"name": name, "file": next(iter(paths.values())), **about})
        if self.folder is None:
            return ""
        for ending, content in files.items():
            write_whole(self.folder / paths[ending], content)
        links = " ".join(f'<a href="{path}">{ending.upper()}</a>' for ending, path in paths.items())
        return f' <span class="files">{links}</span>'


def _thumbnail(figure) -> bytes:
    """A small WebP picture of a figure, for the index."""
    from PIL import Image

    buffer, picture = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=THUMBNAIL / figure.get_size_inches()[0])
    Image.open(buffer).convert("RGB").save(picture, format="WEBP", quality=80)
    return picture.getvalue()


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a file name; use letters, digits, '.', '_' and '-'")
    return name


def _checked_claim(notebook: str, row: dict) -> dict:
    """A row of a scorecard as plain JSON types."""
    where = f"{notebook}: claim {row.get('id', row)!r}"
    row.setdefault("published", "")
    if set(row) != set(COLUMNS):
        raise ValueError(f"{where} has the keys {sorted(row)}; it must have {', '.join(COLUMNS)}")
    if row["verdict"].partition(": ")[0] not in VERDICTS:
        raise ValueError(f"{where} has verdict {row['verdict']!r}; it must be one of {', '.join(VERDICTS)}")
    if row["evidence"] and not EVIDENCE.fullmatch(row["evidence"]):
        raise ValueError(
            f"{where} has evidence {row['evidence']!r}; it must be a page, such as 05_retrieval.html#ties"
        )
    n = None if row["n"] is None else int(row["n"])
    return {key: str(row[key] or "") for key in COLUMNS} | {"n": n}


def _box(kind: str, markdown: str) -> str:
    return f'<div class="{kind}">{markdown_to_html(markdown)}</div>'
