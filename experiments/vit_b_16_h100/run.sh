#!/usr/bin/env bash
# ViT-B/16 in one lane, DenseNet121 with the same techniques in the other.
#
#   experiments/vit_b_16_h100/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}

vit() { sweep vit_b_16 experiment=vit_b_16; }
densenet() { # nothing of a DenseNet is residual, so no depth can be taken away: growth is its counterpart
  sweep vit_b_16_densenet experiment=vit_b_16 model=densenet121 arch.early_exit.after_block=2 \
    arch=early_exit,low_rank,pruned,reduced_growth
}
lanes "${1:-100000}" ${LANES:-vit densenet}
collect experiments/vit_b_16_h100 vit_b_16 vit_b_16_densenet
