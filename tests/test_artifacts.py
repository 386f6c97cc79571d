"""Artifacts: made once, whole or not at all, and again when anything that made them changes."""

import json
import multiprocessing
import os
import textwrap
import time

import pytest
from builders import stage

from aacstudy import paths
from aacstudy.study import artifacts
from aacstudy.study.artifacts import Artifact, imported_modules, module_digest, reached


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def forget() -> None:
    """What this process knows of the package's code."""
    artifacts._parsed.cache_clear()
    module_digest.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own in place of aacstudy's code; call it to write modules."""
    folder = tmp_path / "aacstudy"
    monkeypatch.setattr(artifacts, "PACKAGE", folder)

    def write(**modules: str) -> None:
        for name, text in modules.items():
            path = folder / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        forget()

    yield write
    forget()


def write_once(artifact, folder, cores):
    """Count in a file beside the artifacts how often this ran."""
    with open(paths.artifacts() / "runs.txt", "a") as file:
        file.write(f"{artifact.label}\n")
    (folder / "text.txt").write_text(f"{artifact.parameters['n']} on {cores}")


def runs() -> list[str]:
    path = paths.artifacts() / "runs.txt"
    return path.read_text().split() if path.exists() else []


def simple(label: str = "one", n: int = 1, inputs: tuple = ()) -> Artifact:
    return Artifact("stage", label, {"n": n}, inputs, stage(write_once))


# --- keys ---------------------------------------------------------------------------------------


def test_key_covers_stage_parameters_and_inputs():
    key = simple().key
    assert len(key) == 12 and int(key, 16) >= 0
    assert simple("other name").key == key  # a label is only a name
    assert simple(n=2).key != key
    assert Artifact("other", "one", {"n": 1}, (), stage(write_once)).key != key
    assert simple(inputs=(simple(),)).key != key
    assert simple(inputs=(simple(n=5),)).key != simple(inputs=(simple(n=6),)).key
    deep = [simple(inputs=(simple(inputs=(simple(n=n),)),)) for n in (1, 2)]
    assert deep[0].key != deep[1].key
    ordered = [Artifact("s", "l", p, (), stage(write_once)).key for p in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    assert ordered[0] == ordered[1]


def digest(*modules: str) -> str:
    return module_digest(tuple(f"aacstudy.{name}" for name in modules))


def test_key_covers_the_code_alone(package):
    def of(text: str) -> str:
        package(a=text)
        return digest("a")

    plain = of("def f():\n    x = 1\n")
    assert plain == of("def f():\n    x = 1  # the first\n")
    assert plain == of('"""Module."""\n\ndef f():\n    """What it does."""\n\n    x    =   1\n')
    assert plain != of("def f():\n    x = 2\n") and plain != of("def f():\n    y = 1\n")


def test_key_covers_imported_modules_however_deep(package):
    far = '"""Far."""\nimport numpy\n\nVALUE = 1  # one\n'
    near = "def f():\n    from aacstudy.sub.far import VALUE\n"

    def after(**modules: str) -> str:
        package(**modules)
        return digest("near")

    before = after(near=near, sub__far=far, other="A = 1")
    assert after(sub__far='"""Far away."""\nimport numpy\nVALUE = 1  # still one\n') == before
    assert after(sub__far=far.replace("1", "2", 1)) != before
    assert after(sub__far=far) == before
    assert after(other="A = 2") == before  # nobody imports it
    assert after(near="def f():\n    import aacstudy.sub.far\n    return 0\n") != before


def test_a_module_may_move(package, tmp_path):
    package(
        near="from aacstudy.far import f as g\nfrom aacstudy import far as h\n", far="def f(): return 1\n"
    )
    before = digest("near")
    (tmp_path / "aacstudy" / "far.py").unlink()
    package(
        near="from .sub.away import f as g\nfrom aacstudy.sub import away as h\n",
        sub__away="def f(): return 1\n",
    )
    assert reached(["aacstudy.near"]) == {"aacstudy.near", "aacstudy.sub.away"}
    assert digest("near") != before  # what is called otherwise is other code ...
    package(near="from .sub.away import f as g\nfrom aacstudy.sub import away as far\n")
    package(far="", near="from .sub.away import f as g\n")
    moved = digest("near")
    package(near="from aacstudy.far import f as g\n", far="def f(): return 1\n")
    assert digest("near") == moved  # ... but not what lies elsewhere


@pytest.mark.parametrize(
    "statement",
    [
        "from . import b",
        "from .b import g",
        "from .. import sub",
        "from ..sub.b import g",
        "from aacstudy.sub import b",
        "import aacstudy.sub.b as c",
    ],
)
def test_key_follows_every_way_to_import(package, statement):
    package(sub__a=f"{statement}\n", sub____init__="from .b import g\n", sub__b="def g(): return 1\n")
    before = digest("sub.a")
    package(sub__b="def g(): return 2\n")
    assert digest("sub.a") != before


def test_key_follows_the_c_beside_a_module(package, tmp_path):
    package(fast="x = 1\n", apart="")
    found = {digest("fast")}
    for text in ("int x = 1;", "int x = 2;"):
        (tmp_path / "aacstudy" / "fast.c").write_text(text)
        package()
        found.add(digest("fast"))
    assert len(found) == 3


def test_imported_modules_are_those_of_the_package(package):
    package(page="", apart="")
    text = "import os\nfrom aacstudy import page, nothing\nfrom aacstudyx import y"
    assert imported_modules(text) == ["aacstudy.page"]


def test_circles_end(package):
    package(a="import aacstudy.b\n", b="import aacstudy.a\n")
    assert digest("a") == digest("b")


def test_options_text_is_no_code(package):
    """Their values stand in the parameters; a new default must not make everything stale."""
    package(options="O = 1", a="from aacstudy.options import O")
    before = digest("a")
    package(options="O = 2")
    assert digest("a") == before


def test_texts_that_stand_alone_are_no_code(package):
    package(a='"""First."""\n"""Second."""\nX = 1\n\nclass C:\n    """Doc."""\n    "more"\n')
    before = digest("a")
    package(a="X = 1\n\nclass C:\n    pass\n")
    assert digest("a") == before
    package(a="X = 'First.'\n\nclass C:\n    pass\n")
    assert digest("a") != before


# --- making -------------------------------------------------------------------------------------


def test_made_once_with_inputs_first(kept, capsys):
    first = simple("first")
    second = simple("second", inputs=(first,))
    path = second.make(cores=3)
    assert path == kept / "stage" / f"second-{second.key}"
    assert (path / "text.txt").read_text() == "1 on 3"
    assert runs() == ["first", "second"]
    record = second.record()
    assert record == json.loads((path / "artifact.json").read_text())
    assert record["inputs"] == [f"stage/{first.name}"] and record["parameters"] == {"n": 1}
    assert record["key"] == second.key and record["seconds"] >= 0
    assert "making stage second" in capsys.readouterr().err
    assert second.make() == path and first.make().exists()
    assert runs() == ["first", "second"]
    assert capsys.readouterr().err == ""
    assert not list(kept.rglob("*.part"))


def test_a_whole_artifact_does_not_ask_for_its_inputs():
    first = simple("first")
    second = simple("second", inputs=(first,))
    second.make()
    (first.path / "artifact.json").unlink()
    second.make()
    assert runs() == ["first", "second"]


def test_another_parameter_another_folder():
    one, two = simple(n=1).make(), simple(n=2).make()
    assert one != two and (one / "text.txt").read_text() == "1 on 1" and runs() == ["one", "one"]


def resumes(artifact, folder, cores):
    """Fails the first time, after half of the work; the second time does the other half."""
    if not (folder / "half.txt").exists():
        (folder / "half.txt").write_text("epoch 1")
        raise RuntimeError("killed")
    (folder / "whole.txt").write_text((folder / "half.txt").read_text() + ", epoch 2")


def test_a_failed_build_leaves_nothing_whole_and_is_resumed(kept):
    artifact = Artifact("training", "a", {}, (), stage(resumes))
    with pytest.raises(RuntimeError, match="killed"):
        artifact.make()
    assert not artifact.path.exists() and not artifact.stamp.exists()
    assert [path.name for path in kept.rglob("half.txt")] == ["half.txt"]
    assert (artifact.make() / "whole.txt").read_text() == "epoch 1, epoch 2"
    assert not list(kept.rglob("*.part"))


def test_a_failing_input_stops_what_needs_it():
    bad = Artifact("training", "bad", {}, (), stage(resumes))
    needs = simple("needs", inputs=(bad,))
    with pytest.raises(RuntimeError):
        needs.make()
    assert runs() == [] and not needs.path.exists()


def test_a_folder_without_stamp_is_made_again():
    artifact = simple()
    artifact.make()
    artifact.stamp.unlink()
    (artifact.path / "text.txt").write_text("somebody's hand")
    (artifact.path / "left.txt").write_text("over")
    artifact.make()
    assert (artifact.path / "text.txt").read_text() == "1 on 1"
    assert not (artifact.path / "left.txt").exists()
    assert runs() == ["one", "one"]


@pytest.mark.parametrize("harm", ["missing", "cut", "one bit", "stamp", "no list"])
def test_what_is_not_as_it_was_made_is_named(harm):
    """An input that lost a file or a bit is refused where it is read, with what to do."""
    artifact, wants = simple(), {"cut": "text.txt is cut or changed", "one bit": "text.txt is changed"}
    file = artifact.make() / "text.txt"
    if harm == "missing":
        file.unlink()
    elif harm == "stamp":
        artifact.stamp.write_text("{")
    elif harm == "no list":
        artifact.stamp.write_text("{}")
    else:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] if harm == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    said = wants.get(harm, "text.txt is missing" if harm == "missing" else "artifact.json is damaged")
    with pytest.raises(ValueError, match=f"{artifact.name}: {said}; remove the folder"):
        simple("needs it", inputs=(artifact,)).make()
    assert runs() == ["one"]


def leaves_epochs(artifact, folder, cores):
    (folder / "resume.pt").write_text("epochs")


def test_what_a_killed_run_resumes_from_goes_last():
    artifact = Artifact("training", "a", {}, (), stage(leaves_epochs))
    assert [path.name for path in artifact.make().iterdir()] == ["artifact.json"]
    assert artifact.record()["files"] == {}
    artifact.make()


def _make_together(barrier) -> None:
    barrier.wait()
    simple("slow", n=7).make()


def test_two_processes_make_it_once(kept):
    kept.mkdir()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_make_together, args=(barrier,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert runs() == ["slow"]
    assert simple("slow", n=7).stamp.exists()


def test_closure_is_inputs_first_each_once():
    corpus = simple("corpus", n=0)
    encoder = simple("encoder", n=1, inputs=(corpus,))
    frames = simple("frames", n=2, inputs=(corpus, encoder))
    again = simple("corpus", n=0)  # equal, but not the same object
    losses = simple("losses", n=3, inputs=(again, frames))
    assert [one.label for one in losses.closure()] == ["corpus", "encoder", "frames", "losses"]
    assert [one.label for one in corpus.closure()] == ["corpus"]


def test_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("AACSTUDY_ARTIFACTS")
    monkeypatch.setenv("AACSTUDY_ROOT", str(tmp_path))
    assert paths.artifacts() == tmp_path.resolve() / "artifacts"
    monkeypatch.setenv("AACSTUDY_ARTIFACTS", os.path.relpath(tmp_path / "x"))
    assert paths.artifacts() == tmp_path.resolve() / "x"


# --- the real stages ----------------------------------------------------------------------------


def test_a_plan_is_quick():
    """Every Snakemake job plans the study anew; each module is parsed once for all artifacts."""
    from aacstudy.study import run
    from aacstudy.study.parameters import Study

    forget()
    started = time.process_time()
    keys = [artifact.key for artifact in run.everything(Study.load("demo"))]
    assert len(set(keys)) > 20
    # 0.3 measured; 12 when each artifact parsed its modules again
    assert time.process_time() - started < 5


def test_real_keys_follow_the_parameters_that_matter():
    from aacstudy.study import run
    from aacstudy.study.parameters import Study

    study = Study.load("smoke")

    def stale(**overrides) -> set[str]:
        other = Study.load("smoke", overrides)
        before, after = (list(run.everything(one)) for one in (study, other))
        return {a.stage for a, b in zip(before, after, strict=True) if a.key != b.key}

    every = {a.stage for a in run.everything(study)}
    assert every == {
        "corpus",
        "encoder",
        "frames",
        "captioner",
        "captions",
        "bands",
        "losses",
        "bank",
        "before_after",
        "peer",
        "zero_shot",
    }
    assert stale(description="other words") == set()
    assert stale(statistics={"resamples": 10}) == set()
    assert stale(decoding={"beam": 1}) == {"captions"}
    assert stale(before_after={"other_clips": 3}) == {"before_after"}
    assert stale(training={"epochs": 3}) == every - {"corpus", "encoder", "frames", "peer"}
    assert stale(peer={"epochs": 3}) == {"peer"}
    assert stale(retrieval={"bank_clips": 20}) == {"bank", "zero_shot"}
    assert stale(tagging={"epochs": 3}) == every - {"corpus"}
    assert stale(corpus={"seed": 1}) == every
    assert stale(corpus={"root": "/elsewhere"}) == set()  # soundscapes have none
