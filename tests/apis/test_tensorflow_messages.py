"""Messages that stand in for TensorFlow's where it is not installed: the same on the wire."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from tensorflow_serving.apis import model_service_pb2, predict_pb2, prediction_service_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.apis.tensorflow_serving import config_messages, tensorflow_messages

PROGRAM = """
import sys
sys.modules.update(tensorflow=None, tensorflow_serving=None)
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from serving.apis.tensorflow_serving import config_messages, tensorflow_messages as protos
from serving.generated import tensorflow_error_pb2, tensorflow_framework_pb2
files = (tensorflow_error_pb2.DESCRIPTOR, tensorflow_framework_pb2.DESCRIPTOR)
found = FileDescriptorSet()
for file in (*files, protos.PREDICTION_SERVICE_FILE):
    file.CopyToProto(found.file.add())
for messages in (protos, config_messages):
    for name in messages.__all__:
        getattr(messages, name)
sys.stdout.buffer.write(found.SerializeToString())
"""


@pytest.fixture(scope="module")
def stand_ins() -> descriptor_pool.DescriptorPool:
    """Their descriptors, as a process without TensorFlow has them, in a pool of their own."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    pool = descriptor_pool.DescriptorPool()
    own = descriptor_pool.Default()
    for name in ("any", "wrappers"):
        file = descriptor_pb2.FileDescriptorProto()
        own.FindFileByName(f"google/protobuf/{name}.proto").CopyToProto(file)
        pool.Add(file)
    for file in descriptor_pb2.FileDescriptorSet.FromString(ran.stdout).file:
        pool.Add(file)
    return pool


FILES = ("tensorflow_error", "tensorflow_framework", "tensorflow_serving")


def files(pool: descriptor_pool.DescriptorPool) -> list:
    return [pool.FindFileByName(f"serving/generated/{name}.proto") for name in FILES]


def on_the_wire(field: FieldDescriptor) -> tuple:
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    name = kind.full_name if kind else None
    return field.name, field.number, field.type, field.is_repeated, field.is_packed, name, oneof


def check_message(ours: Descriptor, theirs: Descriptor) -> int:
    """Every field of ours is one of theirs; the number of messages compared."""
    for field in ours.fields:
        assert on_the_wire(field) == on_the_wire(theirs.fields_by_name[field.name])
    for enum in ours.enum_types:
        check_enum(enum, theirs.enum_types_by_name[enum.name])
    nested = ((one, theirs.nested_types_by_name[one.name]) for one in ours.nested_types)
    return 1 + sum(check_message(*pair) for pair in nested)


def check_enum(ours: EnumDescriptor, theirs: EnumDescriptor) -> None:
    known = {value.name: value.number for value in theirs.values}
    assert {value.name: value.number for value in ours.values}.items() <= known.items()


def test_every_field_is_one_of_tensorflows(stand_ins: descriptor_pool.DescriptorPool):
    theirs = descriptor_pool.Default()
    compared = 0
    for file in files(stand_ins):
        for message in file.message_types_by_name.values():
            compared += check_message(message, theirs.FindMessageTypeByName(message.full_name))
        for enum in file.enum_types_by_name.values():
            check_enum(enum, theirs.FindEnumTypeByName(enum.full_name))
    assert compared > 50


def test_the_services_have_the_same_methods(stand_ins: descriptor_pool.DescriptorPool):
    theirs = {
        **prediction_service_pb2.DESCRIPTOR.services_by_name,
        **model_service_pb2.DESCRIPTOR.services_by_name,
    }
    ours = stand_ins.FindFileByName("serving/generated/tensorflow_serving.proto").services_by_name
    assert set(ours) == set(theirs)
    for name, service in ours.items():
        assert [
            (method.full_name, method.input_type.full_name, method.output_type.full_name)
            for method in service.methods
        ] == [
            (method.full_name, method.input_type.full_name, method.output_type.full_name)
            for method in theirs[name].methods
        ]


def test_where_tensorflow_is_installed_its_own_classes_are_used():
    assert config_messages.ModelServerConfig is model_server_config_pb2.ModelServerConfig
    assert tensorflow_messages.PredictRequest is predict_pb2.PredictRequest
    assert "serving.generated.tensorflow_serving_pb2" not in sys.modules
