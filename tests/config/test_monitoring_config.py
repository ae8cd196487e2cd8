"""MonitoringConfig files: when there is a page of metrics, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.apis.monitoring.monitoring_options import MonitoringOptions
from serving.config.command_line import parse_command_line
from serving.config.monitoring_config import read_monitoring
from serving.config.options import server_options
from serving.core.errors import InvalidArgument, NotFound

DEFAULT = MonitoringOptions("/monitoring/prometheus/metrics")


def written(folder: Path, text: str) -> str:
    file = folder / "monitoring.config"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prometheus_config { enable: true }", DEFAULT),
        ('prometheus_config { enable: true, path: "/metrics" }', MonitoringOptions("/metrics")),
        ('prometheus_config { path: "/metrics" }', None),
        ("prometheus_config { enable: false }", None),
        ("", None),
    ],
)
def test_there_is_a_page_where_it_is_enabled(tmp_path, text, expected):
    assert read_monitoring(written(tmp_path, text)) == expected


def test_a_path_without_a_slash_is_refused(tmp_path):
    file = written(tmp_path, 'prometheus_config { enable: true, path: "metrics" }')
    with pytest.raises(InvalidArgument) as caught:
        read_monitoring(file)
    assert caught.value.message == (
        f"'{file}': prometheus_config.path must begin with a slash, not 'metrics'"
    )


def test_a_file_that_is_not_there_or_does_not_parse_is_refused(tmp_path):
    with pytest.raises(NotFound):
        read_monitoring(str(tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="Error parsing text-format"):
        read_monitoring(written(tmp_path, "prometheus_config { on: true }"))


def test_there_is_no_page_without_a_rest_port_which_is_said(tmp_path, caplog):
    flag = f"--monitoring_config_file={written(tmp_path, 'prometheus_config { enable: true }')}"

    def monitoring(*flags: str) -> MonitoringOptions | None:
        options = server_options(parse_command_line(["--model_base_path=/m", flag, *flags]))
        return options.monitoring

    assert monitoring("--rest_api_port=1") == DEFAULT
    assert monitoring("--rest_bind_address=127.0.0.1:0") == DEFAULT
    assert caplog.messages == []
    assert monitoring() is None
    assert caplog.messages == [
        "the page of metrics is on the REST port, and there is none: no page"
    ]
