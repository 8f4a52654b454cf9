#!/usr/bin/env bash
# Run the study on this machine's GPUs, batch 32 in one lane and batch 256 in the other.
#
#   experiments/densenet121_h100/run.sh [SECONDS]      # what is not done by then is resumed by the next call
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"

sweeps() { # sweeps BATCH: everything at one batch size, what matters most first
  sweep "dense_blocks_b$1" experiment=densenet121_gpu batch_size="$1" hw.fusion.dense_blocks=true \
    'arch=pruned,[pruned,early_exit],early_exit'
  sweep "inductor_b$1" experiment=densenet121_gpu batch_size="$1" engine.build_jobs=8
  sweep "tf32_b$1" experiment=densenet121_gpu batch_size="$1" engine=eager precision.tf32=true arch=none hw=none
  sweep "onnxruntime_b$1" experiment=densenet121_gpu batch_size="$1" engine=onnxruntime reference=engine hw=fp16,fusion
}
batch_32() { sweeps 32; }
batch_256() { sweeps 256; }
export -f sweeps
lanes "${1:-100000}" batch_32 batch_256
collect experiments/densenet121_h100 {inductor,dense_blocks,tf32,onnxruntime}_b{32,256}
