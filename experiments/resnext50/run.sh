#!/usr/bin/env bash
# Against what is published: ResNet-50 -> ResNeXt-50 32x4d x TensorRT's fp16, a quartet each at batch 1, 32 and 128.
#
#   experiments/resnext50/run.sh [SECONDS] [OVERRIDE...]      # what is not done by then is resumed by the next call
set -uo pipefail
source "$(dirname "$0")/../lanes.sh"
more=${*:2}
known_timings
site=$(mktemp -d) # as an installer would leave the plug-in
ln -s "$PWD/experiments/resnext50/resnext.py" "$site/resnext.py"
mkdir "$site/resnext-1.0.dist-info"
printf 'Metadata-Version: 2.1\nName: resnext\nVersion: 1.0\n' > "$site/resnext-1.0.dist-info/METADATA"
printf '[harness.techniques.arch]\nresnext = resnext\n' > "$site/resnext-1.0.dist-info/entry_points.txt"
export PYTHONPATH=$site:${PYTHONPATH:-}

questions() {
  for reference in eager engine; do
    sweep resnext_$reference model=resnet50 arch=resnext hw=fp16,[fp16,fusion] batch_size=1,32,128 engine=tensorrt \
      reference=$reference protocol.builds=1
  done
}
lanes "${1:-100000}" questions
collect experiments/resnext50 resnext_eager resnext_engine
