"""The networks in timm. Importing this module registers `attonet_a` … `attonet_d`, `attendnet_a`
and `attendnet_b`, once.

import atto_det.timm
timm.create_model("attonet_a", num_classes=50)
timm.create_model("attonet_a", features_only=True, out_indices=(1, 2, 3, 4))  # res2 … res5
"""

from atto_det.timm.attendnet import attendnet_a, attendnet_b
from atto_det.timm.attonet import attonet_a, attonet_b, attonet_c, attonet_d
from atto_det.timm.network import TimmNetwork

__all__ = [
    "TimmNetwork",
    "attendnet_a",
    "attendnet_b",
    "attonet_a",
    "attonet_b",
    "attonet_c",
    "attonet_d",
]
