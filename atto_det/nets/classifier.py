"""AttoNets as image classifiers: the four stages, average pool, dense layer."""

from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets.attonet import AttoNet, AttoNetSpec, known_spec


class AttoNetClassifier(AttoNet):
    """`AttoNet` with a head. Its backbone's weights have the same names as in the backbone alone.

    Args:
        spec: the network as data.
        num_classes: outputs of the dense layer.
        norm: one of `atto_det.nets.NORMS`.
    """

    def __init__(self, spec: AttoNetSpec, num_classes: int, *, norm: str = "BN") -> None:
        if num_classes < 1:
            raise UserError(f"a classifier needs at least one class, not {num_classes}")
        super().__init__(spec, out_features=("res5",), norm=norm)
        self.num_classes = num_classes
        self.num_features = self.channels["res5"]
        self.fc = nn.Linear(self.num_features, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        x = super().forward(x)["res5"]  # (B, num_features, H / 32, W / 32)
        x = x.mean(dim=(2, 3))  # (B, num_features)
        return self.fc(x)


def create_classifier(name: str, num_classes: int, *, norm: str = "BN") -> AttoNetClassifier:
    """Create AttoNet `name` as a classifier of images (B, 3, H, W) into logits (B, num_classes).

    Raises:
        UserError: an unknown network or norm, or no classes.
    """
    return AttoNetClassifier(known_spec(name), num_classes, norm=norm)
