"""The machine that times were measured on."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch


def machine(device: str, threads: int | None) -> dict[str, Any]:
    """What the figures depend on, apart from versions."""
    if threads:
        torch.set_num_threads(threads)
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*: (.*)", text)
    result = {"device": device, "cpu": found[1] if found else platform.processor()}
    result |= {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.startswith("cuda"):
        result |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return result
