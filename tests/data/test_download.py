"""Downloads, against a server on this machine: resumed, checked, whole or not at all, one process or several."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinygrad_nn.data import download as module
from tinygrad_nn.data.download import Remote, download
from tinygrad_nn.errors import DataError

CONTENT = random.Random(0).randbytes(300_000)
PACKED = gzip.compress(CONTENT)
FILE = Remote("file", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """Serves PACKED below different folders, each with a fault of its own; notes what was asked for."""

    def do_GET(self):
        fault = self.path.split("/")[1]
        server = self.server
        asked = self.headers.get("Range")
        start = int(asked[6:-1]) if asked else 0
        with server.guard:
            server.requests.append((fault, start))
            number = len(server.requests)
        body = {
            "wrong": gzip.compress(CONTENT[:-1] + b"?"),
            "short": gzip.compress(CONTENT[:-1]),
            "long": gzip.compress(CONTENT + b"?"),
            "html": b"<html>Please log in to this network</html>",
            "raw": CONTENT,
            "endless": bytes(FILE.size + (3 << 20)),
        }.get(fault, PACKED)
        if fault == "absent":
            return self.send_error(404)
        if fault == "deaf" or not asked:
            self.send_response(200)
            start = 0
        elif start >= len(body):
            return self.send_error(416)
        else:
            self.send_response(206)
            first = 0 if fault == "confused" else start
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if fault != "endless":
            self.send_header("Content-Length", "x" if fault == "vague" else str(len(body) - start))
        self.end_headers()
        body = body[start:]
        if fault == "drops" or (fault == "drops_once" and number == 1):
            return self.wfile.write(body[:100_000])
        if fault == "cuts":
            return None
        if fault == "hangs" or (fault == "hangs_once" and number == 1):
            self.wfile.write(body[:100_000])
            return server.stop.wait(60)
        if fault == "slow":
            for i in range(0, len(body), 20_000):
                self.wfile.write(body[i : i + 20_000])
                time.sleep(0.02)
            return None
        return self.wfile.write(body)

    def handle(self):
        with suppress(ConnectionError):  # the other side had enough
            super().handle()

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.guard, server.stop = [], threading.Lock(), threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def get(server, folder, *faults):
    return download(FILE, [f"{server.url}/{fault}/" for fault in faults], folder)


def part(server, folder, fault):
    return folder / f"file.gz.{module._tag(f'{server.url}/{fault}/')}.part"


def assert_good(path):
    assert path.name == "file.gz"
    assert gzip.decompress(path.read_bytes()) == CONTENT
    assert sorted(os.listdir(path.parent)) == ["file.gz", "lock"]


def test_a_download_and_no_second_one(server, tmp_path, capsys):
    folder = tmp_path / "made" / "on" / "demand"
    assert_good(get(server, folder, "good"))
    assert_good(get(server, folder, "good"))
    assert server.requests == [("good", 0)]
    assert "file" in capsys.readouterr().err  # the progress bar, by its name


def test_an_uncompressed_mirror_will_do(server, tmp_path):
    assert get(server, tmp_path, "raw").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong", "300000 bytes with SHA-256 .* came, instead of 300000 with"),
        ("short", "299999 bytes with SHA-256"),
        ("long", "more than 300001 bytes"),
        ("html", "42 bytes with SHA-256"),
        ("absent", "HTTPError: HTTP Error 404: Not Found"),
        ("endless", "sends far more bytes than the file has"),
        ("cuts", "the connection ended after 0 of"),
    ],
)
def test_a_bad_mirror_is_left_for_the_next(server, tmp_path, fault, reason):
    with pytest.raises(DataError, match=reason):
        get(server, tmp_path / "alone", fault)
    assert not (tmp_path / "alone" / "file.gz").exists()
    assert_good(get(server, tmp_path / "both", fault, "good"))
    assert server.requests == [(fault, 0), (fault, 0), ("good", 0)]


def test_a_mirror_that_does_not_say_how_long_the_file_is(server, tmp_path):
    assert_good(get(server, tmp_path, "vague"))


def test_a_dropped_connection_is_taken_up_again(server, tmp_path):
    assert_good(get(server, tmp_path, "drops_once"))
    assert server.requests == [("drops_once", 0), ("drops_once", 100_000)]


def test_it_goes_on_as_long_as_something_comes(server, tmp_path):
    assert_good(get(server, tmp_path, "drops"))
    assert [start for _, start in server.requests] == [0, 100_000, 200_000, 300_000]


def test_a_connection_that_hangs_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(DataError, match=r"TimeoutError|timed out"):
        get(server, tmp_path, "hangs")


def test_what_an_earlier_process_left_is_continued(server, tmp_path):
    part(server, tmp_path, "good").write_bytes(PACKED[:123_456])
    assert_good(get(server, tmp_path, "good"))
    assert server.requests == [("good", 123_456)]


def test_a_complete_part_needs_only_its_check(server, tmp_path):
    part(server, tmp_path, "good").write_bytes(PACKED)
    assert_good(get(server, tmp_path, "good"))
    assert server.requests == [("good", len(PACKED))]  # answered with 416


@pytest.mark.parametrize("left", [b"rubbish" * 1000, PACKED + b"rubbish"])
def test_a_bad_part_is_thrown_away(server, tmp_path, left):
    part(server, tmp_path, "good").write_bytes(left)
    assert_good(get(server, tmp_path, "good"))
    assert server.requests == [("good", len(left)), ("good", 0)]


def test_a_part_of_another_mirror_is_not_mixed_in_and_goes_in_the_end(server, tmp_path):
    part(server, tmp_path, "wrong").write_bytes(b"rubbish")
    assert_good(get(server, tmp_path, "good"))
    assert server.requests == [("good", 0)]


@pytest.mark.parametrize("fault", ["deaf", "confused"])
def test_servers_that_do_not_resume(server, tmp_path, fault):
    part(server, tmp_path, fault).write_bytes(PACKED[:1000])
    assert_good(get(server, tmp_path, fault))


def test_no_network(tmp_path):
    with pytest.raises(DataError) as caught:
        download(FILE, ["http://127.0.0.1:1/a/", "http://127.0.0.1:1/b/", "no url"], tmp_path)
    text = str(caught.value)
    for part_of_it in (
        f"file is not in {tmp_path} and could not be downloaded:",
        "http://127.0.0.1:1/a/file.gz: URLError",
        "http://127.0.0.1:1/b/file.gz: ",
        "no urlfile.gz: ValueError: unknown url type",
        "Get file.gz by other means into a folder `mnist`, and set TINYGRAD_NN_DATA",
    ):
        assert part_of_it in text


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"file cannot be kept in .*taken.*set TINYGRAD_NN_DATA"):
        get(server, tmp_path / "taken", "good")
    assert server.requests == []


def test_a_full_disk_is_not_the_fault_of_the_mirror(server, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Line, "update", full)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(DataError, match=r"cannot be kept in .*No space left"):
        get(server, tmp_path, "good", "good")
    assert len(server.requests) == 1


def test_progress_without_tqdm(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert_good(get(server, tmp_path, "good"))
    assert capsys.readouterr().err.endswith("\rdownloading file: 0.3 of 0.3 MB\n")


PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tinygrad_nn.data.download import Remote, download
    url, size, sha256, folder = sys.argv[1:]
    print(download(Remote("file", int(size), sha256), [url], Path(folder)))
    """
)


def start(server, folder, fault):
    arguments = [f"{server.url}/{fault}/", str(FILE.size), FILE.sha256, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], **pipes)


def test_a_killed_download_leaves_no_file_and_is_continued(server, tmp_path):
    process = start(server, tmp_path, "hangs_once")
    unfinished = part(server, tmp_path, "hangs_once")
    give_up = time.monotonic() + 60
    while not (unfinished.exists() and unfinished.stat().st_size):
        assert time.monotonic() < give_up
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not (tmp_path / "file.gz").exists()
    had = unfinished.stat().st_size
    assert 0 < had < len(PACKED)
    assert_good(get(server, tmp_path, "hangs_once"))  # its lock went with it, too
    assert server.requests == [("hangs_once", 0), ("hangs_once", had)]


def test_processes_at_the_same_time_download_once(server, tmp_path):
    processes = [start(server, tmp_path, "slow") for _ in range(3)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.decode().strip() == str(tmp_path / "file.gz")
    assert_good(tmp_path / "file.gz")
    assert server.requests == [("slow", 0)]
