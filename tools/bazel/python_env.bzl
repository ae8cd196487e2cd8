"""Bazel around a Python environment that is already there: nothing is downloaded.

@python_env is a toolchain of the interpreter that $MODEL_SERVER_PYTHON names, else of the python3 on
PATH. @pypi has a label for every line of the files of requirements, the ones that pip.parse makes; the
environment's site-packages provide the code.

Where $MODEL_SERVER_REQUIREMENTS is "lock", as --config=lock sets it, the labels of @pypi stand for those
that pip.parse makes of requirements_lock.txt, and there is no toolchain: that of rules_python is used.
"""

_SWITCH = "MODEL_SERVER_REQUIREMENTS"

_TOOLCHAIN = """\
load("@rules_python//python:py_runtime.bzl", "py_runtime")
load("@rules_python//python:py_runtime_pair.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

py_runtime(
    name = "runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
    stub_shebang = "#!{python}",
)

py_runtime_pair(
    name = "pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

_LIBRARY = """\
load("@rules_python//python:py_library.bzl", "py_library")

py_library(
    name = "{name}",
    visibility = ["//visibility:public"],
)
"""

_LOCKED = """\
alias(
    name = "{name}",
    actual = "@locked//{name}",
    visibility = ["//visibility:public"],
)
"""

_REQUIREMENTS = """\
_NAMES = {names}

def requirement(name):
    name = name.lower().replace("-", "_").replace(".", "_")
    if name not in _NAMES:
        fail(name + " is in none of the files of requirements")
    return "@pypi//" + name
"""

def _locked(repository_ctx):
    return repository_ctx.os.environ.get(_SWITCH) == "lock"

def _python_env_impl(repository_ctx):
    if _locked(repository_ctx):
        repository_ctx.file("BUILD.bazel", "")
        return
    python = repository_ctx.os.environ.get("MODEL_SERVER_PYTHON") or repository_ctx.which("python3")
    if not python:
        fail("no python3 on PATH; name an interpreter with MODEL_SERVER_PYTHON")
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    if repository_ctx.execute([python, "-c", check]).return_code:
        fail("%s is not a Python of at least 3.11; name one with MODEL_SERVER_PYTHON" % python)
    repository_ctx.file("BUILD.bazel", _TOOLCHAIN.format(python = python))

python_env = repository_rule(
    implementation = _python_env_impl,
    environ = [_SWITCH, "MODEL_SERVER_PYTHON", "PATH"],
    local = True,
)

def _name_of(line):
    """The package that a line of requirements.txt names, as a label; "" where there is none."""
    line = line.split("#")[0].strip()
    for end in range(len(line)):
        if not (line[end].isalnum() or line[end] in "-_."):
            line = line[:end]
            break
    return line.lower().replace("-", "_").replace(".", "_")

def _environment_requirements_impl(repository_ctx):
    lines = []
    for file in repository_ctx.attr.requirements:
        lines += repository_ctx.read(file).splitlines()
    names = [name for name in [_name_of(line) for line in lines] if name]
    target = _LOCKED if _locked(repository_ctx) else _LIBRARY
    for name in names:
        repository_ctx.file(name + "/BUILD.bazel", target.format(name = name))
    repository_ctx.file("BUILD.bazel", "")
    repository_ctx.file("requirements.bzl", _REQUIREMENTS.format(names = names))

environment_requirements = repository_rule(
    implementation = _environment_requirements_impl,
    attrs = {"requirements": attr.label_list(allow_files = True, mandatory = True)},
    environ = [_SWITCH],
)
