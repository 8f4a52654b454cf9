#!/usr/bin/env bash
# A host with two GPUs: the same grid on one and on both, a neighbour that comes and goes, and a GPU whose memory is taken.
#
#   experiments/two_gpus/run.sh FOLDER [grid neighbour across taken]      # a rehearsal without: HARNESS_SIMULATED_GPUS=2
set -uo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
mkdir -p "$folder"
parts=${*:2}
model=${MODEL:-densenet121}
common=(model="$model" engine=eager protocol.why=false resume=never ${MORE:-})

sweep() { # sweep NAME OVERRIDE...: its seconds, status and screen; its files
  local began=$SECONDS name=$1
  python3 -m harness -m sweep_name="$name" "${@:2}" "${common[@]}" > "$folder/$name.txt" 2>&1
  echo "$name,$?,$((SECONDS - began))" >> "$folder/seconds.csv"
  tail -n 1 "$folder/seconds.csv"
  python3 experiments/collect.py --sweep "$name" --out "$folder/$name" > /dev/null
}
[ -e "$folder/seconds.csv" ] || echo "sweep,status,seconds" > "$folder/seconds.csv"
for part in ${parts:-grid neighbour across taken}; do
  case $part in
    grid) # caches of their own, so that the second has nothing from the first
      grid=(arch=early_exit,grouped,low_rank hw=fp16,bf16 batch=b32,b64)
      HARNESS_CACHE=$(mktemp -d) sweep both "${grid[@]}" engine.devices=all
      HARNESS_CACHE=$(mktemp -d) sweep alone "${grid[@]}" engine.devices=0
      ;;
    neighbour) # a full load on GPU 1 that comes and goes while identical cells are timed on GPU 0
      python3 "$here/load.py" "$folder/stop" > "$folder/load.csv" &
      sweep neighbour experiment=aa reference=eager batch=b32 engine.devices=0 protocol.seed=0 \
        protocol.min_blocks=${BLOCKS:-40} protocol.max_blocks=${BLOCKS:-40} protocol.budget_s=600
      touch "$folder/stop"
      wait
      rm "$folder/stop"
      ;;
    across) # identical cells on each GPU, at once
      sweep across experiment=aa reference=eager batch=b32 engine.devices=all protocol.seed=1,2
      ;;
    taken) # most of GPU 1's memory is somebody else's: it has no place, one line says so
      python3 -c 'import time, torch; x = torch.empty(100 << 30, dtype=torch.uint8, device="cuda:1"); time.sleep(120)' &
      holder=$!
      sleep 15
      sweep taken arch=grouped hw=fp16 batch=b2,b4 model=densenet_tiny protocol=quick engine.devices=all
      kill $holder
      ;;
  esac
done
python3 "$here/summary.py" "$folder"
