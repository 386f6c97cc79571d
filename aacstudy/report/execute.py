"""Notebooks run with papermill, with an output only where every cell ran, and turned into HTML."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import nbformat
import papermill
from jupyter_client.manager import KernelManager
from markupsafe import Markup
from nbconvert import HTMLExporter

from aacstudy.report import html
from aacstudy.report.page import REPORT_FOLDER
from aacstudy.report.provenance import FOLDERS

KERNEL = "python3"
# a tqdm bar: "scoring: 100%|███| 16/16 [00:01<00:00, 15.2audio/s]", "16it [00:01, 12.3it/s]"
PROGRESS = re.compile(r"\d%\|.*\| \S+/\S+ \[\d|(?:^|: )[\d.]+\w? ?[a-z]+ \[\d+:\d\d")


def execute(source: Path, output: Path, parameters: dict, report_folder: Path) -> None:
    """Run a notebook in its own folder with papermill.

    ValueError for a parameter that it does not have, where papermill would only warn. `output`
    appears only when every cell has run. Otherwise what there is stays as `<name>.failed.ipynb`,
    which a note on the error names; a PapermillExecutionError tells of the cell that raised.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    notebook = nbformat.read(source, as_version=4)
    # else papermill cannot tell the language of a notebook that says nothing of it
    notebook.metadata.kernelspec = {"name": KERNEL, "display_name": KERNEL, "language": "python"}
    known = list(papermill.inspect_notebook(notebook))
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            hint = f"did you mean {near[0]!r}? It has {', '.join(known)}" if near else "it has none"
            raise ValueError(f"{source.name}: unknown parameter {name!r}; {hint}")
    output.parent.mkdir(parents=True, exist_ok=True)
    part, failed = output.with_suffix(".part.ipynb"), output.with_suffix(".failed.ipynb")
    part.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    # ipykernel >= 7.3 otherwise warns of a TCP port without encryption
    if hasattr(KernelManager, "transport_encryption"):
        KernelManager.transport_encryption.default_value = "auto"
    before = dict(os.environ)
    # for the kernel; a bar's states are kept in the notebook: few are enough, the last is written
    os.environ |= {"TQDM_MININTERVAL": "10", REPORT_FOLDER: str(Path(report_folder).resolve())}
    try:
        papermill.execute_notebook(
            _braces(source), _braces(part), parameters, kernel_name=KERNEL, language="python",
            progress_bar=False, cwd=source.parent,
        )  # fmt: skip
    except BaseException as error:
        # the metadata of an interrupted notebook may say 'completed', so its name says what it is
        if part.exists():
            part.replace(failed)
        error.add_note(f"{source.name} did not run to its end; what there is of it: {failed}")
        raise
    finally:
        os.environ.clear()
        os.environ.update(before)
    notebook = nbformat.read(part, as_version=4)
    notebook.metadata.papermill.update(input_path=source.name, output_path=output.name)  # not where
    notebook.metadata.papermill.pop("environment_variables", None)
    nbformat.write(notebook, part)
    part.replace(output)


def _braces(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")  # papermill formats paths


def to_html(notebook: Path, target: Path, study_name: str, chapters: Sequence[tuple[str, str]]) -> None:
    """Convert an executed notebook to one self-contained HTML document.

    `chapters` are (file name, title) of all in order, for the links to the previous and the next.
    ValueError where it would load something from elsewhere; a warning where it is larger than 5 MB.
    """
    notebook, target = Path(notebook), Path(target)
    node = nbformat.read(notebook, as_version=4)
    title, answer = _take_title(node) or notebook.stem, _take_answer(node)
    for cell in node.cells:
        # a kernel makes an output per flush of standard error: all are shown as one, on top
        cell.get("outputs", []).sort(key=lambda output: output.get("name") != "stderr")
    headings: list[tuple[int, str, str]] = []
    exporter = HTMLExporter(
        template_name="report",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        extra_template_basedirs=[str(html.TEMPLATES)],
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],  # a bar's last state
    )
    exporter.register_filter("bars_and_messages", bars_and_messages)
    exporter.register_filter(
        "markdown2html", lambda text: html.markdown_to_html(text, headings, raw_html=True)
    )
    body, _ = exporter.from_notebook_node(node)
    names = [name for name, _ in chapters]
    here = names.index(target.name) if target.name in names else None
    html.write(
        target, "notebook.html.j2",
        study_name=study_name,
        title=html.inline_markdown(title),
        plain_title=re.sub(r"[*`$]", "", title),
        answer=answer,
        body=Markup(body),
        headings=[heading for heading in headings if heading[0] in (2, 3)],
        here=target.name,
        chapters=[(name, html.inline_markdown(question)) for name, question in chapters],
        previous=chapters[here - 1] if here else None,
        following=chapters[here + 1] if here is not None and here + 1 < len(chapters) else None,
        notebook=quote(Path(os.path.relpath(notebook, target.parent)).as_posix()),
    )  # fmt: skip


def _take_title(node) -> str | None:
    """Cut the first level-1 heading out of the notebook and return its text."""
    for cell in node.cells:
        match = re.search(r"^#[ \t]+(.+?)[ \t#]*$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and match:
            cell.source = cell.source[: match.start()] + cell.source[match.end() :]
            return match[1]
    return None


def _take_answer(node) -> Markup:
    """Cut the output of page.answer out of the notebook and return its HTML."""
    for cell in node.cells:
        for output in cell.get("outputs", []):
            if output.get("metadata", {}).get("aacstudy") == "answer":
                cell.outputs.remove(output)
                return Markup(output.data["text/html"])
    return Markup()


def bars_and_messages(text: str) -> tuple[str, str]:
    """An error stream's progress bars, and its other lines, without this machine's folders."""
    lines = [line for line in text.splitlines() if line.strip()]
    bars = [line for line in lines if PROGRESS.search(line)]
    return "\n".join(bars), FOLDERS.sub("…/", "\n".join(line for line in lines if line not in bars))
