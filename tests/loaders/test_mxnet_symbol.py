"""Symbols are read as all versions of MXNet wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_symbol import VARIABLE, Node, Output, Symbol, read_symbol


def read(tmp_path: Path, document: Any) -> Symbol:
    file = tmp_path / "m-symbol.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_symbol(file)


def nodes(*more: Any, **changed: Any) -> dict[str, Any]:
    data = {"op": "null", "name": "data", "inputs": []}
    relu = {"op": "Activation", "name": "relu", "inputs": [[0, 0, 0]]} | changed
    return {"nodes": [data, relu, *more], "heads": [[1, 0, 0]]}


@pytest.mark.parametrize("key", ["attrs", "attr", "param"])
def test_attributes_have_had_several_names(tmp_path: Path, key: str):
    symbol = read(tmp_path, nodes(**{key: {"act_type": "relu"}}))
    relu = Node("Activation", "relu", {"act_type": "relu"}, [Output(0, 0)])
    assert symbol.nodes[1] == relu
    assert symbol.heads == [Output(1, 0)]


def test_attributes_of_two_names_count_both(tmp_path: Path):
    """Old files have an operator's own in ``param``, and a user's in ``attr``."""
    symbol = read(tmp_path, nodes(param={"act_type": "relu"}, attr={"ctx_group": "a"}))
    assert symbol.nodes[1].attributes == {"act_type": "relu", "ctx_group": "a"}


def test_inputs_and_heads_had_no_version_once(tmp_path: Path):
    document = nodes(inputs=[[0, 0]], backward_source_id=-1) | {"heads": [[1, 0]]}
    assert read(tmp_path, document).heads == [Output(1, 0)]


def test_states_that_old_files_leave_out_are_added(tmp_path: Path):
    variables = [{"op": "null", "name": f"bn_{name}", "inputs": []} for name in ("gamma", "beta")]
    normalization = {"op": "BatchNorm", "name": "bn", "inputs": [[1, 0], [2, 0], [3, 0]]}
    document = nodes(*variables, normalization) | {"heads": [[4, 0]]}
    symbol = read(tmp_path, document)
    (head,) = symbol.heads
    node = symbol.nodes[head.node]
    assert node.name == "bn"
    names = [symbol.nodes[source.node].name for source in node.inputs]
    assert names == ["relu", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]
    assert symbol.nodes[node.inputs[4].node].operator == VARIABLE


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "is empty"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no object"),
        ({}, "no list of nodes"),
        ({"nodes": []}, "no list of nodes"),
        ({"nodes": [1]}, r"nodes\[0\] is no object"),
        ({"nodes": [{"op": "null"}]}, r"nodes\[0\] lacks op or name"),
        (nodes(inputs=[[1, 0, 0]]), r"nodes\[1\] has an input that no node before it gives"),
        (nodes(inputs=[[-1, 0, 0]]), r"nodes\[1\] has an input"),
        (nodes(inputs=[[True, 0]]), r"nodes\[1\] has an input"),
        (nodes(inputs=[[0]]), r"nodes\[1\] has an input"),
        (nodes(inputs=None), r"nodes\[1\] has no list"),
        (nodes(attrs={"act_type": 1}), r"nodes\[1\]\.attrs is no object of texts"),
        (nodes() | {"heads": []}, "no heads"),
        (nodes() | {"heads": [[7, 0]]}, "heads has an input"),
    ],
)
def test_what_is_no_symbol_is_refused(tmp_path: Path, document: Any, reason: str):
    with pytest.raises(InvalidArgument, match=reason) as raised:
        read(tmp_path, document)
    assert "m-symbol.json" in raised.value.message
    assert len(raised.value.message) < 300
