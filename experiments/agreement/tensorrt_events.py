"""Time a serialised TensorRT engine without this project: tensorrt, CUDA's runtime and its events, nothing else.

    python experiments/agreement/tensorrt_events.py model.engine [REPLAYS]

Its inputs must be float32. Prints the milliseconds of one batch: a captured graph replayed between two events, the
median of 15 rows of replays.
"""

import statistics
import sys
from pathlib import Path

import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cuda


def checked(result):
    """Return what a call of CUDA's runtime gives, without its status."""
    status, *values = result
    if status != cuda.cudaError_t.cudaSuccess:
        raise SystemExit(f"CUDA: {status.name}")
    return values[0] if len(values) == 1 else values


engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(Path(sys.argv[1]).read_bytes())
replays = int(sys.argv[2]) if len(sys.argv) > 2 else 100
context = engine.create_execution_context()
for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
    size = trt.volume(engine.get_tensor_shape(name)) * engine.get_tensor_dtype(name).itemsize
    buffer = checked(cuda.cudaMalloc(size))
    if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:  # zeros would draw less power, and run faster
        values = np.random.default_rng(0).standard_normal(size // 4).astype(np.float32)
        checked(cuda.cudaMemcpy(buffer, values.ctypes.data, values.nbytes, cuda.cudaMemcpyKind.cudaMemcpyHostToDevice))
    context.set_tensor_address(name, buffer)
stream = checked(cuda.cudaStreamCreate())
context.execute_async_v3(int(stream))
checked(cuda.cudaStreamSynchronize(stream))
checked(cuda.cudaStreamBeginCapture(stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
context.execute_async_v3(int(stream))
graph = checked(cuda.cudaGraphInstantiate(checked(cuda.cudaStreamEndCapture(stream)), 0))
first, last = (checked(cuda.cudaEventCreate()) for _ in range(2))
rows = []
for _ in range(20):
    checked(cuda.cudaGraphLaunch(graph, stream))
    checked(cuda.cudaEventRecord(first, stream))
    for _ in range(replays):
        checked(cuda.cudaGraphLaunch(graph, stream))
    checked(cuda.cudaEventRecord(last, stream))
    checked(cuda.cudaEventSynchronize(last))
    rows.append(checked(cuda.cudaEventElapsedTime(first, last)) / replays)
print(f"{statistics.median(rows[5:]):.5f}")
