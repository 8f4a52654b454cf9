#!/usr/bin/env bash
# tests/gpu on a host with one GPU: in processes beside each other what times nothing, then alone what counts processes.
#
#   experiments/gpu_tests.sh FOLDER      # about six minutes on 16 cores
set -uo pipefail
folder=$1
cd "$(dirname "$0")/.."
mkdir -p "$folder"
export OMP_NUM_THREADS=4

shard() { # shard NAME ARGUMENT...: with temporary files, locks and a cache of pytest of its own
  local name=$1 own
  own=$(mktemp -d)
  mkdir "$own/locks"
  TMPDIR=$own HARNESS_LOCK_DIR=$own/locks timeout 420 python3 -m pytest -o cache_dir="$own/cache" -v -rs --durations=0 \
    "${@:2}" > "$folder/$name.txt" 2>&1
  echo "$name: $(tail -n 1 "$folder/$name.txt")"
}
tests=tests/gpu
shard engines_torch $tests/test_engines_gpu.py -k "inductor or eager or replays or kernels" &
shard engines_others $tests/test_engines_gpu.py -k "tensorrt or onnxruntime" &
shard serving $tests/test_serving_gpu.py &
shard tensorrt_run $tests/test_tensorrt_run.py &
shard sweeps_whole $tests/test_tensorrt_sweeps.py -k "profiles or fails" &
shard sweeps_cut $tests/test_tensorrt_sweeps.py -k "without or ctrl" &
wait
unset OMP_NUM_THREADS
shard measure $tests/test_measure_gpu.py
