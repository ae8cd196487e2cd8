"""Writes a PyTorch model of ResNet-50's shape, with random weights and pixels as bytes.

    python benchmarks/resnet50_pytorch.py FILE IMAGE_SIZE

Input ``images`` uint8 [batch, 3, IMAGE_SIZE, IMAGE_SIZE], output ``scores`` float32 [batch, 1000].
Needs the package torch only.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""The width of each stage and how many bottlenecks it has."""

_EXPANSION = 4
_CLASSES = 1000


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    """A convolution without bias, then batch normalization."""
    kernel = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(kernel.weight)  # keeps the values' size through the layers
    return nn.Sequential(kernel, nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.layers = nn.Sequential(
            *(convolution(inputs, width, 1), nn.ReLU()),
            *(convolution(width, width, 3, stride), nn.ReLU()),
            convolution(width, outputs, 1),
        )
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu((self.layers(x) + self.shortcut(x)) * 0.5**0.5)


class ResNet50(nn.Module):
    """The model; its weights are the same every time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        channels = 64
        for stage, (width, count) in enumerate(_STAGES):
            for block in range(count):
                blocks.append(Bottleneck(channels, width, 2 if stage and not block else 1))
                channels = width * _EXPANSION
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, _CLASSES)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.blocks(self.stem((images.float() - 127.5) / 64))
        return {"scores": torch.softmax(self.classifier(x.mean((2, 3))), 1)}


def main() -> None:
    file, image_size = sys.argv[1:]
    images = torch.zeros((2, 3, int(image_size), int(image_size)), dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(ResNet50().eval(), (images,), dynamic_shapes={"images": batch})
    torch.export.save(program, file)


if __name__ == "__main__":
    main()
