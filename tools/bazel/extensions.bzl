"""The repositories of python_env.bzl for bzlmod."""

load(":python_env.bzl", "environment_requirements", "python_env")

def _impl(_module_ctx):
    python_env(name = "python_env")
    environment_requirements(
        name = "pypi",
        requirements = [
            "//:requirements.txt",
            "//:requirements-platforms.txt",
            "//:requirements-test.txt",
        ],
    )

python_env_extension = module_extension(implementation = _impl)
