"""How much of a device's own throughput arrives at clients who send one row each.

    .venv/bin/python benchmarks/gpu_batching.py [--model=pytorch] [--batch_sizes=1,8,32,128]
        [--connections=8x32] [--parameters="batch_timeout_micros { value: 2000 }"]
        [--cache=FOLDER | --python=FILE]

Writes an ONNX or PyTorch model of ResNet-50's shape and measures onnxruntime or PyTorch alone, in a
loop, at each batch size. Then serves the model with batching, sends requests of one image over
gRPC, many in flight, and prints what is answered and its ratio to the best batch size of the loop,
which takes turns with the server. Uses a CUDA device where there is one, else the processor, with
smaller images and fewer requests. The framework, and the server with it, run in a scratch
environment without TensorFlow that is made with pip the first time, or with the Python that is
named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

import environments
import load
from load import Connections, Load, Target
from report import markdown
from servers import ROOT, Program, end_with_sigterm, running
from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.core.dtypes import DType

HERE = Path(__file__).parent
_CHECK_SECONDS = 120
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GENERATORS: Mapping[str, Callable[[Target, Connections, float], Load]] = {
    "h2load": load.h2load,
    "grpcio": load.grpc_clients,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """What suits a device: pixels along a side, rows in a batch, clients."""

    image_size: int
    batch_sizes: str
    connections: str


_CUDA = Scale(224, "1,2,4,8,16,32,64,128", "8x32")
_CPU = Scale(64, "1,2,4,8", "2x8")


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of model: its file, the programs that write it and that run it in a loop, packages.

    ``cuda`` and ``cpu`` are what it needs on either device.
    """

    platform: str
    file: str
    writer: str
    loop: str
    cuda: Sequence[str]
    cpu: Sequence[str]


_MODELS: Mapping[str, Model] = {
    "onnx": Model(
        "onnx",
        "model.onnx",
        "resnet50.py",
        "bare_onnxruntime.py",
        ("onnx", "onnxruntime-gpu[cuda,cudnn]"),
        ("onnx", "onnxruntime"),
    ),
    "pytorch": Model(
        "pytorch", "model.pt2", "resnet50_pytorch.py", "bare_pytorch.py", ("torch",), ("torch",)
    ),
}


@dataclass(frozen=True, slots=True)
class Bare:
    """What the framework does alone: rows a second by batch size, the outputs for the first row."""

    provider: str
    rates: Mapping[int, float]
    first: np.ndarray

    @property
    def best(self) -> int:
        """The batch size with the highest rate."""
        return max(self.rates, key=self.rates.__getitem__)


def bare(python: Path, loop: str, model: Path, seconds: float, sizes: Sequence[str]) -> Bare:
    """Measure in a process of its own, which has the device to itself."""
    command = (str(python), str(HERE / loop), str(model), str(seconds), *sizes)
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    rates = {int(size): rate for size, rate in answer["rates"].items()}
    return Bare(answer["provider"], rates, np.array(answer["first"], np.float32))


def server(python: Path, platform: str, base: Path, parameters: str) -> Program:
    """The server of this project with the one model, batching as the parameters say."""
    config, batching = base.with_suffix(".config"), base.with_suffix(".batching")
    config.write_text(
        f'model_config_list {{ config {{ name: "{base.name}" base_path: "{base}" '
        f'model_platform: "{platform}" }} }}\n'
    )
    batching.write_text(parameters)
    command = (
        *(str(python), str(ROOT / "server.py"), f"--model_config_file={config}"),
        *("--enable_batching", f"--batching_parameters_file={batching}"),
        "--grpc_bind_address=127.0.0.1:0",
    )
    return Program("model_server", command, r"Running gRPC ModelServer at 127\.0\.0\.1:(\d+)")


def request(name: str, image_size: int) -> bytes:
    """The first of the images that the loop has run with."""
    image = np.random.default_rng(0).integers(0, 256, (1, 3, image_size, image_size), np.uint8)
    message = protos.PredictRequest()
    message.model_spec.name = name
    tensor = message.inputs["images"]
    tensor.dtype = int(DType.UINT8)
    tensor.tensor_content = image.tobytes()
    for size in image.shape:
        tensor.tensor_shape.dim.add(size=size)
    return message.SerializeToString()


def target(port: int, body: bytes, expected: np.ndarray) -> Target:
    """Where to send the request. Raises AssertionError where its answer is a wrong one."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary(_PREDICT)(body, timeout=_CHECK_SECONDS)
    scores = protos.PredictResponse.FromString(answer).outputs["scores"].float_val
    np.testing.assert_allclose(np.array(scores), expected, rtol=0.05)
    return Target(port, _PREDICT, body, len(answer))


def print_bare(platform: str, measured: Bare) -> None:
    rows = [
        (str(size), f"{rate:,.0f}", f"{size / rate * 1e3:.1f}")
        for size, rate in measured.rates.items()
    ]
    print(f"\n{platform} alone, {measured.provider}:\n")
    print(markdown(("batch", "rows/s", "ms a batch"), rows, names=0))


def print_served(
    loads: Sequence[Load], alone: Sequence[float], connections: Connections, batch_size: int
) -> None:
    """Medians of the rounds; the ratio with its smallest and largest."""
    rates = [each.requests / each.seconds for each in loads]
    ratios = [rate / bare_rate for rate, bare_rate in zip(rates, alone, strict=True)]
    row = (
        f"{statistics.median(alone):,.0f}",
        f"{statistics.median(rates):,.0f}",
        f"{statistics.median(each.p50_us for each in loads) / 1e3:,.1f}",
        f"{statistics.median(each.p99_us for each in loads) / 1e3:,.1f}",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
    )
    print(f"\nserved, requests of one row, {connections} in flight, batches of {batch_size}:\n")
    print(markdown(("alone rows/s", "rows/s", "p50 ms", "p99 ms", "x alone"), [row], names=0))


def arguments_of(scale: Scale) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure batching against the bare device.")
    parser.add_argument("--model", choices=_MODELS, default="onnx")
    parser.add_argument("--image_size", type=int, default=scale.image_size)
    parser.add_argument("--batch_sizes", default=scale.batch_sizes, help="of the bare loop")
    parser.add_argument("--connections", default=scale.connections, help="8x32: streams on each")
    parser.add_argument("--load", choices=_GENERATORS, default="grpcio", help="which clients")
    parser.add_argument("--parameters", default="", help="of batching, as text; added to its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    environments.add_argument(parser)
    parser.add_argument("--python", type=Path, help="one that has all packages, instead of those")
    return parser.parse_args()


def python_with(kind: Model, cache: Path, *, on_cuda: bool) -> Path:
    """An environment for the model's kind, with what a server needs without TensorFlow."""
    needed = (ROOT / "requirements-without-tensorflow.txt").read_text().splitlines()
    of_the_server = [line for line in needed if not line.startswith(("#", "onnxruntime"))]
    packages = [*(kind.cuda if on_cuda else kind.cpu), *of_the_server]
    name = "gpu_batching" if kind.platform == "onnx" else f"gpu_batching_{kind.platform}"
    return environments.environment(cache, name, packages) / "python"


def main() -> None:
    scale = _CUDA if shutil.which("nvidia-smi") else _CPU
    arguments = arguments_of(scale)
    if arguments.load == "h2load":
        load.require("h2load")
    end_with_sigterm()
    connections = Connections.parse(arguments.connections)
    kind = _MODELS[arguments.model]
    python = arguments.python or python_with(kind, arguments.cache, on_cuda=scale is _CUDA)

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory) / "resnet50"
        model = base / "1" / kind.file
        model.parent.mkdir(parents=True)
        size = arguments.image_size
        subprocess.run([python, HERE / kind.writer, model, str(size)], check=True)
        sizes = arguments.batch_sizes.split(",")
        measured = bare(python, kind.loop, model, arguments.seconds, sizes)
        print_bare(kind.platform, measured)
        parameters = (
            f"max_batch_size {{ value: {measured.best} }} num_batch_threads {{ value: 2 }} "
            f"max_enqueued_batches {{ value: 1000 }} {arguments.parameters}"
        )
        with running(
            server(python, kind.platform, base, parameters), os.sched_getaffinity(0)
        ) as serving:
            asked = target(serving.port, request(base.name, size), measured.first)
            generate = _GENERATORS[arguments.load]
            generate(asked, connections, arguments.seconds)  # warms up every batch size
            alone, loads = [], []
            for _ in range(arguments.rounds):
                serving.suspend()
                again = bare(python, kind.loop, model, arguments.seconds, [str(measured.best)])
                alone.append(again.rates[measured.best])
                serving.resume()
                loads.append(generate(asked, connections, arguments.seconds))
                print(".", end="", file=sys.stderr, flush=True)
    print_served(loads, alone, connections, measured.best)


if __name__ == "__main__":
    main()
