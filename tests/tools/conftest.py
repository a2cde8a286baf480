"""Command lines, run without waiting for what they import.

`run_tool` runs a tool in this process, with its own arguments, working folder, environment and
output. What is to be killed, or changed before it starts, is a process of its own (`launch`): a
server process imports Detectron2 once, and each is a fork of it.
"""

import contextlib
import io
import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

START = """
import os, runpy, sys
for number, name in ((1, {out!r}), (2, {err!r})):
    os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
os.chdir({folder!r})
os.environ.clear()
os.environ.update({environment!r})
sys.argv = {arguments!r}
{before}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """A running command; `wait` gives how it ended."""

    def __init__(self, process, out: Path, err: Path) -> None:
        self.process, self.out, self.err = process, out, err

    def wait(self, timeout: float = 120) -> Done:
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running after {timeout} s"
        return Done(self.process.exitcode, self.out.read_text(), self.err.read_text())


@pytest.fixture(scope="session")
def fork_context():
    context = multiprocessing.get_context("forkserver")
    modules = [
        "atto_det.detectron2.run",
        "atto_det.drawing.gallery",
        "atto_det.pretraining.cli",
        "scipy.io",
    ]
    context.set_forkserver_preload(modules)
    return context


@pytest.fixture
def environment(mini_voc, tmp_path) -> dict[str, str]:
    """What the commands find in their environment: the mini VOC's root, and no display."""
    own = {"DETECTRON2_DATASETS": str(mini_voc), "ATTO_DET_CACHE": str(tmp_path / "cache")}
    return {k: v for k, v in os.environ.items() if k != "DISPLAY"} | own | {"COLUMNS": "200"}


@pytest.fixture
def launch(fork_context, repository, tmp_path, environment):
    """A function that starts a tool: name, arguments, and Python text to run before it."""
    running = []

    def start(tool: str, *arguments: object, before: str = "") -> Command:
        count = len(running)
        out, err = tmp_path / f"stdout{count}.txt", tmp_path / f"stderr{count}.txt"
        text = START.format(
            out=str(out),
            err=str(err),
            folder=str(tmp_path),
            environment=environment,
            arguments=[str(repository / "tools" / tool), *map(str, arguments)],
            before=before,
        )
        process = fork_context.Process(target=exec, args=(text, {}))
        process.start()
        running.append(process)
        return Command(process, out, err)

    yield start
    for process in running:
        if process.is_alive():
            process.kill()
        process.join()


@pytest.fixture
def run_here(environment, forget_logs, short_turns, tmp_path, monkeypatch):
    """A function that runs a Python file as a command in this process."""

    def run(path: Path, *arguments: object, folder: Path = tmp_path) -> Done:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            for name in os.environ.keys() - environment:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    runpy.run_path(str(path), run_name="__main__")
                    code = 0
                except SystemExit as end:
                    code = end.code or 0
                    if isinstance(code, str):
                        print(code, file=err)
                        code = 1
        forget_logs()
        return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))

    return run


@pytest.fixture
def run_tool(run_here, launch, repository):
    """A function that runs a tool to its end; with Python text to run before it, in a process."""

    def run(tool: str, *arguments: object, before: str = "") -> Done:
        if before:
            return launch(tool, *arguments, before=before).wait()
        return run_here(repository / "tools" / tool, *arguments)

    return run


@pytest.fixture
def tiny(repository) -> Path:
    """A config on the mini VOC whose training takes a tenth of a second a step."""
    return repository / "tests/tiny_mini_voc.yaml"


@pytest.fixture
def train(run_tool, tiny):
    """A function that runs train_net.py on the tiny config to its end."""
    return lambda *arguments, before="": run_tool(
        "train_net.py", "--config-file", tiny, *arguments, before=before
    )


@pytest.fixture
def sentence():
    """A function that asserts one sentence on stderr and status 1, and returns the sentence."""

    def check(done: Done) -> str:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("no CUDA device")]
        assert done.returncode == 1, done
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        assert "Traceback" not in done.stdout
        return lines[0]

    return check
