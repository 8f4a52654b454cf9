#!/usr/bin/env bash
# What the studies still lack, on two GPUs that are lent for ten minutes a call and half an hour in all.
#
#   experiments/two_gpus.sh follow SECONDS FOLDER      # begin, or look again; packs the store into FOLDER
#   experiments/two_gpus.sh conduct                    # what `follow` starts: it runs on between calls, in a copy of the tree
#
# First all sweeps build, beside the GPU tests, and wait; then each GPU times its own, one after the other, with half of
# the cores, and nobody builds. ONNX Runtime's part begins once its CUDA build lies in /tmp/ort.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
place=${PLACE:-/tmp/work} deadline=${DEADLINE:-1650} # seconds from the conductor's start
read -ra more <<< "${MORE:-}"                        # overrides for all sweeps: a rehearsal

say() { echo "[$SECONDS s] $*"; }
on() { # on GPU SECONDS COMMAND...: instead of this (sub)shell, at most until the deadline
  local share=$(($(nproc) / 2)) seconds=$(($2 < deadline - SECONDS ? $2 : deadline - SECONDS))
  ((seconds > 0)) || exit 124
  export CUDA_VISIBLE_DEVICES=$1
  exec timeout --signal=INT --kill-after=15 "$seconds" taskset -c $((share * $1))-$((share * ($1 + 1) - 1)) "${@:3}"
}
declare -A held
begin() { # begin GPU NAME COMMAND...: a sweep that builds and is not timed before `go NAME`
  local uuid
  mkdir -p "/tmp/$2"
  rm -f "/tmp/$2/status"
  uuid=$(nvidia-smi -i "$1" --query-gpu=uuid --format=csv,noheader 2>/dev/null || echo cpu)
  python3 experiments/held.py lock "/tmp/$2/harness-$(id -u)-${uuid//[^A-Za-z0-9]/-}.lock" &
  held[$2]=$!
  sleep 1
  {
    (
      echo "$BASHPID" > "/tmp/$2/pid"
      TMPDIR=/tmp/$2 on "$1" 100000 "${@:3}" "${more[@]}" > "mlruns/logs/$2.log" 2>&1
    )
    echo $? > "/tmp/$2/status"
  } &
  sleep 7 # sweeps begin one after the other
}
go() {
  say "$1 begins"
  kill "${held[$1]}"
  until [ -e "/tmp/$1/status" ]; do sleep 1; done
  say "$1: $(< "/tmp/$1/status")"
}
tests() { # tests GPU SECONDS NAME WHICH...
  say "tests $3 begin"
  (TMPDIR=$(mktemp -d) on "$1" "$2" python3 -m pytest -v -rs --durations=0 -p no:cacheprovider "${@:4}" > "mlruns/logs/tests-$3.txt" 2>&1)
  say "tests $3: $?"
}
built() { # built SECONDS: until no sweep builds (three looks in a row), or this script is SECONDS old
  local quiet=0
  while ((SECONDS < $1 && quiet < 3)); do
    sleep 2
    quiet=$((quiet + 1))
    python3 experiments/held.py builds $(cat /tmp/{vit,pruned,early_exit,hw,arch,densenet}/pid 2>/dev/null) && quiet=0
  done
}
first() {
  go vit
  go pruned
  for ((looks = 0; looks < 60; looks++)); do [ -e /tmp/ort/ready ] || sleep 1; done
  if [ -e /tmp/ort/ready ]; then
    export PYTHONPATH=$PWD/src:/tmp/ort:$PYTHONPATH
    begin 0 onnxruntime python3 -m harness sweep_name=onnxruntime_fusion_b256_pruned experiment=densenet121_gpu engine=onnxruntime \
      reference=engine hw=fusion batch_size=256 arch=pruned
    go onnxruntime
    tests 0 150 onnxruntime tests/gpu/test_engines_gpu.py -k onnxruntime
  fi
  say "first GPU: end"
}
second() {
  go early_exit
  [ ! -v "held[densenet]" ] || go densenet
  go hw
  go arch
  tests 1 150 measure tests/gpu/test_measure_gpu.py # it reads how busy its GPU is
  say "second GPU: end"
}
conduct() {
  local testing serve=(python3 -m harness experiment=serving)
  local few=(protocol.restarts=4 scenario.repeats=4 scenario.budget_s=90) # a rate, and no verdict
  export PYTHONPATH=$PWD/src:${PYTHONPATH:-}
  mkdir -p mlruns/logs
  nvidia-smi -L
  begin 0 vit python3 -m harness experiment=vit_b_16
  begin 1 early_exit "${serve[@]}" sweep_name=serving_early_exit arch=early_exit scenario.budget_s=660
  begin 0 pruned "${serve[@]}" sweep_name=serving_pruned arch=pruned scenario.budget_s=660
  begin 1 hw "${serve[@]}" sweep_name=serving_hw arch=none hw=fusion,fp16,dynamic_batching "${few[@]}"
  begin 1 arch "${serve[@]}" sweep_name=serving_arch hw=none engine=eager arch=reduced_growth,low_rank,grouped "${few[@]}"
  if nvidia-smi -L | grep -q H200; then # ViT's partner on an H100 is there: densenet121_h100/inductor_b32
    begin 1 densenet python3 -m harness experiment=vit_b_16 sweep_name=vit_b_16_densenet model=densenet121 \
      arch.early_exit.after_block=2 arch=early_exit,low_rank,pruned,reduced_growth
  fi
  tests 0 300 engines tests/gpu/test_engines_gpu.py -k "not onnxruntime" &
  testing=$!
  tests 1 300 serving tests/gpu/test_serving_gpu.py tests/gpu/test_tensorrt_run.py &
  testing="$testing $!"
  sleep 60
  built 420
  say "builds are over"
  wait $testing
  first &
  first_job=$!
  second &
  wait $first_job $!
  say end
  touch "$place.end"
}
pack() { # pack FOLDER: the store as it is, a database that may be written to meanwhile included
  rm -rf "$place.pack"
  mkdir -p "$place.pack"
  (cd "$place" && find mlruns -type f ! \( -name queries.parquet -size +5M \) ! -name 'mlflow.db*' -print0 | tar -cf - --null -T -) |
    tar -xf - -C "$place.pack"
  python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))' \
    "$place/mlruns/mlflow.db" "$place.pack/mlruns/mlflow.db"
  tar -czf - -C "$place.pack" mlruns | split -b 15m - "$1/mlruns.tar.gz."
}
follow() { # follow SECONDS FOLDER
  if [ ! -e "$place" ]; then
    mkdir -p "$place"
    tar --exclude=./.whl --exclude=./.ort --exclude=./mlruns -cf - . | tar -xf - -C "$place"
    (cd "$place" && setsid nohup bash experiments/two_gpus.sh conduct > "$place.log" 2>&1 < /dev/null &)
  fi
  while ((SECONDS < $1)) && [ ! -e "$place.end" ]; do sleep 2; done
  pack "$2"
  cat "$place.log"
  tail -v -n "${LINES_EACH:-8}" "$place"/mlruns/logs/*
}
"$@"
