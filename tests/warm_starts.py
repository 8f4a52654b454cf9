"""Processes come up warm: their interpreter has imported torch, MLflow and our rooms already.

In use each worker and builder starts a new interpreter (multiprocessing's spawn), which costs 0.6 s of CPU time with
ONNX Runtime and 4 s with PyTorch, and `python -m harness` costs 8 s, some hundred times in a run of the tests. Here it
is a fork of a process that was itself started new, has imported, and done nothing else: no session, no tensor, no
thread. From there on all is as after an exec: environment, folder, open files, blocked signals and arguments are those
that were asked for, and the parent is the process that asked (the kernel hands orphans over, PR_SET_CHILD_SUBREAPER),
so that exit statuses, signals and the end with one's parent are real.

What differs is how it comes up and the layout of its memory, which all forks share: in tests of these, which carry the
mark `spawned`, nothing is warm. Nor is it where there is a GPU, or where coverage is measured, which begins with an
interpreter.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import pickle
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import popen_spawn_posix, util
from pathlib import Path
from typing import NamedTuple

import pytest

from operators import compile_once

WARM = sys.platform == "linux" and not Path("/dev/nvidiactl").exists()
PRELOADED = (
    "numpy", "scipy.stats", "pandas", "pyarrow.parquet", "torch", "torchvision", "torch_pruning", "onnx", "torch.onnx",
    "hydra", "sqlalchemy", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "sklearn.datasets", "rich.progress",
    "harness.sweep.run", "harness.sweep.ahead", "harness.sweep.scenarios", "harness.measure.worker",
    "harness.measure.clocks", "harness.measure.runner", "harness.measure.predictions", "harness.engines.build",
    "harness.engines.profiling", "harness.engines.eager.runtime", "harness.engines.onnxruntime.runtime",
    "harness.networks.data.dataset", "harness.report",
)  # fmt: skip
NURSERY, CHILD = "nursery", "python"  # names of processes, by which tests tell the one from the other
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # prctl(2)
_real_spawn = util.spawnv_passfds
_real_launch = popen_spawn_posix.Popen._launch
_lock = threading.Lock()
_asking = threading.local()
_nursery: socket.socket | None = None  # where this process asks for forks
_on = False


class _Birth(NamedTuple):
    """What a new process is given."""

    code: str  # to be executed; for a module's name, see `module`
    module: str
    arguments: list[str]
    files: list[int]  # numbers of its open files
    environment: dict[str, str]
    folder: str
    parent: int
    blocked: set[int]  # signals
    session: bool  # of its own
    nursery: bool  # it will want warm children of its own


class Popen(subprocess.Popen):
    """A `subprocess.Popen([sys.executable, "-m", MODULE, ...])`, or with "-c" and CODE, that comes up warm."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        if not _on:
            return super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
        python, flag, what, *arguments = map(os.fspath, args)
        assert (python, preexec_fn, pass_fds) == (sys.executable, None, ()) and flag in ("-m", "-c")
        code, module = (what, "") if flag == "-c" else ("", what)
        ends, session = rest[3:9], rest[14]
        given = [end if end >= 0 else number for number, end in enumerate((ends[0], ends[3], ends[5]))]
        self.pid = _ask(
            given, code=code, module=module, arguments=arguments, files=[0, 1, 2], folder=os.fspath(cwd or os.getcwd()),
            environment=dict(os.environ if env is None else env), session=session, nursery=True,
        )  # fmt: skip
        self._child_created = True
        self._close_pipe_fds(*ends)
        return None


def run(arguments, *, timeout: float, **options) -> subprocess.CompletedProcess:
    """Do what `subprocess.run(arguments, capture_output=True, text=True)` does, with a process that comes up warm."""
    with Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _spawn(path, arguments, passed):
    """Stand for `multiprocessing.util.spawnv_passfds`: return the process id of a warm child of this process."""
    words = [os.fsdecode(word) for word in arguments]
    code = next((word for word in words if word.startswith("from multiprocessing.spawn")), "")
    if not (_on and code):
        return _real_spawn(path, arguments, passed)
    files = sorted({0, 1, 2, *map(int, passed)})
    return _ask(files, code=code, module="", arguments=["--multiprocessing-fork"], files=files, folder=os.getcwd(),
                environment=dict(os.environ), session=False, nursery=not _asking.daemon)  # fmt: skip


def _launch(self, process_object):
    _asking.daemon = process_object.daemon  # such a one may have no children
    return _real_launch(self, process_object)


def _ask(open_files: list[int], **birth) -> int:
    """Have a process born with these open files; return its process id.

    No signal comes in between: what it raised would leave an answer behind, the next process would be taken for this.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        request = pickle.dumps(_Birth(**birth, parent=os.getpid(), blocked=set(map(int, blocked)))._asdict())
        with _lock:
            link = _open_nursery()
            socket.send_fds(link, [struct.pack("!Q", len(request))], open_files)
            link.sendall(request)
            (pid,) = struct.unpack("!Q", _exactly(link, 8))
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _open_nursery() -> socket.socket:
    """Start, once, the process whose forks are this process's children."""
    global _nursery
    if _nursery is None:
        _name_or_adopt(_PR_SET_CHILD_SUBREAPER, 1)
        _nursery, theirs = socket.socketpair()
        quiet = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0", "KINETO_LOG_LEVEL": "99"}
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
        subprocess.Popen(
            [sys.executable, *util._args_from_interpreter_flags(), "-c",
             f"import warm_starts; warm_starts.serve({theirs.fileno()})"],
            pass_fds=[theirs.fileno()], env={**os.environ, **quiet, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
    return _nursery


def _name_or_adopt(option: int, value) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _exactly(link: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        if not (more := link.recv(count - len(got))):
            raise EOFError("the process that forks warm children has ended")
        got += more
    return got


def serve(number: int) -> None:
    """Import, then fork for whoever holds the other end, until it is closed; in each fork, be what was asked for."""
    _name_or_adopt(_PR_SET_NAME, NURSERY.encode())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C ends who asks here, and this with it
    from harness.tracking.store import quiet_environment

    quiet_environment()
    for name in PRELOADED:
        importlib.import_module(name)
    compile_once()
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1, threading.enumerate()
    assert len(os.listdir("/proc/self/task")) <= 1 + _threads_of_openblas(), os.listdir("/proc/self/task")
    _live(*_wait_for_birth(number))


def _threads_of_openblas() -> int:
    return 2 * os.cpu_count()  # of NumPy's and SciPy's, which see to it that they are well after a fork


def _wait_for_birth(number: int) -> tuple[_Birth, list[int]]:
    """Return in a fork, with what it is to be and its open files in the order of their numbers."""
    link = socket.socket(fileno=number)
    while True:
        head, files, _, _ = socket.recv_fds(link, 8, 64)
        if not head:
            os._exit(0)
        birth = _Birth(**pickle.loads(_exactly(link, *struct.unpack("!Q", head))))
        ours, theirs = os.pipe()
        if (between := os.fork()) == 0:
            if os.fork():  # its parent ends, so that it falls to the process that asked
                os._exit(0)
            while os.getppid() != birth.parent:
                time.sleep(0.001)
            _name_or_adopt(_PR_SET_NAME, CHILD.encode())
            if birth.session:
                os.setsid()
            os.write(theirs, struct.pack("!Q", os.getpid()))
            link.detach()
            return birth, files
        os.waitpid(between, 0)
        os.close(theirs)
        pid = os.read(ours, 8)
        for each in (ours, *files):
            os.close(each)
        if not pid:
            os._exit(1)
        link.sendall(pid)


def _live(birth: _Birth, files: list[int]) -> None:
    """Go on as the process that was asked for; never return.

    It ends as an interpreter does, but takes no module down: that would copy all memory that the forks share.
    """
    status = 0
    try:
        _be(birth, files)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def _be(birth: _Birth, files: list[int]) -> None:
    _arrange_files(birth, files, _fork_nursery(files) if birth.nursery else None)
    os.chdir(birth.folder)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(birth.environment)
    first = birth.folder if birth.module else ""
    sys.path[:] = [first, *filter(None, birth.environment.get("PYTHONPATH", "").split(os.pathsep)),
                   *(each for each in sys.path if each and each not in before)]  # fmt: skip
    importlib.invalidate_caches()
    tempfile.tempdir = None
    sys.argv = ["-c" if birth.code else birth.module, *birth.arguments]
    import numpy as np

    np.random.seed()
    signal.pthread_sigmask(signal.SIG_SETMASK, birth.blocked)
    if birth.code:
        exec(birth.code, {"__name__": "__main__"})
    else:
        runpy.run_module(birth.module, run_name="__main__", alter_sys=True)


def _arrange_files(birth: _Birth, files: list[int], nursery: socket.socket | None) -> None:
    """Have the open files that were asked for, under their numbers, and no other but the nursery's."""
    global _nursery
    high = 1 + max(*birth.files, *files, nursery.fileno() if nursery else 0)
    aside = [os.dup2(each, high + place, inheritable=False) for place, each in enumerate(files)]
    last = high + len(aside)
    if nursery:
        os.dup2(nursery.detach(), last, inheritable=False)
    for number, each in zip(birth.files, aside, strict=True):
        os.dup2(each, number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in birth.files and not (nursery and number == last):
            with suppress(OSError):  # the one that listed them
                os.close(number)
    if nursery:
        _nursery = socket.socket(fileno=last)
        install()


def _fork_nursery(files: list[int]) -> socket.socket:
    """Fork another nursery, for a child that will want children of its own; these open files are the child's alone."""
    _name_or_adopt(_PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        _name_or_adopt(_PR_SET_NAME, NURSERY.encode())
        ours.close()
        for each in files:
            os.close(each)
        _live(*_wait_for_birth(theirs.detach()))
    theirs.close()
    return ours


def install() -> None:
    global _on
    _on = True
    util.spawnv_passfds = _spawn
    popen_spawn_posix.Popen._launch = _launch


def pytest_configure(config) -> None:
    config.stash[_WANTED] = WARM and not config.getoption("--cov", None)
    if config.stash[_WANTED]:
        install()


_WANTED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    global _on
    _on = item.config.stash[_WANTED] and item.get_closest_marker("spawned") is None
    try:
        return (yield)
    finally:
        _on = item.config.stash[_WANTED]
