#!/usr/bin/env bash
# What no call has reached yet: one quartet on ONNX Runtime, and the GPU tests from start to end.
#
#   experiments/densenet121_h100/rest.sh SECONDS FOLDER     # FOLDER: for the log of the tests
set -uo pipefail
folder=$(realpath "$2")
source "$(dirname "$0")/../lanes.sh"

rest() {
  sweep onnxruntime_fusion_b256_pruned experiment=densenet121_gpu engine=onnxruntime reference=engine hw=fusion batch_size=256 \
    arch=pruned
  once gpu_tests tests gpu_tests.txt tests/gpu --ignore tests/gpu/test_engines_gpu.py
  once gpu_engine_tests tests gpu_engine_tests.txt tests/gpu/test_engines_gpu.py
}
tests() { python3 -m pytest -v -p no:cacheprovider "${@:2}" > "$folder/$1" 2>&1; }
export -f tests
export folder
lanes "${1:-100000}" rest
