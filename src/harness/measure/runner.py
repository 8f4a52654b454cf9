"""One batch through one cell: every stage in turn, each on the samples that the router lets through to it.

What is inside `launch()` is inside the clock. On a CPU only the router's decision allocates there (a few numbers a
sample); on a GPU nothing waits for the host if the router knows its counts beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from harness.engines.base import Executable
from harness.system.errors import CellError
from harness.techniques.arch.stages import LAST_HEAD, NetworkOutputs, Router


class Runner:
    """One cell's batch. The samples that go on after a stage are packed together for the next one."""

    def __init__(self, executables: tuple[Executable, ...], router: Router, batch_size: int) -> None:
        """Take one loaded executable a stage; raise ValueError where the router is for another number of them."""
        if len(executables) != len(router.heads):
            raise ValueError(f"{len(executables)} stages with {router}, which routes {len(router.heads)}")
        self._stages, self._router, self._batch_size = executables, router, batch_size
        self.input_buffers = executables[0].input_buffers()  # by name, [max batch, ...]
        self._features = [stage.input_buffers()[stage.input_specs[0].name] for stage in executables[1:]]
        self._places: list[Any] = []  # of the last run, behind each stage but the last: who went on, ascending
        self.stream = executables[-1].stream  # torch CUDA stream with the last work of a batch; None on a CPU
        self._routed_result = self._allocated_result() if len(executables) > 1 else None

    def _allocated_result(self) -> Any:
        spec = next(spec for spec in self._stages[0].output_specs if spec.name == self._router.heads[0])
        shape = (self._batch_size, *spec.shape[1:])
        if isinstance(self._features[0], np.ndarray):
            return np.zeros(shape, dtype=spec.dtype)
        import torch

        return torch.zeros(shape, dtype=getattr(torch, spec.dtype), device=self._features[0].device)

    @property
    def results(self) -> dict[str, Any]:
        """What a caller gets of the last batch, [batch, ...] by name; of several stages the logits alone."""
        if self._routed_result is not None:
            return {LAST_HEAD: self._routed_result}
        outputs = self._stages[0].output_buffers()
        return {spec.name: outputs[spec.name][: self._batch_size] for spec in self._stages[0].output_specs}

    def write(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Put `inputs`, [batch, ...] by name, where the next `launch()` reads them."""
        first = self._stages[0]
        first.write_inputs({spec.name: inputs[spec.name].astype(spec.dtype, copy=False) for spec in first.input_specs})
        first.synchronize()

    def launch(self) -> None:
        """Enqueue one batch as a caller would."""
        self._run(lambda stage, count: stage.enqueue(count))

    def replay(self) -> None:
        """Enqueue one batch from captured graphs, without the host in between."""
        self._run(lambda stage, count: stage.replay(count))

    def wait(self) -> None:
        """Wait until the batch is done."""
        for stage in self._stages:
            stage.synchronize()

    def capture(self) -> str | None:
        """Capture every stage for the samples that reach it; return None, or the reason why `replay` can't be used."""
        if not self._router.counts_are_known:
            return "only the host knows how many samples go on to the next stage"
        for number, stage in enumerate(self._stages):
            count = self._router.reaching(number, self._batch_size)
            reason = stage.capture(count) if count else None
            if reason is not None:
                return reason
        return None

    def _run(self, enqueue: Callable[[Executable, int], None]) -> None:
        stages, last = self._stages, len(self._stages) - 1
        for number in range(last):  # a stage's outputs of the last batch have been read on the next stage's stream
            _order(stages[number], after=stages[number + 1])
        self._places = []
        enqueue(stages[0], self._batch_size)
        places: Any = None
        for number in range(last):
            places = self._pass_on(number, places)
            if not len(places):
                _order(stages[last], after=stages[number + 1])
                return
            enqueue(stages[number + 1], len(places))
        if last:
            with _on(self.stream):
                self._write_result(places, stages[last].output_buffers()[self._router.heads[last]][: len(places)])

    def _pass_on(self, number: int, places: Any) -> Any:
        """Pack the samples that go on after a stage into the next one's input; return their places in the batch.

        `places` are those of the samples that are in this stage, None for the whole batch.
        """
        stage, later = self._stages[number], self._stages[number + 1]
        _order(later, after=stage)
        with _on(later.stream):
            outputs = stage.output_buffers()
            logits = outputs[self._router.heads[number]][: self._batch_size if places is None else len(places)]
            rest = self._router.goes_on(number, logits)
            self._write_result(places, logits)  # of all: a later stage overwrites those that go on
            if len(rest):
                _pack(outputs[later.input_specs[0].name], rest, self._features[number][: len(rest)])
            found = rest if places is None else places[rest]
        self._places.append(found)
        return found

    def _write_result(self, places: Any, logits: Any) -> None:
        result: Any = self._routed_result
        if isinstance(result, np.ndarray):
            if places is None:
                np.copyto(result, logits, casting="same_kind")
            else:
                result[places] = logits
        elif places is None:
            result.copy_(logits)
        else:
            result.index_copy_(0, places, logits.to(result.dtype))

    def poison(self) -> None:
        """Fill everything that the last batch wrote for a caller or a later stage with NaN."""
        _fill(buffer for stage in self._stages for buffer in stage.output_buffers().values())
        _fill(self._features)
        if self._routed_result is not None:
            _fill([self._routed_result])

    def verify(self, inputs: Mapping[str, np.ndarray]) -> NetworkOutputs:
        """Run `inputs`, [batch, ...] by name, into poisoned buffers; return all heads for all samples, and a run's."""
        self.write(inputs)
        heads: dict[str, np.ndarray] = {}
        outputs = self._outputs_of_first()
        for number, later in enumerate(self._stages[1:]):
            name = later.input_specs[0].name
            _checked(outputs[name], name)
            head = self._router.heads[number]
            heads[head] = _checked(outputs[head], head)
            outputs = self._outputs_of_later(number + 1, outputs[name])
        last = self._router.heads[-1:] if len(self._stages) > 1 else tuple(outputs)
        heads |= {name: _checked(outputs[name], name) for name in last}
        if self._routed_result is None:
            return NetworkOutputs(heads, next(iter(heads.values())))
        _fill([self._routed_result])
        self.launch()
        self.wait()
        left_after = np.zeros(self._batch_size, dtype=np.int64)
        for number, places in enumerate(self._places, start=1):  # what this run decided: another library's softmax
            left_after[_on_host(places)] = number  # may decide near ties otherwise
        return NetworkOutputs(heads, _checked(_on_host(self._routed_result), "final"), left_after)

    def _outputs_of_first(self) -> dict[str, np.ndarray]:
        """Run the first stage on the batch that was written."""
        return _run_alone(self._stages[0], self._batch_size)

    def _outputs_of_later(self, number: int, features: np.ndarray) -> dict[str, np.ndarray]:
        """Push every sample through a later stage, in portions as large as its engine takes."""
        stage, portion = self._stages[number], len(self._features[number - 1])
        parts = []
        for start in range(0, len(features), portion):
            chunk = features[start : start + portion]
            padded = np.resize(chunk, (portion, *chunk.shape[1:]))  # repeats samples: a static engine wants all
            stage.write_inputs({stage.input_specs[0].name: padded})
            parts.append({name: array[: len(chunk)] for name, array in _run_alone(stage, portion).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_alone(stage: Executable, count: int) -> dict[str, np.ndarray]:
    """Return what a stage writes for the samples in its input, into poisoned buffers."""
    stage.poison_outputs()
    stage.enqueue(count)
    stage.synchronize()
    return stage.outputs(count)


def _order(later: Executable, after: Executable) -> None:
    if later.stream is not None and later.stream != after.stream:
        later.stream.wait_stream(after.stream)


def _pack(features: Any, rest: Any, target: Any) -> None:
    """Copy the samples `rest` of [B, ...] to [len(rest), ...]."""
    if isinstance(target, np.ndarray):
        # mode="clip" lets numpy write straight into `out`; "raise" goes through a temporary
        np.take(features, rest, axis=0, out=target, mode="clip")
    else:
        import torch

        if target.dim() == 4 and not target.is_contiguous():  # NHWC: copied in the order of its memory, not across it
            features, target = features.permute(0, 2, 3, 1), target.permute(0, 2, 3, 1)
        torch.index_select(features, 0, rest, out=target)


def _on_host(values: Any) -> np.ndarray:
    return values.copy() if isinstance(values, np.ndarray) else values.cpu().numpy()


def _fill(buffers: Iterable[Any]) -> None:
    """Fill arrays or tensors with NaN."""
    for buffer in buffers:
        buffer.fill(np.nan) if isinstance(buffer, np.ndarray) else buffer.fill_(float("nan"))


def _on(stream: Any) -> Any:
    """Return a context in which torch enqueues on `stream`."""
    if stream is None:
        return nullcontext()
    import torch

    return torch.cuda.stream(stream)


def _checked(output: np.ndarray, name: str) -> np.ndarray:
    """Return an output as float32; raise CellError for a value that was never written or is not a number."""
    array = output.astype(np.float32)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise CellError(f"wrong output: {bad} of {array.size} values of {name!r} are not finite or were never written")
    return array
