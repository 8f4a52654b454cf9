# Sweeps side by side on the GPUs of this machine, one lane a GPU; sourced by the run.sh of a study.
#
# Each lane has its share of the cores and locks of its own. Builds of one lane may overlap the timed slices of another:
# the wall clock, host_share, and whatever the host launches between graphs (an early exit's packing) feel that, so read
# the device boundary of such runs. Where there are fewer GPUs than lanes, lanes of one GPU take turns. Two studies share
# a host by FIRST_GPU=2 before the second; LANES='one another' runs some of a study's lanes.
#
# A sweep that is finished is noted in mlruns/ and left out by the next call; one that was cut is gone on with.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
gpus=$(nvidia-smi -L 2>/dev/null | wc -l)
gpus=$((gpus > 0 ? gpus : 1)) # none: a rehearsal on a CPU

enter() { # enter GPU: one GPU and its share of the cores for this shell
  local share=$(($(nproc) / gpus))
  export CUDA_VISIBLE_DEVICES=$1 TMPDIR=/tmp/harness-lane$1
  mkdir -p "$TMPDIR" mlruns
  taskset -cp $((share * $1))-$((share * ($1 + 1) - 1)) "$BASHPID" >/dev/null
}
once() { # once NAME COMMAND...: what is done stays done; 130 means that time is up
  [ ! -e "mlruns/$1.done" ] || return 0
  "${@:2}"
  case $? in
    0) touch "mlruns/$1.done" ;;
    130) exit 130 ;;
  esac
}
sweep() { once "$1" python3 -m harness sweep_name="$@" $more; } # sweep NAME OVERRIDE...
lanes() { # lanes SECONDS COMMAND...: a lane each; a minute of the time is kept for what comes after them
  local seconds=$(($1 - 60)) index=${FIRST_GPU:-0} work
  ((seconds > 0)) || return 0
  export -f enter once sweep "${@:2}"
  export gpus more=${more:-}
  for work in "${@:2}"; do
    timeout --signal=INT --kill-after=20 "$seconds" bash -c "enter $((index % gpus)); $work" > "lane-$work.log" 2>&1 &
    index=$((index + 1))
  done
  wait
  for work in "${@:2}"; do tail -v -n 30 "lane-$work.log"; done
}
known_timings() { # what another H200 has timed: TensorRT's builds of the same layers take seconds
  local packed timings
  mkdir -p .harness_cache/timing
  for packed in experiments/tensorrt_levels/*.timing.xz; do
    timings=.harness_cache/timing/$(basename "${packed%.xz}")
    [ -e "$timings" ] || xz -dkc "$packed" > "$timings"
  done
}
collect() { # collect FOLDER NAME...: the files of finished sweeps, each in a folder of its own
  local name
  for name in "${@:2}"; do
    [ -e "mlruns/$name.done" ] || continue
    python3 experiments/collect.py --sweep "$name" --out "$1/$name" || true
  done
}
