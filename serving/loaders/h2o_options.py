"""How models of H2O are run; importing this starts nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.loaders.jvm_options import JvmOptions


@dataclass(frozen=True, slots=True)
class H2oOptions:
    """``genmodel_jar``: the path of H2O's library that computes MOJOs; empty where there is none.

    ``jvm``: of the machine it runs in.
    """

    genmodel_jar: str = ""
    jvm: JvmOptions = field(default_factory=JvmOptions)
