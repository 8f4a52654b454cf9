#!/usr/bin/env bash
# Throughput at p99 <= 50 ms on this machine's GPUs, in four lanes: the quartets of the two combinations (each with its
# baseline and both sides alone), the levels of hardware alone, the other techniques alone.
#
#   experiments/serving_h100/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#   LANES=pruned experiments/serving_h100/run.sh 600             # some of them
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
few="protocol.restarts=4 scenario.repeats=4" # a rate, and no verdict

pruned() { sweep serving_pruned experiment=serving arch=pruned; }
early_exit() { sweep serving_early_exit experiment=serving arch=early_exit; }
hw() { sweep serving_hw experiment=serving arch=none hw=fusion,fp16,dynamic_batching $few; }
arch() { sweep serving_arch experiment=serving hw=none engine=eager arch=reduced_growth,low_rank,grouped $few; }
export few
lanes "${1:-100000}" ${LANES:-pruned early_exit hw arch}
collect experiments/serving_h100 serving_{pruned,early_exit,hw,arch}
