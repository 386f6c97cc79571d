"""Run one notebook with papermill: parameters checked first, an output only where every cell ran."""

import ast
import difflib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from aacstudy.report.page import REPORT_FOLDER


class NotebookError(RuntimeError):
    """A notebook that did not run to its end."""


def parameter_defaults(notebook: Path) -> list[str]:
    """Names assigned in the notebook's one cell tagged `parameters`."""
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook.name}: {len(tagged)} cells are tagged 'parameters'; there must be exactly one"
        )
    names = []
    for statement in ast.parse(tagged[0].source).body:
        targets = (
            statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        )
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def check_parameters(notebook: Path, parameters: dict) -> None:
    """ValueError for a parameter that the notebook does not have, naming the nearest it has (papermill only warns)."""
    known = parameter_defaults(Path(notebook))
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            hint = f"; did you mean {near[0]!r}? It has {', '.join(known)}" if near else "; it has none"
            raise ValueError(f"{Path(notebook).name}: unknown parameter {name!r}{hint}")


def execute(
    source: Path,
    output: Path,
    parameters: dict,
    report_folder: Path,
    environment: dict[str, str] | None = None,
) -> float:
    """Run a notebook in its own folder with papermill and return the seconds it took.

    `output` appears only when every cell has run. Otherwise what there is stays as `<name>.failed.ipynb` and
    NotebookError names the notebook, the cell (counted from 1 in the source) and the exception.
    `environment` is added to this process's environment for the kernel; so one call at a time in a process.
    """
    import papermill
    from jupyter_client.manager import KernelManager

    source, output = Path(source).resolve(), Path(output).resolve()
    check_parameters(source, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    part, failed = output.with_suffix(".part.ipynb"), output.with_suffix(".failed.ipynb")
    part.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    # ipykernel >= 7.3 otherwise warns of a TCP port without encryption
    if hasattr(KernelManager, "transport_encryption"):
        KernelManager.transport_encryption.default_value = "auto"
    # a bar's states are kept in the notebook: few are enough, and its last is always written
    settings = {
        "TQDM_MININTERVAL": "10",
        **(environment or {}),
        REPORT_FOLDER: str(Path(report_folder).resolve()),
    }
    started = time.perf_counter()
    try:
        with _environment(settings):
            papermill.execute_notebook(
                _braces(source),
                _braces(part),
                parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=source.parent,
            )
    except BaseException as error:
        # the metadata of an interrupted notebook may say 'completed', so its name says what it is
        if part.exists():
            part.replace(failed)
        if isinstance(error, Exception):
            raise NotebookError(f"{source.name}, {_failing_cell(failed)}: {_message(error)}") from error
        raise
    seconds = time.perf_counter() - started
    notebook = nbformat.read(part, as_version=4)
    notebook.metadata.papermill.update(input_path=source.name, output_path=output.name)  # no absolute paths
    notebook.metadata.papermill.pop("environment_variables", None)
    nbformat.write(notebook, part)
    part.replace(output)
    return seconds


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """This process's environment with these settings, which a kernel inherits; put back afterwards."""
    before = dict(os.environ)
    os.environ.update({key: str(value) for key, value in settings.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _braces(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")  # papermill formats paths


def _message(error: Exception) -> str:
    name = getattr(error, "ename", type(error).__name__)
    return f"{name}: {getattr(error, 'evalue', error)}"


def _failing_cell(failed: Path) -> str:
    """'cell 3 of 9', counted as in the source, for the cell that raised or else the last that was started."""
    if not failed.exists():
        return "before its first cell"
    added = {"injected-parameters", "papermill-error-cell-tag"}  # by papermill
    cells = nbformat.read(failed, as_version=4).cells
    own = [cell for cell in cells if not added & set(cell.metadata.get("tags", []))]
    states = [cell.metadata.get("papermill", {}) for cell in own]
    # papermill calls every cell 'completed' where the kernel died; only a start time tells
    begun = [i for i, state in enumerate(states) if state.get("start_time")]
    raised = [i for i in begun if states[i].get("exception")]
    return f"cell {(raised or begun)[-1] + 1} of {len(own)}" if begun else "before its first cell"
