"""Requests as commands that people can copy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from serving.core.dtypes import numpy_dtype
from serving.inspection.filled import Filled, as_json, as_python
from serving.inspection.sample_requests import GrpcRequest, RestRequest

_MOST_CHARACTERS = 1000


class Ports(NamedTuple):
    """Where a server is to be asked."""

    host: str
    grpc: int
    rest: int

    def url(self, request: RestRequest) -> str:
        return f"http://{self.host}:{self.rest}{request.path}"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.grpc}"


def is_long(body: object) -> bool:
    """Whether nobody would want to read the document."""
    return len(json.dumps(as_json(body))) > _MOST_CHARACTERS


def curl(ports: Ports, request: RestRequest) -> str:
    """For a shell; where the body is long, Python makes it. Empty for a body that is no JSON."""
    url = shlex.quote(ports.url(request))
    if not request.is_json:
        return ""
    if not is_long(request.body):
        return f"curl -d {shlex.quote(json.dumps(as_json(request.body)))} {url}"
    program = f"import json; print(json.dumps({as_python(request.body)}))"
    return f"python3 -c {shlex.quote(program)} | curl -d @- {url}"


def grpcurl(ports: Ports, request: GrpcRequest) -> str:
    """For a shell. The server describes its messages itself."""
    body = shlex.quote(json.dumps(request.document))
    return f"grpcurl -plaintext -d {body} {ports.address} {request.method.removeprefix('/')}"


def python(ports: Ports, request: RestRequest) -> str:
    """A program that needs nothing, or numpy where JSON does not have the types."""
    return _json_program(ports, request) if request.is_json else _npz_program(ports, request)


def _json_program(ports: Ports, request: RestRequest) -> str:
    return f"""\
import json
import urllib.request

body = {as_python(request.body)}
url = {ports.url(request)!r}
with urllib.request.urlopen(url, json.dumps(body).encode()) as answer:
    print(json.load(answer))
"""


def _npz_program(ports: Ports, request: RestRequest) -> str:
    return f"""\
import io
import urllib.request

import numpy as np

body = io.BytesIO()
np.savez(body, **{_arrays(request.body)})
headers = {dict(request.headers)!r}
request = urllib.request.Request({ports.url(request)!r}, body.getvalue(), headers)
with urllib.request.urlopen(request) as answer:
    for name, array in np.load(io.BytesIO(answer.read())).items():
        print(name, array)
"""


def _arrays(tensors: Mapping[str, Filled]) -> str:
    made = (
        f"{alias!r}: np.full({filled.shape}, {filled.value}, {str(numpy_dtype(filled.dtype))!r})"
        for alias, filled in tensors.items()
    )
    return f"{{{', '.join(made)}}}"
