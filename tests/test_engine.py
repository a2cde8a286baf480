"""Which engine is chosen, and what both offer."""

import subprocess
import sys

import pytest

from atto_det import engine
from atto_det.errors import UserError


def test_torchvision_by_name_says_so_in_one_line(capsys):
    package = engine.choose("torchvision")
    assert package.ENGINE == "torchvision"
    assert capsys.readouterr().out == "engine: torchvision\n"
    engine.choose("torchvision", say=None)
    assert capsys.readouterr().out == ""


def test_auto_takes_detectron2_where_it_is(capsys):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    assert engine.choose().ENGINE == "detectron2"
    assert capsys.readouterr().out == "engine: detectron2\n"


def test_another_name_is_refused():
    with pytest.raises(UserError, match="no engine mxnet: choose one of auto, detectron2, torchv"):
        engine.choose("mxnet")


@pytest.mark.parametrize("name", ["detectron2", "torchvision"])
def test_both_packages_offer_the_same_names(name):
    if name == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    package = engine.choose(name, say=None)
    for attribute in ("Predictor", "load_config", "load_dataset"):
        assert callable(getattr(package, attribute))
        assert attribute in package.__all__
    for function in ("read_config", "train", "evaluate", "seconds_per_step"):
        assert callable(getattr(package.run, function))
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # noqa: B018


def test_another_missing_package_is_not_taken_for_a_missing_detectron2():
    program = (
        "import sys\n"
        "sys.modules['yacs'] = sys.modules['yacs.config'] = None\n"
        "from atto_det import engine\n"
        "try:\n"
        "    engine.choose()\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["ModuleNotFoundError"], done


def test_training_without_lightning_is_a_sentence_and_predicting_needs_none():
    program = (
        "import sys\n"
        "sys.modules['lightning'] = None\n"
        "from atto_det import engine\n"
        "package = engine.choose('torchvision')\n"
        "package.Predictor\n"
        "try:\n"
        "    package.run\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "needs Lightning: pip install" in done.stdout, done
