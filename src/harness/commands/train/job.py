"""One training: the network of a config and its teacher: trained or resumed, tested, stored where cells find it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch import nn

from harness import networks as models
from harness.commands.train.loop import Epoch, Lesson, train
from harness.commands.train.state import BEST, LAST, STATE_KEY, TrainingState, notes_of, state_in, write_tensors
from harness.commands.train.training_batches import Batches
from harness.config import HarnessConfig
from harness.measure.lock import device_id, occupied
from harness.measure.predictions import without_tf32
from harness.networks.data.labelled import LabelledImages, content_digest, decoded, labelled, opened
from harness.networks.data.preprocessing import CHECKPOINT_KEY, preprocessing
from harness.networks.weights import fill
from harness.results.accuracy import Share, share
from harness.system.cache import open_cache
from harness.system.counts import counted
from harness.system.errors import UserError, first_line
from harness.system.locks import try_lock
from harness.system.machine import git_sha
from harness.techniques import arch
from harness.techniques.arch.recipe import Recipe, assemble
from harness.techniques.arch.stages import all_heads, stages
from harness.techniques.finetuned import WEIGHTS, base_model, folder_of, trained_parts
from harness.tracking import Store, finish

FROM_RANDOM, FROM_TRAINED = 4e-3, 1e-3  # learning rates: what is learnt already must not be shaken out
SKIPPED_IMAGES = "skipped_images.txt"  # beside a checkpoint: what nothing was learnt from, and why
RECIPE_KEY, RESULT_KEY = "harness.recipe", "harness.result"


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    path: Path
    epochs: int  # how many it took, the best one's number in `best_epoch`
    best_epoch: int
    test_top1: dict[str, Share]  # by head, fp32 eager on the test images
    images: int
    was_there: bool = False  # nothing was to do


def train_job(
    config: HarnessConfig, device: str, store: Store, began: Callable[[str], None], on_epoch: Callable[[Epoch], None]
) -> Trained:
    """Train the network of one config, or go on where a killed training stopped; `began` says what, once known.

    It waits for measurements on the device to end, and measurements wait until it is over.

    Raises UserError where there is nothing to learn from or another process trains it now, CellError if it diverges.
    """
    folder = folder_of(config, config.arch)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            with try_lock(device_id(device)) as free:
                if not free:
                    began("waiting for a measurement on this device to end")
            with occupied(device_id(device)):
                return _train(config, device, store, folder, began, on_epoch)
    except Timeout:
        raise UserError(
            f"another process trains {folder.name} now; wait for it, or use another checkpoints.dir."
        ) from None


def _train(
    config: HarnessConfig,
    device: str,
    store: Store,
    folder: Path,
    began: Callable[[str], None],
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    options = _signature(config)
    if config.train.resume == "never":
        for name in (LAST, BEST):
            (folder / name).unlink(missing_ok=True)
    else:
        check_overwrite(config)
        if (done := notes_of(folder / WEIGHTS)).get(STATE_KEY) == options:
            return _earlier_result(folder, done[RESULT_KEY])
    start = state_in(folder) or TrainingState(options)
    base = base_model(config) if trained_parts(config.arch) else config.model
    recipe = Recipe(base, config.arch)
    lesson, test_images = _prepared(config, recipe, device)
    began(_summary(lesson, start))
    if skipped := (*lesson.train.skipped, *lesson.validation.skipped, *test_images.skipped):
        (folder / SKIPPED_IMAGES).write_text("".join(f"{line}\n" for line in skipped))
        began(f"{len(skipped)} image{'s' * (len(skipped) != 1)} left out ({SKIPPED_IMAGES}), the first: {skipped[0]}")
    run_id = open_run(store, start.run_id, folder.name, _params(config, base.weights), {"git_sha": git_sha()})

    def after(epoch: Epoch, _: TrainingState) -> None:
        curves = {f"validation/top1_{name}": value for name, value in epoch.top1.items()}
        curves |= {"train/loss": epoch.loss, "train/lr": epoch.rate, "train/images_per_s": epoch.images_per_s}
        log_epoch(store, run_id, epoch.number, curves)
        on_epoch(epoch)

    with _finished(store, run_id):
        end = train(lesson, folder, replace(start, run_id=run_id), after)
        fill(lesson.network, load_file(folder / BEST))
        top1 = test(lesson.network, test_images, device)
        result = Trained(folder / WEIGHTS, end.epoch, end.best_epoch, top1, test_images.count)
        notes = {CHECKPOINT_KEY: preprocessing(base, config.data).to_json(), RECIPE_KEY: recipe.to_json()}
        notes |= {STATE_KEY: options, RESULT_KEY: json.dumps(asdict(replace(result, path=Path())), default=str)}
        write_tensors(folder / WEIGHTS, lesson.network.state_dict(), notes)
        for name in (LAST, BEST):
            (folder / name).unlink()
        log_epoch(store, run_id, end.epoch, {f"test/top1_{name}": accuracy.value for name, accuracy in top1.items()})
    return result


def check_overwrite(config: HarnessConfig) -> None:
    """Raise UserError where training would replace what was trained with other settings, unless that was requested."""
    if config.train.resume == "never":
        return
    folder, options = folder_of(config, config.arch), _signature(config)
    weights = notes_of(folder / WEIGHTS).get(STATE_KEY, "") if (folder / WEIGHTS).is_file() else None
    begun = state_in(folder)
    if options in (weights, begun.options if begun else None):
        return  # done; or begun with train.resume=never, and killed
    what = "weights that were trained" if weights is not None else "an unfinished training"
    earlier = begun.options if weights is None and begun else weights
    if earlier is not None:
        raise UserError(
            f"{folder} holds {what} with other settings ({_differing(earlier, options)}), which cells may need: "
            "give these settings, another checkpoints.dir, or train.resume=never to replace it."
        )


def _differing(earlier: str, requested: str) -> str:
    """Return in which settings two trainings differ: "train.epochs=80, here 3"."""
    before, now = (json.loads(text) if text else {"train": {}} for text in (earlier, requested))
    names = dict.fromkeys([*before["train"], *now["train"]])
    values = {name: (before["train"].get(name), now["train"].get(name)) for name in names}
    found = [f"train.{name}={old}, here {new}" for name, (old, new) in values.items() if old != new and before["train"]]
    if before["train"] and before.get("images") != now.get("images"):
        found.append("other images")
    return "; ".join(found) or "it does not say which"


def _prepared(config: HarnessConfig, recipe: Recipe, device: str) -> tuple[Lesson, LabelledImages]:
    """Return the network with all that it learns from, and the images that it is tested on."""
    network, teacher = assemble(recipe), teacher_of(config)
    cache = open_cache(config.cache)
    data, found = labelled(recipe.model, config.data, cache), opened(config.data)
    assert data is not None and found is not None and data.validation is not None
    how = preprocessing(recipe.model, config.data)
    lesson = Lesson(
        network=network,
        teacher=teacher,
        train=Batches(decoded(found, "train", how, cache), device),
        validation=Batches(data.validation, device),
        device=device,
        mirror=found.mirrored if config.train.mirror is None else config.train.mirror,
        highest_rate=config.train.lr or (FROM_RANDOM if recipe.model.weights is None else FROM_TRAINED),
        options=config.train,
    )
    return lesson, data.test


def _summary(lesson: Lesson, start: TrainingState) -> str:
    from_where = f", from epoch {start.epoch + 1}" if start.epoch else ""
    taught = ", taught by the unmodified model" if lesson.teacher is not None else ""
    return (
        f"{counted(lesson.train.count, 'image')} to learn from, {lesson.validation.count} to choose by"
        f"{taught}{from_where}"
    )


@contextmanager
def _finished(store: Store, run_id: str) -> Iterator[None]:
    """End the training's run with what became of it."""
    try:
        yield
        finish(store, run_id, "FINISHED")
    except KeyboardInterrupt:
        finish(store, run_id, "KILLED", "interrupted; to resume from the last epoch, run the same command")
        raise
    except Exception as error:
        finish(store, run_id, "FAILED", str(error))
        raise


def teacher_of(config: HarnessConfig) -> nn.Module | None:
    """Return the network whose answers are followed: the unmodified one, where there is another and it is trained."""
    requested = config.train.teacher
    if requested == "none" or config.train.distillation == 0:
        return None
    if requested != "auto":
        return models.build(replace(config.model, weights=requested))
    base = base_model(config)
    return models.build(base) if trained_parts(config.arch) and base.weights is not None else None


def test(network: nn.Module, images: LabelledImages, device: str) -> dict[str, Share]:
    """Return top-1 with its interval on `images`, by head, in fp32 eager."""
    parts = stages(network.cpu().eval())
    network.to(memory_format=torch.contiguous_format).to(device)
    right: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode(), without_tf32():
        for batch, labels in Batches(images, device).in_order(64):
            for name, logits in all_heads(parts, (batch,)).items():
                right.setdefault(name, []).append((logits.argmax(dim=1) == labels).cpu())
    return {name: share(torch.cat(found).numpy()) for name, found in right.items()}


def _signature(config: HarnessConfig) -> str:
    """Return all that decides what comes out, as JSON; the key of the folder has the rest."""
    train_options: dict[str, Any] = asdict(config.train)
    del train_options["resume"]
    teacher = config.train.teacher
    if os.path.isfile(teacher):
        train_options["teacher"] = f"{teacher} {os.stat(teacher).st_mtime_ns}"
    return json.dumps({"train": train_options, "images": content_digest(config.data)}, sort_keys=True)


def _params(config: HarnessConfig, weights: str | None) -> dict[str, Any]:
    return {
        "model": config.model.name,
        "arch": "+".join(arch.enabled(config.arch)) or "none",
        "data": config.data.name,
        "weights": weights or f"random (seed {config.model.seed})",
        "image_size": config.model.image_size,
        **arch.flat_options(config.arch),
        **{f"train.{name}": value for name, value in asdict(config.train).items()},
    }


def _earlier_result(folder: Path, text: str) -> Trained:
    given = json.loads(text)
    top1 = {name: Share(**values) for name, values in given["test_top1"].items()}
    return Trained(folder / WEIGHTS, given["epochs"], given["best_epoch"], top1, given["images"], was_there=True)


KIND = "training"  # beside `sweep` and `quartet`


def open_run(store: Store, run_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Return the id of a running run: `run_id` again if that is still there, else a new one."""
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    mlflow = store.client()
    if run_id:
        try:
            mlflow.update_run(run_id, status="RUNNING")
            return run_id
        except MlflowException:  # another store, or somebody deleted it: the training itself is on the disk
            pass
    run = mlflow.create_run(store.experiment_id, run_name=name, tags={**tags, "kind": KIND})
    mlflow.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
    return str(run.info.run_id)


def log_epoch(store: Store, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Add one point to each curve; an unreachable or locked store loses the point with a message, not the training."""
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    now_ms = int(time.time() * 1000)
    try:
        store.client().log_batch(
            run_id, metrics=[Metric(name, value, now_ms, epoch) for name, value in metrics.items()]
        )
    except MlflowException as error:
        print(f"harness.train: epoch {epoch} is not in the record: {first_line(error)}", file=sys.stderr)
