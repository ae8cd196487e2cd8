"""What REST clients get from whole servers, over real connections."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import odd_models
from exported_models import Exported
from stock_clients import WAIT_SECONDS

from serving.testing import running_server


def test_the_timeout_ends_a_run_however_quick_those_before_were(
    exported: Exported, tmp_path: Path
) -> None:
    base = exported(odd_models.gated).parent
    flags = ("--model_name=m", f"--model_base_path={base}", "--rest_api_timeout_in_ms=1000")
    gate, never = tmp_path / "gate", tmp_path / "never"
    gate.touch()
    with (
        running_server(*flags) as server,
        closing(HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_SECONDS)) as connection,
    ):

        def ask(path: Path) -> tuple[int, object]:
            body = json.dumps({"inputs": {"gate": str(path)}})
            connection.request("POST", "/v1/models/m:predict", body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        for _ in range(40):
            assert ask(gate) == (200, {"outputs": 1})
        try:
            assert ask(never) == (504, {"error": "Timed out waiting for notification"})
        finally:
            never.touch()  # a server whose run went on could not stop
        assert ask(gate) == (200, {"outputs": 1})
