"""Runs pytest over one file: the main program of every test that Bazel knows.

    pytest_main.py [--in-checkout] FILE [PYTEST_ARGUMENTS…]

``--in-checkout`` runs the file where it lies in the source tree, not among the inputs that Bazel
laid out for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def main(arguments: list[str]) -> int:
    in_checkout = arguments[0] == "--in-checkout"
    file, *others = arguments[in_checkout:]
    path = Path(file).resolve() if in_checkout else Path(file).absolute()
    root = path.parents[len(Path(file).parts) - 1]
    os.chdir(root)
    # The source tree is not to be written to.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", f"{os.environ['TEST_TMPDIR']}/hypothesis")
    plain = ["-p", "no:cacheprovider", "-m", "not slow and not ray", f"--rootdir={root}"]
    status = pytest.main([*plain, f"--config-file={root / 'pyproject.toml'}", str(path), *others])
    # Every test of the file is slow.
    return 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
