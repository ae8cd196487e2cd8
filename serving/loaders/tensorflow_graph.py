"""What a graph tells before it runs."""

from __future__ import annotations

from collections.abc import Iterator

from tensorflow.core.framework.graph_pb2 import GraphDef

# Every turn of a loop of TensorFlow 1 passes a NextIteration. What waits does so for other runs
# or other machines, and Python's functions take as long as they please.
_LONG_OPERATIONS = frozenset(
    """
    NextIteration RefNextIteration While StatelessWhile _While RiscWhile XlaWhile For
    IteratorGetNext IteratorGetNextSync IteratorGetNextAsOptional
    MultiDeviceIteratorGetNextFromShard DatasetToSingleElement ReduceDataset
    QueueDequeue QueueDequeueMany QueueDequeueUpTo QueueEnqueue QueueEnqueueMany
    ReaderRead ReaderReadUpTo BarrierTakeMany
    Stage StagePeek Unstage MapStage MapPeek MapUnstage MapUnstageNoKey
    OrderedMapStage OrderedMapPeek OrderedMapUnstage OrderedMapUnstageNoKey
    AccumulatorTakeGradient ResourceAccumulatorTakeGradient SparseAccumulatorTakeGradient
    Batch BatchFunction Unbatch MutexLock Recv _Recv _HostRecv RemoteCall RpcCall RpcGetValue
    PyFunc PyFuncStateless EagerPyFunc
    """.split()  # noqa: SIM905 - a list of as many lines as words is no easier to read
)


def may_run_long(graph: GraphDef) -> bool:
    """Whether a run can take long however small its inputs are.

    So it is where any operation, of the graph or of a function in its library, repeats others,
    waits, or calls Python. Without those a run is as long as graph and inputs are large.
    """
    return any(operation.removesuffix("V2") in _LONG_OPERATIONS for operation in _operations(graph))


def _operations(graph: GraphDef) -> Iterator[str]:
    for node in graph.node:
        yield node.op
    for function in graph.library.function:
        for node in function.node_def:
            yield node.op
