"""The classifiers of the paper's Table 2 by name: the registry's, and those compared with them."""

from torch import nn

from atto_det.design.networks import SUFFIXES, find_network
from atto_det.errors import UserError
from atto_det.nets import create_classifier, list_backbones
from atto_det.nets.registry import is_backbone

TIMM = ("mobilenetv1_100", "mobilenetv2_100", "resnet50")
TORCHVISION = ("shufflenet_v2_x1_0",)


def list_networks() -> list[str]:
    """The names that `create_network` accepts."""
    return [*list_backbones(), *TIMM, *TORCHVISION]


def found_network(name: str, key: str) -> str:
    """The name of a network, or its spec as text if the user names a file.

    Raises:
        UserError: as `find_network`, to which `key` is passed.
    """
    is_own = is_backbone(name) or name.partition("@")[0].endswith(SUFFIXES)
    return find_network(name, key=key) if is_own else name


def create_network(name: str, num_classes: int) -> nn.Module:
    """Create network `name`, one of `list_networks()` or a spec as text, with random weights.

    Its forward takes images (B, 3, H, W) and returns logits (B, num_classes). The MobileNets and
    ResNet-50 are timm's, ShuffleNet-V2 is torchvision's, with the names that they have there.

    Raises:
        UserError: an unknown network, or no classes.
    """
    if not is_backbone(name) and name not in list_networks():
        raise UserError(f"unknown network {name!r}: choose one of {', '.join(list_networks())}")
    if num_classes < 1:
        raise UserError(f"a classifier needs at least one class, not {num_classes}")
    if is_backbone(name):
        return create_classifier(name, num_classes)
    if name in TIMM:
        import timm  # imported here since it takes two seconds

        return timm.create_model(name, num_classes=num_classes)
    from torchvision.models import get_model

    return get_model(name, weights=None, num_classes=num_classes)
