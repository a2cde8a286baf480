"""tools/make_mini_voc.py as a user runs it."""


def test_make_check_and_make_again(run_tool, environment, tmp_path):
    made = run_tool("make_mini_voc.py", "--root", "sets", "--train", 4, "--val", 2)
    assert (made.returncode, made.stdout) == (0, "sets/mini_voc: 4 + 2 pictures\n")
    checked = run_tool("prepare_voc.py", "--check", "--folder", "sets/mini_voc")
    assert checked.returncode == 0
    assert "0 errors, 0 warnings" in checked.stdout
    environment["DETECTRON2_DATASETS"] = str(tmp_path / "sets")
    again = run_tool("make_mini_voc.py", "--train", 4, "--val", 2)
    assert again.returncode == 0
    assert "is up to date" in again.stdout
    other = run_tool("make_mini_voc.py", "--root", "sets", "--train", 5, "--val", 2)
    assert other.returncode == 1
    assert other.stderr.startswith("error: sets/mini_voc exists and is not")
    assert "Traceback" not in other.stderr
