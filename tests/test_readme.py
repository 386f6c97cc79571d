"""What the documents say can be done: every command parses, every study, file, link and heading
named is there.
"""

import contextlib
import io
import json
import re
import shlex
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from test_setup import ROOT, make

from aacstudy.__main__ import _parser
from aacstudy.study.download import sets
from aacstudy.study.parameters import available

FOLDERS = ("studies", "notebooks", "aacstudy", "workflow", "docs", "tests", "benchmarks")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
PYTHON = r"(?:\S*/)?python3? -m aacstudy|aacstudy"
COMMANDS = next(action.choices for action in _parser()._actions if action.dest == "command")


def documents() -> list[Path]:
    pages = ["README.md", "CONTRIBUTING.md", "reports/README.md", "notebooks/README.md"]
    return [ROOT / page for page in pages] + sorted((ROOT / "docs").glob("*.md"))


def notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def text_of(path: Path) -> str:
    """A document's text; of a notebook, that of its markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text


def commands(text: str) -> list[str]:
    """Lines of fenced blocks without a language, and code in a line, that call make, conda, this
    package or the environment's programs.
    """
    fenced = [
        line
        for language, block in FENCE.findall(text)
        if language in ("", "sh", "bash", "console")
        for line in block.splitlines()
    ]
    found = [line.removeprefix("$ ").strip() for line in fenced] + INLINE.findall(FENCE.sub("", text))
    starts = re.compile(rf"(make|conda|\.venv/bin/\S+|{PYTHON})(\s|$)")
    # `bat --scored items.csv` and `STUDY=conette`, after a whole command
    short = re.compile(rf"({'|'.join(COMMANDS)})\s+\S|STUDY=\S+")
    return [line for line in found if starts.match(line) or short.match(line)]


def wrong_with(command: str, studies: set[str]) -> str:
    """What is wrong with a command; nothing where it could be typed."""
    words = shlex.split(command, comments=True)
    named = [word for word in words if word.split("/")[0] in FOLDERS and "/" in word]
    if gone := [word for word in named if not (ROOT / word).exists()]:
        return f"{gone[0]} does not exist"
    if words[0] == "conda":
        return next(
            (f"{word} does not exist" for word in words[1:] if "." in word and not (ROOT / word).exists()), ""
        )
    if words[0] == "make" or words[0].startswith("STUDY="):
        return wrong_with_make(
            ("study", *words) if words[0] != "make" else tuple(words[1:]), frozenset(studies)
        )
    if ours := re.match(PYTHON, command):
        return wrong_with_ours(shlex.split(command[ours.end() :], comments=True), studies)
    if words[0] in COMMANDS:
        return wrong_with_ours(words, studies)
    script = Path(words[0]).name
    known = {one.name for one in entry_points(group="console_scripts")} | {"python"}
    return "" if script in known else f"no package brings {script}"


@cache
def wrong_with_make(arguments: tuple[str, ...], studies: frozenset[str]) -> str:
    done = make("-n", *arguments)
    if done.returncode:
        return done.stderr.strip()
    values = dict(word.split("=", 1) for word in arguments if "=" in word)
    known = set(re.findall(r"^([A-Z]+)\s*\?=", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {"PYTHON"}
    if unknown := set(values) - known:
        return f"the Makefile has no {unknown.pop()}"
    return no_study(values.get("STUDY", "demo"), studies)


def wrong_with_ours(words: list[str], studies: set[str]) -> str:
    """Parsed as the command line would; a command that is only named may lack what it requires."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            options = _parser().parse_args(words)
    except SystemExit as end:
        complaint = said.getvalue()
        return complaint if end.code and "arguments are required" not in complaint else ""
    asked = getattr(options, "studies", None) or [getattr(options, "study", "demo")]
    if options.command == "download" and (unknown := sorted(set(options.what) - set(sets()))):
        return f"{unknown[0]} cannot be downloaded"
    return next(filter(None, (no_study(one, studies) for one in asked)), "")


def no_study(name: str, studies: set[str]) -> str:
    placeholder = "<" in name or name.isupper() or name.endswith((".yml", ".yaml"))
    return "" if placeholder or name in studies else f"there is no study {name}"


def described(text: str) -> set[str]:
    """Studies of ``studies/`` and those whose page the text itself holds."""
    pages = [yaml.safe_load(block) for language, block in FENCE.findall(text) if language == "yaml"]
    return set(available()) | {page["study"] for page in pages if isinstance(page, dict) and "study" in page}


def anchors(path: Path) -> set[str]:
    """Headings as they are linked to: lower case, no punctuation, spaces to hyphens."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(text: str, path: Path) -> list[str]:
    """Targets of relative links, and files of the repository named in code, that are not there."""
    plain = FENCE.sub("", text)
    broken = []
    for target in LINK.findall(INLINE.sub("", plain)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, heading = target.partition("#")
        file = path.parent / place if place else path
        if not file.exists() or (heading and heading not in anchors(file)):
            broken.append(target)
    for code in INLINE.findall(plain):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*", code) and not (ROOT / code).exists():
            broken.append(code)
    return broken


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*documents(), *notebooks()], ids=named)
def test_every_command_could_be_typed(path):
    text = text_of(path)
    studies = described(text)
    found = {command: wrong_with(command, studies) for command in commands(text)}
    assert {command: what for command, what in found.items() if what} == {}
    assert found or path.name != "README.md" or path.parent != ROOT


@pytest.mark.parametrize("path", [*documents(), *notebooks()], ids=named)
def test_every_link_leads_somewhere(path):
    assert broken_links(text_of(path), path) == []


def test_the_readme_shows_the_ways_in():
    found = commands(text_of(ROOT / "README.md"))
    for start in (
        "make study",
        "make test",
        "make lab",
        ".venv/bin/papermill",
        ".venv/bin/python -m aacstudy check-data",
    ):
        assert any(command.startswith(start) for command in found), start


def test_every_variable_of_the_environment_exists():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "aacstudy").rglob("*.py"))
    known = set(re.findall(r"AACSTUDY_[A-Z]+", code)) - {
        "AACSTUDY_REPORT",
        "AACSTUDY_RUN",
    }  # which notebooks and jobs of a batch are given
    said = {name for path in documents() for name in re.findall(r"AACSTUDY_[A-Z]+", text_of(path))}
    assert said == known


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make no_such_target", "No rule"),
        ("make study STUDY=demmo", "no study demmo"),
        ("make study STUDI=demo", "no STUDI"),
        ("python -m aacstudy serach 'a dog'", "invalid choice"),
        (".venv/bin/python -m aacstudy run demo --profle x", "unrecognized arguments: --profle"),
        ("python -m aacstudy compare demo positionz", "no study positionz"),
        ("python -m aacstudy download cloto", "cloto cannot be downloaded"),
        ("python -m aacstudy check-data cloto data", "invalid choice"),
        (".venv/bin/papermil notebooks/05_retrieval.ipynb out.ipynb", "no package brings papermil"),
        (".venv/bin/papermill notebooks/05_retreival.ipynb out.ipynb", "notebooks/05_retreival.ipynb does "
            "not exist"),
        ("bat --scored", "expected one argument"),
        ("STUDY=conete", "no study conete"),
        ("conda env create -f enviroment.yml", "enviroment.yml does not exist"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_typed_is_found(command, said):
    for text in (f"Type `{command}` now.", f"```\n{command}    # at once\n```\n"):
        (found,) = commands(text)
        assert said in wrong_with(found, set(available()))


def test_what_is_no_command_is_left_alone(tmp_path):
    text = "```python\nmake = 1\n```\n`makeshift`, `bat`, `made`\n```\ndone in 9 s\n```\n`make study STUDY=mine`\n```yaml\nstudy: mine\n```\n"
    assert (
        commands(text) == ["make study STUDY=mine"]
        and wrong_with("make study STUDY=mine", described(text)) == ""
    )
    page = tmp_path / "page.md"
    page.write_text(
        "# A page, it's mine?\n[a](#a-page-its-mine) [b](b.md) [c](#no) `studies/no.yml` [d](https://x.y)\n"
    )
    assert broken_links(page.read_text(), page) == ["b.md", "#no", "studies/no.yml"]
