"""One HTML document: rendered from a template, refused where a browser would ask another host, written whole.

The browser itself enforces the same: each document carries a policy that allows data inside the page, and one script.
"""

import base64
import hashlib
import re
import warnings
from pathlib import Path

import jinja2

from aacstudy.paths import write_whole

TEMPLATES = Path(__file__).parent / "templates"
PAGE_BYTES = 5_000_000
# what makes a browser ask another host; links (<a href>) only do so when followed
REMOTE = re.compile(
    r"<(?:script|link|img|iframe|audio|video|source|embed|object|image|use)\b[^>]*?"
    r"\b(?:src|href|data|srcset)\s*=\s*[\"']?\s*(?:https?:)?//[^\"'\s>]+",
    re.IGNORECASE,
)
STYLE = re.compile(r"<style\b[^>]*>(.*?)</style>|\bstyle=\"([^\"]*)\"", re.IGNORECASE | re.DOTALL)
REMOTE_STYLE = re.compile(r"@import\b[^;]*|url\(\s*[\"']?(?:https?:)?//[^)]*", re.IGNORECASE)


def write(path: Path, template: str, **values) -> Path:
    """Render a template of `templates/` with the values, every text escaped unless marked safe there, and write it.

    ValueError where the page would load something from elsewhere; a warning where it is larger than 5 MB.
    """
    text = _templates().get_template(template).render(**values)
    styles = " ".join(first or second for first, second in STYLE.findall(text))
    if remote := REMOTE.search(text) or REMOTE_STYLE.search(styles):
        raise ValueError(f"{path.name} would load {remote[0][:200]!r}; a report must not need the network")
    content = text.encode("utf-8")
    if len(content) > PAGE_BYTES:
        warnings.warn(
            f"{path.name} has {len(content) / 1e6:.1f} MB, more than 5; show fewer or rasterised figures, or less audio",
            stacklevel=3,
        )
    write_whole(path, content)
    return path


def _templates() -> jinja2.Environment:
    """Jinja with autoescape; only what `markup` and nbconvert made is marked safe, in the templates."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    # everything lies in the page; of scripts only our own runs, so none that a caption brings could
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    environment.globals.update(script=script, policy=policy)
    return environment
