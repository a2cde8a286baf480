"""Networks as users name them: by a name in the registry, or by a file."""

import re
from pathlib import Path

from atto_det.bounded_yaml import parse_yaml, read_text
from atto_det.design.generator import KEY, Generator
from atto_det.errors import UserError
from atto_det.nets.registry import get_spec, is_backbone
from atto_det.nets.spec_file import spec_from_dict, spec_to_text

SUFFIXES = (".yaml", ".yml")


def find_network(name: str | Path, *, seed: int | None = None, key: str = "") -> str:
    """The portable name of a network: one in the registry, or its whole spec as text.

    Every function that takes a network's name accepts either, and none of them opens a file. A
    checkpoint or an ONNX file, which contains the name, therefore needs no other file.

    Args:
        name: in the registry; or a YAML file with the spec of a network, such as an exploration's
            found.yaml, or with a generator.
        seed: of the network to draw from a generator; the form FILE@SEED of `name` has it, too.
        key: where the name comes from, for messages: "MODEL.ATTONET.NAME".

    Raises:
        UserError: no such network or file, an invalid file, a generator without a seed, or a seed
            without a generator.
    """
    text = str(name)
    if with_seed := re.fullmatch(r"(.+\.ya?ml)@(\d{1,18})", text, re.DOTALL):
        text, seed = with_seed[1], int(with_seed[2])
    if is_backbone(text) or not text.endswith(SUFFIXES):
        spec = get_spec(text, key)
        _refuse_seed(seed, key or "the network")
        return spec_to_text(spec) if text.startswith("{") else text
    place = f"{key}: " if key else ""
    try:
        content = parse_yaml(read_text(Path(text), f"{place}network file"), f"{place}{text}")
    except FileNotFoundError:
        raise UserError(f"{place}network file {text} does not exist") from None
    if KEY in content:
        if seed is None:
            raise UserError(
                f"{place}{text} is a generator of networks: name one by its seed, as in {text}@7"
            )
        return spec_to_text(Generator.from_dict(content, text)(seed))
    _refuse_seed(seed, f"{place}{text}")
    return spec_to_text(spec_from_dict(content, f"{place}{text}"))


def _refuse_seed(seed: int | None, where: str) -> None:
    if seed is not None:
        raise UserError(f"{where} is one network: a seed is for the file of a generator")
