"""The command line: what it prints, its exit status, and never a traceback for what a user can
mend.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from miniatures import make_audiocaps, make_clotho

from aacstudy import paths
from aacstudy.__main__ import main
from aacstudy.corpus import Corpus
from aacstudy.study import notebooks, run
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan

PROJECT = Path(__file__).resolve().parents[1]
COMMANDS = ("run", "make", "plan", "notebook", "index", "check-data")


@pytest.fixture(autouse=True)
def kept_apart(tmp_path, monkeypatch):
    """Artifacts and reports of these tests lie nowhere else; Snakemake is never started."""
    monkeypatch.setenv("AACSTUDY_ROOT", str(PROJECT))
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("AACSTUDY_REPORTS", str(tmp_path / "reports"))
    monkeypatch.delenv("AACSTUDY_TRACEBACK", raising=False)

    def started(*arguments, **_):
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(run.subprocess, "run", started)


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, seconds in (("a.wav", 1.0), ("b.wav", 2.5)):
        noise = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 8000))
        soundfile.write(folder / name, noise, 8000)
    (folder / "captions.csv").write_text("file_name,caption_1,caption_2\na.wav,A dog,A cat\nb.wav,Rain,\n")
    return folder


def refused(capsys, *arguments: str) -> str:
    """The one message of a command that ends with status 2."""
    assert main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    # a progress bar may stand before it
    message = re.sub(r"^.*\r", "", printed.err, flags=re.MULTILINE)
    return message[message.index(f"aacstudy {arguments[0]}: ") :].removeprefix(f"aacstudy {arguments[0]}: ")


def shown(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


# --- help ---------------------------------------------------------------------------------------


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {command}\s", text, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: aacstudy {command}")
    assert ("folder" if command == "check-data" else "--overrides JSON") in text


@pytest.mark.parametrize(
    "arguments", [[], ["rnu"], ["make", "smoke"], ["check-data"], ["run", "smoke", "--core", "x"]]
)
def test_usage_errors_end_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: aacstudy")


def test_as_a_module():
    """As a user starts it, from a folder that is not the project: message and status alone."""
    command = [sys.executable, "-m", "aacstudy", "plan", "dmeo"]
    environment = os.environ | {"AACSTUDY_ROOT": ""}
    done = subprocess.Popen(
        command, cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out) == (2, "")
    assert err == "aacstudy plan: study 'dmeo' does not exist; did you mean demo?\n"


# --- studies and overrides ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan", "index"])
def test_unknown_study(capsys, command):
    assert refused(capsys, command, "smok") == "study 'smok' does not exist; did you mean smoke?\n"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ('{"trainig": {"epochs": 1}}', "trainig is not a parameter; did you mean training?"),
        ('{"training": {"epoch": 1}}', "training.epoch is not a parameter; did you mean epochs?"),
        ('{"training": {"epochs": "1"}}', "training.epochs is '1': Input should be a valid integer"),
        ('{"decoder": {"heads": 5}}', "decoder: heads must divide d_model = 32, got 5"),
        ('{"seeds": []}', "seeds is []"),
        (
            '{"corpus": {"name": "clohto"}}',
            "corpus.name is 'clohto': Input should be 'soundscapes', 'recordings', 'folder'",
        ),
        ('{"captioner_from": "dmeo"}', "study 'dmeo' does not exist; did you mean demo?"),
        ("{seeds: [1]}", "--overrides is not JSON"),
        ("[1]", "--overrides wants sections, such as"),
        ('{"corpus": 5}', "--overrides wants sections, such as"),
    ],
)
def test_wrong_overrides(capsys, overrides, said):
    assert said in refused(capsys, "plan", "smoke", "--overrides", overrides)
    if "captioner" not in overrides:
        assert said in refused(capsys, "run", "smoke", "--overrides", overrides)


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("AACSTUDY_TRACEBACK", "1")
    with pytest.raises(ValueError, match="did you mean demo"):
        main(["plan", "dmeo"])


def test_plan_lists_the_artifacts(capsys):
    lines = shown(capsys, "plan", "smoke").splitlines()
    assert all(line.startswith("   missing  ") for line in lines)
    names = [line.split()[-1] for line in lines]
    assert len(set(names)) == len(names)
    stage_labels = [re.sub("-[0-9a-f]{12}$", "", name) for name in names]
    assert stage_labels[:3] == ["corpus/soundscapes", "encoder/convnext", "frames/soundscapes"]
    for variant in ("base", "positions"):
        for seed in (1, 2):
            assert {f"{stage}/{variant}-{seed}" for stage in ("captioner", "losses", "before_after")} <= set(
                stage_labels
            )
    assert shown(capsys, "plan", "smoke").splitlines() == lines
    other = shown(capsys, "plan", "smoke", "--overrides", '{"seeds": [9]}')
    assert "captioner/base-9-" in other and "captioner/base-1-" not in other


def test_plan_shows_what_is_made(capsys, tmp_path):
    overrides = '{"corpus": {"train": 2, "validation": 1, "test": 1, "tagging_train": 1, "tagging_test": 1, "pairs": 0}}'
    path = shown(
        capsys, "make", "smoke", "corpus/soundscapes", "--overrides", overrides, "--cores", "1"
    ).strip()
    assert (
        Path(path).parent == tmp_path / "artifacts" / "corpus" and len(list(Path(path).rglob("*.wav"))) == 6
    )
    first, second, *_ = shown(capsys, "plan", "smoke", "--overrides", overrides).splitlines()
    assert re.match(r" +[\d.]+ s  corpus/soundscapes-", first) and second.startswith("   missing  encoder/")


def test_unknown_artifact_and_notebook(capsys):
    message = refused(capsys, "make", "smoke", "encoder/convnet")
    assert (
        "encoder/convnet" in message and "encoder/convnext-" in message and "corpus/soundscapes-" in message
    )


# --- recordings ---------------------------------------------------------------------------------


def test_check_data_on_good_recordings(capsys, recordings):
    out = shown(capsys, "check-data", str(recordings))
    digest = hashlib.sha256(b"test/a.wav\ntest/b.wav").hexdigest()[:12]
    assert out == f"test: 2 clips of 1.0 to 2.5 s, 3 captions, pool 2-{digest}\nnothing wrong found\n"
    assert shown(capsys, "check-data", "folder", str(recordings), "--cores", "2") == out
    soundfile.write(recordings / "a.wav", np.zeros(8000), 8000)  # a folder is always decoded
    assert "a.wav: is silent" in refused(capsys, "check-data", str(recordings))


def test_check_data_lists_every_defect(capsys, recordings):
    with open(recordings / "captions.csv", "a") as file:
        file.write("a.wav,Again,\nnone.wav,A cow,\nb.wav\n")
    (recordings / "c.wav").write_text("no audio")
    lines = refused(capsys, "check-data", str(recordings)).splitlines()
    assert lines[0] == "the corpus has 4 defects:"
    table = recordings / "captions.csv"
    assert [line.strip().removeprefix(f"{table}, ").split(":")[0] for line in lines[1:]] == [
        "line 4, file_name",
        "line 6",
        "line 5, file_name",
        str(recordings / "c.wav"),
    ]


def test_check_data_without_a_folder(capsys, tmp_path):
    for kind in ((), ("folder",), ("clotho",), ("audiocaps",)):
        assert "no such folder" in refused(capsys, "check-data", *kind, str(tmp_path / "none"))
    with pytest.raises(SystemExit) as ended:
        main(["check-data", "clohto", str(tmp_path)])
    assert ended.value.code == 2


def test_check_data_on_clotho(capsys, tmp_path):
    base = make_clotho(tmp_path, np.random.default_rng(0), rate=8000)
    lines = shown(capsys, "check-data", "clotho", str(tmp_path)).splitlines()
    assert [re.sub("[0-9a-f]{12}$", "…", line) for line in lines] == [
        "train: 8 clips of 1.0 to 1.3 s, 40 captions, pool 8-…",
        "validation: 4 clips of 1.0 to 1.3 s, 20 captions, pool 4-…",
        "test: 6 clips of 1.0 to 1.3 s, 30 captions, pool 6-…",
        "note: the table of train names 8 clips, the published one 3839",
        "note: the table of validation names 4 clips, the published one 1045",
        "note: the table of test names 6 clips, the published one 1045",
        "nothing wrong found; --decode would read the samples too",
    ]
    silent = base / "clotho_audio_files" / "development" / "at 12_30.wav"
    soundfile.write(silent, np.zeros(8000), 8000)
    assert shown(capsys, "check-data", "clotho", str(base)).endswith("would read the samples too\n")
    message = refused(capsys, "check-data", "clotho", str(base), "--decode")
    assert message.startswith("the corpus has 1 defect:") and "line 7, file_name: " in message
    silent.unlink()
    (base / "clotho_csv_files" / "clotho_captions_evaluation.csv").unlink()
    assert refused(capsys, "check-data", "clotho", str(base)).startswith("the corpus has 2 defects:")


def test_check_data_on_audiocaps(capsys, tmp_path):
    base = make_audiocaps(tmp_path, np.random.default_rng(0), rate=8000)
    lines = shown(capsys, "check-data", "audiocaps", str(tmp_path), "--decode").splitlines()
    assert re.sub("[0-9a-f]{12}", "…", lines[2]) == (
        "test: 5 clips of 1.0 to 1.2 s, 25 captions, pool 5-…; left out: 1 without a file, 0 with an "
        "unusable one"
    )
    assert lines[3].startswith("left out: train/atrain_0010_10: ") and "ffmpeg -i" in lines[3]
    assert lines[-2:] == [
        "note: the table of test names 6 clips, the published one 975",
        "nothing wrong found",
    ]
    (base / "val.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,a,x,A dog\n2,b,3,?\n")
    message = refused(capsys, "check-data", "audiocaps", str(base))
    assert "line 2, start_time: 'x'" in message and "line 3, caption: no word in '?'" in message


@pytest.mark.parametrize(("name", "make"), [("clotho", make_clotho), ("audiocaps", make_audiocaps)])
def test_a_published_corpus_becomes_an_artifact(capsys, tmp_path, name, make):
    make(tmp_path / "in", np.random.default_rng(0), rate=8000)
    chosen = ("--overrides", json.dumps({"corpus": {"name": name}}), "--data", str(tmp_path / "in"))
    (line,) = (one for one in shown(capsys, "plan", "smoke", *chosen).splitlines() if " corpus/" in one)
    assert re.match(rf"   missing  corpus/{name}-", line)
    path = Path(shown(capsys, "make", "smoke", line.split()[-1], *chosen).strip())
    tables = {"captions.csv", "clips.csv", "events.csv"} | ({"missing.csv"} if name == "audiocaps" else set())
    assert {file.name for file in path.iterdir()} == tables | {"artifact.json"}
    assert Corpus.load(path).split("test").pool()[0] == (5 if name == "audiocaps" else 6)
    decoded = json.dumps({"corpus": {"name": name, "decode": True}})
    other = shown(capsys, "plan", "smoke", "--overrides", decoded, *chosen[2:])
    assert path.name not in other and f"corpus/{name}-" in other
    assert "corpus.root: empty" in refused(capsys, "plan", "smoke", *chosen[:2])


def test_own_without_recordings(capsys):
    for command in ("run", "plan"):
        message = refused(capsys, command, "own")
        assert "corpus.root: empty" in message and "DATA=folder" in message


def test_own_with_broken_recordings_stops_before_anything_is_made(capsys, recordings, tmp_path):
    (recordings / "a.wav").write_bytes(b"")
    message = refused(capsys, "run", "own", "--data", str(recordings))
    assert "captions.csv, line 2, file_name: " in message and "a.wav: not readable" in message
    assert not list((tmp_path / "artifacts").rglob("artifact.json"))


def test_data_is_for_studies_of_a_folder(capsys, recordings):
    message = refused(capsys, "run", "smoke", "--data", str(recordings))
    assert "study smoke makes its own corpus" in message and "as in own" in message


def test_own_takes_the_best_captioner_at_hand(capsys, recordings, monkeypatch, tmp_path):
    """Nothing is there: the demo's. Scenes of recordings have theirs: that; or what is asked."""
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path / "none"))
    from aacstudy.study import run

    chosen = ["plan", "own", "--data", str(recordings)]
    assert main(chosen) == 0
    said = capsys.readouterr().err
    assert "captioner: that of study demo" in said and "download conette" in said
    monkeypatch.setattr(run, "_at_hand", lambda study: study.study == "recordings")
    assert run.best_captioner()[0] == "recordings"
    assert "better ones: conette" in run.best_captioner()[1] and "demo" not in run.best_captioner()[1]
    assert main(chosen) == 2  # the scenes of recordings are not here to be trained on
    assert "ESC-50" in capsys.readouterr().err
    demo = shown(capsys, *chosen, "--captioner", "demo")
    assert "captioner/base-1234" in demo and "yamnet" not in demo
    assert "study demo trains its own captioner" in refused(capsys, "plan", "demo", "--captioner", "order")
    assert "did you mean demo" in refused(capsys, *chosen, "--captioner", "demoo")


def test_own_with_recordings_takes_the_demos_captioner(capsys, recordings):
    own = shown(capsys, "plan", "own", "--data", os.path.relpath(recordings)).splitlines()
    demo = shown(capsys, "plan", "demo").splitlines()
    trained = [line for line in demo if "captioner/base" in line or "encoder/" in line]
    assert len(trained) == 4 and set(trained) <= set(own)
    assert [line.split()[-1].split("-")[0] for line in own if "corpus/" in line] == [
        "corpus/folder",
        "corpus/soundscapes",
    ]


# --- batch: what Snakemake is told --------------------------------------------------------------


@pytest.mark.parametrize("overrides", [{}, {"seeds": [5], "corpus": {"root": "/a folder/it's here"}}])
def test_a_configuration_comes_back_from_the_shell(overrides):
    """``--config`` of Snakemake and the shell arguments of each job choose the same study."""
    config = {"study": "smoke"} | ({"overrides": json.dumps(overrides)} if overrides else {})
    study = run.configured(config)
    assert study == Study.load("smoke", overrides)
    name, *rest = shlex.split(run.arguments(config))
    assert name == "smoke"
    assert (json.loads(rest[1]) if rest else {}) == overrides and rest[:1] in ([], ["--overrides"])


def test_find():
    study = Study.load("smoke")
    encoder = plan.encoder(study)
    assert run.find(study, "encoder/convnext").key == encoder.key
    assert run.find(study, f"encoder/{encoder.name}").key == encoder.key
    with pytest.raises(KeyError, match="encoder/convnext-"):
        run.find(study, "convnext")


def test_report_folder(tmp_path, monkeypatch):
    study = Study.load("smoke")
    assert paths.report(study.study) == tmp_path.resolve() / "reports" / "smoke"
    monkeypatch.delenv("AACSTUDY_REPORTS")
    assert paths.report(study.study) == PROJECT / "reports" / "smoke"


def test_titles_are_questions():
    for name in Study.load("demo").notebooks:
        assert notebooks.read(name).title.endswith("?"), name


def test_keys_of_pages():
    """A page is stale when its notebook's parameters or inputs change, not another's."""
    study, other = Study.load("smoke"), Study.load("smoke", {"decoding": {"beam": 1}})
    key = run.notebook_key(study, "04_captioning")
    assert key == run.notebook_key(Study.load("smoke"), "04_captioning")
    assert key != run.notebook_key(other, "04_captioning") != run.notebook_key(study, "05_retrieval")
    assert run.index_key(study) == run.index_key(Study.load("smoke")) != run.index_key(other)
