"""An inspection as people read it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from serving.core.dtypes import DType
from serving.inspection.document import Document, Load, Sample, Signature, Tensor, Trial

_WIDTH = 100
_KINDS = {"base_path": "a model's versions", "version": "a version", "file": "a model file"}


def text_of(document: Document) -> str:
    """The document in lines, with one at the end."""
    lines = [f"{document['path']}: {_KINDS[document['kind']]}", *_facts(document)]
    for graph in document["graphs"]:
        tags, names = ", ".join(graph["tags"]) or "(none)", ", ".join(graph["signatures"])
        lines += ["", f"graph with the tags {tags}"]
        lines += _wrapped("signatures", names or "(none)")
        lines += _wrapped("operations", ", ".join(graph["operations"]) or "(none)")
    for signature in document["signatures"]:
        lines += ["", *_signature(signature)]
    if document["sample"]:
        lines += ["", *_sample(document["sample"])]
    return "\n".join(lines) + "\n"


def bytes_text(size: int) -> str:
    """A number of bytes in the unit that suits it."""
    if size < 1000:
        return f"{size} bytes"
    units = ("kB", "MB", "GB", "TB")
    power = min(len(units), int(math.log10(size) // 3))
    return f"{size / 1000**power:.1f} {units[power - 1]}"


def _facts(document: Document) -> Iterator[str]:
    yield from _wrapped("platform", _platform(document))
    if document["versions"]:
        newest, *others = document["versions"]
        listed = f"; also there: {', '.join(map(str, others))}" if others else ""
        yield from _wrapped("version", f"{newest}, the newest{listed}")
    elif document["version"] is not None:
        yield from _wrapped("version", str(document["version"]))
    files = "1 file" if document["num_files"] == 1 else f"{document['num_files']} files"
    yield from _wrapped("size", f"{bytes_text(document['size_bytes'])} in {files}")
    if document["platform"]:
        yield from _wrapped("loads", _load(document["load"]))
        gpus = ", ".join(document["machine_gpus"]) or "none"
        on = ", ".join(document["devices"]) or "unknown"
        yield from _wrapped("devices", f"{on} (GPUs of this machine: {gpus})")
    if document["error"]:
        yield from _wrapped("error", document["error"]["message"])


def _platform(document: Document) -> str:
    chosen = document["platform"]
    if chosen is None:
        return "not known"
    files = document["candidates"].get(chosen)
    return f"{chosen}, told from {', '.join(files)}" if files else chosen


def _load(load: Load) -> str:
    if load["error"]:
        return f"no: {load['error']['message']}"
    if not load["loads"]:
        return "not tried"
    text = f"yes, in {load['seconds']:.3g} s"
    if load["memory_bytes"] is not None:
        text += f" into {bytes_text(load['memory_bytes'])} of memory"
    if load["estimated_memory_bytes"] is not None:
        text += f", for which a server reserves {bytes_text(load['estimated_memory_bytes'])}"
    return f"{text}; the framework had taken {load['import_seconds']:.3g} s to start"


def _signature(signature: Signature) -> Iterator[str]:
    method = f" ({signature['method']})" if signature["method"] else ""
    yield f"signature {signature['name']}{method}"
    rows = [_row("input", tensor) for tensor in signature["inputs"]]
    rows += [_row("output", tensor) for tensor in signature["outputs"]]
    yield from _table(rows)
    batching = signature["batching"]
    can = "yes" if batching["possible"] else f"no: {batching['reason']}"
    yield from _wrapped("batching", can)


def _row(role: str, tensor: Tensor) -> tuple[str, ...]:
    shape = tensor["shape"]
    if shape is None:
        text = "any shape"
    else:
        text = f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
    dtype = DType[tensor["dtype"].removeprefix("DT_")]
    label = "any type" if dtype is DType.INVALID else dtype.label
    return role, tensor["alias"], label, text, tensor["tensor"]


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _sample(sample: Sample) -> Iterator[str]:
    yield f"sample request through the signature {sample['signature_name']}"
    if sample["reason"]:
        yield from _wrapped("not all", sample["reason"])
    if sample["rest_url"]:
        yield from _wrapped("REST", _trial(sample["rest"]))
    if sample["grpc_address"]:
        yield from _wrapped("gRPC", _trial(sample["grpc"]))
    for command in ("curl", "grpcurl", "python"):
        if text := sample[command]:
            yield from ("", f"{command}:", textwrap.indent(text.rstrip("\n"), "    "))


def _trial(trial: Trial) -> str:
    verb = "answers" if trial["answered"] else "does not answer"
    return f"{verb}: {trial['answer']}" if trial["answer"] else verb


def _wrapped(title: str, text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()) or "-",
        _WIDTH,
        initial_indent=f"  {title:<12}",
        subsequent_indent=" " * 14,
        break_long_words=False,
        break_on_hyphens=False,
    )
