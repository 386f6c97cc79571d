"""Where a page comes from, and nothing about who ran it."""

import getpass
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aacstudy.report import provenance


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


def test_record_is_plain_json():
    started = datetime.now(UTC) - timedelta(seconds=5)
    parameters = {
        "corpus": {"folder": "/home/somebody/data/clotho", "clips": 3},
        "training": {"seeds": [2, 1]},
    }
    artifacts = [{"stage": "losses", "key": "ab12", "seconds": 1.5, "path": "/home/somebody/x"}]
    record = provenance.collect(parameters, artifacts, started, "cpu", [1, 2])
    assert json.loads(json.dumps(record)) == record
    assert 5 <= record["seconds"] < 60
    assert record["time"].endswith("+00:00")
    assert record["seeds"] == [1, 2] and record["device"] == "cpu" and record["cpu_count"] >= 1
    assert record["artifacts"] == [{"stage": "losses", "key": "ab12", "seconds": 1.5}]
    assert record["parameters"]["corpus"] == {"folder": "…/clotho", "clips": 3}
    assert "numpy" in record["versions"]


def test_nothing_private():
    text = json.dumps(
        provenance.collect({"a": Path.home() / "x", "b": [Path.cwd()]}, [], datetime.now(UTC), "cpu", [])
    )
    assert str(Path.home()) not in text and str(Path.cwd()) not in text and platform.node() not in text
    assert getpass.getuser() not in json.loads(text)["platform"]


def test_private_keeps_what_is_no_absolute_path():
    assert provenance.private("data/clotho") == "data/clotho"
    assert provenance.private(r"C:\Users\me\data") == "…/data"
    assert provenance.private("~/data/") == "…/data"
    assert provenance.private("a dog barks / a bell") == "a dog barks / a bell"


def test_commit_says_changes_and_unknown(tmp_path):
    assert provenance.commit(tmp_path) == "unknown"
    git(tmp_path, "init", "-q")
    assert provenance.commit(tmp_path) == "unknown"
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = provenance.commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "a.py").write_text("2")
    assert provenance.commit(tmp_path) == f"{clean} + changes"
    ignored = tmp_path / "site-packages"
    ignored.mkdir()
    # an installed copy is not the repository around it
    assert provenance.commit(ignored) == "unknown"


def test_torch_is_not_imported():
    code = "import sys, aacstudy.report.execute, aacstudy.report.index; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0
