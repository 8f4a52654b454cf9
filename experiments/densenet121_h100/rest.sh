#!/usr/bin/env bash
# What no call has reached yet: fifteen quartets on ONNX Runtime, then the GPU tests and the doctor, in four lanes.
#
#   experiments/densenet121_h100/rest.sh SECONDS FOLDER     # FOLDER: for the log of the tests and the doctor's answer
set -uo pipefail
folder=$(realpath "$2")
source "$(dirname "$0")/../lanes.sh"

stacks='[pruned,early_exit],[low_rank,early_exit],[reduced_growth,early_exit]'
techniques=early_exit,reduced_growth,low_rank,grouped,pruned
level() { # level NAME LEVEL BATCH ARCH
  sweep "$1" experiment=densenet121_gpu engine=onnxruntime reference=engine hw="$2" batch_size="$3" arch="$4"
}
fusion_32() {
  level onnxruntime_fusion_b32_rest fusion 32 "pruned,$stacks"
  once gpu_tests tests
}
fusion_256() { level onnxruntime_fusion_b256 fusion 256 "$techniques"; }
fusion_256_stacks() { level onnxruntime_fusion_b256_stacks fusion 256 "$stacks"; }
fp16_256_stacks() {
  level onnxruntime_fp16_b256_stacks fp16 256 "$stacks"
  once doctor doctor
}
tests() { python3 -m pytest tests/gpu -v -p no:cacheprovider > "$folder/gpu_tests.txt" 2>&1; }
doctor() { COLUMNS=100 python3 -m harness.doctor > "$folder/doctor.txt" 2>&1; }
export -f level tests doctor
export folder stacks techniques
lanes "${1:-100000}" fusion_256 fusion_32 fusion_256_stacks fp16_256_stacks
