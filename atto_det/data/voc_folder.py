"""The content of a folder in VOC's layout: photos, annotations, lists and class names.

    JPEGImages/<id>.jpg             also .png, .jpeg … in small or capital letters
    Annotations/<id>.xml            boxes
    SegmentationClass/<id>.png      class of each pixel
    SegmentationObject/<id>.png     object of each pixel
    ImageSets/Segmentation/<split>.txt
    class_names.txt                 one name a line; without it VOC's classes

Exports of annotation tools are accepted, too, although they contain less:

- without SegmentationObject (labelImg, CVAT's "PASCAL VOC") there are only boxes;
- without Annotations (labelme's labelme2voc) a mask's class comes from SegmentationClass, and its
  box is the tight one;
- lists may be in ImageSets/Main, or missing: then the split `all` has every photo;
- CVAT names the classes in labelmap.txt;
- photos and XML files may be together in the folder itself.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from atto_det.data.files import read_utf8
from atto_det.errors import UserError, shown

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
MOST_CLASSES = 254  # values of SegmentationClass other than 0 (background) and 255 (void)
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
WHOLE = "all"  # the split of a folder without lists


class VocFiles(NamedTuple):
    """The four files of a picture; None for those that its folder lacks."""

    jpeg: Path
    xml: Path | None
    class_png: Path | None
    object_png: Path | None

    @classmethod
    def of(cls, root: Path, image_id: str) -> "VocFiles":
        """The files in VOC's own layout."""
        return cls(
            root / "JPEGImages" / f"{image_id}.jpg",
            root / "Annotations" / f"{image_id}.xml",
            root / "SegmentationClass" / f"{image_id}.png",
            root / "SegmentationObject" / f"{image_id}.png",
        )


@dataclass(frozen=True)
class VocFolder:
    """A listing of a folder, which gives the files of each picture without searching.

    Attributes:
        photos: names of the files in `photo_folder`, by their names without suffix.
        xml_folder: folder of the annotations; None if there are none.
        has_masks: whether SegmentationObject contains a PNG.
    """

    root: Path
    photo_folder: Path
    photos: dict[str, list[str]] = field(repr=False)
    xml_folder: Path | None
    has_masks: bool

    @classmethod
    def of(cls, root: str | os.PathLike) -> "VocFolder":
        """List the folder `root`."""
        root = Path(root).resolve()
        photos, xml = root / "JPEGImages", root / "Annotations"
        if not photos.is_dir() and not xml.is_dir():
            photos = xml = root  # side by side
        found: dict[str, list[str]] = {}
        for name in sorted(_names(photos)):
            stem, dot, suffix = name.rpartition(".")  # faster than creating a Path for each
            if stem and f"{dot}{suffix.lower()}" in PHOTO_SUFFIXES:
                found.setdefault(stem, []).append(name)
        has_boxes = any(name.endswith(".xml") for name in _names(xml))
        has_masks = any(name.endswith(".png") for name in _names(root / "SegmentationObject"))
        if not has_boxes and not has_masks:
            has_boxes = has_masks = True  # as in VOC, so that the error names a missing file
        return cls(root, photos, found, xml if has_boxes else None, has_masks)

    def files(self, image_id: str) -> VocFiles:
        """The files of a picture, whether they exist or not.

        Raises:
            UserError: there are two photos with that name.
        """
        names = self.photos.get(image_id, [f"{image_id}.jpg"])
        if len(names) > 1:
            raise UserError(
                f"{self.photo_folder} has {' and '.join(names)}: an image id must be that of one "
                "photo, so rename one with its annotations"
            )
        own = VocFiles.of(self.root, image_id)
        return VocFiles(
            self.photo_folder / names[0],
            self.xml_folder and self.xml_folder / f"{image_id}.xml",
            own.class_png if self.has_masks else None,
            own.object_png if self.has_masks else None,
        )


def find_voc_root(data_root: str | os.PathLike) -> Path:
    """The folder of VOC 2012 under `data_root`: `VOC2012` or `VOCdevkit/VOC2012`.

    Raises:
        UserError: there is neither; the message says what to do.
    """
    data_root = Path(data_root)
    for name in ("VOC2012", "VOCdevkit/VOC2012"):
        if (data_root / name / "ImageSets" / "Segmentation").is_dir():
            return data_root / name
    raise UserError(
        f"no VOC 2012 at {data_root / 'VOC2012'} (nor {data_root / 'VOCdevkit' / 'VOC2012'}):"
        " download it with `atto-det prepare-voc`, or set DETECTRON2_DATASETS to the folder that"
        " contains it, or create the generated mini VOC with `atto-det make-mini-voc`"
    )


def list_splits(root: str | os.PathLike) -> list[str]:
    """Names of the splits of a folder in VOC's layout, sorted; only `all` if it has no lists.

    Raises:
        UserError: it has neither lists nor photos.
    """
    if splits := _lists(Path(root)):
        return sorted(splits)
    if VocFolder.of(root).photos:
        return [WHOLE]
    folder = Path(root) / "ImageSets" / "Segmentation"
    raise UserError(f"no lists at {folder}/*.txt: {root} is not a folder in VOC layout")


def read_split(root: str | os.PathLike, split: str) -> list[str]:
    """The image ids of a split, in the order of its list.

    Raises:
        UserError: the list is missing, unreadable or empty, repeats an id, or has a path in it; or
            there are neither lists nor annotated pictures.
    """
    lists = _lists(Path(root))
    if not lists and split == WHOLE:
        folder = VocFolder.of(root)
        annotated = _annotated(folder)
        if ids := [image_id for image_id in folder.photos if image_id in annotated]:
            return ids
        raise UserError(f"{root} has pictures, but no annotation of any of them")
    if split not in lists:
        path = Path(root) / "ImageSets" / "Segmentation" / f"{split}.txt"
        known = ", ".join(list_splits(root))
        raise UserError(f"{path} does not exist: the splits of {root} are {known}")
    return read_ids(lists[split])


def read_ids(path: Path) -> list[str]:
    """The image ids in a list, one a line.

    Raises:
        UserError: the list is missing, unreadable or empty, repeats an id, or has a path in it.
    """
    ids = _read_lines(path)
    if not ids:
        raise UserError(f"{path} is empty: a split needs at least one image id")
    seen = set()
    for image_id in ids:
        if "/" in image_id or "\\" in image_id or "\0" in image_id or len(image_id) > 250:
            raise UserError(
                f"{path} lists {shown(image_id)}: an image id is a name, not a path, and has at "
                "most 250 characters"
            )
        if image_id in seen:
            raise UserError(f"{path} lists {image_id} twice: remove one of the lines")
        seen.add(image_id)
    return ids


def read_class_names(root: str | os.PathLike) -> tuple[str, ...]:
    """The names in class_names.txt (one per line), or in CVAT's labelmap.txt, or else VOC's.

    A background class in the first place is ignored.

    Raises:
        UserError: the file is unreadable or empty, repeats a name, or has more names than VOC's
            layout can hold.
    """
    path, labelmap = Path(root) / "class_names.txt", Path(root) / "labelmap.txt"
    if path.exists():
        names = _read_lines(path)
        if names[:1] == ["_background_"]:  # labelme's
            del names[0]
    elif labelmap.exists():
        path = labelmap
        names = [line.split(":")[0] for line in _read_lines(path) if not line.startswith("#")]
        names = [name for name in names if name != "background"]
    else:
        return VOC_CLASSES
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path} must have each class name once, one a line; it has {shown(names)}")
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"{path} has {len(names)} classes, but VOC's layout holds at most {MOST_CLASSES}: use "
            "COCO JSON (DATASETS.COCO)"
        )
    return tuple(names)


def _lists(root: Path) -> dict[str, Path]:
    """The lists of a folder by split: ImageSets/Segmentation's, or ImageSets/Main's."""
    for name in ("Segmentation", "Main"):
        found = {path.stem: path for path in (root / "ImageSets" / name).glob("*.txt")}
        if name == "Main":  # it also has a list for each class and split, with a second column
            found = {k: v for k, v in found.items() if not _is_of_class(k, found)}
        if found:
            return found
    return {}


def _is_of_class(name: str, lists: dict[str, Path]) -> bool:
    of_class, _, split = name.rpartition("_")
    return bool(of_class) and split in lists


def _annotated(folder: VocFolder) -> set[str]:
    """Names of the pictures that have an annotation file."""
    where, suffix = folder.root / "SegmentationObject", ".png"
    if not folder.has_masks:
        where, suffix = folder.xml_folder, ".xml"
    return {name.removesuffix(suffix) for name in _names(where) if name.endswith(suffix)}


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except (OSError, ValueError):  # reading the files will report the problem
        return []


def _read_lines(path: Path) -> list[str]:
    try:
        text = read_utf8(path)
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise UserError(f"{path} is not UTF-8 text ({error})") from error
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', error)})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
