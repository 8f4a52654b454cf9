#!/usr/bin/env bash
# Draw the committed figures of the studies again, from their committed data and as SVG: the same data give the same
# bytes. (Those in a folder called figures/ are the report's, its SVG files; `make calibrate` draws calibration.svg.)
#
#   experiments/figures.sh      # PYTHON=... for another interpreter than that of .venv
set -euo pipefail
cd "$(dirname "$0")"
python=$(realpath -s "${PYTHON:-../.venv/bin/python}")

draw() { # draw STUDY FIGURE KIND FOLDER...: a figure of some of the study's folders, by KIND_figure.py
  (cd "$1" && "$python" "../$3_figure.py" "${@:4}" --out "$2.svg")
}

for study in aa_h100 aa_h200 aa_h200_first_order; do "$python" aa_figure.py $study > /dev/null; done
"$python" utilisation/run.py --rate-per-s 4 --out utilisation/cpu --redraw

ours=(dense_blocks_b{256,32})
plain=({inductor,stacks}_b32 {inductor,stacks}_b256)
fp16=(onnxruntime_fp16_{b32,b256,b256_stacks})
fusion=(onnxruntime_fusion_{b32,b32_rest,b256,b256_pruned,b256_stacks})
draw densenet121_h100 factors study "${ours[@]}"
draw densenet121_h100 roofline roofline "${ours[@]}"
draw densenet121_h100 factors_inductor study "${plain[@]}"
draw densenet121_h100 roofline_inductor roofline "${plain[@]}"
draw densenet121_h100 factors_onnxruntime study "${fp16[@]}" "${fusion[@]}"
draw densenet121_h100 first_pieces/factors study first_pieces
draw densenet121_h100 first_pieces/roofline roofline first_pieces

"$python" rebuilds/figure.py
draw int8_cpu factors study int8_{densenet121,resnet50}_{eager,engine}
draw digits_densenet121 factors study digits_densenet121 digits_headline
draw vit_b_16_h100 factors study vit_b_16 vit_b_16_densenet
draw coursework_h200 factors study coursework_b32
draw coursework_h200 roofline roofline coursework_b32
draw densenet121_tensorrt factors study tensorrt_eager tensorrt_engine
draw densenet121_tensorrt roofline roofline tensorrt_eager tensorrt_engine
draw serving_h100 latency_rate_pruned serving serving_pruned
draw serving_h100 latency_rate_early_exit serving serving_early_exit
