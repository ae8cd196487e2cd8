"""Configuration files in protobuf's text format."""

import re

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from serving.config.text_proto import read_text_proto
from serving.core.errors import InvalidArgument, NotFound


def test_a_file_becomes_its_message(tmp_path):
    file = tmp_path / "m.config"
    file.write_text('name: "né"  # a comment')

    assert read_text_proto(str(file), FileDescriptorProto).name == "né"


def test_a_file_that_does_not_parse_is_refused_with_its_place_but_not_its_text(tmp_path):
    file = tmp_path / "m.config"
    file.write_text('name: "a"\n secret: "s3cret"')

    with pytest.raises(InvalidArgument) as caught:
        read_text_proto(str(file), FileDescriptorProto)

    assert caught.value.message == (
        f"Invalid protobuf file: '{file}': Error parsing text-format "
        "google.protobuf.FileDescriptorProto at line 2, column 2"
    )


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=re.escape(f"{tmp_path}/no; No such file or directory")):
        read_text_proto(f"{tmp_path}/no", FileDescriptorProto)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "m.config"
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidArgument, match="not UTF-8"):
        read_text_proto(str(file), FileDescriptorProto)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="Is a directory"):
        read_text_proto(str(tmp_path), FileDescriptorProto)
