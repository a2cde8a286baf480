"""One run at a time in a folder, whatever process or thread it is of."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from atto_det.errors import UserError
from atto_det.training.lock import locked


def is_free(folder) -> bool:
    try:
        with locked(folder):
            return True
    except UserError:
        return False


def test_a_folder_is_locked_until_the_end_and_holds_no_more_files(tmp_path):
    folder = tmp_path / "new"
    with locked(folder):
        with pytest.raises(UserError, match=r"another run is using .*new: wait until it ends"):
            locked(folder).__enter__()
        assert is_free(tmp_path)
        found = []
        thread = threading.Thread(target=lambda: found.append(is_free(folder)))
        thread.start()
        thread.join()
        assert found == [False]
    assert is_free(folder)
    with pytest.raises(KeyError), locked(folder):
        raise KeyError
    assert is_free(folder)
    assert list(folder.iterdir()) == []


def test_the_lock_of_a_killed_process_is_released_though_its_workers_live(tmp_path):
    """A worker of a loader is forked, and outlives its parent by some seconds."""
    program = """
import os, sys, time
from pathlib import Path
from atto_det.training.lock import locked
with locked(Path(sys.argv[1])):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    worker = int(run.stdout.readline())
    assert not is_free(tmp_path)
    run.kill()
    run.wait()
    try:
        os.kill(worker, 0)  # it lives
        assert is_free(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_process_that_ends_does_not_release_it(tmp_path):
    with locked(tmp_path):
        process = multiprocessing.get_context("fork").Process(target=print)
        process.start()
        process.join()
        assert not is_free(tmp_path)


def test_a_folder_that_cannot_be_made_is_left_to_who_writes_there(tmp_path):
    (tmp_path / "file").touch()
    with locked(tmp_path / "file"):
        pass
