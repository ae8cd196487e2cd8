"""A PyTorch model that is ready to run, whichever way it was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from serving.core.servable import Signature


def no_constraints(_shapes: Mapping[str, Sequence[int]]) -> None:
    """What takes every shape that its signature takes."""


@dataclass(frozen=True, slots=True)
class PyTorchProgram:
    """A function of tensors. Thread-safe, unless the model has state that it changes.

    ``run`` takes a tensor for each input of the signature, by name, and gives one for each output,
    in order. ``writes_in_place``: whether it may write to tensors that it is given.
    ``may_run_long``: whether a run can take long however small its inputs are. ``check_shapes``
    raises InvalidArgument for shapes, by the names of inputs, that do not suit each other.
    """

    signature: Signature
    run: Callable[[Mapping[str, torch.Tensor]], Sequence[object]]
    writes_in_place: bool
    may_run_long: bool
    check_shapes: Callable[[Mapping[str, Sequence[int]]], None] = no_constraints
