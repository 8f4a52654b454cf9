#!/usr/bin/env bash
# Eight bits on a CPU: pruned, grouped and low_rank by int8 alone and with fusion, batch 1, ONNX Runtime, one thread.
#
#   experiments/int8_cpu/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#
# Eight sets of processes (the interval holds what differs between them), many short blocks, 45 s of timing a quartet.
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}

questions() {
  local model reference
  for model in densenet121 resnet50; do
    for reference in eager engine; do
      sweep "int8_${model}_$reference" -m model=$model arch=pruned,grouped,low_rank hw=int8,[int8,fusion] \
        engine=onnxruntime engine.device=cpu engine.threads=1 batch=b1 reference=$reference \
        protocol.restarts=8 protocol.slice_s=0.02 protocol.budget_s=45
    done
  done
}
lanes "${1:-100000}" questions
for model in densenet121 resnet50; do names+=("int8_${model}_eager" "int8_${model}_engine"); done
collect experiments/int8_cpu "${names[@]}"
