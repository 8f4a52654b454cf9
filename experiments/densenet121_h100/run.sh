#!/usr/bin/env bash
# Run the study on this machine's GPUs, one lane of sweeps a GPU, each with half (or its share) of the cores and locks of
# its own. Builds of one lane may overlap the timed slices of another: the wall clock, host_share, and whatever the host
# launches between graphs (an early exit's packing) feel that, so read the device boundary of such runs.
#
#   experiments/densenet121_h100/run.sh [SECONDS]      # what is not done by then is resumed by the next call
#
# A sweep that is finished is noted in mlruns/ and left out by the next call.
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-100000}
gpus=$(nvidia-smi -L | wc -l)
stacks='pruned,[pruned,early_exit],early_exit'

lane() { # lane GPU: one GPU and its share of the cores for this shell
  local share=$(($(nproc) / gpus))
  export CUDA_VISIBLE_DEVICES=$1 TMPDIR=/tmp/harness-lane$1
  mkdir -p "$TMPDIR"
  taskset -cp $((share * $1))-$((share * ($1 + 1) - 1)) "$BASHPID" >/dev/null
}
sweep() { # sweep NAME OVERRIDE...: one sweep; 130 means that time is up
  [ ! -e "mlruns/$1.done" ] || return
  python3 -m harness experiment=densenet121_gpu sweep_name="$@"
  case $? in
    0) touch "mlruns/$1.done" ;;
    130) exit 130 ;;
  esac
}
sweeps() { # sweeps BATCH: everything at one batch size, what matters most first
  sweep "dense_blocks_b$1" batch_size="$1" hw.fusion.dense_blocks=true "arch=$stacks"
  sweep "inductor_b$1" batch_size="$1" engine.build_jobs=8
  sweep "tf32_b$1" batch_size="$1" engine=eager precision.tf32=true arch=none hw=none
  sweep "onnxruntime_b$1" batch_size="$1" engine=onnxruntime reference=engine hw=fp16,fusion
}
export -f lane sweep sweeps
export gpus stacks
for index in 0 1; do
  batch=$((index == 0 ? 32 : 256))
  timeout --signal=INT "$seconds" bash -c "lane $((index % gpus)); sweeps $batch" > "lane$index.log" 2>&1 &
done
wait
tail -n 30 lane0.log lane1.log
for name in inductor dense_blocks tf32 onnxruntime; do
  for batch in 32 256; do
    python3 experiments/collect.py --sweep "${name}_b$batch" --out "experiments/densenet121_h100/${name}_b$batch" || true
  done
done
