"""A small ImageNet in every layout that it is found in."""

import gzip
import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

WNIDS = ("n01440764", "n01443537", "n02105855", "n03000001")  # the last is not in the list
LISTED = ("n02105855", "n01443537")
DEVKIT_IDS = {"n01440764": 449, "n01443537": 2, "n02105855": 300, "n03000001": 1}


def jpeg(seed, mode="RGB", **options):
    shape = (8, 8) if mode == "L" else (8, 8, len(mode))
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values, mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def train_pictures():
    """By wnid and name, with the kinds of files that ILSVRC2012 has."""
    found = {w: {f"{w}_{n}.JPEG": jpeg(i * 10 + n) for n in range(3)} for i, w in enumerate(WNIDS)}
    png = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(png, "PNG")
    odd = found["n02105855"]
    odd["n02105855_2933.JPEG"] = png.getvalue()  # a PNG under a JPEG's name
    odd["n02105855_7.JPEG"] = jpeg(7, "CMYK")
    odd["n02105855_8.JPEG"] = jpeg(8, "L")
    odd["n02105855_9.JPEG"] = jpeg(9, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x1a\0\x05\0")
    return found


# Picture i (from 1) is of class VAL[i - 1]: two of each class, not sorted.
VAL = [*WNIDS, *reversed(WNIDS)]
TRAIN_BYTES = train_pictures()
VAL_BYTES = {f"ILSVRC2012_val_{n:08d}.JPEG": jpeg(100 + n) for n in range(1, len(VAL) + 1)}


def tar_of(files, mode="w"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def put(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def class_files():
    return {f"{w}/{name}": c for w, files in TRAIN_BYTES.items() for name, c in files.items()}


def class_tars():
    return {f"{wnid}.tar": tar_of(files) for wnid, files in TRAIN_BYTES.items()}


def under(folder, files):
    return {f"{folder}/{name}": content for name, content in files.items()}


def meta():
    """The devkit's table, an n×1 struct array, with a row for an inner node as the real one has."""
    rows = [(number, wnid, 0) for wnid, number in DEVKIT_IDS.items()] + [(1001, "n00001740", 4)]
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    table = np.array([(np.uint16(a), b, np.uint8(c)) for a, b, c in rows], kinds)
    stream = io.BytesIO()
    savemat(stream, {"synsets": table.reshape(-1, 1)})
    return stream.getvalue()


def devkit():
    truth = "".join(f"{DEVKIT_IDS[wnid]}\n" for wnid in VAL).encode()
    return {"meta.mat": meta(), "ILSVRC2012_validation_ground_truth.txt": truth}


def kaggle_csv():
    rows = [
        f"{name[:-5]},{wnid} 1 2 3 4 {wnid} 5 6 7 8 "
        for name, wnid in zip(VAL_BYTES, VAL, strict=True)
    ]
    return {"LOC_val_solution.csv": "\n".join(["ImageId,PredictionString", *rows]).encode()}


DEVKIT_TAR = {
    "ILSVRC2012_devkit_t12.tar.gz": gzip.compress(
        tar_of(under("ILSVRC2012_devkit_t12/data", devkit()))
    )
}
TRAIN = {
    "folders": under("train", class_files()),
    "tars": under("train", class_tars()),
    "tars at the top": class_tars(),
    "tars in their own folder": under("ILSVRC2012_img_train", class_tars()),
    "kaggle": under("ILSVRC/Data/CLS-LOC/train", class_files()),
    "one tar": {"ILSVRC2012_img_train.tar": tar_of(class_tars())},
}
VALIDATION = {
    "folders": {f"val/{w}/{n}": c for (n, c), w in zip(VAL_BYTES.items(), VAL, strict=True)},
    "kaggle": under("ILSVRC/Data/CLS-LOC/val", VAL_BYTES) | kaggle_csv(),
    "flat, devkit tar": under("val", VAL_BYTES) | DEVKIT_TAR,
    "flat at the top, devkit": VAL_BYTES | under("ILSVRC2012_devkit_t12/data", devkit()),
    "tar, devkit files": {"ILSVRC2012_img_val.tar": tar_of(VAL_BYTES)} | devkit(),
    "tar, kaggle": {"ILSVRC2012_img_val.tar": tar_of(under("./val", VAL_BYTES))} | kaggle_csv(),
}


def expected_files():
    files = {f"train/{w}/{name}": c for w in LISTED for name, c in TRAIN_BYTES[w].items()}
    return files | {n: c for n, c in VALIDATION["folders"].items() if n.split("/")[1] in LISTED}


def content(folder):
    """Every file of a selection but its manifest, hidden ones too."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if not p.is_dir()}
    assert files.pop("manifest.json").is_file()
    return {name: path.read_bytes() for name, path in files.items()}


NAMES = b"n02105855\tShetland sheepdog\nn01443537\tgoldfish, Carassius auratus\n"
