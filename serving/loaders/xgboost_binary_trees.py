"""Trees out of XGBoost's binary format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.little_endian import LittleEndianReader
from serving.loaders.xgboost_ubjson_writer import encoded

_NODE = np.dtype(
    [("parent", "<u4"), ("left", "<i4"), ("right", "<i4"), ("split", "<u4"), ("value", "<f4")]
)
_STATISTICS = np.dtype(
    [("loss_change", "<f4"), ("hessian", "<f4"), ("weight", "<f4"), ("leaf_children", "<i4")]
)
_INT32 = np.dtype("<i4")
_RESERVED_OF_MODEL, _RESERVED_OF_TREE = 4 * 32, 4 * 31
_SMALLEST_TREE = _RESERVED_OF_TREE + 6 * 4 + _NODE.itemsize + _STATISTICS.itemsize

_FLAG = np.uint32(1 << 31)
"""Beside a split's feature: what is missing goes left. Beside a parent: this is its left child."""

_DELETED = 0xFFFFFFFF
"""What a node that pruning left unused has for a split."""

_NO_PARENT = 0xFFFFFFFF
_NOWHERE = -1
"""The children of a leaf."""

_NONE_OF_32_BITS, _NONE_OF_64_BITS = np.array([], np.int32), np.array([], np.int64)


@dataclass(frozen=True, slots=True)
class Trees:
    """The trees of a booster, each in UBJSON, and to which of the sums each adds."""

    trees: list[bytes]
    groups: list[int]
    num_parallel_trees: int

    @property
    def num_trees(self) -> int:
        return len(self.trees)

    def document(self) -> Mapping[str, object]:
        """The ``model`` of a ``gbtree``."""
        return {
            "gbtree_model_param": {
                "num_parallel_tree": str(self.num_parallel_trees),
                "num_trees": str(self.num_trees),
            },
            "tree_info": self.groups,
            "trees": self.trees,
        }


def read_trees(reader: LittleEndianReader, num_features: int, num_groups: int) -> Trees:
    """The trees that come next. Raises InvalidArgument for what are none, or lead out of bounds."""
    num_trees, num_parallel = reader.numbers("i", 2)
    reader.take(4 * 2 + 8 + 4)  # features, padding, a buffer's size, groups
    leaf_vector = reader.number("i")
    reader.take(_RESERVED_OF_MODEL)
    if not 0 <= num_trees <= reader.left // _SMALLEST_TREE:
        raise InvalidArgument("it ends too early")
    if num_parallel < 1 or leaf_vector not in (0, 1):
        raise InvalidArgument("its trees are of a kind that is not read")
    # Each at once: as objects, small trees would take twenty times the memory of their bytes.
    trees = [encoded(_tree(reader, number, num_features)) for number in range(num_trees)]
    groups = reader.array(_INT32, num_trees).tolist()
    if num_groups > 1 or groups:
        if set(groups) != set(range(min(num_groups, num_trees + 1))):
            raise InvalidArgument(f"its trees are not for {num_groups} classes or targets")
        if num_trees % (num_groups * num_parallel):
            raise InvalidArgument(f"{num_trees} trees are no rounds of {num_parallel} for each")
    return Trees(trees, groups, num_parallel)


def _tree(reader: LittleEndianReader, number: int, num_features: int) -> Mapping[str, object]:
    num_roots, num_nodes, num_deleted, _depth, features, leaf_vector = reader.numbers("i", 6)
    reader.take(_RESERVED_OF_TREE)
    if num_roots != 1 or leaf_vector not in (0, 1) or num_nodes < 1:
        raise InvalidArgument(f"tree {number} is of a kind that is not read")
    if features != num_features:
        raise InvalidArgument(f"tree {number} has {features} features, the model {num_features}")
    nodes = reader.array(_NODE, num_nodes)
    statistics = reader.array(_STATISTICS, num_nodes)
    _check_nodes(nodes, number, num_features, num_deleted)
    return {
        "base_weights": statistics["weight"],
        "categories": _NONE_OF_32_BITS,
        "categories_nodes": _NONE_OF_32_BITS,
        "categories_segments": _NONE_OF_64_BITS,
        "categories_sizes": _NONE_OF_64_BITS,
        "default_left": ((nodes["split"] & _FLAG) != 0).astype(np.uint8),
        "id": number,
        "left_children": nodes["left"],
        "loss_changes": statistics["loss_change"],
        "parents": _without_flag(nodes["parent"]),
        "right_children": nodes["right"],
        "split_conditions": nodes["value"],
        "split_indices": _without_flag(nodes["split"]),
        "split_type": np.zeros(num_nodes, np.uint8),
        "sum_hessian": statistics["hessian"],
        "tree_param": {
            "num_deleted": str(num_deleted),
            "num_feature": str(num_features),
            "num_nodes": str(num_nodes),
            "size_leaf_vector": "1",
        },
    }


def _check_nodes(nodes: np.ndarray, number: int, num_features: int, num_deleted: int) -> None:
    """Raise InvalidArgument unless all nodes but deleted ones are below the first, each once."""
    deleted = nodes["split"] == _DELETED
    inner = np.flatnonzero(~deleted & (nodes["left"] != _NOWHERE))
    leaves = np.flatnonzero(~deleted & (nodes["left"] == _NOWHERE))
    if (
        deleted[0]
        or deleted.sum() != num_deleted
        or nodes["parent"][0] != _NO_PARENT
        or (nodes["right"][leaves] != _NOWHERE).any()
        or not _leads_nowhere_else(nodes[deleted], len(nodes))
        or not _each_is_once_below(nodes, inner, np.flatnonzero(~deleted))
    ):
        raise InvalidArgument(f"the nodes of tree {number} are no tree")
    if (_without_flag(nodes["split"][inner]) >= num_features).any():
        raise InvalidArgument(f"tree {number} asks for more than its {num_features} features")


def _leads_nowhere_else(deleted: np.ndarray, num_nodes: int) -> bool:
    """Whether nodes point to nodes: XGBoost looks up the parents of deleted ones, too."""
    pointers = [deleted["left"], deleted["right"], _without_flag(deleted["parent"])]
    return all(((each >= _NOWHERE) & (each < num_nodes)).all() for each in pointers)


def _each_is_once_below(nodes: np.ndarray, inner: np.ndarray, there: np.ndarray) -> bool:
    """Whether the inner nodes' children are all that are there but the first, without a circle."""
    children = np.stack([nodes["left"], nodes["right"]], axis=1)
    parents = _without_flag(nodes["parent"])
    if not np.array_equal(np.sort(children[inner].ravel()), there[1:]):
        return False
    if (parents[children[inner]] != inner[:, np.newaxis]).any():
        return False
    num_reached, level = 0, np.array([0])
    while level.size:  # each is the child of one, so none is met twice on the way from the root
        num_reached += level.size
        level = children[level][nodes["left"][level] != _NOWHERE].ravel()
    return num_reached == there.size


def _without_flag(values: np.ndarray) -> np.ndarray:
    return (values & ~_FLAG).astype(np.int32)
