"""One sentence for the user, and no half-written file."""

import errno
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from atto_det.errors import (
    UserError,
    atomic_folder,
    atomic_path,
    command_line,
    temporary_of,
    write_error,
    write_file,
)


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_command_line_passes_the_status_on(returned, status):
    @command_line
    def main(code):
        """Its text."""
        return code

    assert main(returned) == status
    assert main.__doc__ == "Its text."


def test_a_user_error_is_one_line(capsys):
    @command_line
    def main():
        raise UserError("a.yaml has no key")

    assert main() == 1
    captured = capsys.readouterr()
    assert captured.err == "error: a.yaml has no key\n"
    assert captured.out == ""


def test_an_interrupt_is_no_traceback(capsys):
    @command_line
    def main():
        raise KeyboardInterrupt

    assert main() == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_in_a_training():
    @command_line
    def main():
        raise SIGTERMException

    assert main() == 143


def test_an_interrupt_that_lightning_turned_into_an_exit(capsys):
    @command_line
    def main(how):
        try:
            raise how
        except KeyboardInterrupt:
            sys.exit(1)

    assert main(KeyboardInterrupt) == 130
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(SystemExit):
        main(SystemExit(2))


@pytest.mark.parametrize("buffering", [1, -1], ids=["lines", "blocks"])
@pytest.mark.parametrize("how", ["print", "help", "inside a file"])
def test_output_that_nobody_reads_ends_it_without_a_word(
    monkeypatch, capsys, tmp_path, buffering, how
):
    @command_line
    def main():
        if how == "inside a file":
            with atomic_path(tmp_path / "a.txt") as path:
                print("row")
                sys.stdout.flush()
                path.write_text("whole")
        print("row")
        if how == "help":
            sys.exit(0)

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=buffering) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main() == 141
        monkeypatch.undo()
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_the_system_refuses_is_one_line(capsys):
    @command_line
    def main(path):
        (path / "a").exists()
        raise OSError(errno.EIO, "a bug or a broken disk", "x")

    assert main(Path("x" * 1000)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: xxx")
    assert said.endswith("…: File name too long\n")
    with pytest.raises(OSError, match="a broken disk"):
        main(Path("x"))


def test_a_pipe_of_another_kind_is_no_end_of_the_output():
    @command_line
    def main():
        raise BrokenPipeError(32, "to a worker")

    with pytest.raises(BrokenPipeError, match="to a worker"):
        main()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_lacks_is_printed_as_its_nearest(monkeypatch, encoding):
    @command_line
    def main():
        print("IoU ≥ 0.5, 2 × 3 … Ångström → 猫 \udcff")
        raise UserError("“×”")

    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert main() == 1
    monkeypatch.undo()
    streams["stderr"].flush()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams.values())
    assert (out, err) == {
        "ascii": ("IoU >= 0.5, 2 x 3 ... Angstrom -> ? ?\n", "error: ?x?\n"),
        "latin-1": ("IoU >= 0.5, 2 × 3 ... Ångström -> ? ?\n", "error: ?×?\n"),
        "utf-8": ("IoU ≥ 0.5, 2 × 3 … Ångström → 猫 ?\n", "error: “×”\n"),
    }[encoding]


def test_other_errors_are_bugs_and_stay_visible():
    @command_line
    def main():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        main()


def test_as_a_user_runs_it():
    program = (
        "import sys\n"
        "from atto_det.errors import UserError, command_line\n"
        "@command_line\n"
        "def main():\n"
        "    raise UserError('x.png is truncated')\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: x.png is truncated\n"


def test_a_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)


def test_atomic_path_writes_whole_files(tmp_path):
    path = tmp_path / "new" / "a.json"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
        temporary.write_text("1")
        assert not path.exists()
    assert path.read_text() == "1"
    with atomic_path(str(path)) as temporary:
        temporary.write_text("2")
        assert path.read_text() == "1"
    assert path.read_text() == "2"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_file_is_written_at_once(tmp_path):
    path = tmp_path / "new" / "a"
    for content in ("×\n", b"\x00\r\n"):
        write_file(path, content)
        assert path.read_bytes() == (b"\xc3\x97\n" if isinstance(content, str) else content)
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_rights_are_those_of_open(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("1")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), UserError("y")])
def test_a_failure_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")]
)
def test_an_os_error_names_the_file(tmp_path, number, says):
    path = tmp_path / "a.json"
    with pytest.raises(UserError) as caught, atomic_path(path):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"{path} was not written: ")
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file / "a", file / "folder" / "a"):
        with pytest.raises(UserError) as caught, atomic_path(path):
            pytest.fail("there is nowhere to write to")
        says = f"{file} is a file, not a folder; choose another place"
        assert str(caught.value) == f"{path} was not written: {says}"


def test_a_folder_where_the_file_should_be(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="was not written"), atomic_path(tmp_path / "a") as written:
        written.write_text("1")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_removed_meanwhile(tmp_path):
    with pytest.raises(UserError, match="was not written"), atomic_path(tmp_path / "a") as written:
        written.unlink()
    assert list(tmp_path.iterdir()) == []


def test_write_error_without_a_text():
    assert str(write_error("a", OSError("odd"))) == "a was not written: odd"


LEFT_BEHIND = """
import os, signal, sys
from atto_det.errors import atomic_folder, atomic_path
with atomic_path(sys.argv[1] + "/a.txt") as file, atomic_folder(sys.argv[1] + "/b") as folder:
    file.write_text("half")
    (folder / "c").write_text("half")
    print("ready", flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path):
    def start(how):
        process = subprocess.Popen(
            [sys.executable, "-c", LEFT_BEHIND, str(tmp_path), how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        return process

    start("die").wait(60)
    killed = sorted(tmp_path.iterdir())
    assert [temporary_of(path.name) for path in killed] == ["a.txt", "b"]
    working = start("wait")
    other = tmp_path / f".a.{0:08x}_1-abcdefgh.txt"  # of another machine
    other.write_text("half")
    hidden = tmp_path / ".a.txt"
    hidden.write_text("mine")
    with atomic_path(tmp_path / "new.txt") as file:
        file.write_text("whole")
    assert not any(path.exists() for path in killed)
    assert other.exists()
    assert hidden.exists()
    assert sum(temporary_of(path.name) is not None for path in tmp_path.iterdir()) == 3
    working.communicate()
    assert (tmp_path / "new.txt").read_text() == "whole"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a/x").read_text() == "1"
    with (
        pytest.raises(UserError, match="b was not written: No such file"),
        atomic_folder(tmp_path / "b") as folder,
    ):
        (folder / "no/x").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
