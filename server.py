"""Starts the server from a source tree: ``python server.py --model_base_path=/models/m``."""

import sys

from serving.cli import main

if __name__ == "__main__":
    sys.exit(main())
