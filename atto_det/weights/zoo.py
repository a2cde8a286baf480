"""The zoo: backbones and detectors that come with the package.

atto_det/zoo/<network>-<name>.safetensors    a backbone file with weights of 16 bits
atto_det/zoo/<name>.safetensors              a detector file
atto_det/zoo/….json                          its card: data, terms, recipe, figures, limits

"zoo:" and a file's name without suffix can be used for the file wherever weights are needed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from atto_det.errors import UserError, write_file

ZOO = Path(__file__).resolve().parents[1] / "zoo"
FILES = (".safetensors", ".pth", ".ckpt")
PREFIX = "zoo:"


def find_file(path: str | Path) -> Path:
    """`path`, or the file that "zoo:NAME" stands for.

    Raises:
        UserError: the zoo has no such file; the message names those that it has.
    """
    if not str(path).startswith(PREFIX):
        return Path(path)
    name = str(path).removeprefix(PREFIX)
    known = [file.stem for file in files()]
    if name not in known:
        has = f"has {', '.join(known)}" if known else "is empty"
        raise UserError(f"{str(path)[:100]}: the zoo that comes with the package {has}")
    return ZOO / f"{name}.safetensors"


def files() -> list[Path]:
    """The files of the zoo, by name."""
    return sorted(ZOO.glob("*.safetensors"))


def find_weights(weights: str | Path, network: str) -> Path:
    """The file of `weights`: a path, or the name of weights of `network` in the zoo.

    A name has no suffix and no slash: "distilled", or "zoo:attonet_a-distilled".

    Raises:
        UserError: the zoo has no such weights; the message lists those that it has.
    """
    path = find_file(weights)
    if path.suffix in FILES or len(path.parts) != 1 or path.exists():
        return path
    from atto_det.nets.registry import short_name  # loads torch, which listing does not need

    known_as = short_name(network)
    own = f"{known_as}-"
    found = ZOO / f"{own}{weights}.safetensors"
    if not found.is_file():
        names = [file.stem.removeprefix(own) for file in files() if file.stem.startswith(own)]
        known = f"there are {', '.join(names)}" if names else "there are none"
        raise UserError(
            f"{str(weights)!r} is not a file, nor weights of {known_as} that come with the "
            f"package ({known}): a file ends in .safetensors or .pth"
        )
    return found


def read_card(path: Path) -> dict[str, Any]:
    """The card of a file in the zoo, checked against the file.

    Raises:
        UserError: there is no readable card, or it describes another file.
    """
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        expected = card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card_path} is not a card of a file of the zoo ({error})") from error
    if expected != file_sha256(path):
        raise UserError(f"{path} is not the file of its card (its sha256 differs): install again")
    return card


def write_card(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as the card of `path`, with its name, size and sha256.

    Raises:
        UserError: the card cannot be written.
    """
    card = {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)} | values
    write_file(path.with_suffix(".json"), json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def file_sha256(path: Path) -> str:
    """The checksum of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
