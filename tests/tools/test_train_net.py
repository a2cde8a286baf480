"""tools/train_net.py as a user runs it, kills it, and gives it what it cannot use."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile import Hostile

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]


@pytest.fixture
def own_data(mini_voc, tmp_path, environment):
    """A data root that a test may damage."""
    shutil.copytree(mini_voc / "mini_voc", tmp_path / "data/mini_voc")
    environment["DETECTRON2_DATASETS"] = str(tmp_path / "data")
    return tmp_path / "data/mini_voc"


def test_from_the_shell_to_a_result(repository, environment, tiny, tmp_path):
    """A real interpreter, once: training, evaluation, and what lies in the folder."""
    result = subprocess.run(
        [sys.executable, str(repository / "tools/train_net.py"), "--config-file", str(tiny),
         "OUTPUT_DIR", "out"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "AP in percent on mini_voc_val" in result.stdout
    assert "Protocol: mini_voc_val, 4 images" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    if not torch.cuda.is_available():
        assert (result.stdout + result.stderr).count("no CUDA device: running on the CPU") == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.yaml", "run.json", "metrics.json", "evaluation", "model_final.pth"} <= names


def test_interrupted_by_the_keyboard_it_says_so(train):
    interrupt = (
        "from atto_det.detectron2 import Trainer\n"
        "def run_step(self):\n    raise KeyboardInterrupt\n"
        "Trainer.run_step = run_step"
    )
    done = train(*UNTESTED, before=interrupt)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted"


def test_a_used_folder_is_refused_without_resume(train, sentence):
    assert train(*UNTESTED, "OUTPUT_DIR", "out").returncode == 0
    text = sentence(train(*UNTESTED, "OUTPUT_DIR", "out"))
    assert "out already holds a run: continue it with --resume" in text
    assert train(*UNTESTED, "OUTPUT_DIR", "out", "--resume").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["SOLVER.BASE_LR", "1"], "the command line: SOLVER.BASE_LR takes a number with a decimal "
         "point, not 1 (a whole number): write 1.0"),
        (["SOLVER.BASE_LT", "0.1"], "no key SOLVER.BASE_LT; the nearest is SOLVER.BASE_LR"),
        (["SOLVER"], "options are pairs KEY VALUE, but 'SOLVER' has no partner"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER takes a whole number"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "21"], "but mini_voc_train has 20 classes"),
        (["DATASETS.TRAIN", "['mini_vok_train']"], "there is no data set mini_vok_train"),
        (["DATASETS.TRAIN", "['voc_2012_seg_train']", "DATASETS.TEST", "()"], "no VOC 2012 at"),
        (["DATASETS.TEST", "['mini_voc_trainval']"], "8 pictures of the test set"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN names no data set"),
        (["MODEL.WEIGHTS", "nothing.pth"], "MODEL.WEIGHTS nothing.pth does not exist"),
        (["MODEL.META_ARCHITECTURE", "MaskRCN"], "no model can be built from this config"),
        (["MODEL.ATTONET.NAME", "attonet_e"], "choose one of attonet_a"),
        (["MODEL.ATTONET.NORM", "FrozenBN"], "frozen batch norms without trained statistics"),
        (["MODEL.BACKBONE.FREEZE_AT", "2"], "frozen batch norms without trained statistics"),
        (["INPUT.MASK_FORMAT", "polygon"], "INPUT.MASK_FORMAT is polygon"),
        (["SOLVER.BASE_LR", "1e9", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "20"],
         "the loss became NaN or infinite at iteration"),
        (["--eval-only"], "--eval-only needs MODEL.WEIGHTS"),
        (["--num-gpus", "0"], "--num-gpus and --num-machines must be at least 1"),
        (["--num-machines", "2", "--machine-rank", "2"], "--machine-rank below"),
        (["--num-machines", "2"], "--num-machines needs --dist-url"),
        (["--engine", "torchvision", "--num-machines", "2"], "need --engine detectron2"),
        (["--engine", "torchvision", "--allow-pickle"], "need --engine detectron2"),
        (["--engine", "torchvision", "--eval-only", "--num-gpus", "2"], "--engine detectron2"),
        (["--engine", "torchvision", "MODEL.ROI_HEADS.NAME", "Res5ROIHeads"],
         "MODEL.ROI_HEADS.NAME is 'Res5ROIHeads', which the torchvision engine does not support"),
    ],
)  # fmt: skip
def test_what_it_cannot_use_is_one_sentence(train, sentence, arguments, text):
    complete = {"DATASETS.TEST", "--eval-only", "SOLVER"} & set(arguments)
    options = [] if complete else UNTESTED
    assert text in sentence(train(*arguments, *options))


def test_config_files_that_cannot_be_used(run_tool, sentence, tmp_path):
    bad = tmp_path / "bad.yaml"
    mark = tmp_path / "mark"
    for content, text in (
        (f'!!python/object/apply:os.system ["touch {mark}"]', "could run code"),
        ("MODEL: [", "bad.yaml, line 1 is not valid YAML"),
        ("SOLVER: {BASE_LT: 0.1}", "there is no key SOLVER.BASE_LT"),
    ):
        bad.write_text(content)
        assert text in sentence(run_tool("train_net.py", "--config-file", bad))
    assert "nothing.yaml does not exist" in sentence(
        run_tool("train_net.py", "--config-file", "nothing.yaml")
    )
    assert "give --config-file, or MODEL.WEIGHTS" in sentence(run_tool("train_net.py"))
    assert not mark.exists()


def damage(path) -> None:
    path.write_bytes(path.read_bytes()[:-80])


def test_a_truncated_picture_in_training(train, sentence, own_data):
    ids = (own_data / "ImageSets/Segmentation/train.txt").read_text().split()
    damage(own_data / "JPEGImages" / f"{ids[3]}.jpg")
    options = ["DATALOADER.NUM_WORKERS", 1, "SOLVER.MAX_ITER", 12, *UNTESTED]
    text = sentence(train(*options))
    assert f"JPEGImages/{ids[3]}.jpg cannot be read as a picture" in text


def test_damaged_data(train, sentence, own_data):
    ids = (own_data / "ImageSets/Segmentation/val.txt").read_text().split()
    label = own_data / "SegmentationObject" / f"{ids[0]}.png"
    whole = label.read_bytes()
    damage(label)
    assert f"{ids[0]}.png" in sentence(train())
    label.write_bytes(whole)
    (own_data / "JPEGImages" / f"{ids[1]}.jpg").unlink()
    assert f"{ids[1]}.jpg does not exist" in sentence(train("OUTPUT_DIR", "b"))
    (own_data / "ImageSets/Segmentation/val.txt").write_text("")
    assert "val.txt is empty" in sentence(train("OUTPUT_DIR", "c"))
    (own_data / "ImageSets/Segmentation/val.txt").unlink()
    assert "val.txt does not exist" in sentence(train("OUTPUT_DIR", "d"))


@pytest.mark.parametrize("name", ["config.yaml", "model_0000000.pth", "last_checkpoint"])
def test_a_full_disk(train, sentence, tmp_path, monkeypatch, name):
    real = os.fsync

    def fsync(file):
        if Path(name).stem in Path(f"/proc/self/fd/{file}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    out = tmp_path / "full"
    done = train("OUTPUT_DIR", out, "SOLVER.CHECKPOINT_PERIOD", 1, *UNTESTED)
    assert sentence(done).startswith(f"error: {out}/{name} was not written: the disk is full")
    assert not (out / "last_checkpoint").exists()
    assert not list(out.glob(".*"))


def test_a_folder_that_cannot_be_written(train, sentence, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file/config.yaml was not written" in sentence(train("OUTPUT_DIR", "file"))


def test_a_checkpoint_alone_is_evaluated(run_tool, train, tmp_path):
    assert train("OUTPUT_DIR", "run").returncode == 0
    before = (tmp_path / "run/config.yaml").read_bytes()
    moved = tmp_path / "elsewhere.pth"
    shutil.copy(tmp_path / "run/model_final.pth", moved)
    done = run_tool("train_net.py", "--eval-only", "MODEL.WEIGHTS", moved)
    assert done.returncode == 0, done.stderr
    assert "Protocol: mini_voc_val, 4 images" in done.stdout
    at_the_end = json.loads((tmp_path / "run/evaluation/mini_voc_val_0000002.json").read_text())
    alone = json.loads((tmp_path / "evaluation/mini_voc_val.json").read_text())
    for key in ("AP_d", "AP_m"):
        assert alone[key] == pytest.approx(at_the_end[key], abs=1e-3)
    assert alone["protocol"] == at_the_end["protocol"]
    assert (tmp_path / "run/config.yaml").read_bytes() == before  # the training's stays
    done = run_tool(
        *("train_net.py", "--eval-only", "MODEL.WEIGHTS", moved),
        *("DATASETS.TEST", "['mini_voc_train']", "OUTPUT_DIR", "other"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other/evaluation/mini_voc_train.json").exists()


def test_weights_that_do_not_fit_are_refused(train, run_tool, sentence, trained, tmp_path):
    only = ["--eval-only", "MODEL.WEIGHTS", trained]
    assert "do not fit the config" in sentence(train(*only, "MODEL.ROI_BOX_HEAD.FC_DIM", 24))
    content = checkpoint.load_checkpoint(trained)
    content["atto_det"]["class_names"] = content["atto_det"]["class_names"][::-1]
    checkpoint.save_checkpoint(tmp_path / "other.pth", content)
    text = sentence(train("--eval-only", "MODEL.WEIGHTS", tmp_path / "other.pth"))
    assert "knows the classes tvmonitor" in text
    assert "mini_voc_val has aeroplane" in text
    for number, part in enumerate(([1], {"format": 1}, None, {"class_names": 3})):
        path = tmp_path / f"malformed{number}.pth"
        checkpoint.save_checkpoint(path, content | {"atto_det": part})
        assert "malformed" in sentence(
            run_tool("train_net.py", "--eval-only", "MODEL.WEIGHTS", path)
        )
    checkpoint.save_checkpoint(tmp_path / "list.pth", {"model": [1, 2]})
    assert "list.pth" in sentence(train("--eval-only", "MODEL.WEIGHTS", tmp_path / "list.pth"))


def test_hostile_files_run_no_code(run_tool, train, sentence, trained, tmp_path):
    mark = tmp_path / "mark"
    torch.save({"model": Hostile(mark)}, tmp_path / "hostile.pth")
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps({"model": Hostile(mark)}))
    (tmp_path / "renamed.pth").write_bytes(pickle.dumps({"model": Hostile(mark)}))
    shutil.copy(tmp_path / "hostile.pth", tmp_path / "hostile.pyth")
    content = checkpoint.load_checkpoint(trained)
    content["atto_det"]["config"] = f'!!python/object/apply:os.system ["touch {mark}"]'
    checkpoint.save_checkpoint(tmp_path / "config.pth", content)
    for name in ("hostile.pth", "renamed.pth", "config.pth"):
        text = sentence(run_tool("train_net.py", "--eval-only", "MODEL.WEIGHTS", name))
        assert name in text
    for name in ("hostile.pth", "hostile.pkl", "hostile.pyth", "renamed.pth"):
        assert name in sentence(train(*UNTESTED, "MODEL.WEIGHTS", name))
        assert name in sentence(train("--eval-only", "MODEL.WEIGHTS", name))
    (tmp_path / "used").mkdir()
    for name in ("hostile.pth", "hostile.pkl"):
        shutil.copy(tmp_path / name, tmp_path / "used" / name)
        (tmp_path / "used/last_checkpoint").write_text(name)
        assert name in sentence(train("--resume", *UNTESTED, "OUTPUT_DIR", "used"))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["weights.pkl?a=b", "weights.pkl?matching_heuristics=True"])
def test_a_url_does_not_hide_a_pickle(train, sentence, tmp_path, name):
    mark = tmp_path / "mark"
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"model": Hostile(mark)}))
    sentence(train(*UNTESTED, "MODEL.WEIGHTS", f"file://{tmp_path}/{name}"))
    assert not mark.exists()


def test_a_pickle_is_read_when_asked_for(train, sentence, trained, tmp_path):
    model = checkpoint.load_checkpoint(trained)["model"]
    arrays = {key: value.numpy() for key, value in model.items()}
    content = {"model": arrays, "__author__": "a test"}
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(content))
    given = [*UNTESTED, "MODEL.WEIGHTS", "weights.pkl"]
    assert "pass --allow-pickle if you trust it" in sentence(train(*given))
    assert train(*given, "--allow-pickle").returncode == 0
    assert train("--eval-only", "--allow-pickle", "MODEL.WEIGHTS", "weights.pkl").returncode == 0
    del content["model"][next(key for key in arrays if "mask_head" in key)]
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(content))
    only = ["--eval-only", "--allow-pickle", "MODEL.WEIGHTS", "weights.pkl"]
    assert "lacks 1 tensors of the model" in sentence(train(*only))


@pytest.mark.slow
def test_two_processes_train_and_evaluate_together(launch, environment, run_tool, tiny, tmp_path):
    """On the CPU, over gloo: the evaluation has all pictures, and equals that of one process."""
    environment["OMP_NUM_THREADS"] = "1"
    options = ["OUTPUT_DIR", "two", "MODEL.DEVICE", "cpu"]
    done = launch("train_net.py", "--num-gpus", 2, "--config-file", tiny, *options).wait(600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Protocol: mini_voc_val, 4 images") == 1
    assert json.loads((tmp_path / "two/run.json").read_text())["processes"] == 2
    two = json.loads((tmp_path / "two/evaluation/mini_voc_val_0000002.json").read_text())
    alone = ["--eval-only", "MODEL.WEIGHTS", "two/model_final.pth", "OUTPUT_DIR", "one"]
    done = run_tool("train_net.py", *alone)
    assert done.returncode == 0, done.stderr
    one = json.loads((tmp_path / "one/evaluation/mini_voc_val.json").read_text())
    assert one["protocol"]["images"] == two["protocol"]["images"] == 4
    for name, row in one["classes"].items():
        assert row["detections"] == two["classes"][name]["detections"]
    assert one["AP_m"] == pytest.approx(two["AP_m"], abs=1e-3)


@pytest.mark.slow
def test_an_error_in_one_of_two_processes_ends_both(
    repository, environment, tiny, tmp_path, own_data
):
    ids = (own_data / "ImageSets/Segmentation/train.txt").read_text().split()
    damage(own_data / "JPEGImages" / f"{ids[3]}.jpg")
    done = subprocess.run(
        [sys.executable, str(repository / "tools/train_net.py"), "--num-gpus", "2",
         "--config-file", str(tiny), *map(str, UNTESTED), "SOLVER.MAX_ITER", "12",
         "MODEL.DEVICE", "cpu"],
        cwd=tmp_path, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"error: {own_data}/JPEGImages/{ids[3]}.jpg cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
