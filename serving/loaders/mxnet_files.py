"""Which files of a version are an MXNet model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from serving.core.errors import NotFound
from serving.loaders.model_file import unreadable

_SYMBOL = "-symbol.json"


@dataclass(frozen=True, slots=True)
class MXNetFiles:
    """The files of one prefix, of which ``signature`` need not be there."""

    symbol: Path
    params: Path
    signature: Path


def mxnet_files(path: str) -> MXNetFiles:
    """The files in a version directory: those of the prefix ``model``, or of the only prefix, with
    the parameters of the last epoch.

    Raises NotFound where there are none or several, InvalidArgument for a directory that can not
    be looked at.
    """
    try:
        names = [child.name for child in Path(path).iterdir()]
    except OSError as error:
        raise unreadable(error) from error
    prefixes = [name.removesuffix(_SYMBOL) for name in names if name.endswith(_SYMBOL)]
    chosen = ["model"] if "model" in prefixes else prefixes
    if len(chosen) != 1:
        raise NotFound(
            f"a version has one model{_SYMBOL}, or one of another prefix, "
            f"but there are {len(chosen)}"
        )
    (prefix,) = chosen
    params = re.compile(rf"{re.escape(prefix)}(?:-(\d{{1,9}}))?\.params")
    epochs = {
        int(found[1] or 0): name for name in sorted(names) if (found := params.fullmatch(name))
    }
    if not epochs:
        raise NotFound(f"there is no {prefix}-0000.params, nor one of another epoch")
    directory = Path(path)
    return MXNetFiles(
        directory / f"{prefix}{_SYMBOL}",
        directory / epochs[max(epochs)],
        directory / f"{prefix}-signature.json",
    )
