"""Before any work: check every job of a sweep, choose its device and engine, name it. Errors end here."""

from harness.sweep.check import Resolved, check_sweep
from harness.sweep.context import SweepContext
from harness.sweep.engine import device_of
from harness.sweep.folders import check_writable
from harness.sweep.names import sweep_label

__all__ = ["Resolved", "SweepContext", "check_sweep", "check_writable", "device_of", "sweep_label"]
