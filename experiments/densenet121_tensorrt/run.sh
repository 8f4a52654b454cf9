#!/usr/bin/env bash
# The first question on TensorRT: early exit and grouped convolutions by fp16 and fusion, batch 32, with both references.
#
#   experiments/densenet121_tensorrt/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
grid=(arch=early_exit,grouped hw=fp16,fusion batch=b32 engine=tensorrt)
export grid_words="${grid[*]}"
known_timings

questions() {
  sweep tensorrt_eager $grid_words protocol.builds=1 engine.build_jobs=4
  sweep tensorrt_engine $grid_words protocol.builds=1 engine.build_jobs=4 reference=engine
}
lanes "${1:-100000}" questions
collect experiments/densenet121_tensorrt tensorrt_eager tensorrt_engine
