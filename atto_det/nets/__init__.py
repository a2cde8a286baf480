"""The networks, which need only torch: a registry of backbones, and classifiers around them."""

from atto_det.nets.attendnet import ATTENDNETS
from atto_det.nets.attonet import ATTONETS
from atto_det.nets.backbone import FEATURES, STAGES, Backbone, BackboneSpec, ModuleSpec
from atto_det.nets.blocks import (
    NORMS,
    AttoModule,
    AttoModuleSpec,
    make_norm,
    reset_lengths,
    separable_conv,
    shorten_filters,
)
from atto_det.nets.classifier import ImageClassifier
from atto_det.nets.condenser import CondenserSpec, VisualAttentionCondenser
from atto_det.nets.pepe import PEPESpec
from atto_det.nets.registry import (
    create_backbone,
    create_classifier,
    get_spec,
    list_backbones,
    register_backbone,
)

__all__ = [
    "ATTENDNETS",
    "ATTONETS",
    "FEATURES",
    "NORMS",
    "STAGES",
    "AttoModule",
    "AttoModuleSpec",
    "Backbone",
    "BackboneSpec",
    "CondenserSpec",
    "ImageClassifier",
    "ModuleSpec",
    "PEPESpec",
    "VisualAttentionCondenser",
    "create_backbone",
    "create_classifier",
    "get_spec",
    "list_backbones",
    "make_norm",
    "register_backbone",
    "reset_lengths",
    "separable_conv",
    "shorten_filters",
]
