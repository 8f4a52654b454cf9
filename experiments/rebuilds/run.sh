#!/usr/bin/env bash
# Builds and processes as levels, and side by side against quartet by quartet, on one GPU.
#
#   experiments/rebuilds/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#   PARTS='tensorrt inductor together apart builds early_exit'      # which parts
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
export parts=${PARTS:-tensorrt inductor together apart builds early_exit} folder=${FOLDER:-experiments/rebuilds}
mkdir -p "$folder"
[ -e "$folder/seconds.csv" ] || echo "what,seconds" > "$folder/seconds.csv" # of a sweep that was cut, the last piece
known_timings

timed() { # timed COMMAND NAME ...: what it took, into seconds.csv, if it was not done before and is now
  local began=$SECONDS
  [ ! -e "mlruns/$2.done" ] || return 0
  "$@"
  [ -e "mlruns/$2.done" ] || return 0
  echo "$2,$((SECONDS - began))" | tee -a "$folder/seconds.csv"
}
rebuilds() { python3 experiments/rebuilds/run.py --out "$folder/$1" "${@:2}"; }
questions() {
  local part grid="-m arch=early_exit,grouped,pruned hw=fp16,dynamic_batching batch=b32 engine=tensorrt protocol.builds=1"
  for part in $parts; do
    case $part in
      tensorrt) timed once rebuilds_tensorrt rebuilds tensorrt tensorrt --hw fusion ;;
      inductor) timed once rebuilds_inductor rebuilds inductor inductor ;;
      together) # the builds first, so that both ways are timed without them
        timed sweep rebuilds_grid_built $grid engine.build_only=true
        timed sweep rebuilds_together $grid
        ;;
      apart) timed sweep rebuilds_apart $grid protocol.side_by_side=false ;;
      builds)
        local three="-m arch=grouped,pruned hw=fp16,dynamic_batching batch=b32 engine=tensorrt protocol.builds=3"
        timed sweep rebuilds_three_built $three engine.build_only=true
        timed sweep rebuilds_three $three
        ;;
      early_exit) timed sweep rebuilds_early_exit -m arch=early_exit hw=[fp16,fusion] batch=b32 engine=inductor ;;
    esac
  done
}
export -f timed rebuilds
lanes "${1:-100000}" questions
collect "$folder" rebuilds_together rebuilds_apart rebuilds_three rebuilds_early_exit
