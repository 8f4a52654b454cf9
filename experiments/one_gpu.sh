#!/usr/bin/env bash
# What the studies still lack, for one GPU that is lent for ten minutes at a time, in three calls on the same machine:
#
#   experiments/one_gpu.sh 1 FOLDER      # builds beside GPU tests, then ViT-B/16
#   experiments/one_gpu.sh 2 FOLDER      # pruning under load, with as many sets of processes as there is time for
#   experiments/one_gpu.sh 3 FOLDER      # with onnxruntime-gpu in /tmp/ort: its last quartet, its tests; the early exit under load
#
# FOLDER takes the logs of the tests and the packed store. What is not done goes on when it is called again. Sweeps have
# locks of their own while they build, so that several build at once, and each waits for a device that is held from it;
# they are timed one after the other, when nobody builds. No training beside them: an epoch took 5.2 s, and 3.4 later.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
call=$1 folder=$(realpath "$2") limit=${3:-570}
gpu=$(nvidia-smi --query-gpu=uuid --format=csv,noheader 2>/dev/null || echo cpu)
lock=harness-$(id -u)-${gpu//[^A-Za-z0-9]/-}.lock

say() { echo "[$SECONDS s] $*"; }
begin() { # begin NAME COMMAND...: in the background, with its own locks, ended in time by Ctrl-C; its process id is in $job
  mkdir -p "/tmp/$1"
  TMPDIR=/tmp/$1 timeout --signal=INT --kill-after=15 $((limit - SECONDS)) "${@:2}" >> "lane-$1.log" 2>&1 &
  job=$!
}
hold() { # hold NAME: what begins under this name prepares, and is not timed before $held is killed
  mkdir -p "/tmp/$1"
  python3 experiments/held.py lock "/tmp/$1/$lock" &
  held=$!
}
built() { # built SECONDS PID...: until none of them builds (three looks in a row), or this script is SECONDS old
  local quiet=0
  while ((SECONDS < $1 && quiet < 3)); do
    sleep 2
    quiet=$((quiet + 1))
    python3 experiments/held.py builds "${@:2}" && quiet=0
  done
}
finish() { # finish NAME: wait for what was begun under this name in $job; what is done stays done
  local status=0
  wait $job || status=$?
  say "$1: $status"
  ((status)) || touch "mlruns/$1.done"
}
run() { # run NAME COMMAND...: to its end, unless it is done or no minute is left
  [ ! -e "mlruns/$1.done" ] && ((limit - SECONDS > 60)) || return 0
  begin "$@"
  finish "$1"
}
tests() { # tests NAME WHICH...
  TMPDIR=$(mktemp -d) timeout --signal=INT --kill-after=15 "${seconds:-300}" \
    python3 -m pytest -v -p no:cacheprovider "${@:2}" > "$folder/tests-$1.txt" 2>&1 &
  testing="${testing:-} $!"
}
vit=(python3 -m harness experiment=vit_b_16)
pruned=(python3 -m harness experiment=serving sweep_name=serving_pruned arch=pruned scenario.budget_s=500)
early_exit=(python3 -m harness experiment=serving sweep_name=serving_early_exit arch=early_exit scenario.budget_s=300)

say "$gpu"
mkdir -p mlruns/logs
case $call in
  1)
    hold vit; vit_held=$held; begin vit "${vit[@]}"; vit_job=$job
    sleep 10 # sweeps begin one after the other
    hold pruned; pruned_held=$held; begin pruned "${pruned[@]}"; pruned_job=$job
    hold early_exit; early_held=$held; begin early_exit "${early_exit[@]}"; early_job=$job
    tests serving tests/gpu/test_serving_gpu.py tests/gpu/test_tensorrt_run.py
    sleep 60
    built 330 $vit_job $pruned_job $early_job; say "builds are over"
    python3 experiments/held.py interrupt $pruned_job $early_job
    wait $pruned_job $early_job
    wait $testing; say "tests are over"
    kill $vit_held $pruned_held $early_held
    job=$vit_job
    finish vit
    ;;
  2) run pruned "${pruned[@]}" ;;
  3)
    export PYTHONPATH=$PWD/src:/tmp/ort:$PYTHONPATH
    run onnxruntime python3 -m harness sweep_name=onnxruntime_fusion_b256_pruned experiment=densenet121_gpu engine=onnxruntime \
      reference=engine hw=fusion batch_size=256 arch=pruned
    tests onnxruntime tests/gpu/test_engines_gpu.py -k onnxruntime
    wait $testing; testing=
    tests measure tests/gpu/test_measure_gpu.py # alone: it reads how busy the GPU is
    wait $testing; say "tests are over"
    export PYTHONPATH=${PYTHONPATH//:\/tmp\/ort/}
    run vit "${vit[@]}"
    run early_exit "${early_exit[@]}"
    ;;
esac
cp lane-*.log mlruns/logs/
find mlruns -name queries.parquet -size +5M > /tmp/big
tar -X /tmp/big -czf - mlruns | split -b 15m - "$folder/mlruns.tar.gz."
say end
tail -v -n 12 lane-*.log
