"""AttoNets in timm. Importing this registers `attonet_a` … `attonet_d`, once.

import atto_det.timm
timm.create_model("attonet_a", num_classes=50)
timm.create_model("attonet_a", features_only=True, out_indices=(1, 2, 3, 4))  # res2 … res5
"""

from atto_det.timm.attonet import TimmAttoNet, attonet_a, attonet_b, attonet_c, attonet_d

__all__ = ["TimmAttoNet", "attonet_a", "attonet_b", "attonet_c", "attonet_d"]
