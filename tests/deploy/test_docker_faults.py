"""What goes wrong around a container: a line says what, and the exit status what became of it.

Run as `tests/deploy/test_docker.py` says. The statuses are those of `docs/process.md`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from containers import Container, readable, running
from waiting import START_SECONDS, await_

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("image"),
]

ONCE = ("--max_num_load_retries=0",)
X = {"instances": [1.0]}
PYTHON_MODEL = """
import os, time
import numpy as np

class Model:
    inputs = {"x": {"dtype": "int64", "shape": [None]}}
    outputs = {"y": {"dtype": "int64", "shape": [None]}}

    def load(self, path):
        %s

    def predict(self, inputs):
        (x,) = inputs["x"]
        %s
        return {"y": inputs["x"]}
"""
WEB_SERVER = """
import os, shutil
from http import server
shutil.make_archive("/tmp/1", "tar", "/models", "%s")
os.chdir("/tmp")
server.test(server.SimpleHTTPRequestHandler, port=9000)
"""

LOGGED = """
model_config_list { config {
  name: "half_plus_two" base_path: "/models/half_plus_two" model_platform: "tensorflow"
  logging_config {
    log_collector_config { type: "tfrecord" filename_prefix: "/logs/calls" }
    sampling_config { sampling_rate: 1.0 }
  }
} }
"""


def failure(container: Container) -> str:
    """Why it did not start: the one line that it wrote to standard output. It ended with 255."""
    assert container.await_end() == 255
    (line,) = container.output().splitlines()
    assert "Traceback" not in container.logs()
    return line.removeprefix("Failed to start server. Error: ")


def python_model(folder: Path, *, load: str = "pass", predict: str = "pass") -> list[str]:
    """What brings a model called m into a container, which does this when it loads and predicts."""
    version = folder / "models" / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(PYTHON_MODEL % (load, predict))
    config = "config { name: 'm' base_path: '/models/m' model_platform: 'python' }"
    (folder / "models" / "models.config").write_text(f"model_config_list {{ {config} }}")
    return ["--volume", f"{readable(folder / 'models')}:/models:ro"]


PYTHON = ("--model_config_file=/models/models.config", "--allow_python_models")


def test_a_model_that_is_not_there_is_said_in_one_line() -> None:
    with running() as container:
        container.await_log("Could not find base path /models/model for servable model (No such")
        assert container.state("Status") == "running"  # it may come yet
        assert container.stop() == 0


def test_a_value_that_is_none_ends_it_with_the_reason() -> None:
    with running(flags=("--port=many",)) as container:
        assert container.await_end() == 255
        assert "Couldn't interpret value many for flag port" in container.output()


def test_a_base_path_that_its_user_may_not_read_is_named(
    model: tuple[str, ...], base_path: Path
) -> None:
    base_path.chmod(0o700)
    with running(*model, "--cap-drop=all") as container:
        container.await_log(
            "Could not find base path /models/half_plus_two for servable half_plus_two "
            "(Permission denied)"
        )
        assert container.stop() == 0


@pytest.mark.parametrize("unreadable", ["1", "1/saved_model.pb"])
def test_a_version_that_its_user_may_not_read_ends_it(
    model: tuple[str, ...], base_path: Path, unreadable: str
) -> None:
    (base_path / unreadable).chmod(0)
    with running(*model, "--cap-drop=all", "--user=12345", flags=ONCE) as container:
        line = failure(container)
    assert "{name: half_plus_two version: 1}" in line
    assert "PERMISSION_DENIED" in line


def test_no_place_for_temporary_files_ends_it(model: tuple[str, ...]) -> None:
    """Shared memory is the last there is where all else can not be written to."""
    full = "--tmpfs=/tmp:nr_inodes=1"
    with running(*model, "--read-only", "--ipc=none", full, flags=ONCE) as container:
        line = failure(container)
    assert "needs a temporary directory: No usable temporary directory found in " in line
    assert "; TMPDIR can name another" in line


def test_a_log_of_requests_on_a_read_only_disk_ends_it(base_path: Path) -> None:
    (base_path.parent / "log.config").write_text(LOGGED)
    volume = f"{readable(base_path.parent)}:/models:ro"
    flags = ("--model_config_file=/models/log.config",)
    with running("--read-only", "--volume", volume, flags=flags) as container:
        line = failure(container)
    assert line.endswith("filename_prefix: /logs can not be written to: Read-only file system")


def test_logs_that_fill_their_disk_cost_no_answer(base_path: Path) -> None:
    (base_path.parent / "log.config").write_text(LOGGED)
    volume = f"{readable(base_path.parent)}:/models:ro"
    flags = ("--model_config_file=/models/log.config", "--access_log=/logs/calls")
    full = "--tmpfs=/logs:size=4k,mode=1777"
    with running("--read-only", full, "--volume", volume, flags=flags) as container:
        container.await_ready()

        def answered() -> str:
            assert container.predict("half_plus_two", X) == {"predictions": [2.5]}
            return container.logs()

        dropped = "records of model half_plus_two are dropped until they can be written again"
        await_(lambda: dropped in answered(), container.logs, START_SECONDS)
        assert container.logs().count(dropped) == 1
        assert "No space left on device" in container.logs()
        assert container.stop() == 0


def test_a_cache_of_remote_models_without_room_ends_it(base_path: Path) -> None:
    """Where the cache can not be written to at all, it says which flag names another."""
    folder = base_path.parent
    serve = WEB_SERVER % base_path.name
    config = "name: 'm' base_path: 'http://localhost:9000/1.tar' model_platform: 'tensorflow'"
    (folder / "remote.config").write_text(f"model_config_list {{ config {{ {config} }} }}")
    volume = ("--volume", f"{readable(folder)}:/models:ro")
    with running(*volume, "--entrypoint=python", flags=("-u", "-c", serve)) as store:
        store.await_log("Serving HTTP")
        remote = ("--model_config_file=/models/remote.config", *ONCE)
        options = ("--read-only", "--tmpfs=/cache:size=4k,mode=1777", *volume)
        network = f"container:{store.id}"
        with running(*options, flags=remote, network=network) as container:
            line = failure(container)
        assert "can not be used (Read-only file system); choose another with" in line
        remote += ("--model_cache_dir=/cache",)
        with running(*options, flags=remote, network=network) as container:
            assert "RESOURCE_EXHAUSTED: there is no room in the model cache" in failure(container)


def test_a_worker_without_a_place_to_work_ends_it(tmp_path: Path) -> None:
    """Each has a directory, and the disk has room for that of the first."""
    model = python_model(tmp_path)
    disk = ("--read-only", "--tmpfs=/tmp:nr_inodes=2,mode=1777")
    with running(*disk, *model, flags=(*PYTHON, *ONCE, "--instances_per_model=2")) as container:
        line = failure(container)
    assert "FAILED_PRECONDITION: the process of {name: m version: 1} can not be started" in line
    assert "No space left on device" in line


def test_a_stop_before_the_first_word_of_the_server_ends_with_0(model: tuple[str, ...]) -> None:
    with running(*model) as container:
        # The first process of a container ignores signals that it has no handler for yet.
        await_(container.logs, lambda: "TensorFlow's first words", START_SECONDS)
        assert container.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_while_a_model_loads_ends_with_0(tmp_path: Path, workers: str) -> None:
    model = python_model(tmp_path, load="print('it loads'); time.sleep(100000)")
    with running(*model, flags=(*PYTHON, f"--num_workers={workers}")) as container:
        container.await_log("it loads")
        assert container.stop() == 0
        assert "SIGTERM: draining and stopping" in container.logs()


def test_a_python_model_that_takes_all_memory_ends_alone(tmp_path: Path) -> None:
    model = python_model(tmp_path, predict="np.ones(x << 17).sum()")
    memory = ("--memory=900m", "--memory-swap=900m")
    with running(*memory, *model, flags=PYTHON) as container:
        container.await_ready()
        answer = container.predict("m", {"instances": [4000]})
        killed = "was ended by SIGKILL, as happens where memory runs out"
        assert f"{killed} during the run; it is started again" in answer["error"]
        container.await_log(f"{killed}; it is started again in")
        asked = {"instances": [7]}
        await_(lambda: container.predict("m", asked) == {"predictions": [7]}, container.logs)
        assert container.stop() == 0


class Filler(tf.Module):
    """Takes four bytes of memory for each of ``n``."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
    def total(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(tf.fill([n], 1.0))}


def test_a_worker_that_takes_all_memory_is_replaced(tmp_path: Path) -> None:
    filler = Filler()
    tf.saved_model.save(filler, str(tmp_path / "m" / "1"), signatures=filler.total)
    model = ("--volume", f"{readable(tmp_path / 'm')}:/models/m:ro", "--env=MODEL_NAME=m")
    memory = ("--memory=1500m", "--memory-swap=1500m")
    with running(*memory, *model, flags=("--num_workers=2",)) as container:
        container.await_ready()
        assert container.predict("m", {"inputs": {"n": 1_000_000_000}}) == {}
        container.await_log("was ended by SIGKILL, as happens where memory runs out; another")
        asked = {"inputs": {"n": 3}}
        await_(lambda: container.predict("m", asked) == {"outputs": 3.0}, container.logs)
        assert container.stop() == 0


def test_a_server_that_its_memory_is_too_small_for_is_killed(model: tuple[str, ...]) -> None:
    """It can say nothing any more: the engine does."""
    with running("--memory=100m", "--memory-swap=100m", *model) as container:
        assert container.await_end() == 137
        assert container.state("OOMKilled") == "true"


def test_a_port_of_grpc_in_use_ends_it(model: tuple[str, ...]) -> None:
    with running(*model) as first:
        first.await_ready()
        for workers in "12":
            flags = ("--rest_api_port=8601", f"--num_workers={workers}")
            with running(*model, flags=flags, network=f"container:{first.id}") as second:
                line = failure(second)
            assert line.startswith("UNAVAILABLE: gRPC cannot listen on 0.0.0.0:8500")


def test_a_port_of_rest_in_use_leaves_grpc(model: tuple[str, ...]) -> None:
    """As in TensorFlow Serving; the check of the image's health asks whoever has the port."""
    with running(*model) as first:
        first.await_ready()
        flags = ("--port=8600",)
        with running(*model, flags=flags, network=f"container:{first.id}") as second:
            second.await_log("Failed to start HTTP Server: HTTP cannot listen on")
            connect = "import socket; socket.create_connection(('localhost', 8600)).close()"
            second.python(connect)
            assert second.stop() == 0
