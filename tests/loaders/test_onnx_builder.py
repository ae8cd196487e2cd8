"""Graphs of ONNX that readers of other formats write."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

from serving.loaders.onnx_builder import GraphBuilder


def test_names_take_no_longer_the_more_there_are():
    """The tries for a name are not more than the values: they were the square of it."""

    class Names(set[str]):
        tries = 0

        def __contains__(self, name: object) -> bool:
            Names.tries += 1
            return super().__contains__(name)

    graph = GraphBuilder()
    graph._names = Names()
    names = [graph.constant([1.0]) for _ in range(500)]
    assert len(set(names)) == 500
    assert Names.tries <= 1500
