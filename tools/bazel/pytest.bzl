"""Targets of the tests written for pytest: one for each file."""

load("@pypi//:requirements.bzl", "requirement")
load("@rules_python//python:py_library.bzl", "py_library")
load("@rules_python//python:py_test.bzl", "py_test")

_MAIN = "//tools/bazel:pytest_main.py"

def pytest_tests(deps, data = [], in_checkout = [], tags = {}):
    """A py_test for every test_*.py of the package, named as the file is.

    What the tests leave out because of a marker they leave out here too: bazel test
    --test_arg=-m --test_arg=slow runs those instead.

    Args:
      deps: what the files import: the tests, and those they share as helpers.
      data: what they read, or start as a program.
      in_checkout: the files that are about the source tree itself. They run there, unsandboxed, and
        anew each time, because no list of inputs says what they look at.
      tags: for a file's name, the tags of its target besides; tag "manual" and the reason name what
        cannot run under Bazel.
    """
    py_library(
        name = "helpers",
        testonly = True,
        srcs = native.glob(["*.py"], exclude = ["test_*.py"]),
        deps = deps,
    )
    for src in native.glob(["test_*.py"]):
        py_test(
            name = src[:-len(".py")],
            size = "medium",
            srcs = [src, _MAIN],
            args = (["--in-checkout"] if src in in_checkout else []) + ["$(location %s)" % src],
            data = data + ["//:pyproject.toml"],
            main = _MAIN,
            tags = (["external", "local"] if src in in_checkout else []) + tags.get(src, []),
            deps = deps + [":helpers", requirement("pytest"), requirement("pytest-timeout")],
        )
