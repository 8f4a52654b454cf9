#!/usr/bin/env bash
# The coursework's own grid on TensorRT: five architectures by three accelerations, a batch size at a time, 32 first; and
# what its answers need beside it.
#
#   experiments/coursework_h200/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#   PARTS='b32 b32_engine b16 b64 builds vit ten serving' FOLDER=experiments/coursework_h200      # which, and where they go
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
export parts=${PARTS:-b32 b32_engine b16 b64}
known_timings

ask() { sweep "coursework_$1" -m "engine=${engine:-tensorrt}" engine.build_jobs=4 "${@:2}"; }
questions() {
  local part
  for part in $parts; do
    case $part in
      b*_engine) ask "$part" experiment=coursework batch_size="$(tr -dc 0-9 <<< "${part%_engine}")" protocol.builds=1 reference=engine ;;
      b[0-9]*) ask "$part" experiment=coursework batch_size="${part#b}" protocol.builds=1 ;;
      builds) # the two strongest verdicts of batch 32 and the two nearest to the margin, each build with its own timings
        local again="experiment=coursework batch_size=32 protocol.builds=3"
        ask builds_fp16 $again arch=grouped,pruned hw=fp16
        ask builds_fusion $again arch=pruned hw=fusion
        ask builds_dynamic $again arch=early_exit hw=dynamic_batching
        ;;
      vit) ask vit model=vit_b_16 arch=low_rank,pruned,reduced_depth hw=fp16,fusion batch_size=32 protocol.builds=1 ;;
      ten) # beyond ten times: the best of each compiler at batch 256
        local best="arch=pruned,early_exit hw=[fp16,fusion] batch_size=256 protocol.builds=1"
        ask ten_tensorrt $best
        engine=inductor ask ten_inductor $best
        engine=inductor ask ten_dense_blocks $best hw.fusion.dense_blocks=true
        ;;
      serving) # the largest load within the bound: static against dynamic, with and without each architecture
        ask serving experiment=serving arch=early_exit,reduced_growth,low_rank,grouped,pruned hw=dynamic_batching reference=engine
        ;;
    esac
  done
}
export -f ask
lanes "${1:-100000}" questions
names=()
for done in mlruns/coursework_*.done; do [ -e "$done" ] && names+=("$(basename "${done%.done}")"); done
collect "${FOLDER:-experiments/coursework_h200}" "${names[@]}"
