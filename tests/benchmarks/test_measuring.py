"""What the measurements stand on: CPU time of process trees, rounds that take turns, real load."""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import grpc
import pytest

ROOT = Path(__file__).parent.parent.parent
METHOD = "/test.Service/Call"

Import = Callable[[str], ModuleType]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Import:
    """A module of benchmarks/, which are programs and therefore no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


BUSY_CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import time
while time.process_time() < 0.3: pass
print("child done", flush=True)
time.sleep(60)
'''])
time.sleep(60)
"""


def test_the_cpu_time_of_a_server_counts_its_children(module: Import):
    servers = module("servers")
    program = servers.Program("busy", [sys.executable, "-c", BUSY_CHILD], "child done")
    with servers.running(program, servers.cpus_of("0")) as server:
        assert 0.3 <= server.cpu_seconds() < 10


def test_a_program_that_ends_before_it_serves_is_reported_with_what_it_said(module: Import):
    servers = module("servers")
    program = servers.Program("broken", [sys.executable, "-c", "print('no such model')"], "ready")
    with (
        pytest.raises(RuntimeError, match="no such model"),
        servers.running(program, servers.cpus_of("0")),
    ):
        pass


def test_nothing_of_a_stopped_server_is_left(module: Import):
    """Not even a child in a session of its own that the program forgets."""
    servers = module("servers")
    forgetful = (
        "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], "
        "start_new_session=True).pid, flush=True); sys.stdin.read(); import time; time.sleep(60)"
    )
    program = servers.Program("forgetful", [sys.executable, "-c", forgetful], r"^(\d+)$")
    with servers.running(program, servers.cpus_of("0")) as server:
        child = server.port
        assert Path(f"/proc/{child}").exists()
    gone = not Path(f"/proc/{child}").exists()
    assert gone or Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


class IdleServer:
    """Counts a second of CPU time at every look."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self.name = name
        self._turns = turns
        self._seconds = 0.0

    def cpu_seconds(self) -> float:
        self._seconds += 1
        return self._seconds

    def busy_seconds(self) -> float:
        return 0.0

    def await_idle(self) -> None: ...

    def resume(self) -> None:
        self._turns.append(self.name)

    def suspend(self) -> None: ...


def test_servers_take_turns_and_are_compared_with_the_baseline_of_their_round(module: Import):
    rounds, load, report = module("rounds"), module("load"), module("report")
    turns: list[str] = []
    counts = {"base": iter([1, 100, 1, 200, 1, 400]), "fast": iter([1, 300, 1, 400, 1, 1000])}

    def contender(name: str) -> object:
        return rounds.Contender(
            IdleServer(name, turns),
            lambda _connections, seconds: load.Load(next(counts[name]), seconds, 5.0, 9.0, 0.5),
            lambda: None,
        )

    method = rounds.Method(rounds=3, seconds=2.0, warm_up_seconds=1.0)
    rows = rounds.compare(
        "case", load.Connections(8), [contender("base"), contender("fast")], method
    )
    assert turns[:6] == ["base", "fast"] * 3
    assert rows[0].ratios == [1, 1, 1]
    assert rows[1].ratios == [3, 2, 2.5]
    assert rows[1].ratio == 2.5
    assert rows[1].samples[1].cpu_us == 1e6 / 400
    cells = [cell.strip() for cell in report.table(rows).splitlines()[-1].split("|")[1:-1]]
    assert cells[:4] == ["case", "8", "fast", "200 (150-500)"]
    assert cells[-2] == "2.50 (2.00-3.00)"


def test_a_round_without_an_answer_is_measured_for_longer(module: Import):
    rounds, load = module("rounds"), module("load")
    asked: list[float] = []

    def slow(_connections: object, seconds: float) -> object:
        asked.append(seconds)
        return load.Load(int(seconds / 10), seconds, 5.0, 9.0, 0.5)

    contender = rounds.Contender(IdleServer("slow", []), slow, lambda: None)
    method = rounds.Method(rounds=1, seconds=4.0, warm_up_seconds=1.0)
    (row,) = rounds.compare("case", load.Connections(64), [contender], method)
    assert asked == [1, 4, 8, 16]
    assert row.samples[0].load.requests == 1


def test_a_plot_has_a_bar_for_each_server(module: Import, tmp_path: Path):
    rounds, load, report = module("rounds"), module("load"), module("report")
    row = rounds.Row("a < b", load.Connections(8, 2), "server", [], [2.0])
    report.write_plot(tmp_path / "plot.svg", [row, row], "title")
    bars = [
        element
        for element in ElementTree.parse(tmp_path / "plot.svg").iter()
        if element.tag.endswith("rect") and element.get("x")
    ]
    assert len(bars) == 2


@contextmanager
def constant_server(answer: bytes) -> Iterator[int]:
    """A gRPC server of one method; its port."""
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Service", {"Call": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("generator", ["h2load", "grpc_clients"])
def test_a_generator_counts_calls_and_refuses_answers_of_another_length(
    module: Import, generator: str
):
    load = module("load")
    if generator == "h2load" and shutil.which("h2load") is None:
        pytest.skip("h2load is not installed")
    generate = getattr(load, generator)
    with constant_server(b"12345") as port:
        seen = generate(load.Target(port, METHOD, b"request", 5), load.Connections(2, 2), 0.3)
        assert seen.requests > 10
        assert 0 < seen.p50_us <= seen.p99_us < 1e6
        assert not math.isnan(seen.busy)
        with pytest.raises(RuntimeError, match="should have"):
            generate(load.Target(port, METHOD, b"request", 6), load.Connections(2), 0.3)
        with pytest.raises(RuntimeError):
            generate(load.Target(port, "/no/Method", b"request", 5), load.Connections(2), 0.3)


def test_a_missing_generator_is_named_with_its_package(
    module: Import, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    with pytest.raises(SystemExit, match="apt install nghttp2-client"):
        module("load").require("h2load")


TINY = ("--rounds=1", "--seconds=1", "--warm_up_seconds=0.5", "--connections=2")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the first time, TensorFlow is installed into each scratch environment
@pytest.mark.parametrize(
    ("needs", "program", "rows"),
    [
        ("h2load", ["predict.py", *TINY], 10),
        ("h2load", ["predict.py", *TINY, "--load=grpcio", "--cases=mlp"], 2),
        ("wrk", ["rest.py", *TINY, "--cases=half_plus_two,mlp"], 4),
        ("wrk", ["peers.py", *TINY, "--peers=litserve"], 3),
        ("h2load", ["profile_predict.py", "--calls=10", "--seconds=0.5"], 0),
        ("python3", ["start_up.py", "--rounds=1"], 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_benchmark_runs(needs: str, program: list[str], rows: int):
    if shutil.which(needs) is None:
        pytest.skip(f"{needs} is not installed")
    result = subprocess.run(
        [sys.executable, f"benchmarks/{program[0]}", *program[1:]],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(printed) == (rows + 2 if rows else 0), result.stdout
