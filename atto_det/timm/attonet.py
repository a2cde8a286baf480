"""AttoNets in timm. Importing this registers `attonet_a` … `attonet_d`, once.

import atto_det.timm
timm.create_model("attonet_a", num_classes=50)
timm.create_model("attonet_a", features_only=True, out_indices=(1, 2, 3, 4))  # res2 … res5
"""

from collections.abc import Callable

import torch.nn.functional as F
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, is_model, register_model
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets import ATTONETS, Backbone, BackboneSpec

__all__ = ["TimmAttoNet", "attonet_a", "attonet_b", "attonet_c", "attonet_d"]

_DEFAULT_CFG = {
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "stem.conv.conv",
    "classifier": "fc",
    "license": "apache-2.0",
    "paper_ids": "arXiv:1903.07209",
}
default_cfgs = {name: dict(_DEFAULT_CFG) for name in ATTONETS}  # register_model looks for this name


class TimmAttoNet(Backbone):
    """An AttoNet classifier with timm's methods; its weights have the names of ImageClassifier's.

    Args:
        spec: the network as data.
        num_classes: outputs of the dense layer; 0 for none.
        in_chans: channels of the pictures.
        global_pool: a pooling of timm's: "avg", "max", "avgmax", "catavgmax", "" for none.
        drop_rate: share of the pooled features dropped in training.

    Attributes:
        feature_info: the levels of `features_only=True`: the stem's convolution (stride 2), then
            res2 to res5.
        num_features: channels of res5.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(spec, out_features=("res2", "res3", "res4", "res5"), in_chans=in_chans)
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = self.channels["res5"]
        self.feature_info = [{"num_chs": spec.stem, "reduction": 2, "module": "stem.conv"}]
        self.feature_info += [
            {"num_chs": channels, "reduction": self.strides[stage], "module": stage}
            for stage, channels in self.channels.items()
        ]
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """The dense layer; an identity where there are no classes."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new dense layer for `num_classes`, 0 for none, and a new pooling where one is given."""
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        self.num_classes = num_classes
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, global_pool)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        if num_classes:
            nn.init.normal_(self.fc.weight, std=0.01)
            nn.init.zeros_(self.fc.bias)
        self.fc.to(self.stem.conv.conv.weight)  # the same device and type

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to res5 (B, num_features, H / 32, W / 32)."""
        for part in (self.stem, self.res2, self.res3, self.res4, self.res5):
            x = part(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """res5 to logits (B, num_classes), or to the pooled features (B, num_features)."""
        x = self.global_pool(x)
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _create(name: str, pretrained: bool, **kwargs) -> nn.Module:
    if pretrained:
        raise UserError(
            f"there are no pretrained weights of {name}: create it with pretrained=False, and "
            "train it or load your own with checkpoint_path"
        )
    # Hooks rather than timm's usual list of children: these keep the names of the weights, and
    # reach the stem's convolution inside the stem.
    features = {"feature_cls": "hook", "no_rewrite": False}
    kwargs["spec"] = ATTONETS[name]
    return build_model_with_cfg(TimmAttoNet, name, pretrained, feature_cfg=features, **kwargs)


def _register(entry_point: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    # An importlib.reload would have timm warn of a name overwritten.
    return entry_point if is_model(entry_point.__name__) else register_model(entry_point)


@_register
def attonet_a(pretrained: bool = False, **kwargs) -> nn.Module:
    """AttoNet-A; arguments as for `TimmAttoNet`."""
    return _create("attonet_a", pretrained, **kwargs)


@_register
def attonet_b(pretrained: bool = False, **kwargs) -> nn.Module:
    """AttoNet-B; arguments as for `TimmAttoNet`."""
    return _create("attonet_b", pretrained, **kwargs)


@_register
def attonet_c(pretrained: bool = False, **kwargs) -> nn.Module:
    """AttoNet-C; arguments as for `TimmAttoNet`."""
    return _create("attonet_c", pretrained, **kwargs)


@_register
def attonet_d(pretrained: bool = False, **kwargs) -> nn.Module:
    """AttoNet-D; arguments as for `TimmAttoNet`."""
    return _create("attonet_d", pretrained, **kwargs)
