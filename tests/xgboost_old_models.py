"""Models in XGBoost's old binary format and what the version that wrote them answered.

``xgboost_answers.json`` holds them. This program adds those of the version of XGBoost that it runs
with, which no environment of today has beside the server::

    pip install xgboost==0.90 'numpy<2' scipy && python tests/xgboost_old_models.py

It was run with 0.90, the last before models told their version, with 1.7.6 and with 3.0.5.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("xgboost_answers.json")
NUM_FEATURES = 4
ROUNDS = 3

PARAMETERS: dict[str, dict[str, object]] = {
    "binary": {"objective": "binary:logistic", "base_score": 0.3},
    "dart": {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.5, "seed": 1},
    "dart binary": {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5, "seed": 1},
    "forest": {"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.5},
    "gamma": {"objective": "reg:gamma"},
    "hinge": {"objective": "binary:hinge"},
    "linear": {"objective": "reg:squarederror", "booster": "gblinear"},
    "poisson": {"objective": "count:poisson"},
    "pruned": {"objective": "reg:squarederror", "gamma": 8, "max_depth": 6, "tree_method": "exact"},
    "raw": {"objective": "binary:logitraw", "base_score": 0.3},
    "softmax": {"objective": "multi:softmax", "num_class": 3},
    "softprob": {"objective": "multi:softprob", "num_class": 3},
    "squared": {"objective": "reg:squarederror", "base_score": 2.5},
    "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": 1.3},
}


@dataclass(frozen=True)
class OldModel:
    """A file that a version of XGBoost wrote, the rows it was asked and the answers it gave."""

    content: bytes
    rows: np.ndarray
    answers: np.ndarray


def old_models() -> dict[str, OldModel]:
    """The models by the version that wrote them and their name, as ``0.90 binary``."""
    saved = json.loads(FILE.read_text())
    rows = np.array(saved["rows"], np.float32)
    return {
        name: OldModel(
            zlib.decompress(base64.b64decode(content)), rows, np.array(answers, np.float32)
        )
        for name, (content, answers) in saved["models"].items()
    }


def rows_with_gaps(count: int, seed: int) -> np.ndarray:
    random = np.random.RandomState(seed)
    rows = random.normal(size=(count, NUM_FEATURES)).astype(np.float32)
    rows[random.rand(count, NUM_FEATURES) < 0.2] = np.nan
    return rows


def labels(name: str, rows: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(rows[:, 0]) + 2 * np.nan_to_num(rows[:, 1])
    objective = str(PARAMETERS[name]["objective"])
    if objective.startswith("binary:"):
        return (values > 0).astype(np.float32)
    if objective.startswith("multi:"):
        return np.digitize(values, [-1, 1]).astype(np.float32)
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        return (np.abs(values) + 0.1).astype(np.float32)
    return values.astype(np.float32)


def main() -> None:
    import xgboost  # noqa: PLC0415 - of old_models' users, only some have it

    rows, asked = rows_with_gaps(60, 0), rows_with_gaps(8, 1)
    saved = json.loads(FILE.read_text()) if FILE.exists() else {"models": {}}
    saved["rows"] = asked.tolist()
    for name, parameters in PARAMETERS.items():
        data = xgboost.DMatrix(rows, labels(name, rows))
        booster = xgboost.train({"max_depth": 3, "verbosity": 0, **parameters}, data, ROUNDS)
        booster.set_attr(written="by hand")
        # Before 1.0, dart left trees out as in training, unless it was told how many to ask.
        old_dart = xgboost.__version__ < "1" and parameters.get("booster") == "dart"
        all_trees = {"ntree_limit": ROUNDS} if old_dart else {}
        answers = booster.predict(xgboost.DMatrix(asked), **all_trees)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.deprecated")  # other names are UBJSON in the last versions
            booster.save_model(str(file))
            content = base64.b64encode(zlib.compress(file.read_bytes(), 9)).decode()
        saved["models"][f"{xgboost.__version__} {name}"] = [content, answers.tolist()]
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in saved["models"].items())
    FILE.write_text(f'{{"rows": {json.dumps(saved["rows"])},\n"models": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
