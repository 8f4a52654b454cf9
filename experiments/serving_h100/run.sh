#!/usr/bin/env bash
# Throughput at p99 <= 50 ms on this machine's GPUs: the quartets of the combinations (with their baseline and both sides
# alone) in one lane, the other techniques alone in the other.
#
#   experiments/serving_h100/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}

together() { sweep serving experiment=serving; }
alone() {
  sweep serving_hw experiment=serving arch=none hw=fusion,fp16,dynamic_batching
  sweep serving_arch experiment=serving hw=none engine=eager arch=reduced_growth,low_rank,grouped
}
lanes "${1:-100000}" together alone
collect experiments/serving_h100 serving serving_hw serving_arch
