"""Blank the machine code of all other chips in a CUDA library, so that it packs small enough to be carried to a GPU.

python experiments/one_chip.py libonnxruntime_providers_cuda.so 90

On other chips the library finds no kernels. The layout of a fat binary is undocumented;
what is read of it (magic number, sizes, kind and compute capability of an entry) was seen in onnxruntime-gpu 1.31.1 for
CUDA 13, whose library of 284 MB packs into 51 for 9.0; what it leaves ran fourteen quartets on H200s:

    xz -T1 --x86 --lzma2=preset=9e,dict=256MiB libonnxruntime_providers_cuda.so
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)  # then the version and the header's size
HEADER = struct.Struct("<8xQ")  # the entries' size together
ENTRY = struct.Struct("<HHIQ12xI")  # kind, version, its header's size, the code's size, compute capability
MACHINE_CODE = 2


def entries(library: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the place, the size in bytes and the compute capability (90 for 9.0) of each piece of machine code."""
    at = library.find(MAGIC)
    while at >= 0:
        (size,) = HEADER.unpack_from(library, at)
        entry, end = at + HEADER.size, at + HEADER.size + size
        while entry < end <= len(library):
            kind, _, header, code, capability = ENTRY.unpack_from(library, entry)
            if kind == MACHINE_CODE:
                yield entry + header, code, capability
            entry += header + code
        at = library.find(MAGIC, max(end, at + 1))


def blank(path: Path, keep: int) -> dict[int, int]:
    """Overwrite all but the code of `keep` with zeros, in place; return the bytes of each chip."""
    library, found = bytearray(path.read_bytes()), dict[int, int]()
    for start, size, capability in list(entries(bytes(library))):
        found[capability] = found.get(capability, 0) + size
        if capability != keep:
            library[start : start + size] = bytes(size)
    if keep not in found:
        raise SystemExit(f"{path} holds no machine code for {keep}, but for {sorted(found)}")
    written = path.with_name(f"{path.name}.part")
    written.write_bytes(library)
    written.chmod(path.stat().st_mode)
    os.replace(written, path)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    for chip, size in sorted(blank(Path(sys.argv[1]), int(sys.argv[2])).items()):
        print(f"{chip}: {size / 1e6:.1f} MB, {'kept' if chip == int(sys.argv[2]) else 'blanked'}")
