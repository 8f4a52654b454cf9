#!/usr/bin/env bash
# Builds and processes as levels, and side by side against quartet by quartet, on one GPU.
#
#   experiments/rebuilds/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#   PARTS='ahead tensorrt inductor early_exit together builds apart alone_0 alone_3 crowded_0 crowded_3'      # which parts; ahead: builds for all others
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
export parts=${PARTS:-ahead tensorrt inductor early_exit together builds apart alone_0 alone_3 crowded_0 crowded_3} folder=${FOLDER:-experiments/rebuilds}
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
unlocked() { HARNESS_LOCK_DIR=$(mktemp -d) once "$@"; } # beside builds that wait for each other
unlocked_sweep() { HARNESS_LOCK_DIR=$(mktemp -d) sweep "$@"; }
needed() { [[ " $parts " == *" $1 "* ]]; } # needed PART: whether it is to be measured
again_without_cache() { HARNESS_CACHE=$(mktemp -d) rebuilds "$1" tensorrt "${@:2}"; } # its builds, not those of another part
rebuilds() { python3 experiments/rebuilds/run.py --out "$folder/$1" "${@:2}"; }
questions() {
  local part cells="experiment=coursework protocol.coursework=false batch_size=32 engine=tensorrt" # the study's of that name
  local grid="-m $cells arch=early_exit,grouped,pruned hw=fp16,dynamic_batching protocol.builds=1"
  local three="-m $cells arch=early_exit,pruned hw=dynamic_batching,fusion protocol.builds=3"
  local inductor="-m arch=early_exit,low_rank hw=[fp16,fusion] batch=b32 engine=inductor protocol.builds=3"
  for part in $parts; do
    case $part in
      ahead) # Inductor's builds keep the cores busy (and run a batch on the card now and then), TensorRT's the card
        {
          needed inductor && timed unlocked rebuilds_inductor_built rebuilds inductor inductor --builds 8 --jobs 4 --build-only
          needed early_exit && timed unlocked_sweep rebuilds_early_exit_built $inductor engine.build_only=true engine.build_jobs=4
        } &
        { needed together || needed apart; } && timed sweep rebuilds_grid_built $grid engine.build_only=true
        needed builds && timed sweep rebuilds_three_built $three engine.build_only=true
        needed tensorrt && timed once rebuilds_tensorrt_built rebuilds tensorrt tensorrt --hw fusion --builds 8 --jobs 2 --build-only
        wait
        ;;
      tensorrt) timed once rebuilds_tensorrt rebuilds tensorrt tensorrt --hw fusion --builds 8 --jobs 2 ;;
      inductor) timed once rebuilds_inductor rebuilds inductor inductor --builds 8 ;;
      early_exit) timed sweep rebuilds_early_exit $inductor ;;
      together) timed sweep rebuilds_together $grid ;;
      builds) timed sweep rebuilds_three $three ;;
      apart) timed sweep rebuilds_apart $grid protocol.side_by_side=false ;;
      alone_* | crowded_*) # does a build choose better where it times kernels alone? at level 0 and 3, in fp32
        local crowd="--jobs 4" hw=dynamic_batching
        [ "${part%_*}" = alone ] || crowd="$crowd --crowded"
        [ "${part#*_}" = 0 ] || hw=fusion
        timed once "rebuilds_$part" again_without_cache "$part" --hw $hw --builds 8 --rounds 6 $crowd
        ;;
    esac
  done
}
export -f timed unlocked unlocked_sweep needed rebuilds again_without_cache
lanes "${1:-100000}" questions
collect "$folder" rebuilds_early_exit rebuilds_together rebuilds_three rebuilds_apart
