"""What the documentation says about the code is so: flags, tests, links, versions."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from tensorflow_serving.config.logging_config_pb2 import SamplingConfig

from serving.apis.tensorflow_serving.tensorflow_messages import PredictionLog
from serving.commands import record, replay
from serving.config.flags import FLAGS, GROUPS, Support
from serving.loaders.platform_table import PLATFORMS
from serving.request_logging.log_collectors import LOG_COLLECTORS

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "examples", "deploy", "clients")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for each in FOLDERS for page in ROOT.glob(f"{each}/**/*.md"))],
)
STATES = {
    Support.FULL: "works",
    Support.LATER: "not yet",
    Support.NO_EFFECT: "no effect",
}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row, heads included."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


FLAG_ROWS = {
    row[0].strip("`").removeprefix("--"): row
    for row in table_rows(page("flags.md"))
    if row[0].startswith("`--")
}


def test_every_flag_has_its_row_and_every_row_its_flag():
    assert FLAG_ROWS.keys() == FLAGS.keys()


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_row_says_type_meaning_and_state_of_the_table(name: str):
    flag = FLAGS[name]
    _, kind, _, meaning, state = FLAG_ROWS[name]
    assert kind == flag.type.value
    assert meaning == flag.help
    assert state == STATES[flag.support]


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_row_shows_the_default(name: str):
    """Defaults that count CPUs are shown as such: they differ between machines."""
    default, shown = FLAGS[name].default, FLAG_ROWS[name][2]
    if "CPUs" not in shown:
        written = str(default).lower() if isinstance(default, bool) else str(default)
        assert shown == (f"`{written}`" if written else "")


def test_flags_stand_under_the_headings_of_their_groups():
    sections = re.split(r"^## (.+)$", page("flags.md"), flags=re.MULTILINE)[1:]
    shown = {
        title: re.findall(r"^\| `--(\w+)`", body, re.MULTILINE)
        for title, body in zip(sections[::2], sections[1::2], strict=True)
    }
    for group, flags in GROUPS.items():
        assert shown[group] == [flag.name for flag in flags]


FLAG_SECTIONS = dict(
    zip(*[iter(re.split(r"^## (.+)$", page("flags.md"), flags=re.MULTILINE)[1:])] * 2, strict=True)
)


@pytest.mark.parametrize("group", GROUPS)
def test_the_flags_of_a_group_are_described_on_the_pages_that_it_leads_to(group: str):
    """One page has the word on each of them; others may mention it."""
    described = re.search(r"^Described on (.+)\.$", FLAG_SECTIONS[group], re.MULTILINE)
    assert described, group
    pages = re.findall(r"\]\((\w+\.md)\)", described[1])
    for flag in GROUPS[group]:
        named = [name for name in pages if f"`--{flag.name}`" in page(name)]
        assert len(named) == 1, f"--{flag.name} is on {named} of {pages}"


@cache
def names_of_tests(file: Path) -> frozenset[str]:
    """The names of the test functions in a file, those of classes too."""
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def named_tests_exist(held_by: str) -> bool:
    """False where no test is named."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", held_by)
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert test in names_of_tests(ROOT / file), f"{file}::{test}"
    return bool(named)


FEATURE_ROWS = [row for row in table_rows(page("features.md")) if re.fullmatch(r"[TU]\d+", row[0])]


def test_features_are_numbered_without_a_gap():
    numbers = [row[0] for row in FEATURE_ROWS if row[0].startswith("U")]
    assert numbers == [f"U{number:03}" for number in range(1, 194)]


@pytest.mark.parametrize("row", FEATURE_ROWS, ids=lambda row: row[0])
def test_a_feature_works_exactly_where_a_test_holds_it(row: list[str]):
    _, _, state, held_by = row
    assert state in {"works", "not yet"}
    assert named_tests_exist(held_by) == (state == "works")


PROMISES = [row for row in table_rows(page("lifecycle.md")) if "`tests/" in row[-1]]


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0])
def test_a_promise_is_held_by_tests_that_exist(row: list[str]):
    _, held_by = row
    assert named_tests_exist(held_by)


def test_every_promise_names_its_test():
    promised = page("lifecycle.md").partition("## What is promised")[2].partition("\n## ")[0]
    heads = ("promise", "---")
    assert [row for row in table_rows(promised) if not row[0].startswith(heads)] == PROMISES


def first_cells(text: str, head: str) -> list[list[str]]:
    """The names in the first column of the table that has ``head`` there, a list for each row."""
    table = text.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [re.findall(r"`(\w+)`", row[0]) for row in table_rows(table)[1:]]


def test_every_kind_of_request_log_is_described():
    described = first_cells(page("request_logging.md"), "`type`")
    assert [name for names in described for name in names] == sorted(LOG_COLLECTORS, reverse=True)


def test_every_sampling_field_is_described():
    described = first_cells(page("request_logging.md"), "field of `sampling_config`")
    fields = {field.name for field in SamplingConfig.DESCRIPTOR.fields}
    assert {name for names in described for name in names} == fields


def test_every_kind_of_warm_up_record_is_described():
    described = first_cells(page("warm_up.md"), "record")
    (kinds,) = PredictionLog.DESCRIPTOR.oneofs
    named = {name for names in described for name in names if name.endswith("_log")}
    assert named == {field.name for field in kinds.fields}


@pytest.mark.parametrize(
    ("command", "file"), [(record, "warm_up.md"), (replay, "request_logging.md")]
)
def test_every_argument_of_a_command_is_described_with_its_default(command, file: str):
    table = page(file).partition("| argument |")[2].partition("\n\n")[0]
    rows = {row[0].strip("`"): row[1] for row in table_rows(table) if row[0].startswith("`--")}
    actions = [action for action in command.parser()._actions if action.dest != "help"]
    assert list(rows) == [action.option_strings[0] for action in actions]
    for action in actions:
        if action.default:
            assert float(rows[action.option_strings[0]]) == action.default


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as a repository's web view makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def without_blocks(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path):
    text = without_blocks(path)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target.read_text()), link


HOMES = (ROOT, ROOT / "serving")
"""What paths on the pages are relative to."""
TOPS = {"benchmarks", "docs", "examples", "protos", "scripts", "tests", "tools"} | {
    folder.name for home in HOMES for folder in home.iterdir() if (folder / "__init__.py").is_file()
}
"""With what a path of this repository begins."""


OF_MODELS = {file.pattern for row in PLATFORMS.values() for file in row.files}
"""Files that are no part of this repository, but models that it serves."""


def paths_named(text: str) -> set[str]:
    """What stands in code font and looks like a file or folder of this repository."""
    words = re.findall(r"`([\w./*-]+)[^`\n]*`", text)
    return {word for word in words if word.split("/")[0] in TOPS or re.search(r"\w\.py$", word)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_files_that_a_page_names_are_there(path: Path):
    named = paths_named(without_blocks(path))
    named -= OF_MODELS
    missing = {name for name in named if not any([*home.glob(name)] for home in HOMES)}
    assert missing == set()


def test_one_version_number():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.search(r'version = "([^"]+)"', (ROOT / "MODULE.bazel").read_text())
    assert version[1] == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_page_of_platforms_names_the_tests_of_each():
    section = page("platforms.md").partition("## Testing them\n")[2].partition("\n## ")[0]
    rows = table_rows(section)[2:]
    tested = {name.strip("`"): re.findall("`(.+?)`", files) for name, files in rows}
    assert tested.keys() == PLATFORMS.keys()
    for files in tested.values():
        assert files
        assert all((ROOT / file).is_file() for file in files)
