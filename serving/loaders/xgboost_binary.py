"""XGBoost's binary format, which versions up to 3.0 wrote, as a document of today's format.

Written after XGBoost's own structures: ``LearnerModelParam``, ``GBTreeModelParam``, ``TreeParam``,
``RegTree::Node`` and ``RTreeNodeStat`` in memory order, little-endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.little_endian import LittleEndianReader
from serving.loaders.xgboost_binary_trees import read_trees
from serving.loaders.xgboost_json import is_shallow
from serving.loaders.xgboost_ubjson_writer import encoded

_MAGIC = b"binf"  # which versions before 1.0 left out
_FLOAT = np.dtype("<f4")
_RESERVED = 4 * 26
_VERSION = [2, 1, 4]
"""The version of XGBoost whose documents these are like."""

_BOOSTERS = {"gbtree", "dart", "gblinear"}
_LOGISTIC = {"binary:logistic", "reg:logistic"}
_EXPONENTIAL = {"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox"}
_OF_TRAINING = {"metrics", "objective", "count_poisson_max_delta_step"}
"""Attributes that XGBoost added as it saved, and takes away as it loads."""

_OBJECTIVE_PARAMETERS = (
    "lambdarank_param",
    "poisson_regression_param",
    "reg_loss_param",
    "tweedie_regression_param",
)
"""What XGBoost looks for in an objective, each for some; versions before 1.0 did not save them.
They are about training."""


@dataclass(frozen=True, slots=True)
class _Learner:
    """What stands before the booster, of ``LearnerModelParam``."""

    base_score: float
    num_features: int
    num_classes: int
    has_attributes: bool
    major_version: int
    num_targets: int

    @property
    def num_groups(self) -> int:
        """Numbers of which each is the sum of trees of its own."""
        return max(self.num_classes, self.num_targets)


def is_binary(content: bytes) -> bool:
    """Whether a model in the binary format begins so, of any version; looks at its first bytes."""
    try:
        reader = _after_magic(content)
        _learner(reader)
        return bool(reader.text()) and reader.text() in _BOOSTERS
    except InvalidArgument:
        return False


def num_trees(start: bytes) -> int | None:
    """How many trees a model in the binary format says it has, 0 of a linear one; None where these
    are not the first bytes of a model, or end before that.
    """
    try:
        reader = _after_magic(start)
        _learner(reader)
        _objective_name, booster = reader.text(), reader.text()
        count = max(0, reader.number("i"))
    except InvalidArgument:
        return None
    if booster not in _BOOSTERS:
        return None
    return 0 if booster == "gblinear" else count


def document_of(content: bytes) -> Mapping[str, object]:
    """The model as XGBoost's JSON has it, with numpy's arrays where that has typed ones.

    Every index in it is within its bounds, and each tree is one, so that XGBoost can follow them.
    Raises InvalidArgument for a content that is cut short or does not fit together.
    """
    reader = _after_magic(content)
    learner = _learner(reader)
    objective, booster = reader.text(), reader.text()
    gradient_booster = _gradient_booster(reader, booster, learner)
    attributes = _attributes(reader) if learner.has_attributes else {}
    if reader.left and learner.major_version > 0:  # before 1.0, what training needed followed
        raise InvalidArgument(f"{reader.left} bytes follow its end")
    return {
        "learner": {
            "attributes": {k: v for k, v in attributes.items() if k not in _OF_TRAINING},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": gradient_booster,
            "learner_model_param": {
                "base_score": repr(_base_score(learner, objective)),
                "boost_from_average": "0",
                "num_class": str(learner.num_classes),
                "num_feature": str(learner.num_features),
                "num_target": str(learner.num_targets),
            },
            "objective": _objective(objective, attributes.get("objective", "{}"), learner),
        },
        "version": _VERSION,
    }


def _after_magic(content: bytes) -> LittleEndianReader:
    return LittleEndianReader(content.removeprefix(_MAGIC))


def _learner(reader: LittleEndianReader) -> _Learner:
    (base_score,) = reader.array(_FLOAT, 1).tolist()
    num_features = reader.number("I")
    num_classes, has_attributes, _has_metrics = reader.numbers("i", 3)
    major_version, _minor_version, num_targets = reader.numbers("I", 3)
    reader.take(_RESERVED)
    if not math.isfinite(base_score):
        raise InvalidArgument(f"its base_score is {base_score}")
    if num_classes < 0:
        raise InvalidArgument(f"it has {num_classes} classes")
    return _Learner(
        base_score,
        num_features,
        num_classes,
        bool(has_attributes),
        major_version,
        max(num_targets, 1),
    )


def _gradient_booster(
    reader: LittleEndianReader, booster: str, learner: _Learner
) -> Mapping[str, object]:
    if booster == "gblinear":
        return {"name": booster, "model": _linear_model(reader, learner)}
    if booster not in _BOOSTERS:
        raise InvalidArgument(f"its booster is {booster!r}, which is none")
    trees = read_trees(reader, learner.num_features, learner.num_groups)
    model = {"name": "gbtree", "model": trees.document()}
    if booster == "gbtree":
        return model
    weights = _floats(reader) if trees.num_trees else []
    if len(weights) != trees.num_trees:
        raise InvalidArgument(f"it has {trees.num_trees} trees, but weights of {len(weights)}")
    return {"name": booster, "gbtree": model, "weight_drop": weights}


def _linear_model(reader: LittleEndianReader, learner: _Learner) -> Mapping[str, object]:
    reader.take(4 * 34)  # the numbers of features and classes once more, and what is reserved
    weights = _floats(reader)
    expected = (learner.num_features + 1) * learner.num_groups
    if len(weights) != expected:
        raise InvalidArgument(f"it has {len(weights)} weights, but needs {expected}")
    return {"weights": weights, "boosted_rounds": 0}


def _floats(reader: LittleEndianReader) -> list[float]:
    return [float(each) for each in reader.array(_FLOAT, reader.count(_FLOAT.itemsize))]


def _attributes(reader: LittleEndianReader) -> Mapping[str, str]:
    return {reader.text(): reader.text() for _ in range(reader.count(16))}


def _base_score(learner: _Learner, objective: str) -> float:
    """As from 1.0 on, in the units of the label; before, in those of the sum of trees."""
    score = learner.base_score
    if learner.major_version > 0:
        return score
    if objective in _LOGISTIC:
        return 1 / (1 + math.exp(-score)) if score > -700 else 0.0
    return math.exp(min(score, 700)) if objective in _EXPONENTIAL else score


def _objective(name: str, saved: str, learner: _Learner) -> Mapping[str, object]:
    """The objective with the parameters that it was saved with, and places for those it lacks."""
    try:
        parameters = json.loads(saved) if is_shallow(saved.encode()) else None
        encoded(parameters)  # JSON has more than XGBoost's files can say
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict) or parameters.get("name", name) != name:
        raise InvalidArgument(f"the parameters of its objective {name!r} are damaged")
    if name.startswith("multi:") and not learner.num_classes:
        raise InvalidArgument(f"its objective {name!r} has no classes")
    empty: Mapping[str, object] = {each: {} for each in _OBJECTIVE_PARAMETERS}
    classes = {"softmax_multiclass_param": {"num_class": str(learner.num_classes)}}
    return {**empty, **parameters, **classes, "name": name}
