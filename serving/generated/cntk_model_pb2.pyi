from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dictionary(_message.Message):
    __slots__ = ("version", "data")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: DictionaryValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[DictionaryValue, _Mapping]] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    version: int
    data: _containers.MessageMap[str, DictionaryValue]
    def __init__(self, version: _Optional[int] = ..., data: _Optional[_Mapping[str, DictionaryValue]] = ...) -> None: ...

class DictionaryValue(_message.Message):
    __slots__ = ("version", "value_type", "bool_value", "int_value", "size_t_value", "float_value", "double_value", "string_value", "nd_shape_value", "axis_value", "vector_value", "dictionary_value", "nd_array_view_value")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    SIZE_T_VALUE_FIELD_NUMBER: _ClassVar[int]
    FLOAT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    ND_SHAPE_VALUE_FIELD_NUMBER: _ClassVar[int]
    AXIS_VALUE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_VALUE_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_VALUE_FIELD_NUMBER: _ClassVar[int]
    ND_ARRAY_VIEW_VALUE_FIELD_NUMBER: _ClassVar[int]
    version: int
    value_type: int
    bool_value: bool
    int_value: int
    size_t_value: int
    float_value: float
    double_value: float
    string_value: str
    nd_shape_value: NDShape
    axis_value: Axis
    vector_value: Vector
    dictionary_value: Dictionary
    nd_array_view_value: NDArrayView
    def __init__(self, version: _Optional[int] = ..., value_type: _Optional[int] = ..., bool_value: bool = ..., int_value: _Optional[int] = ..., size_t_value: _Optional[int] = ..., float_value: _Optional[float] = ..., double_value: _Optional[float] = ..., string_value: _Optional[str] = ..., nd_shape_value: _Optional[_Union[NDShape, _Mapping]] = ..., axis_value: _Optional[_Union[Axis, _Mapping]] = ..., vector_value: _Optional[_Union[Vector, _Mapping]] = ..., dictionary_value: _Optional[_Union[Dictionary, _Mapping]] = ..., nd_array_view_value: _Optional[_Union[NDArrayView, _Mapping]] = ...) -> None: ...

class NDShape(_message.Message):
    __slots__ = ("shape_dim",)
    SHAPE_DIM_FIELD_NUMBER: _ClassVar[int]
    shape_dim: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shape_dim: _Optional[_Iterable[int]] = ...) -> None: ...

class Axis(_message.Message):
    __slots__ = ("static_axis_idx", "name", "is_ordered_dynamic_axis")
    STATIC_AXIS_IDX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IS_ORDERED_DYNAMIC_AXIS_FIELD_NUMBER: _ClassVar[int]
    static_axis_idx: int
    name: str
    is_ordered_dynamic_axis: bool
    def __init__(self, static_axis_idx: _Optional[int] = ..., name: _Optional[str] = ..., is_ordered_dynamic_axis: bool = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _containers.RepeatedCompositeFieldContainer[DictionaryValue]
    def __init__(self, value: _Optional[_Iterable[_Union[DictionaryValue, _Mapping]]] = ...) -> None: ...

class NDArrayView(_message.Message):
    __slots__ = ("data_type", "storage_format", "shape", "float_values", "double_values", "bytes_value", "sint32_values")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FLOAT_VALUES_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUES_FIELD_NUMBER: _ClassVar[int]
    BYTES_VALUE_FIELD_NUMBER: _ClassVar[int]
    SINT32_VALUES_FIELD_NUMBER: _ClassVar[int]
    data_type: int
    storage_format: int
    shape: NDShape
    float_values: FloatValues
    double_values: DoubleValues
    bytes_value: BytesValue
    sint32_values: IntValues
    def __init__(self, data_type: _Optional[int] = ..., storage_format: _Optional[int] = ..., shape: _Optional[_Union[NDShape, _Mapping]] = ..., float_values: _Optional[_Union[FloatValues, _Mapping]] = ..., double_values: _Optional[_Union[DoubleValues, _Mapping]] = ..., bytes_value: _Optional[_Union[BytesValue, _Mapping]] = ..., sint32_values: _Optional[_Union[IntValues, _Mapping]] = ...) -> None: ...

class FloatValues(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, value: _Optional[_Iterable[float]] = ...) -> None: ...

class DoubleValues(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, value: _Optional[_Iterable[float]] = ...) -> None: ...

class BytesValue(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class IntValues(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, value: _Optional[_Iterable[int]] = ...) -> None: ...
