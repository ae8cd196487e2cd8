"""The command ``model_server``: exit statuses, and what is written where."""

import errno
import importlib.metadata
import logging
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest

from serving import cli
from serving.core.errors import NotFound, Unavailable

PROGRAM = Path(__file__).parent.parent / "server.py"


@pytest.fixture
def started(monkeypatch):
    """The options that servers were started with, by a stand-in that starts none."""
    options = []

    def run(server_options):
        options.append(server_options)
        return 0

    monkeypatch.setitem(sys.modules, "serving.process", types.SimpleNamespace(run=run))
    return options


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch):
    # pytest's own handlers are on the root logger, so basicConfig would not touch it.
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


def run_program(*arguments):
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False
    )


def test_one_process_serves_by_itself(monkeypatch, started):
    """What watches over several is not even imported."""
    monkeypatch.setitem(sys.modules, "serving.workers.supervisor", None)
    assert cli.main(["--model_base_path=/m"]) == 0
    assert len(started) == 1


def test_several_are_supervised(monkeypatch, started):
    supervised = []
    supervisor = types.SimpleNamespace(supervise=lambda *arguments: supervised.append(arguments))
    monkeypatch.setitem(sys.modules, "serving.workers.supervisor", supervisor)
    cli.main(["--model_base_path=/m", "--num_workers=2", "--log_level=debug"])
    ((options, log_level),) = supervised
    assert (options.num_workers, log_level) == (2, "debug")
    assert started == []


def test_help_is_printed_and_no_failure(capsys, started):
    assert cli.main(["--port=1", "--help"]) == 0

    out = capsys.readouterr().out
    assert out.startswith("usage: model_server")
    assert "--model_base_path=" in out
    assert started == []


def test_version_names_the_server_and_the_library(capsys, started):
    assert cli.main(["--version"]) == 0

    server, library = capsys.readouterr().out.splitlines()
    assert server.startswith("TensorFlow ModelServer: ")
    assert library == f"TensorFlow Library: {importlib.metadata.version('tensorflow')}"
    assert started == []


def test_version_tells_of_what_is_not_installed(capsys, monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    cli.main(["--version"])

    assert capsys.readouterr().out == (
        "TensorFlow ModelServer: unknown\nTensorFlow Library: unknown\n"
    )


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_asking_does_not_import_what_serving_needs(flag):
    code = (
        "import sys; from serving import cli; "
        f"status = cli.main([{flag!r}]); "
        "heavy = {'grpc', 'numpy', 'tensorflow', 'httptools'} & set(sys.modules); "
        "sys.exit(status or len(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROGRAM.parent, capture_output=True, check=False
    )

    assert done.returncode == 0


def test_the_program_answers_help():
    done = run_program("--help")

    assert done.returncode == 0
    assert done.stderr == ""


def test_a_value_that_cannot_be_read_ends_with_usage_and_the_reason(capsys, started):
    assert cli.main(["--model_base_path=/m", "--port=abc"]) == 255

    captured = capsys.readouterr()
    assert captured.out.startswith("usage: ")
    assert captured.out.endswith("\nCouldn't interpret value abc for flag port: not an int32.\n")
    assert captured.err == ""
    assert started == []


def test_unknown_arguments_are_named_and_the_server_starts(capsys, started):
    assert cli.main(["--model_base_path=/m", "--modle_name=x", "extra", "--model_name=n"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["unknown argument: --modle_name=x", "unknown argument: extra"]
    assert len(lines) == 3
    assert started[0].model_name == "n"


def test_the_exit_status_is_the_servers(monkeypatch):
    monkeypatch.setitem(sys.modules, "serving.process", types.SimpleNamespace(run=lambda _: 130))

    assert cli.main(["--model_base_path=/m"]) == 130


def test_flags_that_do_nothing_are_warned_of_once(caplog, started):
    cli.main(
        [
            "--model_base_path=/m",
            "--flush_filesystem_caches=false",
            "--skip_initialize_tpu",
        ]
    )

    warned = [record.message for record in caplog.records if record.name == "serving.cli"]
    assert len(warned) == 1
    assert "--flush_filesystem_caches, --skip_initialize_tpu" in warned[0]


def test_options_that_contradict_each_other_end_the_start(capsys, started):
    assert cli.main(["--port=8500"]) == 255

    assert capsys.readouterr().out == (
        "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path "
        "and server_options.model_config_file are empty!\n"
    )
    assert started == []


def test_an_unknown_log_level_ends_the_start(capsys, started):
    assert cli.main(["--model_base_path=/m", "--log_level=loud"]) == 255

    assert capsys.readouterr().out == (
        "Failed to start server. Error: INVALID_ARGUMENT: "
        "log_level must be one of debug, info, warning, error, not 'loud'\n"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unavailable("gRPC cannot listen on x:1"), "UNAVAILABLE: gRPC cannot listen on x:1"),
        (NotFound("/m.config; No such file"), "NOT_FOUND: /m.config; No such file"),
    ],
)
def test_an_error_of_the_start_is_one_line_on_stdout(capsys, monkeypatch, error, text):
    def fail(_):
        raise error

    monkeypatch.setitem(sys.modules, "serving.process", types.SimpleNamespace(run=fail))

    assert cli.main(["--model_base_path=/m"]) == 255
    assert capsys.readouterr().out == f"Failed to start server. Error: {text}\n"


def test_a_machine_without_room_for_temporary_files_is_a_warning(caplog, monkeypatch, started):
    """What serves without TensorFlow may need none."""

    def nowhere():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)

    assert cli.main(["--model_base_path=/m"]) == 0
    assert (
        "No usable temporary directory found in ['/tmp'], which some models need; TMPDIR can name "
        "another"
    ) in [record.getMessage() for record in caplog.records]
    assert len(started) == 1


def test_without_arguments_those_of_the_process_count(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["model_server", "--version"])

    assert cli.main() == 0
    assert "ModelServer" in capsys.readouterr().out


def test_the_program_exits_with_255_and_no_traceback_for_an_operators_mistake():
    done = run_program("--model_base_path=relative/path")

    assert done.returncode == 255
    assert done.stdout == (
        "Failed to start server. Error: INVALID_ARGUMENT: Expected model default to have an "
        "absolute path or URI; got base_path()=relative/path\n"
    )
    assert "Traceback" not in done.stderr


def test_help_names_the_commands(capsys):
    cli.main(["--help"])
    help_text = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"model_server {command} --help" in help_text


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_command_is_the_first_argument_and_takes_the_others(command, capsys, started):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: model_server {command} ")
    assert started == []


def test_elsewhere_the_name_of_a_command_is_unknown_as_any_word(capsys, started):
    cli.main(["--model_base_path=/m", "record"])
    assert "unknown argument: record" in capsys.readouterr().out
    assert len(started) == 1
