"""What cells print, as a page shows it: progress bars in their last state, warnings without this machine's folders."""

import re

CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTf]")  # moves and deletions; colours stay
# a state of a tqdm bar: "scoring: 100%|███| 16/16 [00:01<00:00, 15.2audio/s]", "16it [00:01, 12.3it/s]"
PROGRESS = re.compile(r"\d%\|.*\| \S+/\S+ \[\d|(?:^|: )[\d.]+\w? ?[a-z]+ \[\d+:\d\d")
FOLDERS = re.compile(r"(?<![\w.:/])(?:~|/[\w.@+-]+)(?:/[\w.@+-]+)*/(?=[\w.@+-]+)")


def settle(node) -> None:
    """Leave of each cell's output streams (in place) what a terminal would show in the end.

    A cell's standard error, of which a kernel makes an output per flush, becomes one output where its first was.
    """
    for cell in node.cells:
        errors = [o for o in cell.get("outputs", []) if o.output_type == "stream" and o.name == "stderr"]
        for output in errors[1:]:
            errors[0].text += output.text
        kept = [o for o in cell.get("outputs", []) if all(o is not error for error in errors[1:])]
        for output in kept:
            if output.output_type == "stream":
                output.text = "\n".join(terminal(output.text))
        if "outputs" in cell:
            cell.outputs = kept


def terminal(text: str) -> list[str]:
    """The lines that a terminal would show in the end: what a carriage return goes back over is overwritten."""
    lines = []
    for line in CURSOR.sub("", text).split("\n"):
        shown = ""
        for state in line.split("\r"):
            shown = state + shown[len(state) :]
        lines.append(shown.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def progress(text: str) -> str:
    """The lines that are progress bars."""
    return "\n".join(line for line in text.splitlines() if PROGRESS.search(line))


def messages(text: str) -> str:
    """The other lines, such as warnings; of absolute paths the last part stays."""
    lines = [line for line in text.splitlines() if line and not PROGRESS.search(line)]
    return FOLDERS.sub("…/", "\n".join(lines))
