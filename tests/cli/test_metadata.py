"""What each part of the package imports is declared: by the base, or by the extra of its room."""

import ast
import itertools
import re
import sys
import tomllib

import pytest

# The extras that a room may import from; every other room needs the base alone.
EXTRAS = {
    "cli": ["exploration", "onnx"],  # a verb imports what its room does
    "torchvision": ["train"],
    "timm": ["timm"],
    "export": ["onnx"],
    "exploration": ["exploration", "pretraining"],
    "pretraining": ["pretraining", "onnx", "robustness"],  # a teacher may run in OpenVINO
    "weights": ["timm"],  # where a network has other input channels than its weights
}
PROVIDES = {
    "adversarial-robustness-toolbox": "art",
    "opencv-python": "cv2",
    "pillow": "PIL",
    "protobuf": "google",
    "pyyaml": "yaml",
}
OWN = {"atto_det", "detectron2"}  # Detectron2 has no package: import-linter holds who imports it
# For phones; they need an environment of their own, which docs/export.md describes.
APART = {"ai_edge_litert", "ai_edge_quantizer", "executorch", "litert_torch"}


@pytest.fixture(scope="module")
def project(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def modules(requirements: list[str]) -> set[str]:
    names = [re.match(r"[\w-]+", text)[0].lower() for text in requirements]
    return {PROVIDES.get(name, name.replace("-", "_")) for name in names}


def imported(source: str) -> set[str]:
    """Top-level names of what a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - OWN


def test_every_import_is_declared_and_every_declaration_is_imported(project, repository):
    base, extras = modules(project["dependencies"]), project["optional-dependencies"]
    used = set()
    for path in sorted((repository / "atto_det").rglob("*.py")):
        room = path.relative_to(repository / "atto_det").parts[0]
        allowed = base.union(*(modules(extras[name]) for name in EXTRAS.get(room, ())))
        names = imported(path.read_text(encoding="utf-8"))
        if room == "detectron2":
            names -= {"fvcore"}  # Detectron2 brings it
        if room == "export":
            names -= APART
        assert names <= allowed, f"{path}: {names - allowed} is not declared for {room}"
        used |= names
    # onnxscript: torch.onnx needs it; jsonargparse and tensorboard: Lightning does.
    indirect = {"onnxscript", "jsonargparse", "tensorboard"}
    declared = base.union(*(modules(extras[name]) for name in extras if name != "dev"))
    assert declared == used | indirect


def test_the_tested_ranges_hold_everything_declared(project, repository):
    text = (repository / "requirements/tested.txt").read_text()
    tested = {name.lower() for name in re.findall(r"^([\w-]+)", text, re.M)}
    declared = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in itertools.chain(*declared):
        assert re.match(r"[\w-]+", requirement)[0].lower() in tested, requirement


def test_the_makefile_installs_every_extra(project, repository):
    makefile = (repository / "Makefile").read_text()
    [extras] = re.findall(r"-e '\.\[(.*)\]'", makefile)
    assert set(extras.split(",")) == project["optional-dependencies"].keys()
    assert re.search(r"^\.venv/installed:.* pyproject\.toml ", makefile, re.M)
