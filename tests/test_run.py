"""Whole studies at smoke size: every notebook executed, nothing twice, only what changed again."""

import json
import re

import nbformat
import pytest

from aacstudy.analysis.scorecard import rows
from aacstudy.study.parameters import default_notebooks
from aacstudy.study.run import config

NOTEBOOKS = default_notebooks()
WANTED = [
    "tagging.map", "t2a.hit@1", "a2t.raw.hit@1", "a2t.min_max.hit@1", "a2t.z.hit@1", "variance.caption",
        "bat.accuracy",
    "bat.blind", "bat.positions.accuracy", "bat.positions.blind",
]  # fmt: skip


def test_every_notebook_leaves_a_page_without_errors(smoke):
    folder = smoke.reports / "smoke"
    for name in NOTEBOOKS:
        executed = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
        kinds = [output.output_type for cell in executed.cells for output in cell.get("outputs", [])]
        assert kinds and "error" not in kinds
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert len(page) < 5_000_000
        record = json.loads((folder / "pages" / f"{name}.json").read_text(encoding="utf-8"))
        assert record["answer"] and (record["provenance"]["artifacts"] or name == "09_scorecard")
        for figure in record["figures"]:
            assert (folder / figure["file"]).stat().st_size > 1000
        assert re.sub(r"[*_`]", "", record["answer"].split()[0]) in page


def test_results_have_the_promised_keys(smoke):
    results = json.loads((smoke.reports / "smoke" / "results.json").read_text())
    for key in WANTED:
        assert results[f"{key}.low"] <= results[key] <= results[f"{key}.high"], key
        assert results[f"{key}.n"] > 0
    seeds = [key for key in results if key.startswith("t2a.hit@1.seed_")]
    assert seeds == ["t2a.hit@1.seed_1", "t2a.hit@1.seed_2"]
    assert results["t2a.hit@1"] == pytest.approx(sum(results[key] for key in seeds) / 2)
    assert results["chance.t2a.hit@1"] == pytest.approx(1 / 16)
    assert results["n.audios"] == 16 and results["n.captions"] == 80


def test_the_scorecard_judges_all_that_the_study_measured(smoke):
    """What is not tested needs another corpus or the ablations; a claim that found no numbers would
    be one more.
    """
    results = json.loads((smoke.reports / "smoke" / "results.json").read_text())
    missing = [(row.id, row.published) for row in rows(results, "soundscapes", NOTEBOOKS) if not row.measured]
    assert [name for name, _ in missing] == ["C1", "C3", "C6", "C7", "Q5", "Q6"]
    assert all(published for name, published in missing if name in ("C1", "C3"))


def test_results_keys_are_documented(smoke):
    from conftest import PROJECT

    text = (PROJECT / "reports" / "README.md").read_text(encoding="utf-8")
    results = json.loads((smoke.reports / "smoke" / "results.json").read_text())
    for key in results:
        family = key.split(".")[0]
        assert re.search(rf"`{family}\.", text), f"{key}: reports/README.md says nothing of {family}.*"


def test_index_shows_questions_answers_and_intervals(smoke):
    index = (smoke.reports / "smoke" / "index.html").read_text(encoding="utf-8")
    assert "Text-to-audio hit@1" in index and "Before-After accuracy" in index
    for name in NOTEBOOKS:
        assert f'href="{name}.html"' in index
    assert "not run yet" not in index


def test_killed_run_was_resumed_not_repeated(smoke):
    # The corpus was whole before the kill, so the second run must not have made it again.
    assert "making corpus" not in smoke.output
    assert "making encoder" in smoke.output


def test_second_run_does_nothing_and_says_so(smoke):
    before = {path: path.stat().st_mtime_ns for path in smoke.reports.rglob("*") if path.is_file()}
    status, output = smoke.aacstudy("run", "smoke", "--cores", "2")
    assert status == 0 and "Nothing to be done" in output, output
    assert before == {path: path.stat().st_mtime_ns for path in smoke.reports.rglob("*") if path.is_file()}


def _changed(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("notebooks/02_encoder.ipynb", "Which sounds are hard?", "Which are hard?", ["index",
            "notebook 02_encoder", "notebook 09_scorecard"]),
        ("aacstudy/analysis/retrieval/hubness.py", '"""', '"""Edited. ', []),  # a docstring
        ("aacstudy/analysis/retrieval/hubness.py", "import numpy as np", "import numpy as np\nUNUSED = 1", [
            "index", "notebook 06_bias", "notebook 09_scorecard"]),
        ("studies/smoke.yml", "resamples: 200", "resamples: 201", ["index", *[f"notebook {name}" for name in NOTEBOOKS]]),
    ],
)  # fmt: skip
def test_only_what_changed_runs_again(smoke, file, old, new, again):
    assert smoke.planned() == []
    original = _changed(smoke.folder / file, old, new)
    try:
        assert smoke.planned() == again
    finally:
        (smoke.folder / file).write_text(original, encoding="utf-8")
    assert smoke.planned() == []


def test_a_changed_seed_trains_that_seed_only(smoke):
    original = _changed(smoke.folder / "studies/smoke.yml", "seeds: [1, 2]", "seeds: [1, 3]")
    try:
        jobs = [job.split("-")[0:2] for job in smoke.planned() if job.startswith("captioner")]
    finally:
        (smoke.folder / "studies/smoke.yml").write_text(original, encoding="utf-8")
    assert jobs == [["captioner base", "3"], ["captioner positions", "3"]]


def test_own_recordings_are_scored_by_the_trained_captioner(smoke, recordings):
    status, output = smoke.aacstudy("run", "own_smoke", "--data", str(recordings), "--cores", "2")
    assert status == 0, output
    assert "making captioner" not in output and "making frames folder" in output
    folder = smoke.reports / "own_smoke"
    results = json.loads((folder / "results.json").read_text())
    assert results["n.audios"] == 6 and results["n.captions"] == 18
    assert 0 <= results["a2t.min_max.hit@1"] <= 1
    for page in folder.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script>alert(" not in text, f"{page.name}: a caption's HTML was not escaped"
        assert str(recordings) not in text, f"{page.name}: shows where the recordings lie"


def test_bad_recordings_stop_before_anything_is_trained(smoke, recordings, tmp_path):
    (tmp_path / "captions.csv").write_text("file_name,caption_1\nmissing.wav,A sound.\n")
    before = set(smoke.artifacts.rglob("artifact.json"))
    status, output = smoke.aacstudy("run", "own_smoke", "--data", str(tmp_path))
    assert status == 2 and "captions.csv, line 2, file_name" in output and "missing.wav" in output, output
    assert "Traceback" not in output
    assert before == set(smoke.artifacts.rglob("artifact.json"))


def test_notebook_makes_what_is_missing(smoke):
    """As in JupyterLab: no driver, no report folder; the notebook asks for an artifact that is not
    there.
    """
    import papermill

    plan = smoke.aacstudy("plan", "smoke")[1]
    made = smoke.artifacts / next(line.split()[-1] for line in plan.splitlines() if "losses/base-1-" in line)
    aside = made.rename(made.with_name("aside"))
    environment = dict(smoke.environment)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            patch.delenv("AACSTUDY_REPORT", raising=False)
            source, output = smoke.folder / "notebooks" / "05_retrieval.ipynb", smoke.folder / "by_hand.ipynb"
            papermill.execute_notebook(
                str(source),
                str(output),
                {"study": "smoke"},
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
            )
        assert (made / "artifact.json").exists()
        executed = nbformat.read(output, as_version=4)
        said = "".join(o.get("text", "") for cell in executed.cells for o in cell.get("outputs", []))
        assert "is not there yet; making it" in said
    finally:
        if not made.exists():
            aside.rename(made)


def test_papermill_with_a_study_file_gives_that_study(smoke):
    import papermill
    import yaml

    values = yaml.safe_load((smoke.folder / "studies" / "smoke.yml").read_text())
    output = smoke.folder / "with_file.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        for key, value in smoke.environment.items():
            patch.setenv(key, value)
        source = smoke.folder / "notebooks" / "01_corpus.ipynb"
        papermill.execute_notebook(
            str(source),
            str(output),
            values,
            kernel_name="python3",
            cwd=str(source.parent),
            progress_bar=False,
        )
        with pytest.raises(
            papermill.PapermillExecutionError, match=r"corpus\.trian is not a parameter; did you mean train"
        ):
            papermill.execute_notebook(
                str(source), str(output), {"study": "smoke", "corpus": {"trian": 3}}, kernel_name="python3",
                cwd=str(source.parent), progress_bar=False,
            )  # fmt: skip


def test_slurm_profile_plans_the_same_jobs(smoke):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    profile = ("--profile", "workflow/profiles/slurm", "--quiet", "host")
    run = smoke.snakemake("-n", *profile, "--config", *config("smoke", {"seeds": [9]}))
    text, _ = run.communicate(timeout=300)
    assert run.returncode == 0, text
    assert "mem_mb=8000" in text and "bands/base-9-2of2" in text


def test_ablations_end_in_a_scorecard_with_every_claim(smoke):
    """Another encoder, one that learns on, another loss and another corpus, beside the study
    itself.
    """
    overrides = {
        "study": "smoke_ablations",
        "notebooks": ["02_encoder", "08_ablations", "09_scorecard"],
        "seeds": [1],
        "scoring": {"bands": 1},
        "ablations": {"pages": ["cnn14", "finetuned", "smoothed"], "elsewhere": ["other_sounds"]},
    }
    status, output = smoke.aacstudy("run", "smoke", "--overrides", json.dumps(overrides), "--cores", "2")
    assert status == 0, output
    # what a change leaves alone is the study's own, not made again
    assert "making captioner smoothed" not in output and "making captions smoothed" not in output
    assert output.count("making encoder") == 2
    folder = smoke.reports / "smoke_ablations"
    results = json.loads((folder / "results.json").read_text())
    for page in ("cnn14", "finetuned", "smoothed"):
        for measure in ("t2a.hit@1", "a2t.min_max.hit@1", "captioning.cider_d"):
            key = f"ablation.{page}.{measure}.minus_base"
            assert results[f"{key}.low"] <= results[key] <= results[f"{key}.high"]
    assert 0 < results["ablation.cnn14.tagging.map"] < 1
    for pair in ("base_on_other_sounds", "other_sounds_on_base"):
        assert 0 < results[f"transfer.{pair}.caption"] < 1
    claims = json.loads((folder / "pages" / "09_scorecard.json").read_text())["scorecard"]
    judged = {
        row["id"]: row["verdict"]
        for row in claims
        if row["verdict"] and not row["verdict"].startswith("not tested")
    }
    assert {"C7", "Q5", "Q6"} <= set(judged) and "C6" not in judged  # this study has no chapter 7
