"""Senseless files: what is read of them is sound, or there is one sentence; never a traceback.

Sound files are spoilt in a few places, so that the deeper checks are reached too. Quick here; the
slow ones go on for two minutes each, with other seeds.
"""

import json

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils
from rectangles import rectangle
from sentences import one_sentence
from voc_tree import TinyVoc
from yacs.config import CfgNode

from atto_det.config import merge, parse_yaml
from atto_det.data import Dataset, load_coco, load_voc, read_image, to_coco
from atto_det.data.sources import open_source
from atto_det.data.training_report import training_report
from atto_det.errors import UserError

ODD = st.sampled_from(
    [None, True, -1, 0, 1, 2, 0.5, 2.0, 1e30, 10**30, 10**400, -(2**63), "", "0", "1", "a.jpg",
     "../a", "\0", "x" * 5000, "nan", float("nan"), float("inf"), [], {}, [[]], [[1, 2]],
     {"size": [6, 8]}]
)  # fmt: skip
VALUES = st.recursive(
    ODD | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "size", "counts", "bbox", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
# Where (a share of the way through), what to do there, and with which value.
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "drop", "double"]), VALUES), max_size=4
)
TOKENS = st.sampled_from(
    ["", "<", ">", "&", "<object>", "</object>", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "nan", "-1",
     "1e999", "\0", "9" * 5000, "&a", "*a", "<<: *a", "[", "{", "]", "- ", ": ", "\n", "\t", "~",
     "!!python/name:os.system", "!!timestamp x", "|", "'", '"', "#", "é", "0 0.5 0.5 0.2 0.2"]
) | st.text(max_size=6)  # fmt: skip
TEXT_EDITS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.1), TOKENS), min_size=1, max_size=5)
BYTE_EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=5
)


def spoilt(text, edits):
    """A text or bytes with pieces replaced."""
    for place, share, token in edits:
        start = int(place * len(text))
        length = share if isinstance(share, int) else int(share * len(text))
        text = text[:start] + token + text[start + length :]
    return text


def places(value, path=()):
    """The paths of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def edited(content, edits):
    """A JSON value with entries set, dropped or doubled."""
    content = json.loads(json.dumps(content))
    for share, what, value in edits:
        paths = list(places(content))
        *above, last = paths[min(int(share * len(paths)), len(paths) - 1)]
        parent = content
        for key in above:
            parent = parent[key]
        if what == "set":
            parent[last] = value
        elif what == "drop":
            del parent[last]
        elif isinstance(parent, list):
            parent.append(parent[last])
        if not isinstance(content, dict) or not list(places(content)):
            break
    return content


def sound(dataset: Dataset, root) -> None:
    """Whatever was read can be used."""
    for record in dataset.records:
        assert read_image(record.file_name).shape[:2] == (record.height, record.width)
        for item in (*record.instances, *record.crowds):
            assert 0 <= item.category < len(dataset.class_names)
            assert np.isfinite(item.box).all()
            assert item.box[0] < item.box[2]
            assert item.box[1] < item.box[3]
            if item.rle:
                assert mask_utils.decode(item.rle).shape == (record.height, record.width)
                assert mask_utils.area(item.rle) > 0
    json.dumps(to_coco(dataset, root), allow_nan=False)
    json.dumps(training_report({"x": dataset}, filter_empty=True), allow_nan=False)


def write_coco(root):
    """A sound file of two pictures."""
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 6)).save(root / name)
    rle = rectangle(6, 8, (2, 1, 7, 4))
    box = mask_utils.toBbox(rle).tolist()
    compressed = {"size": [6, 8], "counts": rle["counts"].decode()}
    shapes = [
        compressed,
        [[2, 1, 7, 1, 7, 4, 2, 4]],
        {"size": [6, 8], "counts": [13, 3, *[3, 3] * 4, 8]},
    ]
    rows = [
        {"id": k, "image_id": k % 2, "category_id": k % 2, "bbox": box, "iscrowd": int(k == 3),
         "segmentation": shapes[k % 3]} for k in range(5)
    ]  # fmt: skip
    return {
        "images": [
            {"id": k, "file_name": name, "height": 6, "width": 8}
            for k, name in enumerate(("a.jpg", "b.jpg"))
        ],
        "categories": [{"id": 0, "name": "cup"}, {"id": 1, "name": "pot", "supercategory": "x"}],
        "annotations": rows,
    }


def coco_json(root):
    """COCO JSON with odd values."""
    content = write_coco(root)

    def target(edits):
        (root / "x.json").write_text(json.dumps(edited(content, edits)))
        one_sentence(lambda: sound(load_coco(root / "x.json", root), root))

    target([])
    assert load_coco(root / "x.json", root).findings[0].kind == "crowd"
    return target, EDITS


def coco_text(root):
    """COCO JSON with odd characters."""
    text = json.dumps(write_coco(root))

    def target(edits):
        (root / "x.json").write_text(spoilt(text, edits), encoding="utf-8", errors="replace")
        one_sentence(lambda: sound(load_coco(root / "x.json", root), root))

    return target, TEXT_EDITS


def write_voc(root):
    """A sound folder of one picture."""
    labels = np.zeros((6, 8), np.uint8)
    labels[1:4, 2:7], labels[:, 0] = 1, 255
    voc = TinyVoc(root)
    voc.add("a", objects=[("cup", (3, 2, 7, 4), 0)], labels=labels, classes=labels)
    (root / "class_names.txt").write_text("cup\n")
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.new("RGB", (8, 6)).save(voc.jpeg("a"), exif=exif)


def voc_file(name):
    """A fuzzer of one file in VOC layout."""

    def prepare(root):
        write_voc(root)
        path = root / name
        content = path.read_bytes()
        assert len(load_voc(root, "train", cache=False).records[0].instances) == 1

        def target(edits):
            path.write_bytes(spoilt(content, edits))

            def read():
                try:
                    dataset = load_voc(root, "train", cache=False)
                    for record in dataset.records:
                        read_image(record.file_name)
                except UserError:
                    open_source(root).check()
                    raise
                sound(dataset, root)

            one_sentence(read)

        return target, BYTE_EDITS if path.suffix != ".xml" else BYTE_EDITS | TEXT_EDITS.map(
            as_bytes
        )

    prepare.__name__ = f"voc {name}"
    return prepare


def as_bytes(edits):
    return [(place, int(share * 100), token.encode()) for place, share, token in edits]


def yolo(root):
    """A data.yaml and its labels."""
    for name in ("images", "labels"):
        (root / name).mkdir()
    Image.new("RGB", (8, 6)).save(root / "images/a.jpg")
    texts = {
        "data.yaml": "path: .\ntrain: images\nnames: [cup, pot]\n",
        "labels/a.txt": "0 0.1 0.1 0.9 0.1 0.9 0.9\n1 0.5 0.5 0.2 0.2\n",
    }

    def target(edits):
        for (name, text), own in zip(texts.items(), edits, strict=True):
            (root / name).write_text(spoilt(text, own), encoding="utf-8", errors="replace")

        def read():
            source = open_source(root / "data.yaml")
            for split in source.splits:
                sound(source.load(split), source.image_root)

        one_sentence(read)

    return target, st.tuples(st.just([]) | TEXT_EDITS, TEXT_EDITS)


def yaml_config(root):
    """An experiment's YAML, into a config."""
    text = (
        "MODEL: &a\n  MASK_ON: true\n  WEIGHTS: ''\nSOLVER:\n  BASE_LR: 0.02\n  STEPS: [60, 80]\n"
        "DATASETS: {TRAIN: [a], FOLDERS: [[a, b]]}\nSEED: 1\n"
    )

    def target(edits):
        cfg = CfgNode(
            {
                "MODEL": CfgNode({"MASK_ON": True, "WEIGHTS": ""}),
                "SOLVER": CfgNode({"BASE_LR": 0.02, "STEPS": (1,)}),
                "DATASETS": CfgNode({"TRAIN": ("a",), "FOLDERS": []}),
                "SEED": 0,
            }
        )
        one_sentence(lambda: merge(cfg, parse_yaml(spoilt(text, edits), "f.yaml"), "f.yaml"))

    target([])
    return target, TEXT_EDITS


FUZZERS = [
    coco_json,
    coco_text,
    voc_file("Annotations/a.xml"),
    voc_file("SegmentationObject/a.png"),
    voc_file("JPEGImages/a.jpg"),
    yolo,
    yaml_config,
]


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it reads
@pytest.mark.parametrize("prepare", FUZZERS, ids=lambda item: item.__name__)
def test_nothing_breaks(prepare, fuzz, tmp_path):
    fuzz(*prepare(tmp_path), seconds=0, examples=60)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prepare", FUZZERS, ids=lambda item: item.__name__)
def test_nothing_breaks_for_long(prepare, fuzz, tmp_path):
    fuzz(*prepare(tmp_path), seconds=600 / len(FUZZERS), examples=500)
