"""The form of what ``model_server inspect --json`` prints; docs/inspect.md says it in words.

Fields may be added. What changes otherwise has a higher FORMAT.
"""

from __future__ import annotations

from typing import TypedDict

FORMAT = 1


class Tensor(TypedDict):
    """An input or output. ``dtype`` is TensorFlow's name of it, ``DT_INVALID`` where nobody knows;
    ``shape`` has null for any size, and is null where even the rank is not known; ``tensor`` is
    what the framework calls it.
    """

    alias: str
    dtype: str
    shape: list[int | None] | None
    tensor: str


class Batching(TypedDict):
    """Whether requests can share a run; ``reason``: why not, else empty."""

    possible: bool
    reason: str


class Signature(TypedDict):
    """One way to call the model."""

    name: str
    method: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    batching: Batching


class Error(TypedDict):
    """``code`` is the name of a canonical one."""

    code: str
    message: str


class Load(TypedDict):
    """``import_seconds`` is what the framework took to be imported, ``seconds`` the load after
    that, ``memory_bytes`` what the process had more of then; null is not known.
    """

    attempted: bool
    loads: bool | None
    error: Error | None
    import_seconds: float | None
    seconds: float | None
    memory_bytes: int | None
    estimated_memory_bytes: int | None


class Trial(TypedDict):
    """Whether the loaded model answered the sample; ``answer`` begins as the answer or the error
    does. ``answered`` is null where it was not asked.
    """

    answered: bool | None
    answer: str


class Sample(TypedDict):
    """A request for one signature, as its body and as commands.

    A body is null where its API can not carry it, ``rest_body`` also where it is long: the commands
    make it then. ``reason``: what a command is empty for.
    """

    signature_name: str
    method: str
    rest_url: str
    rest_body: object
    rest: Trial
    grpc_address: str
    grpc_method: str
    grpc_body: object
    grpc: Trial
    curl: str
    grpcurl: str
    python: str
    reason: str


class Graph(TypedDict):
    """One graph of a SavedModel: tags, names of signatures, and kinds of operations."""

    tags: list[str]
    signatures: list[str]
    operations: list[str]


class Document(TypedDict):
    """All of it. ``candidates`` are the platforms whose files are there, with the files;
    ``platform`` is null where none was chosen, ``error`` then says why. ``signatures_from`` is
    ``load``, ``files`` or null.
    """

    format: int
    path: str
    kind: str
    name: str
    version: int | None
    versions: list[int]
    version_path: str
    num_files: int
    size_bytes: int
    platform: str | None
    candidates: dict[str, list[str]]
    error: Error | None
    load: Load
    devices: list[str]
    machine_gpus: list[str]
    signatures: list[Signature]
    signatures_from: str | None
    graphs: list[Graph]
    sample: Sample | None
