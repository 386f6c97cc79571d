"""What a notebook shows, and what it leaves for the report when the study runs as a batch."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display

from aacstudy.paths import write_whole
from aacstudy.report import html
from aacstudy.report.explorer import explorer

REPORT_FOLDER = "AACSTUDY_REPORT"  # environment variable, set by report.execute only
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
EVIDENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.html(#[a-z0-9-]+)?")
THUMBNAIL = 640  # pixels of width: twice that of a card of the index


class Page:
    """One notebook's page: each method displays, and in a batch run also keeps what it was given.

    By hand (JupyterLab) nothing is written and a cell may be run again; in a batch run the answer
    is given once, names and keys are unique, and `provenance`, the last, writes
    `pages/<notebook>.json`.
    """

    def __init__(self, notebook: str, study_name: str):
        self.notebook = notebook
        self._check_name(notebook)
        folder = os.environ.get(REPORT_FOLDER)
        self.folder = Path(folder) if folder else None
        self.record = {"notebook": notebook, "study": study_name, "answer": None,
                       "figures": [], "tables": [], "results": {}, "provenance": None}  # fmt: skip
        if self.folder is None:
            style = (html.TEMPLATES / "notebook.css").read_text(encoding="utf-8")
            display(HTML(f"<style>{style}</style>"))

    def answer(self, markdown: str) -> None:
        """Show the notebook's computed answer; the report moves it to the top of the page."""
        given = self.record["answer"]
        self._check(not self.folder or given is None, f"the answer was already given: {given!r}")
        self._check(markdown.strip(), "the answer is empty")
        self.record["answer"] = markdown
        # report.execute finds the output by this metadata
        shown = HTML(f'<div class="answer">{html.markdown_to_html(markdown)}</div>')
        display(shown, metadata={"aacstudy": "answer"})

    def note(self, markdown: str) -> None:
        """Show a remark."""
        display(HTML(f'<div class="note">{html.markdown_to_html(markdown)}</div>'))

    def figure(self, figure_or_axes, name: str, caption: str, alt: str) -> None:
        """Show a matplotlib figure (or the figure of these axes or this seaborn grid) and close it.

        In a batch run it is also saved as `figures/<notebook>-<name>.svg` and `.pdf`, byte for byte
        the same from run to run; the first figure also as a small `.webp` for the index. ValueError
        where `alt`, the description for those who cannot see it, is empty.
        """
        self._check(alt.strip(), f"figure {name!r} has no alt text")
        stem = self._new("figures", name)
        figure = np.ravel(np.asarray(figure_or_axes, dtype=object))[0].figure
        content = {form: html.drawn(figure, stem, form) for form in ("svg", "pdf")}
        if self.folder and not self.record["figures"]:
            width = THUMBNAIL / figure.get_size_inches()[0]
            small = html.drawn(figure, stem, "webp", dpi=width, pil_kwargs={"quality": 80})
            write_whole(self.folder / "figures" / f"{stem}.webp", small)
        plt.close(figure)
        files = self._keep("figures", name, content, caption=caption, alt=alt)
        display(HTML(html.figure_html(content["svg"], stem, alt, caption, files)))

    def table(
        self, dataframe, name: str, caption: str, formats: dict[str, str | Callable] | None = None
    ) -> None:
        """Show a data frame as an HTML table: 20 rows, up to 200 when unfolded.

        `formats` maps a column to a format string ("{:.1%}") or a function. In a batch run the
        whole frame is also saved, in full precision, as `tables/<notebook>-<name>.csv`.
        """
        self._new("tables", name)
        frame = dataframe.reset_index(drop=type(dataframe.index).__name__ == "RangeIndex")
        frame.columns = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
        unknown = sorted(set(formats or {}) - set(frame.columns))
        self._check(not unknown, f"table {name!r} has no column {unknown}; it has {list(frame.columns)}")
        content = {"csv": frame.to_csv(index=False).encode("utf-8")}
        files = self._keep("tables", name, content, caption=caption, rows=len(frame))
        display(HTML(html.table_html(frame, caption, formats or {}, files)))

    def scorecard(self, rows: Iterable[dict]) -> None:
        """Show claims with their verdicts; in a batch run also keep them for the top of the index.

        Each row has the keys of `html.CLAIM` (published may be left out): texts as a reader should
        see them, None or "" where there is none; n is a number. verdict is one of `html.VERDICTS`,
        alone or with a reason ("not tested here: needs Clotho"); evidence is a page of the report,
        with or without an anchor ("05_retrieval.html#ties"). ValueError where it is otherwise.
        """
        claims = [self._checked_claim({"published": ""} | row) for row in rows]
        self._check(claims, "the scorecard has no row")
        self._check(not self.folder or "scorecard" not in self.record, "the scorecard was already given")
        self.record["scorecard"] = claims
        display(HTML(html.scorecard_html(claims)))

    def listen(self, items: Iterable[tuple]) -> None:
        """Show a grid of players from (label, path) or (label, path, text).

        A path may also be (samples, sample_rate). The sounds are in the page: 6 s take about 50 kB.
        """
        players = []
        for label, sound, *text in items:
            samples, rate = sound if isinstance(sound, tuple) else (sound, None)
            players.append(html.player(samples, rate, label, *text))
        display(HTML(f'<div class="listen">{"".join(players)}</div>'))

    def explore(self, mean, tokens, owners, captions, clips, sounds) -> None:
        """Show the explorer of a loss matrix: see `explorer.explorer`."""
        display(HTML(explorer(mean, tokens, owners, captions, clips, sounds)))

    def results(self, numbers: dict[str, float]) -> None:
        """Keep numbers under flat keys ("retrieval.t2a.hit_1.mean") for results.json.

        ValueError for a key given before or what is not finite, TypeError for what is no number.
        """
        for key, value in numbers.items():
            letters = "is not made of letters, digits, '.', '_' and '-'"
            self._check(NAME.fullmatch(key), f"result key {key!r} {letters}")
            known = self.folder and key in self.record["results"]
            self._check(not known, f"result {key!r} was already given")
            value = value.item() if hasattr(value, "item") else value  # numpy and torch scalars
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{self.notebook}: result {key!r} is {value!r}, not a number")
            self._check(math.isfinite(value), f"result {key!r} is {value}; leave it out or say why in a note")
            self.record["results"][key] = value

    def provenance(self, record: dict) -> None:
        """Show where the page comes from (provenance.collect); in a batch run write its record."""
        display(HTML(html.provenance_html(record)))
        if self.folder is None:
            return
        answered = self.record["answer"] is not None
        self._check(answered, "page.answer(…) was never called; every notebook answers its question")
        self.record["provenance"] = record
        text = json.dumps(self.record, indent=1, ensure_ascii=False, default=str)
        write_whole(self.folder / "pages" / f"{self.notebook}.json", text.encode("utf-8"))

    def _check(self, holds: object, complaint: str) -> None:
        if not holds:
            raise ValueError(f"{self.notebook}: {complaint}")

    def _check_name(self, name: str) -> None:
        self._check(NAME.fullmatch(name), f"{name!r} is no file name; use letters, digits, '.', '_', '-'")

    def _new(self, kind: str, name: str) -> str:
        """Check a figure's or table's name; returns its file name without ending."""
        self._check_name(name)
        open_ = self.record["provenance"] is None
        self._check(open_, f"{name!r} comes after page.provenance(…), which must be last")
        known = self.folder and any(entry["name"] == name for entry in self.record[kind])
        self._check(not known, f"{kind} already has one named {name!r}")
        return f"{self.notebook}-{name}"

    def _keep(self, kind: str, name: str, content: dict[str, bytes], **about) -> dict[str, str]:
        """Record a figure or table; in a batch run write its files, whose paths are returned."""
        files = {ending: f"{kind}/{self.notebook}-{name}.{ending}" for ending in content}
        self.record[kind].append({"name": name, "file": next(iter(files.values())), **about})
        if self.folder is None:
            return {}
        for ending, file in files.items():
            write_whole(self.folder / file, content[ending])
        return files

    def _checked_claim(self, row: dict) -> dict:
        """A row of a scorecard as plain JSON types."""
        where = f"claim {row.get('id', row)!r} has"
        keys = ", ".join(html.CLAIM)
        self._check(set(row) == set(html.CLAIM), f"{where} the keys {sorted(row)}; it must have {keys}")
        verdict, evidence = row["verdict"], row["evidence"]
        known = ", ".join(html.VERDICTS)
        self._check(
            verdict.partition(": ")[0] in html.VERDICTS,
            f"{where} verdict {verdict!r}; it must be one of {known}",
        )
        self._check(
            not evidence or EVIDENCE.fullmatch(evidence),
            f"{where} evidence {evidence!r}; it must be a page, such as 05_retrieval.html#ties",
        )
        n = None if row["n"] is None else int(row["n"])
        return {key: str(row[key] or "") for key in html.CLAIM} | {"n": n}
