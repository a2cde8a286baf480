"""The registry of networks: their names and specs, and functions that build them.

A name that begins with a brace is a network itself: its spec as text (`atto_det.nets.spec_file`).
No name opens a file; `atto_det.design.find_network` does this for the file that a user names.
"""

import difflib
import fnmatch
import functools
import hashlib
from collections.abc import Sequence

from atto_det.errors import UserError
from atto_det.nets.attendnet import ATTENDNETS
from atto_det.nets.attonet import ATTONETS
from atto_det.nets.backbone import STAGES, Backbone, BackboneSpec
from atto_det.nets.classifier import ImageClassifier
from atto_det.nets.spec_file import spec_from_text

_SPECS: dict[str, BackboneSpec] = {}


def register_backbone(name: str, spec: BackboneSpec) -> None:
    """Add a network: from then on, every function that takes a network's name accepts it.

    Raises:
        UserError: another network has that name.
    """
    if _SPECS.setdefault(name, spec) != spec:
        raise UserError(f"there is another network {name!r} already: give yours a name of its own")


for _table in (ATTONETS, ATTENDNETS):
    for _name, _spec in _table.items():
        register_backbone(_name, _spec)


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of the registered networks that match `pattern` ("attonet_*"), family by family."""
    return fnmatch.filter(_SPECS, pattern)


def is_backbone(name: str) -> bool:
    """Whether `name` is registered, or a spec as text (which is not validated here)."""
    return name in _SPECS or name.startswith("{")


def short_name(name: str) -> str:
    """The name for use in texts; for a spec as text, "spec-" and 8 digits of its checksum."""
    if not name.startswith("{"):
        return name
    return f"spec-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def get_spec(name: str, key: str = "") -> BackboneSpec:
    """The spec of the network `name`.

    Args:
        name: one of `list_backbones()`, or a spec as text.
        key: where the name comes from, for the message: "MODEL.ATTONET.NAME".

    Raises:
        UserError: no such network (the message gives the nearest name and all known ones), or an
            invalid spec.
    """
    if name in _SPECS:
        return _SPECS[name]
    if isinstance(name, str) and name.startswith("{"):
        return _spec_of_text(name, key or "the network")
    wrong = f"{key} is {name!r}" if key else f"unknown network {name!r}"
    near = difflib.get_close_matches(str(name).lower(), _SPECS, n=1)
    nearest = f" (nearest: {near[0]})" if near else ""
    if str(name).endswith((".yaml", ".yml")):
        nearest = "; atto_det.find_network gives the network in a file, which is not opened here"
    raise UserError(f"{wrong}: choose one of {', '.join(_SPECS)}{nearest}")


@functools.lru_cache(maxsize=64)
def _spec_of_text(text: str, where: str) -> BackboneSpec:
    return spec_from_text(text, where)


def create_backbone(
    name: str, out_features: Sequence[str] = STAGES, *, norm: str = "BN", in_chans: int = 3
) -> Backbone:
    """Create the network `name` as a feature extractor, with random weights.

    Its forward takes images (B, in_chans, H, W) and returns a dict from each name in `out_features`
    to a feature map (B, C, H / stride, W / stride), rounded up; see its `channels` and `strides`.

    Args:
        name: one of `list_backbones()`, or a spec as text.
        out_features: among `FEATURES`; stages after the last of them are not built.
        norm: one of `NORMS`.
        in_chans: channels of the images.

    Raises:
        UserError: an unknown network, feature or norm (the message lists the known ones), or
            `in_chans` is below 1.
    """
    return Backbone(get_spec(name), out_features, norm=norm, in_chans=in_chans)


def create_classifier(
    name: str, num_classes: int, *, norm: str = "BN", in_chans: int = 3
) -> ImageClassifier:
    """Create the network `name` as a classifier, with random weights.

    Its forward takes images (B, in_chans, H, W) and returns logits (B, num_classes).

    Raises:
        UserError: an unknown network or norm, no classes, or no channels.
    """
    backbone = create_backbone(name, STAGES[-1:], norm=norm, in_chans=in_chans)
    return ImageClassifier(backbone, num_classes)
