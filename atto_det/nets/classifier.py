"""Image classifiers: a backbone, average pooling and a dense layer."""

from typing import Any

from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets.backbone import Backbone

_PREFIX = "backbone."


class ImageClassifier(nn.Module):
    """A backbone with a head: the mean of its last feature map, and a dense layer.

    In a state dict, the backbone's tensors have the same names as in the backbone itself, as in
    `torchvision.models` and timm: `stem.conv.conv.weight`, …, `fc.weight`, `fc.bias`.

    Args:
        backbone: returns `res5`.
        num_classes: outputs of the dense layer.

    Raises:
        UserError: no classes.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError(f"a classifier needs at least one class, not {num_classes}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.num_features = backbone.channels["res5"]
        self.fc = nn.Linear(self.num_features, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, num_classes)."""
        x = self.backbone(x)["res5"]  # (B, num_features, H / 32, W / 32)
        x = x.mean(dim=(2, 3))  # (B, num_features)
        return self.fc(x)


def _without_prefix(
    classifier: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """Rename `backbone.stem…` to `stem…` in a state dict that is being saved."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + key.removeprefix(prefix).removeprefix(_PREFIX)] = state.pop(key)


def _with_prefix(
    classifier: nn.Module, state: dict[str, Any], prefix: str, *others: object
) -> None:
    """Rename `stem…` to `backbone.stem…` in a state dict that is being loaded."""
    parts = {name for name, _ in classifier.backbone.named_children()}
    for key in [key for key in state if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        if name.partition(".")[0] in parts:
            state[f"{prefix}{_PREFIX}{name}"] = state.pop(key)
