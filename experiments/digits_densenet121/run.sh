#!/usr/bin/env bash
# Train DenseNet121 and what each technique makes of it on digits, then measure them.
#
#   experiments/digits_densenet121/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
#
# Trainings go on from their last epoch. Weights lie in checkpoints/ (28 MB for the unmodified network): where the machine
# is lost between two calls, carry that folder and mlruns/ over, or the quartets are of other trainings.
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2} seconds=${1:-100000}
started=$SECONDS
left() { echo $((seconds - (SECONDS - started))); }

learn() { # learn ARCH: every epoch, however good the first ones look; trained weights that are there stay
  python3 -m harness.train experiment=digits_densenet121 hw=none arch="$1" train.epochs=40 train.patience=40 $more
  [ $? != 130 ] || exit 130
}
unmodified() { learn none; }
pruned() { learn pruned; }
early_exit() { learn early_exit; }
reduced_growth() { learn reduced_growth; }
factored() {
  learn low_rank
  learn grouped
}
techniques() { sweep digits_densenet121 experiment=digits_densenet121; }
headline() { sweep digits_headline experiment=digits_densenet121 arch=pruned hw.fusion.dense_blocks=true; }
export -f learn
lanes "$(left)" unmodified # the others start from it and learn from its answers
compgen -G 'checkpoints/densenet121-none-digits-*/model.safetensors' > /dev/null || exit 1
lanes "$(left)" pruned early_exit factored reduced_growth
[ "$(compgen -G 'checkpoints/densenet121-*-digits-*/model.safetensors' | wc -l)" -ge 6 ] || exit 1
lanes "$(left)" techniques headline
collect experiments/digits_densenet121 digits_densenet121 digits_headline
