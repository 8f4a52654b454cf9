#!/usr/bin/env bash
# Run the study on this machine's GPUs in four lanes: at batch 32 and 256 Inductor, and what it is compared with.
#
#   experiments/densenet121_h100/run.sh [SECONDS]      # what is not done by then is resumed by the next call
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"

inductor() { # inductor BATCH: what matters most first
  sweep "dense_blocks_b$1" experiment=densenet121_gpu batch_size="$1" hw.fusion.dense_blocks=true \
    'arch=pruned,[pruned,early_exit],early_exit'
  sweep "inductor_b$1" experiment=densenet121_gpu batch_size="$1" engine.build_jobs=8
}
others() { # others BATCH: PyTorch's default, and each level of hardware by itself
  sweep "tf32_b$1" experiment=densenet121_gpu batch_size="$1" engine=eager precision.tf32=true arch=none hw=none
  for level in fp16 fusion; do
    sweep "onnxruntime_${level}_b$1" experiment=densenet121_gpu batch_size="$1" engine=onnxruntime reference=engine hw=$level
  done
}
inductor_256() { inductor 256; }
inductor_32() { inductor 32; }
others_256() { others 256; }
others_32() { others 32; }
export -f inductor others
lanes "${1:-100000}" inductor_256 inductor_32 others_256 others_32
collect experiments/densenet121_h100 {inductor,dense_blocks,tf32,onnxruntime_fp16,onnxruntime_fusion}_b{32,256}
