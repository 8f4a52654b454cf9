"""What differs between `tensorrt` and `tensorrt_rtx`, and between their releases; all else in this folder is shared.

Here too: which GPU is here, and its compute capability, without starting CUDA in this process.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.system.errors import UserError, first_line


@dataclass(frozen=True)
class Feature:
    """Something that this room uses where a release has it."""

    name: str
    present: Callable[[Any], bool]  # given the imported package
    since: str  # the first release of TensorRT that has it
    without: str  # what a build does where it is missing


TILING = Feature(
    "tiling",
    lambda trt: hasattr(trt, "TilingOptimizationLevel"),
    since="10.8",  # read off the packages: 10.7.0 has no such name, 10.8.0.43 does
    without="fusion builds without tiling, engine.tiling is refused",
)
FEATURES = (TILING,)  # the oldest release this room was run on is 10.6


def missing_features(trt: Any) -> tuple[Feature, ...]:
    """Return what the installed package lacks of the table."""
    return tuple(feature for feature in FEATURES if not feature.present(trt))


def missing_in_words(trt: Any) -> str:
    """Return what the installed package lacks, on one line; "" if it has everything."""
    lacks = (f"no {feature.name} ({feature.since} or newer): {feature.without}" for feature in missing_features(trt))
    return "; ".join(lacks)


INSTALL_GUIDE = "https://docs.nvidia.com/deeplearning/tensorrt/latest/installing-tensorrt/installing.html"

# NVIDIA's documentation, "Installing TensorRT" and the NGC catalogue's page of the container
WAYS_TO_INSTALL = """\
comes from NVIDIA, by one of:
    pip install --extra-index-url https://pypi.nvidia.com tensorrt-cu12   # or tensorrt-cu13, as the driver allows
    apt-get install tensorrt python3-libnvinfer                           # Debian packages of NVIDIA's CUDA repository
    docker run --gpus all -it --rm nvcr.io/nvidia/tensorrt:24.11-py3      # NGC container; this tag holds 10.6\
"""


@dataclass(frozen=True, eq=False)  # compared and hashed as the object it is: there are two
class Flavour:
    """One of the two packages behind the shared implementation."""

    name: str  # of the engine in the config, and of the module to import
    title: str
    install: str  # the command that installs it
    how_to_install: tuple[str, ...]  # the doctor's longer answer, where one command is not all there is to it
    libraries: str  # what the names of its library files begin with
    builds_without_gpu: bool  # then the chip to build for is a setting, not the GPU that is here
    levels: dict[str, tuple[int, ...]]  # fusion level -> builder optimisation levels to try, in order
    levels_matter: bool  # whether two builder levels give two engines
    timing_cache: bool
    build_spread: tuple[float, int] | None  # see `Capabilities`; of builds with other timings
    nests_concatenations: bool  # the graph is rewritten by `concatenations.py`, where that was seen to help
    user_allocation_for_capture: bool  # stream capture needs BuilderFlag.REQUIRE_USER_ALLOCATION
    kernels_compiled_at_run: bool  # then dynamic shapes need a specialisation strategy, and validity is queryable

    def module(self) -> Any:
        """Import and return the package; raise UserError with the reason if it can't be used.

        The package has no type information that mypy could read, hence Any.
        """
        reason = self.missing()
        if reason is not None:
            raise UserError(reason)
        return importlib.import_module(self.name)

    def missing(self) -> str | None:
        """Return why the package can't be used, or None if it can; one line."""
        try:
            package = importlib.import_module(self.name)
        except ImportError as error:
            detail = "" if isinstance(error, ModuleNotFoundError) else f" ({first_line(error)})"
            return f"{self.name} is not installed{detail}: {self.install}"
        except Exception as error:  # NVIDIA's stub packages raise RuntimeError on import
            return f"{self.name} does not load ({first_line(error)}): {self.install}"
        if not hasattr(package, "Logger"):  # tensorrt-stubs leaves an importable, empty package behind
            return f"the installed {self.name} is an empty stub, without the library: {self.install}"
        return None


TENSORRT_FLAVOUR = Flavour(
    name="tensorrt",
    title="TensorRT",
    install=f"pip install 'tensorrt>=10.6' (needs NVIDIA's index: python -m harness.doctor, {INSTALL_GUIDE})",
    how_to_install=(WAYS_TO_INSTALL,),
    libraries="libnvinfer",
    builds_without_gpu=False,
    # The default level (3) is set in so many words: a builder's own default may move between releases.
    # On an H200 level 3 gives 5.5% over 1; 4 and 5 give 0.4% and 0.2% over 3 for 1.6 times the minutes
    # (experiments/tensorrt_levels).
    levels={"off": (0,), "default": (3,), "max": (3, 2, 1)},
    levels_matter=True,
    timing_cache=True,
    build_spread=(0.0307, 20),  # seven cells, 26 builds (experiments/rebuilds/spread.csv)
    nests_concatenations=True,
    user_allocation_for_capture=False,
    kernels_compiled_at_run=False,
)

TENSORRT_RTX_FLAVOUR = Flavour(
    name="tensorrt_rtx",
    title="TensorRT-RTX",
    install="pip install tensorrt-rtx",
    how_to_install=(),
    libraries="libtensorrt",
    builds_without_gpu=True,
    # 1.7 accepts 0 to 5 and clips above, but a static DenseNet121 came out byte-identical at 0, 3 and 5.
    levels={"off": (0,), "default": (3,), "max": (5,)},
    levels_matter=False,
    timing_cache=False,  # deprecated since 1.2: its operations do nothing
    build_spread=None,
    nests_concatenations=False,  # never run by us: nobody knows whether it helps there
    user_allocation_for_capture=True,  # release notes of TensorRT-RTX 1.2
    kernels_compiled_at_run=True,
)


@dataclass(frozen=True)
class LocalGpu:
    """The GPU that CUDA would use first."""

    name: str
    compute_capability: tuple[int, int]


def local_gpu() -> LocalGpu | None:
    """Return the first visible GPU, or None if there is none.

    NVML rather than CUDA: a process that has initialised CUDA can no longer fork workers. It honours
    CUDA_VISIBLE_DEVICES (an index or a UUID; indices count in PCI order, CUDA's own with CUDA_DEVICE_ORDER=PCI_BUS_ID).
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        if visible.isdigit():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        elif visible.startswith(("GPU-", "MIG-")):
            handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
        else:
            return None  # empty or -1: hidden on purpose
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return LocalGpu(name=str(pynvml.nvmlDeviceGetName(handle)), compute_capability=(major, minor))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def sm_text(compute_capability: tuple[int, int]) -> str:
    """Return `(8, 9)` as "8.9"."""
    return f"{compute_capability[0]}.{compute_capability[1]}"
