"""The doctor: what is missing is named with what it switches off, and nothing is asked of the
network.
"""

import importlib.metadata
import socket
from types import SimpleNamespace

import pytest

from aacstudy.__main__ import main
from aacstudy.analysis.captions import assets
from aacstudy.study import doctor


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the doctor asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """Data, home and artifacts in empty folders."""
    for name in ("HOME", "AACSTUDY_DATA", "AACSTUDY_ARTIFACTS", "AACSTUDY_REPORTS"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("FENSE_DATA", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "AAC_METRICS_CACHE_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def found(check) -> dict[str, list[str]]:
    by_state: dict[str, list[str]] = {"ok": [], "missing": [], "broken": []}
    for finding in check:
        by_state[finding.state].append(finding.text)
    return by_state


def test_doctor_command(offline, empty, capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for group in (
        "Python packages",
        "Machine",
        "Caption metrics",
        "Published weights",
        "Data sets",
        "Browser",
    ):
        assert f"\n{group}\n" in f"\n{shown}"
    assert "run `python -m aacstudy download metrics`" in shown  # an empty home has no SPICE
    assert "run `python -m aacstudy download convnext`" in shown
    assert ", 0 broken" in shown.splitlines()[-1]


def test_missing_and_wrong_packages(monkeypatch):
    lines = [
        "absent-one>=1",
        "pytest<1; extra == 'dev'",
        "absent-two; extra == 'cluster'",
        "numpy>=1",
        "x; python_version < '3'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(doctor, "LOADED", ())
    states = found(doctor._packages())
    assert states["broken"] == ["absent-one>=1 (absent): make setup"]
    version = importlib.metadata.version("pytest")
    assert states["missing"] == [
        f"pytest<1 ({version}); without them no tests and make lint",
        "absent-two (absent); without them no runs on Slurm or Kubernetes",
    ]


def test_package_that_does_not_load_is_broken(monkeypatch):
    def load(name):
        raise OSError("libtorch_cuda.so: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor.importlib, "import_module", load)
    monkeypatch.setattr(doctor, "LOADED", ("torchaudio",))
    assert (
        "torchaudio does not load: libtorch_cuda.so: cannot open shared object file"
        in found(doctor._packages())["broken"]
    )


def test_broken_is_the_only_failure(monkeypatch, capsys):
    found = [doctor.Finding("ok", "x"), doctor.Finding("missing", "y")]
    monkeypatch.setattr(doctor, "CHECKS", {"a": lambda: found})
    assert doctor.report() == 0
    monkeypatch.setattr(doctor, "CHECKS", {"a": lambda: [doctor.Finding("broken", "x")]})
    assert doctor.report() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 ok, 0 missing, 1 broken"


def test_full_disk_is_named(empty, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    assert (
        sum("1.0 GB free: the demo leaves 600 MB" in text for text in found(doctor._machine())["missing"])
        == 3
    )


def test_metrics_say_what_each_needs(empty, monkeypatch):
    monkeypatch.setattr(assets, "find_java", lambda: (None, "17.0.1"))
    missing = found(doctor._metrics())["missing"]
    assert any(text.startswith("METEOR needs Java 8 to 13 (found 17.0.1)") for text in missing)
    assert any(text.startswith("PTB tokenizer (ours stands in for it) needs Java") for text in missing)


def test_weights_that_are_there(empty):
    weights = empty / "AACSTUDY_DATA" / "weights"
    weights.mkdir()
    (weights / "Cnn14_mAP=0.431.pth").touch()
    states = found(doctor._weights())
    assert len(states["ok"]) == 1 and states["ok"][0].startswith("Cnn14_mAP=0.431: ")


def test_data_sets_of_the_studies(empty, monkeypatch):
    pages = {
        "mine": SimpleNamespace(name="folder", root=str(empty)),
        "gone": SimpleNamespace(name="folder", root=str(empty / "gone")),
        "clotho": SimpleNamespace(name="clotho", root=""),
        "audiocaps": SimpleNamespace(name="audiocaps", root=""),
        "demo": SimpleNamespace(name="soundscapes", root=""),
    }

    def load(name):
        if name == "bad":
            raise ValueError("no such key")
        return SimpleNamespace(corpus=pages[name])

    monkeypatch.setattr(doctor.parameters, "available", lambda: [*pages, "bad"])
    monkeypatch.setattr(doctor.parameters.Study, "load", load)
    (empty / "AACSTUDY_DATA" / "CLOTHO_v2.1").mkdir()
    states = found(doctor._corpora())
    data = (empty / "AACSTUDY_DATA").resolve()
    assert f"study mine: {empty.resolve()}" in states["ok"]
    assert f"study clotho: {data / 'CLOTHO_v2.1'} (make study STUDY=clotho DATA={data})" in states["ok"]
    assert "1 studies make their own corpus" in states["ok"]
    missing = "\n".join(states["missing"])
    assert "gone is not there" in missing and "study bad cannot be read: no such key" in missing
    assert "python -m aacstudy download audiocaps-captions" in missing


def test_browser(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "CHROMIUM", tmp_path / "chromium")
    assert "the browser tests of the reports are skipped" in found(doctor._browser())["missing"][0]
    (tmp_path / "chromium").touch()
    assert found(doctor._browser())["missing"] == []
