"""The pages' commands and Python blocks run, one after the other, on tiny data.

Each page has a folder of its own with what its commands name: configs, tools, data sets, a
checkpoint, photos. What stands in `SHORTER` is added to a command, so that it takes seconds.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import detector_file
import imagenet_tree
import pages
import pytest
import yaml

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

HERE = Path(__file__).parent

PICTURES = "INPUT.MIN_SIZE_TRAIN (64,) INPUT.MAX_SIZE_TRAIN 96 INPUT.MIN_SIZE_TEST 64"
TRAINING = f"""{PICTURES} INPUT.MAX_SIZE_TEST 96 SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2
    SOLVER.CHECKPOINT_PERIOD 1 DATALOADER.NUM_WORKERS 0 TEST.EVAL_PERIOD 0 TEST.PATIENCE 0
    DATASETS.HOLD_OUT 0"""
WORK = "--input 128x128 --proposals 10 --detections 5"
EPOCH = """--trainer.max_epochs 1 --trainer.precision 32-true --data.image_size 32
    --data.batch_size 2 --data.workers 0"""
SHORTER = {
    "analyze": WORK,
    "benchmark": f"{WORK} --repeats 1 --warmup 0 --modes eager fast onnx",
    "explore": "--config tiny_exploration.yaml",
    "make-mini-voc": "--root drawn --train 6 --val 3",
    "pretrain": EPOCH,
    "throughput": "--input 32 --batch 2 --repeats 1",
    "time-onnx": "--repeats 1",
    "train": TRAINING,
}
ATTO_DET = "import sys; from atto_det.cli import main; sys.exit(main())"
RUN = [
    page
    for page in pages.PAGES
    if page != "CHANGELOG.md"  # names flags, and does not write commands out
    and any(command.words[0] == "atto-det" for command in pages.commands(page))
]


@pytest.fixture
def workshop(tmp_path, mini_voc, repository, classifier, colours):
    """The folder that a page's commands run in."""
    for name in ("configs", "results", "tests", "tools"):
        (tmp_path / name).symlink_to(repository / name)
    (tmp_path / "docs").mkdir()
    data = tmp_path / "datasets"
    data.mkdir()
    for name in ("VOC2012", "CarParts", "mini_voc"):
        shutil.copytree(mini_voc / "mini_voc", data / name)
    shutil.copytree(data / "CarParts", tmp_path / "my_photos")
    shutil.copytree(colours / "colours", data / "colours")
    photos = sorted((mini_voc / "mini_voc/JPEGImages").glob("*.jpg"))[:3]
    (tmp_path / "photos").mkdir()
    for path in photos:
        shutil.copy(path, tmp_path / "photos")
    shutil.copy(photos[0], tmp_path / "street.jpg")

    from atto_det.data import VOC_CLASSES
    from atto_det.weights.backbone_file import read_pretraining, write_backbone

    detector_file.write(tmp_path / "model_best.pth", class_names=VOC_CLASSES)
    _for_default_trainer(tmp_path)
    _foreign_network(tmp_path / "yolo.onnx")
    trained, _ = classifier("attonet_a")
    weights = read_pretraining(trained)
    write_backbone(tmp_path / "attonet_a.safetensors", weights.state, weights.description)
    files = imagenet_tree.TRAIN["folders"] | imagenet_tree.VALIDATION["folders"]
    imagenet_tree.put(tmp_path / "ILSVRC2012", files)
    (tmp_path / "my_list.txt").write_bytes(imagenet_tree.NAMES)
    _for_pretraining(tmp_path, photos)
    _for_exploration(tmp_path)
    return tmp_path


def _for_default_trainer(folder: Path) -> None:
    """The same detector as Detectron2's `DefaultTrainer` leaves it: its config is another file."""
    import torch

    from atto_det.weights.checkpoint import load_checkpoint

    content = load_checkpoint(folder / "model_best.pth")
    (folder / "output").mkdir()
    torch.save({"model": content["model"]}, folder / "output/model_final.pth")
    config = yaml.safe_load(content["atto_det"]["config"])
    config["DATASETS"]["TRAIN"] = ["mini_voc_train"]
    (folder / "output/config.yaml").write_text(yaml.safe_dump(config))


def _foreign_network(path: Path) -> None:
    """A layer that takes pictures of any size, as an ONNX file."""
    import torch

    torch.onnx.export(
        torch.nn.Conv2d(3, 4, 3),
        (torch.zeros(1, 3, 32, 32),),
        path,
        dynamo=False,
        input_names=["images"],
        dynamic_axes={"images": {2: "height", 3: "width"}},
    )


def _for_pretraining(folder: Path, photos: list[Path]) -> None:
    """A teacher with random weights, 60 pictures without labels, and a checkpoint of timm's."""
    import timm
    import torch

    from atto_det import create_classifier

    (folder / "teacher").mkdir()
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(state, folder / "teacher/efficientnet-lite0-57934424.pth")
    state = create_classifier("attonet_a", 3).state_dict()
    torch.save({"arch": "attonet_a", "state_dict": state}, folder / "model_best.pth.tar")
    (folder / "datasets/my_pictures").mkdir()
    for number in range(60):
        shutil.copy(photos[number % 3], folder / f"datasets/my_pictures/{number}.jpg")


def _for_exploration(folder: Path) -> None:
    """A search of seconds, and the first generator of one."""
    from atto_det.design import Generator
    from atto_det.exploration.settings import read_settings
    from atto_det.nets import get_spec
    from atto_det.nets.spec_file import spec_to_text

    content = yaml.safe_load((folder / "configs/explore/tiny_imagenet50.yaml").read_text())
    content["data"] |= {"root": "colours", "image_size": 32, "batch_size": 12}
    content["requirements"]["top1"] = None
    content["supernet"]["epochs"] = content["alone"]["epochs"] = 1
    content["alone"] |= {"candidates": 1, "ranking": 1, "finals": 1, "final_epochs": 1}
    content["search"] |= {"rounds": 1, "population": 2, "seeds": 1}
    path = folder / "tiny_exploration.yaml"
    path.write_text(yaml.safe_dump(content))
    settings = read_settings(path)
    first = Generator.around(
        settings.space, get_spec(settings.prototype), settings.requirements, classes=3, size=32
    )
    (folder / "output/explore/generator-1").mkdir(parents=True)
    first.save(folder / "output/explore/generator-1/generator_0.yaml")
    (folder / "output/explore/generator-1/found.yaml").write_text(spec_to_text(first(1)))


@pytest.fixture
def run(workshop, repository):
    """A function that runs Python there, and returns what it printed."""
    environment = {k: v for k, v in os.environ.items() if k != "DETECTRON2_DATASETS"}
    environment |= {"ATTO_DET_CACHE": str(workshop / "cache"), "PYTHONPATH": str(repository)}

    def run_python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=workshop, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run_python


def _shortened(verb: str, *arguments: str) -> list[str]:
    """A command, and what makes it short."""
    words = list(arguments)
    if "--help" in words:
        return [verb, *words]
    if "--num-gpus" in words:  # one process serves
        at = words.index("--num-gpus")
        del words[at : at + 2]
    more = SHORTER.get(verb, "").split()
    if "--scale" in words:  # the longest curves take minutes
        more += ["--scale", "threads", "--modes", "fast"]
    if verb == "pretrain" and words[0] != "fit":
        more = more[2:]  # no epochs
    return [verb, *words, *more]


PHONES = "phone/"  # a folder for runtimes that want an environment of their own


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", RUN)
def test_commands_run(page, run, workshop):
    ran = set()
    for command in pages.commands(page):
        if any(word.startswith(PHONES) for word in command.words):
            continue
        program, *arguments = command.words
        if command.words not in ran and program in ("atto-det", "python"):
            is_ours = program == "atto-det"
            run(*(("-c", ATTO_DET, *_shortened(*arguments)) if is_ours else arguments))
            ran.add(command.words)
    if page == "README.md":
        assert (workshop / "output/atto_maskrcnn_voc/model_best.pth").is_file()


# The pages train Detectron2's own configs, which are for eight GPUs and COCO.
SMALL = f"""
from detectron2 import model_zoo
get_config = model_zoo.get_config
def small(name):
    cfg = get_config(name)
    if name.endswith(".yaml"):
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", *{TRAINING.split()}])
    return cfg
model_zoo.get_config = small
"""
BLOCKS = [page for page in pages.PAGES if pages.blocks(page, "python")]


@pytest.fixture
def coco(workshop):
    """COCO's folder as Detectron2 expects it, with two generated pictures a split."""
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    from atto_det.data import load_voc, to_coco

    source = workshop / "datasets/mini_voc"
    things = [category for category in COCO_CATEGORIES if category["isthing"]]
    (workshop / "datasets/coco/annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (workshop / "datasets/coco" / split).symlink_to(source / "JPEGImages")
        content = to_coco(load_voc(source, "val"), source / "JPEGImages")
        for annotation in content["annotations"]:
            annotation["category_id"] = things[annotation["category_id"] - 1]["id"]
            x, y, width, height = annotation["bbox"]  # COCO has polygons, and so takes Detectron2
            right, below = x + width, y + height
            annotation["segmentation"] = [[x, y, right, y, right, below, x, below]]
        content["categories"] = [{"id": c["id"], "name": c["name"]} for c in things]
        path = workshop / f"datasets/coco/annotations/instances_{split}.json"
        path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", BLOCKS)
def test_python_blocks_run(page, run, workshop, coco):
    blocks = pages.blocks(page, "python")
    if any("model.onnx" in block for block in blocks):
        run(
            *("-c", ATTO_DET, "export"),
            *["--checkpoint", "model_best.pth", "--format", "onnx", "--output", "model.onnx"],
        )
    run("-c", SMALL + "\n".join(blocks))
    if any("DefaultTrainer" in block for block in blocks):
        assert (workshop / "output/model_final.pth").is_file()
