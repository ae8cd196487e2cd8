"""A version one of whose batches does not come back: nothing else waits for it."""

from __future__ import annotations

import signal
from pathlib import Path

from program import program
from stock_clients import await_, client_of, floats, predict_request, publish, reload_request, spec

from batching_models import gated_rows, rows_of_run

AVAILABLE, UNLOADING, END = ("AVAILABLE", "OK"), ("UNLOADING", "OK"), ("END", "OK")


def test_a_batch_that_hangs_keeps_its_version_in_memory_and_holds_up_nothing_else(tmp_path: Path):
    """Neither the next version, its unload, a reload, other models nor the end of the program."""
    parameters, gate, opened = (tmp_path / name for name in ("parameters", "never", "opened"))
    parameters.write_text("num_batch_threads { value: 2 } max_batches_in_progress { value: 1 }")
    opened.touch()
    base, other = tmp_path / "m", publish(rows_of_run, tmp_path / "n", 1).parent
    publish(gated_rows, base, 1)
    with (
        program(
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            "--model_name=m",
            f"--model_base_path={base}",
            "--version_settle_seconds=0",
            "--num_unload_threads=1",
            "--shutdown_grace_seconds=0.2",
        ) as running,
        client_of(running.grpc_port) as client,
    ):
        stuck = client.future("Predict", predict_request(spec(), gate=[str(gate)]))
        await_(gate.with_name("never-entered").exists)

        publish(gated_rows, base, 2)
        client.await_states({2: AVAILABLE, 1: UNLOADING})
        assert client.predict(spec(), gate=[str(opened)])["gate"].tolist() == [str(opened).encode()]

        models = [{"name": "m", "base_path": str(base)}, {"name": "n", "base_path": str(other)}]
        assert (
            client.call("HandleReloadConfigRequest", reload_request(*models)).status.error_code == 0
        )
        assert client.predict(spec("n"), x=floats(7))["x"].tolist() == [7]

        publish(gated_rows, base, 3)
        client.await_states({3: AVAILABLE, 2: END, 1: UNLOADING})
        assert not stuck.done()

        running.send(signal.SIGTERM)
        assert running.end() == (0, "")
        assert "Traceback" not in running.log
