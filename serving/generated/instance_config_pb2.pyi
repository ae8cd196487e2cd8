from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceParameters(_message.Message):
    __slots__ = ("instances_per_model", "devices")
    INSTANCES_PER_MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    instances_per_model: int
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instances_per_model: _Optional[int] = ..., devices: _Optional[_Iterable[str]] = ...) -> None: ...
