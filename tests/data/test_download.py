"""Downloading and unpacking, against a server on this machine."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from atto_det.data.download import download, fetch_voc, unpack_voc
from atto_det.errors import UserError

CONTENT = bytes(range(256)) * 8192  # 2 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; can break off after some bytes, or know no ranges."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.break_after, self.ranges, self.requests = content, None, True, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/voc.tar"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        start = 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start:][: server.break_after])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server(CONTENT)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_whole_file_with_progress(server, tmp_path):
    steps = []
    download(server.url, tmp_path / "new" / "a.tar", MD5, lambda *step: steps.append(step))
    assert (tmp_path / "new" / "a.tar").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tar"]
    assert steps[0] == (0, len(CONTENT))
    assert steps[-1] == (len(CONTENT), len(CONTENT))


def test_broken_off_and_resumed(server, tmp_path):
    server.break_after = 1_500_000
    with pytest.raises(UserError, match=r"was interrupted .* run again to continue a\.tar\.part"):
        download(server.url, tmp_path / "a.tar", MD5)
    assert not (tmp_path / "a.tar").exists()
    kept = (tmp_path / "a.tar.part").stat().st_size
    assert kept == 1_500_000
    server.break_after = None
    steps = []
    download(server.url, tmp_path / "a.tar", MD5, lambda *step: steps.append(step))
    assert server.requests == [None, f"bytes={kept}-"]
    assert steps[0] == (kept, len(CONTENT))
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.tar.part").write_bytes(b"x" * 1000)
    download(server.url, tmp_path / "a.tar", MD5)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_complete_part_only_needs_its_check(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "a.tar", MD5)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_wrong_md5_removes_the_file(server, tmp_path):
    with pytest.raises(UserError, match=rf"md5 {MD5} instead of 00, which was removed"):
        download(server.url, tmp_path / "a.tar", "00")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/voc.tar", "nonsense", "http://name.invalid/voc.tar"]
)
def test_unreachable(tmp_path, url):
    with pytest.raises(UserError, match="cannot be downloaded"):
        download(url, tmp_path / "a.tar", MD5)
    assert list(tmp_path.iterdir()) == []


def test_no_such_file_on_the_server(server, tmp_path, monkeypatch):
    def refuse(handler):
        handler.send_error(404)

    monkeypatch.setattr(Handler, "do_GET", refuse)
    with pytest.raises(UserError, match="HTTP 404"):
        download(server.url, tmp_path / "a.tar", MD5)


def tar_of(path, *members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
    return path.read_bytes()


SOUND = ("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", b"a\n")


def test_fetch_voc(server, tmp_path):
    server.content = tar_of(tmp_path / "voc.tar", SOUND)
    root = tmp_path / "root"
    members = []
    folder = fetch_voc(
        root,
        server.url,
        hashlib.md5(server.content).hexdigest(),
        member_progress=lambda items: members.extend(items) or items,
    )
    assert folder == root / "VOC2012"
    assert (folder / "ImageSets/Segmentation/train.txt").read_bytes() == b"a\n"
    assert [path.name for path in root.iterdir()] == ["VOC2012"]  # no tar, nothing temporary
    assert len(members) == 1
    with pytest.raises(UserError, match=r"VOC2012 exists, but is not a whole VOC 2012"):
        fetch_voc(root, server.url, "00")


def test_a_tar_that_lies_there_is_checked(tmp_path):
    path = tmp_path / "VOCtrainval_11-May-2012.tar"
    content = tar_of(path, SOUND)
    with pytest.raises(UserError, match=r"May-2012\.tar has the md5 \w{32}, and VOC's archive 00"):
        fetch_voc(tmp_path, "http://127.0.0.1:9/voc.tar", "00")
    assert path.exists()
    folder = fetch_voc(tmp_path, "http://127.0.0.1:9/voc.tar", hashlib.md5(content).hexdigest())
    assert (folder / "ImageSets/Segmentation/train.txt").exists()
    assert not path.exists()


def test_devices_and_two_files_of_one_name_are_refused(tmp_path):
    with tarfile.open(tmp_path / "voc.tar", "w") as tar:
        info = tarfile.TarInfo("VOCdevkit/VOC2012/pipe")
        info.type = tarfile.FIFOTYPE
        tar.addfile(info)
    with pytest.raises(UserError, match="'VOCdevkit/VOC2012/pipe' is neither a file nor a folder"):
        unpack_voc(tmp_path / "voc.tar", tmp_path / "root/VOC2012")
    tar_of(tmp_path / "voc.tar", SOUND, SOUND)
    with pytest.raises(UserError, match="was not written: File exists"):
        unpack_voc(tmp_path / "voc.tar", tmp_path / "root/VOC2012")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize(
    "evil",
    [
        ("../evil.txt", b"x"),
        ("VOCdevkit/../../evil.txt", b"x"),
        ("VOCdevkit/link", "/etc"),
        ("VOCdevkit/link", "../../.."),
        ("VOCdevkit/link", "VOC2012"),
        ("/tmp/evil.txt", b"x"),
    ],
)
def test_unsafe_archives_are_refused(tmp_path, evil):
    tar_of(tmp_path / "voc.tar", SOUND, evil)
    with pytest.raises(UserError, match=r"voc\.tar is unsafe to unpack"):
        unpack_voc(tmp_path / "voc.tar", tmp_path / "root" / "VOC2012")
    assert list((tmp_path / "root").iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


def test_damaged_and_foreign_archives(tmp_path, cut):
    path = tmp_path / "voc.tar"
    tar_of(path, ("VOCdevkit/other.txt", b"x" * 5000))
    with pytest.raises(UserError, match="has no VOCdevkit/VOC2012"):
        unpack_voc(path, tmp_path / "VOC2012")
    tar_of(path, ("VOCdevkit/VOC2012/a", b"x" * 50_000))
    cut(path, 0.5)
    with pytest.raises(UserError, match="is not a whole tar archive"):
        unpack_voc(path, tmp_path / "VOC2012")
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match="is not a whole tar archive"):
        unpack_voc(path, tmp_path / "VOC2012")
    assert [item.name for item in tmp_path.iterdir()] == ["voc.tar"]
