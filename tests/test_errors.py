"""One sentence for the user, and no half-written file."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from atto_det.errors import UserError, atomic_path, command_line, write_error


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
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="was not written"), atomic_path(tmp_path / "file" / "a"):
        pytest.fail("there is nowhere to write to")


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
