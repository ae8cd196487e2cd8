"""How fast PyTorch itself runs a model: one batch after the other in a loop, nothing around it.

    python benchmarks/bare_pytorch.py FILE SECONDS BATCH_SIZE…

Runs on a CUDA device where there is one. Prints what :func:`device_loop.print_rates` says. Needs
the packages numpy and torch only.
"""

from __future__ import annotations

import os
import sys

# As in the server; threads that wait busily are slower where others use the processors too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

from device_loop import print_rates


def main() -> None:
    file, seconds, *sizes = sys.argv[1:]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    program = move_to_device_pass(torch.export.load(file), device)
    images = next(node for node in program.graph.nodes if node.name == "images")
    module = program.module()

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            scores: np.ndarray = module(torch.from_numpy(batch).to(device))["scores"].cpu().numpy()
        return scores

    print_rates(str(device), run, int(images.meta["val"].shape[-1]), float(seconds), sizes)


if __name__ == "__main__":
    main()
