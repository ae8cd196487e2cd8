from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchingParameters(_message.Message):
    __slots__ = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "thread_pool_name", "allowed_batch_sizes", "pad_variable_length_inputs", "enable_large_batch_splitting", "max_execution_batch_size", "retry_failed_batch_in_halves", "deadline_aware", "admission_control", "max_expected_wait_micros", "batching_mode", "honor_priorities", "max_priority_wait_micros", "weight", "max_batches_in_progress", "hung_batch_seconds")
    class BatchingMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FIXED: _ClassVar[BatchingParameters.BatchingMode]
        ADAPTIVE: _ClassVar[BatchingParameters.BatchingMode]
    FIXED: BatchingParameters.BatchingMode
    ADAPTIVE: BatchingParameters.BatchingMode
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    BATCH_TIMEOUT_MICROS_FIELD_NUMBER: _ClassVar[int]
    MAX_ENQUEUED_BATCHES_FIELD_NUMBER: _ClassVar[int]
    NUM_BATCH_THREADS_FIELD_NUMBER: _ClassVar[int]
    THREAD_POOL_NAME_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    PAD_VARIABLE_LENGTH_INPUTS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_LARGE_BATCH_SPLITTING_FIELD_NUMBER: _ClassVar[int]
    MAX_EXECUTION_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    RETRY_FAILED_BATCH_IN_HALVES_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AWARE_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_CONTROL_FIELD_NUMBER: _ClassVar[int]
    MAX_EXPECTED_WAIT_MICROS_FIELD_NUMBER: _ClassVar[int]
    BATCHING_MODE_FIELD_NUMBER: _ClassVar[int]
    HONOR_PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_PRIORITY_WAIT_MICROS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCHES_IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    HUNG_BATCH_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_batch_size: _wrappers_pb2.Int64Value
    batch_timeout_micros: _wrappers_pb2.Int64Value
    max_enqueued_batches: _wrappers_pb2.Int64Value
    num_batch_threads: _wrappers_pb2.Int64Value
    thread_pool_name: _wrappers_pb2.StringValue
    allowed_batch_sizes: _containers.RepeatedScalarFieldContainer[int]
    pad_variable_length_inputs: bool
    enable_large_batch_splitting: _wrappers_pb2.BoolValue
    max_execution_batch_size: _wrappers_pb2.Int64Value
    retry_failed_batch_in_halves: bool
    deadline_aware: bool
    admission_control: bool
    max_expected_wait_micros: _wrappers_pb2.Int64Value
    batching_mode: BatchingParameters.BatchingMode
    honor_priorities: bool
    max_priority_wait_micros: _wrappers_pb2.Int64Value
    weight: _wrappers_pb2.Int64Value
    max_batches_in_progress: _wrappers_pb2.Int64Value
    hung_batch_seconds: _wrappers_pb2.Int64Value
    def __init__(self, max_batch_size: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., batch_timeout_micros: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., max_enqueued_batches: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., num_batch_threads: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., thread_pool_name: _Optional[_Union[_wrappers_pb2.StringValue, _Mapping]] = ..., allowed_batch_sizes: _Optional[_Iterable[int]] = ..., pad_variable_length_inputs: bool = ..., enable_large_batch_splitting: _Optional[_Union[_wrappers_pb2.BoolValue, _Mapping]] = ..., max_execution_batch_size: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., retry_failed_batch_in_halves: bool = ..., deadline_aware: bool = ..., admission_control: bool = ..., max_expected_wait_micros: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., batching_mode: _Optional[_Union[BatchingParameters.BatchingMode, str]] = ..., honor_priorities: bool = ..., max_priority_wait_micros: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., weight: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., max_batches_in_progress: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., hung_batch_seconds: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ...) -> None: ...
