#!/usr/bin/env bash
# How eight bits and bf16 interact on TensorRT, with fp16 beside them: three architectures, batch 32 and 256.
#
#   experiments/int8_tensorrt/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#   PARTS='densenet121_b32 resnet50_b32 densenet121_b256 resnet50_b256'      # which parts
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
export parts=${PARTS:-densenet121_b32 resnet50_b32 densenet121_b256 resnet50_b256}
known_timings

questions() {
  local part reference
  for part in $parts; do
    for reference in eager engine; do
      sweep "int8_${part}_$reference" -m model="${part%_b*}" batch_size="${part#*_b}" reference=$reference \
        arch=pruned,grouped,low_rank hw=int8,[int8,fusion],fp16,bf16 engine=tensorrt engine.build_jobs=4 protocol.builds=1
    done
  done
}
lanes "${1:-100000}" questions
for part in $parts; do names+=("int8_${part}_eager" "int8_${part}_engine"); done
collect experiments/int8_tensorrt "${names[@]}"
