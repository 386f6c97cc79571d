"""Every command of README.md is executed: by a test here, by one that is named, or by the workflow
that it documents.

What a command stands for is put in its place, and nothing else: the smoke study for the demo,
generated files of the names that it has, a server of our own for the public ones, and the Python of
the tests for ``.venv``.
"""

import hashlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import numpy as np
import pytest
import requests
import soundfile
import torch
from conftest import PROJECT
from miniatures import make_audiocaps, make_clotho
from published_tensors import captioner_tensors, convnext_tensors
from safetensors.torch import save_file
from test_download import CONTENT, esc50, server, seven_zip  # noqa: F401
from test_published_captioners import baseline_tokenizer, conette_tensors
from test_readme import FENCE, PYTHON, commands
from test_recordings import esc  # noqa: F401
from test_setup import make
from test_yamnet import described, flatbuffer

from aacstudy.__main__ import main
from aacstudy.analysis.captions import assets
from aacstudy.study import download as sets
from aacstudy.study.download import fetch
from aacstudy.study.parameters import Study, batch_notebooks
from aacstudy.study.stages import plan
from aacstudy.study.weights import WEIGHTS, Remote

README = (PROJECT / "README.md").read_text(encoding="utf-8")
# each once, in order
SAID = dict.fromkeys(re.sub(r"\s+#.*", "", command) for command in commands(README))
BIN = Path(sys.executable).parent

# Command -> test that executes it, and what stands in that test's code.
ELSEWHERE = {
    ".venv/bin/python -m aacstudy doctor": ("test_doctor::test_doctor_command", 'main(["doctor"])'),
    '.venv/bin/python -m aacstudy search "a bell rings" --study own --data path/to/folder': (
        "test_search_command::test_command",
        'main(["search", "a dog barks", "--k", "2", *where])',
    ),
    "python -m aacstudy retrieve matrix.npz": (
        "test_retrieve_command::test_any_number_of_captions_per_audio",
        'main(["retrieve", str(tmp_path / "m.npz")])',
    ),
    "python -m aacstudy bias pairs.csv --training captions.csv": (
        "test_retrieve_command::test_bias_of_a_file",
        '["bias", str(tmp_path / "pairs.csv"), "--training", str(tmp_path / "train.csv")]',
    ),
    "python -m aacstudy bat captions.csv --out items.csv": (
        "test_bat::test_the_command",
        'main(["bat", str(captions), "--out", str(tmp_path / "out.csv")])',
    ),
    "bat --scored items.csv": ("test_bat::test_the_command", 'main(["bat", "--scored", '),
    "python -m aacstudy compare demo ablations/positions": (
        "test_compare::test_page",
        'main(["compare", "plain", "ablations/positions"])',
    ),
    # what `make` calls, on the pages at a size for tests
    "make study STUDY=own DATA=path/to/folder": (
        "test_run::test_own_recordings_are_scored_by_the_trained_captioner",
        'smoke.aacstudy("run", "own_smoke", "--data", str(recordings), "--cores", "2")',
    ),
    "make study STUDY=clotho DATA=data": (
        "test_published_studies::test_clotho_from_its_page",
        'run(place, "clotho")',
    ),
    "make ablations": (
        "test_run::test_ablations_end_in_a_scorecard_with_every_claim",
        '"ablations": {"pages": ["cnn14", "finetuned", "smoothed"], "elsewhere": ["other_sounds"]}',
    ),
}
NEVER = {"conda env create -f environment.yml": "there is no conda here, as README.md says"}
HERE: dict[str, str] = {}  # command -> test of this file


def runs(*given: str):
    """Mark a test as the one that executes these commands; it gets each of them as it stands in
    README.md.
    """

    def marked(test):
        HERE.update(dict.fromkeys(given, test.__name__))
        return pytest.mark.parametrize("command", given)(test)

    return marked


def words(command: str, **instead: str) -> list[str]:
    """A command as its arguments, with what it stands for in its place, and a program of the tests'
    Python.
    """
    program, *rest = (instead.get(word, word) for word in shlex.split(command))
    return [str(BIN / Path(program).name), *rest]


def typed(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What a command prints that ends well, typed in a folder."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ours(command: str) -> int:
    """Exit status of a command of this package, run in this process, where torch is loaded."""
    return main(shlex.split(re.sub(rf"^({PYTHON})\s", "", command)))


# --- the list -----------------------------------------------------------------------------------


def test_every_command_has_its_execution():
    tables = (HERE, ELSEWHERE, NEVER)
    assert set(SAID) == {command for table in tables for command in table}
    assert len(SAID) == sum(map(len, tables)), "a command stands in two tables"


@pytest.mark.parametrize("command", ELSEWHERE)
def test_the_test_that_executes_it_is_there(command):
    (module, name), code = ELSEWHERE[command][0].split("::"), ELSEWHERE[command][1]
    assert code in inspect.getsource(getattr(import_module(module), name))


def test_what_is_never_executed_is_said():
    (command,) = NEVER
    said = " ".join(README[README.index(command) :].split())
    assert "conda itself was never run on it here" in said[:200]


@pytest.mark.parametrize(
    "command", [one for one in SAID if re.match("make study|make ablations|STUDY=", one)]
)
def test_make_calls_the_command_line(command):
    """So who runs ``python -m aacstudy run`` with a page does what ``make`` does with it."""
    target, *variables = shlex.split(re.sub("^(make )?(?=STUDY=|study|ablations)", "", command))
    if "=" in target:  # after a whole command
        target, variables = "study", [target, *variables]
    values = dict(one.split("=") for one in variables)
    study = values.get("STUDY", "ablations" if target == "ablations" else "demo")
    data = f" --data {values['DATA']}" if "DATA" in values else ""
    called = make("-s", target, *variables, "PYTHON=echo", "CORES=3").stdout
    assert called.strip() == f"-m aacstudy run {study}{data} --cores 3"


# --- make ---------------------------------------------------------------------------------------


@runs("make")
def test_make_lists_what_can_be_made(command):
    shown = make(*shlex.split(command)[1:]).stdout
    named = README.partition("`make` alone lists everything else:")[2].partition(".")[0]
    named = set(re.findall(r"`(\w+)`", named))
    assert "lab" in named and named <= set(re.findall(r"^  make (\S+) ", shown, re.MULTILINE))


@runs("make study")
def test_the_study(command, smoke):
    """The fixture ran what it calls (above), killed once; nothing is left to do, it says."""
    index = smoke.reports / "smoke" / "index.html"
    before = index.stat().st_mtime_ns
    where = {"AACSTUDY_ARTIFACTS": str(smoke.artifacts), "AACSTUDY_REPORTS": str(smoke.reports)}
    where |= {name: smoke.environment[name] for name in ("AACSTUDY_ROOT", "PYTHONPATH", "OMP_NUM_THREADS")}
    given = [
        "-f",
        str(PROJECT / "Makefile"),
        *shlex.split(command)[1:],
        "STUDY=smoke",
        f"PYTHON={sys.executable}",
    ]
    done = make(*given, folder=smoke.folder, **where)
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr, done.stderr
    assert re.search(r"^done in \d+ s: open reports/smoke/index.html$", done.stdout, re.MULTILINE)
    assert index.stat().st_mtime_ns == before


@runs("make test")
def test_the_tests(command):
    """This very run is the whole of it; a part, so that it is known to start and to end with a
    count.
    """
    done = make(
        *shlex.split(command)[1:],
        f"PYTHON={sys.executable}",
        "ARGS=-n 0 -p no:cacheprovider tests/test_matrix.py",
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"=+ \d+ passed in [\d.]+s =+$", done.stdout.strip())


def server_of(folder: Path, process: subprocess.Popen) -> dict:
    """Address and token of a Jupyter server that writes down there that it runs."""
    end = time.monotonic() + 60
    while not (found := list(folder.glob("jpserver-*.json"))):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.1)
    return json.loads(found[0].read_text())


@runs("make lab")
def test_the_lab_shows_the_notebooks(command, tmp_path):
    try:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no sockets here: {error}")
    places = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    variables = {name: str(tmp_path) for name in places}
    variables |= {"JUPYTER_PORT": str(port), "BROWSER": "true"}  # a browser that shows nothing
    fresh = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # of no outer make
    process = subprocess.Popen(
        [*shlex.split(command), f"PYTHON={sys.executable}"],
        cwd=PROJECT, env=fresh | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        running = server_of(tmp_path, process)
        with requests.Session() as browser:
            browser.trust_env = False  # no proxy between this machine and itself
            browser.headers["Authorization"] = f"token {running['token']}"
            listed = browser.get(f"{running['url']}api/contents", timeout=30).json()["content"]
            assert {one["name"] for one in listed if one["type"] == "notebook"} >= {
                f"{name}.ipynb" for name in batch_notebooks()
            }
            assert (
                "JupyterLab" in browser.get(f"{running['url']}lab/tree/00_start_here.ipynb", timeout=30).text
            )
            assert browser.post(f"{running['url']}api/shutdown", timeout=30).ok
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


# --- studies ------------------------------------------------------------------------------------


@runs(".venv/bin/papermill notebooks/05_retrieval.ipynb out.ipynb -k python3 -f studies/demo.yml")
def test_a_notebook_by_papermill(command, smoke, tmp_path):
    for name in ("notebooks", "studies"):
        (tmp_path / name).symlink_to(smoke.folder / name)
    typed(words(command, **{"studies/demo.yml": "studies/smoke.yml"}), tmp_path, smoke.environment)
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert executed.metadata.papermill.parameters.study == "smoke"
    assert any(output.metadata.get("aacstudy") == "answer" for output in outputs if "metadata" in output)


@runs("python -m aacstudy run demo --profile workflow/profiles/slurm")
def test_a_study_by_a_profile(command, smoke):
    """As far as it goes without a cluster: the profile is read, the jobs are done."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    arguments = words(command, demo="smoke")
    status, output = smoke.aacstudy(*arguments[arguments.index("aacstudy") + 1 :])
    assert status == 0 and "Using profile workflow/profiles/slurm" in output, output
    assert "Nothing to be done" in output and "done in" in output


@runs("python -m aacstudy plan demo", "python -m aacstudy --help")
def test_what_there_is(command, tmp_path):
    shown = typed(words(command), PROJECT, os.environ | {"AACSTUDY_ARTIFACTS": str(tmp_path)})
    if "--help" in command:
        assert shown.startswith("usage: aacstudy") and "check-data" in shown
    else:
        planned = re.findall(r"^   missing  (\S+)/\S+-[0-9a-f]{12}$", shown, re.MULTILINE)
        assert planned.count("captioner") == 12 and len(planned) == len(shown.splitlines())


TINY = {
    "seeds": [1],
    "corpus": {"seconds": 2.4, "train": 6, "validation": 3, "test": 4, "tagging_train": 20, "tagging_test": 10,
               "tagging_seconds": 1.0, "pairs": 1},
    "tagging": {"epochs": 1, "batch": 10},
    "decoder": {"d_model": 16, "d_ff": 32},
    "training": {"epochs": 1},
    "scoring": {"bands": 1},
    "retrieval": {"bank_clips": 4, "bank_captions": 8},
    "before_after": {"other_clips": 1},
}  # fmt: skip


def jobs_done(study: str, capsys, overrides: dict, *more: str) -> list[str]:
    """Stage and label of all that a study's notebooks read, made by what each job of the workflow
    calls.
    """
    chosen = ["--overrides", json.dumps(overrides), *more]
    assert main(["plan", study, *chosen]) == 0
    names = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    for name in names:
        assert main(["make", study, name, *chosen, "--cores", "1"]) == 0, capsys.readouterr().err
        assert (Path(capsys.readouterr().out.strip()) / "artifact.json").exists()
    assert main(["plan", study, *chosen]) == 0
    assert "missing" not in capsys.readouterr().out
    return [re.sub("-[0-9a-f]{12}$", "", name) for name in names]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def apart(shared, monkeypatch) -> Path:
    """A folder for artifacts and data, the same for all of these tests: their pages have most in
    common.
    """
    monkeypatch.setenv("AACSTUDY_ROOT", str(PROJECT))
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(shared / "artifacts"))
    monkeypatch.setenv("AACSTUDY_DATA", str(shared / "data"))
    return shared


@pytest.mark.xdist_group("pages")
@runs("make study STUDY=order", "make study STUDY=ablations/cnn14")
def test_a_page_that_extends_the_demo(command, apart, capsys):
    """The page itself, smaller: all that its notebooks read. Those are the smoke study's, where
    they are executed.
    """
    name = command.partition("STUDY=")[2]
    study, made = Study.load(name), jobs_done(name, capsys, TINY)
    assert f"encoder/{study.encoder.kind}" in made
    assert {f"captioner/{variant}-1" for variant in study.variants} <= set(made)
    assert name != "order" or len(study.variants) == 8


@pytest.mark.xdist_group("pages")
@runs("make study STUDY=dcase2024 DATA=data", "STUDY=conette")
def test_a_page_of_published_weights(command, apart, capsys):
    """The page on a miniature and tensors of the published names: all that its notebooks read.

    They are executed on other weights, those of the same corpus's page in test_published_studies.
    """
    name, data = re.search(r"STUDY=(\w+)", command)[1], apart / "data"
    rng, sizes = np.random.default_rng(0), {"sizes": (2, 1, 2), "rate": 8000, "seconds": 0.4}
    place = {weights: data / one.place for weights, (_, one) in WEIGHTS.items()}
    place[name].parent.mkdir(parents=True)
    if name == "dcase2024":
        make_clotho(data, rng, **sizes)
        tokenizer = baseline_tokenizer()
        tensors = captioner_tensors(len(tokenizer["model"]["vocab"]))
        may_repeat = {"forbid_rep_mask": torch.ones(len(tokenizer["model"]["vocab"]), dtype=torch.bool)}
        torch.save({"state_dict": tensors | may_repeat}, place[name])
        place["dcase2024_tokenizer"].write_text(json.dumps(tokenizer), encoding="utf-8")
        torch.save({"model": convnext_tensors()}, place[Study.load("clotho").encoder.weights])
    else:
        make_audiocaps(data, rng, broken=False, **sizes)
        save_file(conette_tensors(), place[name])
    small = {
        "scoring": {"bands": 1, "memory": "200MB"},
        "retrieval": {"bank_clips": 2, "bank_captions": 4, "tune_clips": 1},
        "before_after": {"other_clips": 1},
    }
    made = jobs_done(name, capsys, small, "--data", str(data))
    assert {"captioner/published", "captions/base-1234", "losses/base-1234", "before_after/base-1234"} <= set(
        made
    )
    study = Study.load(name, {"corpus": {"root": str(data)}})
    assert plan.captioner(study, "base", 1234).parameters["file"] == str(place[name])


@pytest.mark.xdist_group("pages")
@runs("make study STUDY=recordings")
def test_scenes_of_recordings(command, esc, apart, capsys):  # noqa: F811
    """The page on a miniature of ESC-50 and a file of YAMNet's layers: all its notebooks read."""
    weights = apart / "data" / WEIGHTS["yamnet"][1].place
    weights.parent.mkdir(parents=True)
    weights.write_bytes(flatbuffer(described()))
    weights.with_name("yamnet_class_map.csv").write_text(
        "index,mid,display_name\n" + "".join(f"{i},/m/{i},sound {i}\n" for i in range(521))
    )
    small = TINY | {"corpus": TINY["corpus"] | {"tagging_train": 0, "tagging_test": 0}}
    made = jobs_done("recordings", capsys, small, "--data", str(esc[0]))
    assert {"encoder/yamnet", "captioner/positions-1", "losses/base-1", "before_after/positions-1"} <= set(
        made
    )


# --- files of one's own -------------------------------------------------------------------------


@runs(".venv/bin/python -m aacstudy check-data path/to/folder")
def test_the_recordings_of_the_readme(command, tmp_path):
    """Its own captions.csv, with sounds of those names."""
    folder = tmp_path / "path" / "to" / "folder"
    folder.mkdir(parents=True)
    (table,) = (block for _, block in FENCE.findall(README) if block.startswith("file_name,caption_1"))
    (folder / "captions.csv").write_text(table)
    for name in ("bell.wav", "dog.flac"):
        soundfile.write(folder / name, 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    shown = typed(words(command), tmp_path, dict(os.environ))
    assert "test: 2 clips of 1.0 to 1.0 s, 3 captions" in shown and shown.endswith("nothing wrong found\n")


@runs("python -m aacstudy evaluate candidates.csv references.csv")
def test_captions_of_any_system(command, tmp_path, monkeypatch, capsys):
    """With every metric that a machine without Java has; METEOR has its own tests, and takes its
    time.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(assets, "find_java", lambda: (None, ""))
    Path("candidates.csv").write_text("file_name,caption\na.wav,a dog barks\nb.wav,rain falls\n")
    Path("references.csv").write_text(
        "file_name,caption_1,caption_2\na.wav,A dog barks.,a dog\nb.wav,Rain is falling,\n"
    )
    assert ours(command) == 0
    shown = capsys.readouterr().out
    assert re.search(r"CIDEr-D +\d+\.\d+ \[", shown) and re.search(r"METEOR +not computed: needs Java", shown)


# --- downloads ----------------------------------------------------------------------------------


@pytest.fixture
def public(server, tmp_path, monkeypatch):  # noqa: F811
    """Our server in place of the public ones: each address is asked for there, and has its
    content's checksum.
    """

    def rerouted(remote, folder, source=None):
        path = urlsplit(remote.url).path
        content = server.files.setdefault(path, CONTENT[:1000])
        checksum = f"md5:{hashlib.md5(content).hexdigest()}" if remote.checksum else ""
        return fetch(Remote(remote.place, server.url + path, checksum, remote.growth), folder)

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sets, "fetch", rerouted)
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.chdir(tmp_path)
    return server


@runs(".venv/bin/python -m aacstudy download clotho", ".venv/bin/python -m aacstudy check-data clotho data")
def test_clotho_is_fetched_and_checked(command, public, tmp_path, monkeypatch, capsys):
    """A miniature of Clotho in archives; what is fetched is what is checked."""
    base = make_clotho(tmp_path / "home", np.random.default_rng(0), sizes=(8, 2, 2), rate=8000)
    for name in sets.CLOTHO_MD5:
        split = name.rpartition("_")[2].partition(".")[0]
        file = base / "clotho_csv_files" / name
        if name.endswith(".7z"):
            file = seven_zip(tmp_path / name, base / "clotho_audio_files" / split)
        public.files[f"/records/4783391/files/{name}"] = file.read_bytes()
    monkeypatch.setattr(sets, "CLOTHO_CLIPS", {"development": 8, "validation": 2, "evaluation": 2})
    (fetched,) = (one for one in commands(README) if " download clotho" in one)
    assert ours(fetched.partition("#")[0]) == 0
    assert f"Clotho v2.1 in {tmp_path / 'data' / 'CLOTHO_v2.1'}" in capsys.readouterr().out
    if "check-data" in command:
        assert ours(command) == 0
        shown = capsys.readouterr().out
        assert "train: 8 clips" in shown and "test: 2 clips" in shown and "nothing wrong found" in shown


@runs(".venv/bin/python -m aacstudy download convnext", "download dcase2024", "download conette")
def test_weights_are_fetched(command, public, tmp_path, capsys):
    listing = [{"path": "model.safetensors", "lfs": {"oid": "0" * 64}}, {"path": "config.json"}]
    public.files["/api/models/Labbeti/conette/tree/main"] = json.dumps(listing).encode()
    assert ours(command) == 0
    assert "weights in " in capsys.readouterr().out
    name = command.split()[-1]
    for brought_by, one in WEIGHTS.values():
        assert (tmp_path / "data" / one.place).exists() == (
            brought_by == name or (name, brought_by) == ("dcase2024", "convnext")
        )


@runs(".venv/bin/python -m aacstudy download esc50 yamnet")
def test_recordings_and_their_encoder_are_fetched(command, public, tmp_path, monkeypatch, capsys):
    esc50(tmp_path / "home" / "ESC-50-master")
    archive = shutil.make_archive(str(tmp_path / "master"), "zip", tmp_path / "home")
    public.files[urlsplit(sets.ESC50.url).path] = Path(archive).read_bytes()
    monkeypatch.setattr(sets, "ESC50_SIZE", (8, 4, 2))
    assert ours(command) == 0
    assert "ESC-50: 8 of 8 clips" in capsys.readouterr().out
    assert (tmp_path / "data" / WEIGHTS["yamnet"][1].place).stat().st_size == 1000


@runs("download audiocaps-captions")
def test_captions_of_audiocaps_are_fetched(command, public, tmp_path, monkeypatch, capsys):
    made = make_audiocaps(tmp_path / "home", np.random.default_rng(0), rate=8000)
    rows = {}
    for split in sets.AUDIOCAPS_ROWS:
        public.files[f"/cdjkim/audiocaps/{sets.AUDIOCAPS_COMMIT}/dataset/{split}.csv"] = (
            made / f"{split}.csv"
        ).read_bytes()
        rows[split] = len((made / f"{split}.csv").read_text().splitlines()) - 1
    monkeypatch.setattr(sets, "AUDIOCAPS_ROWS", rows)
    assert ours(command) == 0
    assert "audio cannot be downloaded here" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "data" / "AUDIOCAPS").iterdir()) == [
        "test.csv",
        "train.csv",
        "val.csv",
    ]


@runs(".venv/bin/python -m aacstudy download metrics")
def test_what_metrics_need_is_fetched(command, public, tmp_path, monkeypatch, capsys):
    """aac-metrics' own downloads are stood in for by files of those names; all else is what the
    command does.
    """
    root, asked, run = tmp_path / "data" / "metrics", [], subprocess.run

    def lay_down(job):
        models = {"spice": (), "fense": (assets.SENTENCES, "bert-base-uncased")}[job]
        for model in models:
            snapshot = root / "huggingface" / f"models--{model.replace('/', '--')}" / "snapshots" / "one"
            snapshot.mkdir(parents=True)
            (snapshot / "config.json").touch()
            (snapshot / "model.safetensors").touch()
        for place in assets.SPICE if job == "spice" else ():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).touch()
        if job == "fense":
            (root / "fense_data").mkdir()
            torch.save({"model_type": models[1]}, root / "fense_data" / assets.FLUENCY)

    def stood_in(given, **options):
        if "download_metrics" not in given[-1]:
            return run(given, **options)
        asked.append(re.search(r"'(\w+)': True", given[-1])[1])
        lay_down(asked[-1])
        return subprocess.CompletedProcess(given, 0)

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("AAC_METRICS_CACHE_PATH", "FENSE_DATA", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sets.requests, "head", lambda url, timeout: None)
    monkeypatch.setattr(sets.subprocess, "run", stood_in)
    assert ours(command) == 0
    assert asked == ["spice", "fense"] and f"metrics in {root}" in capsys.readouterr().out
    ready = assets.find(root)
    assert ready.meteor and ready.spice and ready.sentences and ready.fluency
