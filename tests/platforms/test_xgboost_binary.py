"""What XGBoost wrote before JSON is read, and answers as the version that wrote it did."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from platform_tests import PlatformCase, PlatformTests, served
from xgboost_old_models import NUM_FEATURES, ROUNDS, OldModel, old_models

from serving.core.errors import InvalidArgument, NotFound
from serving.core.resources import ResourceAllocation
from serving.core.servable import DEFAULT_SIGNATURE, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.native_options import NativeOptions
from serving.loaders.platform_detection import platform_of

pytest.importorskip("xgboost", reason="xgboost is not installed")

from serving.loaders.xgboost_binary import document_of
from serving.loaders.xgboost_loader import XGBoostPlatform, read_booster
from serving.loaders.xgboost_ubjson_writer import encoded

__all__ = ["served"]

M1 = ServableId("m", 1)
MODELS = old_models()
UNTRIED = NativeOptions(probe=False)


def write(name: str, file: str, directory: Path) -> dict[str, np.ndarray]:
    model = MODELS[name]
    (directory / file).write_bytes(model.content)
    return {"predict": model.answers[TWO]}


def case(name: str, file: str) -> PlatformCase:
    asked = {"x": MODELS[name].rows[TWO]}
    writing = partial(write, name, file)
    return PlatformCase(name, "xgboost", file, writing, asked, tolerance=1e-6, options=UNTRIED)


TWO = np.flatnonzero(np.isfinite(MODELS["0.90 softprob"].rows).all(axis=1))[:2]
"""Rows without gaps, for which JSON has no word."""

CASES = [case("0.90 softprob", "model.bin"), case("3.0.5 dart", "model.deprecated")]


class TestXGBoostBinary(PlatformTests):
    """A model that does not tell its version, and one of the last that were written."""


def answers(folder: Path, model: OldModel) -> np.ndarray:
    servable = XGBoostPlatform(UNTRIED).load(M1, str(folder))
    (found,) = run_and_wait(servable, {"x": model.rows}, ["predict"])
    return found


def refusal(folder: Path, content: bytes) -> str:
    (folder / "model.bin").write_bytes(content)
    with pytest.raises(InvalidArgument) as raised:
        XGBoostPlatform(UNTRIED).load(M1, str(folder))
    return raised.value.message


@pytest.mark.parametrize("name", MODELS)
def test_it_answers_as_the_version_that_wrote_it(tmp_path: Path, name: str):
    write(name, "any.bin", tmp_path)
    assert platform_of(str(tmp_path)) == "xgboost"
    found = answers(tmp_path, MODELS[name])
    np.testing.assert_allclose(found, MODELS[name].answers, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("file", ["model.bst", "a.model", "a.deprecated"])
def test_other_endings_are_read_too(tmp_path: Path, file: str):
    write("0.90 binary", file, tmp_path)
    assert platform_of(str(tmp_path)) == "xgboost"
    read_booster(str(tmp_path))


def test_another_file_called_bin_is_no_platforms(tmp_path: Path):
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    with pytest.raises(NotFound):
        platform_of(str(tmp_path))


def test_the_signature_and_the_attributes_are_the_models(tmp_path: Path):
    write("1.7.6 softprob", "model.bin", tmp_path)
    signature = XGBoostPlatform(UNTRIED).load(M1, str(tmp_path)).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs["x"].shape == (None, 4)
    assert signature.outputs["predict"].shape == (None, 3)
    attributes = read_booster(str(tmp_path)).attributes()
    assert attributes == {
        "best_iteration": str(ROUNDS - 1),
        "best_ntree_limit": str(ROUNDS),
        "written": "by hand",
    }


def of_leaves(num_trees: int) -> bytes:
    """A model whose trees have one node each."""
    model = SQUARED.index(TREE) + len(TREE)
    trees = model + 160
    counts = [1, 1, 0, 0, NUM_FEATURES, 0]  # roots, nodes, deleted ones, depth, features, a flag
    leaf = np.array([0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0], "<u4").tobytes() + bytes(4)
    tree = np.array(counts, "<i4").tobytes() + bytes(31 * 4) + leaf + bytes(16)
    number = num_trees.to_bytes(4, "little")
    head = SQUARED[:model] + number + SQUARED[model + 4 : trees]
    return head + tree * num_trees + bytes(4 * num_trees) + bytes(8)


def test_small_trees_take_a_few_times_the_memory_of_their_file():
    content = of_leaves(2000)
    tracemalloc.start()
    try:
        encoded(document_of(content))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12 * len(content)


def test_each_tree_adds_to_the_estimate(tmp_path: Path):
    """XGBoost takes thousands of bytes for one, however small it is."""
    content = of_leaves(2000)
    (tmp_path / "model.bin").write_bytes(content)
    found = XGBoostPlatform(UNTRIED).estimate(str(tmp_path))
    assert found == ResourceAllocation.ram(5 * len(content) + 5000 * 2000)
    assert read_booster(str(tmp_path)).num_boosted_rounds() == 2000


def test_the_estimate_of_a_linear_model_is_by_its_size(tmp_path: Path):
    write("3.0.5 linear", "model.bin", tmp_path)
    size = (tmp_path / "model.bin").stat().st_size
    assert XGBoostPlatform(UNTRIED).estimate(str(tmp_path)) == ResourceAllocation.ram(5 * size)


def test_the_estimate_of_a_file_that_is_cut_short_is_by_its_size(tmp_path: Path):
    """What is wrong with it, its load says."""
    end = SQUARED.index(TREE) + len(TREE)
    (tmp_path / "model.bin").write_bytes(SQUARED[:end])
    found = XGBoostPlatform(UNTRIED).estimate(str(tmp_path))
    assert found == ResourceAllocation.ram(3 * end)


@pytest.mark.parametrize("name", ["0.90 poisson", "1.7.6 dart", "3.0.5 linear"])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, name: str):
    content = MODELS[name].content
    # Version 0.90 wrote what only training needs behind the attributes, which nothing asks for.
    whole = content.index(b"by hand") + len(b"by hand") if name.startswith("0.90") else len(content)
    for end in range(4, whole, 41):
        assert refusal(tmp_path, content[:end]).startswith("model.bin is no ")


@pytest.mark.parametrize("name", ["0.90 dart", "1.7.6 softprob", "3.0.5 pruned", "1.7.6 linear"])
def test_a_byte_that_was_changed_anywhere_is_refused_or_another_model(tmp_path: Path, name: str):
    """No number in it leads XGBoost astray: this process would crash."""
    content = MODELS[name].content
    chosen = random.Random(0)
    for place in range(4, len(content), 131):
        changed = bytearray(content)
        changed[place] ^= 1 << chosen.randrange(8)
        (tmp_path / "model.bin").write_bytes(changed)
        with suppress(InvalidArgument):
            answers(tmp_path, MODELS[name])


def with_number(content: bytes, old: int, new: int, after: bytes) -> bytes:
    """The content with the first number ``old`` of 32 bits behind ``after`` made ``new``."""
    place = content.index(old.to_bytes(4, "little"), content.index(after) + len(after))
    return content[:place] + new.to_bytes(4, "little", signed=new < 0) + content[place + 4 :]


SQUARED = MODELS["3.0.5 squared"].content
SOFTPROB = MODELS["3.0.5 softprob"].content
TREE = b"gbtree"


def test_what_leads_out_of_bounds_is_named(tmp_path: Path):
    begin = "model.bin is no whole model of XGBoost's binary format: "
    many_trees = with_number(SQUARED, ROUNDS, 2**31 - 1, TREE)
    assert refusal(tmp_path, many_trees) == begin + "it ends too early"
    features = with_number(SQUARED, NUM_FEATURES, NUM_FEATURES + 1, SQUARED[4:8])
    assert refusal(tmp_path, features) == begin + "tree 0 has 4 features, the model 5"
    split = tree_of(SQUARED) + 3 * 4
    far_split = SQUARED[:split] + b"\x04\0\0\0" + SQUARED[split + 4 :]
    assert refusal(tmp_path, far_split) == begin + "tree 0 asks for more than its 4 features"
    classes = with_number(SOFTPROB, 3, 4, SOFTPROB[4:8])
    assert refusal(tmp_path, classes) == begin + "its trees are not for 4 classes or targets"
    trailing = SQUARED + b"more"
    assert refusal(tmp_path, trailing) == begin + "4 bytes follow its end"
    booster = SQUARED.replace(b"gbtree", b"gbtrex")
    assert "no model of XGBoost" in refusal(tmp_path, booster)


def tree_of(content: bytes) -> int:
    """Where the nodes of the first tree begin."""
    return content.index(TREE) + len(TREE) + 160 + 148


@pytest.mark.parametrize(
    ("node", "field", "value"),
    [(0, 1, 1_000_000), (0, 1, -5), (0, 1, 0), (1, 2, 1), (0, 0, 3), (1, 0, 7)],
    ids=["far child", "negative child", "the root below", "twice", "root's parent", "parent"],
)
def test_nodes_that_are_no_tree_are_refused(tmp_path: Path, node: int, field: int, value: int):
    place = tree_of(SQUARED) + 20 * node + 4 * field
    changed = SQUARED[:place] + value.to_bytes(4, "little", signed=True) + SQUARED[place + 4 :]
    assert refusal(tmp_path, changed).endswith("the nodes of tree 0 are no tree")


def test_a_deleted_node_that_points_out_of_its_tree_is_refused(tmp_path: Path):
    content = MODELS["3.0.5 pruned"].content
    begin = tree_of(content)
    nodes = [content[place : place + 20] for place in range(begin, begin + 33 * 20, 20)]
    first = next(i for i, node in enumerate(nodes) if node[12:16] == b"\xff" * 4)
    place = begin + first * 20 + 2  # in the number of its parent
    changed = content[:place] + b"\x7f" + content[place + 1 :]
    assert refusal(tmp_path, changed).endswith("the nodes of tree 0 are no tree")


@pytest.mark.parametrize(
    "saved",
    [
        b"[",
        b"{]",
        b'{"name": "x"}',
        b"[[[[[" * 20,
        b'{"x": null}',
        b'{"x": 1e300}',
        b'{"x": 1180591620717411303424}',
        b'{"x": "\\ud800"}',
        b'{"\\ud800": 1}',
    ],
)
def test_damaged_parameters_of_the_objective_are_refused(tmp_path: Path, saved: bytes):
    start = SQUARED.index(b'{"name"')
    end = SQUARED.index(b"}}", start) + 2
    content = SQUARED[: start - 8] + len(saved).to_bytes(8, "little") + saved + SQUARED[end:]
    assert "the parameters of its objective 'reg:squarederror' are damaged" in refusal(
        tmp_path, content
    )
