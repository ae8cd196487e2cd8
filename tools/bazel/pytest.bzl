"""py_test for files written for pytest."""

load("@pypi//:requirements.bzl", "requirement")
load("@rules_python//python:py_test.bzl", "py_test")

def pytest_test(name, src, deps = [], **kwargs):
    """A py_test that runs pytest over one file."""
    py_test(
        name = name,
        srcs = [src, "//tools/bazel:pytest_main.py"],
        main = "//tools/bazel:pytest_main.py",
        args = ["$(location %s)" % src],
        deps = deps + [requirement("pytest")],
        **kwargs
    )
