"""Command line to configs: every job that was meant, and one clear line for what can't be meant."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass
from itertools import product

import pytest

from harness.config.described import options as described_options
from harness.sweep.choices import choice_meaning, config_dir, group_choices
from harness.sweep.command_line import compose_jobs, refuse_unreadable
from harness.sweep.main import composed_options, help_text
from harness.sweep.plan import check_options
from harness.system.errors import UserError
from harness.techniques import arch, hw
from harness.techniques.hw.dynamic_batching import profile


def refusal(*overrides) -> str:
    with pytest.raises(UserError) as refused:
        compose_jobs(list(overrides))
    text = str(refused.value)
    assert 1 <= len(text.splitlines()) <= 2, text
    return text


def stacks(job) -> tuple[str, str, int]:
    return "+".join(arch.enabled(job.config.arch)), "+".join(hw.enabled(job.config.hw)), job.config.batch_size


LARGE = ("coursework", "densenet121_gpu")  # experiments whose many jobs take long to compose


def group_files() -> list:
    """Return (group, choice) of every file of a group in conf/."""
    root = config_dir()
    found = sorted((str(file.parent.relative_to(root)), file.stem) for file in root.glob("*/*.yaml"))
    return [pytest.param(*pair, marks=[pytest.mark.minutes] if pair[1] in LARGE else []) for pair in found]


def test_a_grid_expands_to_every_combination_stacks_included():
    jobs = compose_jobs(["arch=none,grouped,[grouped,low_rank]", "hw=fp16,fusion", "batch_size=16,32"])
    expected = set(product(("", "grouped", "grouped+low_rank"), ("fp16", "fusion"), (16, 32)))
    assert len(jobs) == 12
    assert {stacks(job) for job in jobs} == expected


def test_a_stack_is_the_same_whatever_order_it_is_written_in():
    one, other = compose_jobs(["arch=[low_rank,grouped],[grouped,low_rank]"])
    assert asdict(one.config) == asdict(other.config)
    assert arch.enabled(one.config.arch) == ("grouped", "low_rank")


def test_without_overrides_there_is_one_job_the_baseline():
    (job,) = compose_jobs([])
    assert stacks(job) == ("", "", 8)
    assert job.config.model.name == "densenet121"


def test_an_option_rides_along_in_a_sweep_where_only_some_cells_have_its_technique():
    exit_job, grouped_job = compose_jobs(["arch=early_exit,grouped", "arch.grouped.groups=8"])
    assert arch.enabled(exit_job.config.arch) == ("early_exit",)
    assert arch.enabled(grouped_job.config.arch) == ("grouped",)
    assert grouped_job.config.arch.grouped.groups == 8


def test_an_option_itself_can_be_swept():
    jobs = compose_jobs(["arch=grouped", "arch.grouped.groups=2,4,8"])
    assert [job.config.arch.grouped.groups for job in jobs] == [2, 4, 8]


@pytest.mark.parametrize(
    ("overrides", "option", "cure"),
    [
        (("arch=early_exit", "arch.grouped.groups=8"), "arch.grouped.groups=8", "arch=grouped"),
        (("hw=fusion", "hw.fp16.io=fp16"), "hw.fp16.io=fp16", "hw=fp16"),
        (("arch=early_exit", "arch.grouped.groups=4,8"), "arch.grouped.groups=4,8", "arch=grouped"),
    ],
)
def test_an_option_of_a_technique_that_is_on_nowhere_is_refused(overrides, option, cure):
    text = refusal(*overrides)
    assert text.startswith(option)
    assert f"add {cure}" in text


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("arch=groupd", "grouped"),
        ("hw=fuse", "fusion"),
        ("engine=onnx", "onnxruntime"),
        ("batch=b3", "b32"),
        ("protocol=fast", "quick"),
        ("experiment=nothing", "demo"),
    ],
)
def test_an_unknown_choice_of_a_group_lists_the_known_ones(override, right):
    text = refusal(override)
    assert override.replace("=", "/") in text
    assert right in text.split("choose one of", 1)[1]


def test_a_file_that_is_named_as_a_model_is_met_with_how_its_function_is_named():
    assert refusal("model=./nets/mine.py").endswith("module:function: in the folder of mine.py, model=mine:FUNCTION")


def test_an_unknown_model_names_ours_and_says_what_else_a_model_can_be():
    text = refusal("model=my_own_invention")
    assert text.startswith("model 'my_own_invention' is not known; the known models are densenet121, densenet_tiny, ")
    assert "module:function" in text


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("model=densnet_tiny", "densenet_tiny"),
        ("model=densenet_tniy", "densenet_tiny"),
        ("model=densenet112", "densenet121"),
        ("model=DenseNet121", "densenet121"),
        ("model=convnext_tinny", "convnext_tiny"),
        ("model=resent50", "resnet50"),
        ("model=timm/resnt18", "timm/resnet18"),
        ("arch=groupd", "grouped"),
        ("arch=earlyexit", "early_exit"),
        ("arch=[grouped,low_rnak]", "low_rank"),
        ("hw=fp61", "fp16"),
        ("hw=fusoin", "fusion"),
        ("hw=fb16", "bf16"),  # of the letters of fb16, which fp16 is as near to
        ("engine=onnxrt", "onnxruntime"),
        ("engine=tensorrtrtx", "tensorrt_rtx"),
        ("protocol=quik", "quick"),
        ("scenario=ofline", "offline"),
        ("data=image_foler", "image_folder"),
        ("batch=32", "b32"),
        ("+experiment=demos", "demo"),
    ],
)
def test_a_misspelt_choice_is_met_with_the_nearest_one(override, right):
    assert f"did you mean {right}?" in refusal(override)


@pytest.mark.parametrize("override", ["model=xyz", "hw=something", "engine=wholly_different"])
def test_a_choice_that_nothing_is_like_is_met_with_no_guess(override):
    assert "did you mean" not in refusal(override)


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("arch.grouped.group=8", "arch.grouped.groups"),
        ("batchsize=8", "batch_size"),
        ("protocol.bugdet_s=8", "protocol.budget_s"),
        ("hw.fp16.oi=fp16", "hw.fp16.io"),
        ("archs=grouped", "arch"),
        ("+batchsize=8", "batch_size"),
    ],
)
def test_an_unknown_option_is_met_with_the_nearest_known_one(override, right):
    text = refusal(override)
    assert f"did you mean {right}?" in text
    assert override.lstrip("+").partition("=")[0] in text


def test_hydra_would_add_a_new_name_without_a_word_and_we_refuse_it():
    text = refusal("+foo=1")
    assert "unknown option foo" in text
    assert "--help" in text or "did you mean" in text


@pytest.mark.parametrize("override", ["batch_size=eight", "precision.tf32=7.5", "protocol.slice_s=long"])
def test_a_value_of_the_wrong_type_names_the_option_and_the_value(override):
    name, _, value = override.partition("=")
    text = refusal(override)
    assert name.rpartition(".")[2] in text
    assert value in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("batch_size=eight", "batch_size=eight: that is not a whole number."),
        ("batch_size=[1,2]", "batch_size=[1,2]: that is not a whole number; a grid is written without brackets: 1,2."),
        ("protocol.budget_s=ten", "protocol.budget_s=ten: that is not a number."),
        ("data.limit=None", "data.limit=None: that is not a whole number; for none write null."),
        (
            "hw.fusion=true",
            "hw.fusion=true: that is a group of options, which have values of their own: NAME.OPTION=value.",
        ),
        ("sweep_name=[1]", "sweep_name=[1]: that is a list, and it takes one value."),
        ("engine.providers=3", "engine.providers=3: that is not a list, as in [a,b]."),
        ("precision.tf32=maybe", "precision.tf32=maybe: that is not true or false."),
        ("hw=fusion,fp16,fusion", "hw=fusion,fp16,fusion: fusion stands there twice; name it once."),
        ("batch_size=1,1", "batch_size=1,1: 1 stands there twice; name it once."),
        ("hw=[fp16,fusion,fp16]", "hw=[fp16,fusion,fp16]: fp16 stands twice in one stack; name it once."),
        (
            "arch=grouped,[pruned,pruned]",
            "arch=grouped,[pruned,pruned]: pruned stands twice in one stack; name it once.",
        ),
        ("hw=[[fusion]]", "hw=[[fusion]]: a stack is one list of techniques, as in 'hw=[fp16,fusion]'."),
        ("arch=", f"arch= names none: choose one of {', '.join(group_choices()['arch'])}."),
        ("grouped", "can't read 'grouped': write key=value; did you mean arch=grouped?"),
        ("none", "can't read 'none': write key=value; did you mean arch=none or hw=none?"),
        ("batch_size", "can't read 'batch_size': write key=value; did you mean batch_size=...?"),
        ("foo", "can't read 'foo': write key=value, as in arch=grouped; python -m harness --help lists all."),
    ],
)
def test_a_value_or_a_word_that_can_not_be_meant_is_met_with_what_can(override, said):
    assert refusal(override) == said


@pytest.mark.parametrize("override", ["arch=[grouped,low_rank", "batch_size", "arch=grouped]"])
def test_an_argument_that_can_not_be_read_says_how_to_write_it(override):
    assert "write key=value" in refusal(override)


@pytest.mark.parametrize(
    "value", ["~/best.pt", "größe", "日本", "a=b", "a;b", "it's", 'say "hi"', "what!", "#1", "run (2)", "a<b", "`x`"]
)
def test_a_value_that_hydra_reads_in_quotes_only_is_refused_with_them(value):
    text = refusal("model=densenet_tiny", f"sweep_name={value}")
    assert text.startswith(f"can't read sweep_name={value} without quotes; quote it: ")
    (word,) = shlex.split(text.partition("quote it: ")[2])  # as a shell hands it over
    (job,) = compose_jobs(["model=densenet_tiny", word])
    assert job.config.sweep_name == value


@pytest.mark.parametrize(
    ("override", "quoted"),
    [
        ("data.mean=[~1,2,3]", 'data.mean=["~1",2,3]'),
        ("model.weights=~/a.pt,b.pt", 'model.weights="~/a.pt",b.pt'),
        ("+x=~", '+x="~"'),
    ],
)
def test_of_a_list_or_a_grid_only_what_needs_quotes_gets_them(override, quoted):
    with pytest.raises(UserError) as refused:
        refuse_unreadable([override])
    assert shlex.split(str(refused.value).partition("quote it: ")[2]) == [quoted]


def test_a_name_that_hydra_can_not_read_is_an_unknown_option():
    assert refusal("batch_sizé=4") == "unknown option batch_sizé: did you mean batch_size?"


def numbers(options, prefix=""):
    """Give the group, the name and the options' object of every number there is."""
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from numbers(value, f"{prefix}{field.name}.")
        elif any(kind in str(field.type) for kind in ("int", "float")) and "list" not in str(field.type):
            yield f"{prefix}{field.name}", field.name, options


def test_every_number_is_refused_below_its_range_before_torch_is_imported():
    words = ["arch=[reduced_growth,reduced_depth,pruned,grouped,low_rank,early_exit]", "scenario=server"]
    (job,) = compose_jobs(["model=densenet_tiny", "hw=[int8,fp16,fusion,dynamic_batching]", *words])
    accepted = []
    for path, name, options in list(numbers(job.config)):
        before = getattr(options, name)
        setattr(options, name, -1)
        try:
            check_options(job.config)
            accepted.append(path)
        except UserError as error:
            assert str(error).startswith(f"{path}=-1: ")
        setattr(options, name, before)
    assert accepted == []


WRONG_WORDS = (
    "batchsize=4",
    "batch_size=-1",
    "protocol.slice_s=-1",
    "tracking.uri=sqlite://",
    "model=densnet_tiny",
    "model=timm/resnt18",
    "model.weights=nowhere.pt",
    "engine.devices=none",
    "engine.device=cpu,cuda",
    "arch=groupd",
    "sweep_name=a/b",
    "train.epochs=3",
    "checkpoints.use=mine",
    "scenario.slo_ms=50",
)
NEEDS_A_GPU = (
    (["engine.devices=0,1"], "engine.devices=0,1: there is no GPU here to choose from; drop it."),
    (["engine.devices=7"], "engine.devices=7: there is no GPU here to choose from; drop it."),
    (["engine.devices=0", "engine.device=cpu"], "engine.devices=0: engine.device=cpu uses no GPU; drop either."),
    (["engine.device=cuda"], "engine.device=cuda: torch sees no CUDA GPU here; use engine.device=cpu or auto."),
    (["precision.tf32=true"], "precision.tf32=true: a CPU has no TF32; leave it out."),
    (["protocol.primary=device"], "protocol.primary=device: on cpu there is only wall."),
    (["engine=tensorrt"], "engine tensorrt can't run here: "),
)
REFUSALS = """
import contextlib, io, json, sys
from harness.sweep.main import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(words)
    heavy = sorted({"torch", "torchvision", "timm", "mlflow"} & set(sys.modules))
    print(json.dumps([status, said.getvalue(), heavy]))
"""


def with_wrong_word(word: str) -> list[str]:
    key = word.partition("=")[0]
    return [*(other for other in ("model=densenet_tiny", "arch=grouped") if not other.startswith(f"{key}=")), word]


def beside_fusion(words: list[str]) -> list[str]:
    return ["model=densenet_tiny", "hw=fusion", *words]


@pytest.fixture(scope="module")
def refused_before_torch():
    """Return a function: what an interpreter without a GPU says of a command line, with nothing slow imported.

    One interpreter is given all command lines, one after the other.
    """
    given = [*map(with_wrong_word, WRONG_WORDS), *(beside_fusion(words) for words, _ in NEEDS_A_GPU)]
    done = subprocess.run(
        [sys.executable, "-c", REFUSALS, json.dumps(given)], capture_output=True, text=True, check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = dict(zip(map(tuple, given), map(json.loads, done.stdout.splitlines()), strict=True))

    def refusal(words: list[str]) -> str:
        status, said, imported = answers[tuple(words)]
        assert (status, imported) == (2, []), said
        return said

    return refusal


@pytest.mark.parametrize("word", WRONG_WORDS)
def test_a_wrong_word_is_refused_without_waiting_for_torch(word, refused_before_torch):
    assert word.partition("=")[0].partition(".")[0] in refused_before_torch(with_wrong_word(word))


@pytest.mark.parametrize(("words", "said"), NEEDS_A_GPU)
def test_what_needs_a_gpu_is_refused_without_waiting_for_torch_where_there_is_none(words, said, refused_before_torch):
    assert refused_before_torch(beside_fusion(words)).startswith(f"harness: {said}")


@pytest.mark.slow
@pytest.mark.parametrize(("group", "choice"), group_files())
def test_every_file_of_a_group_composes(group, choice):
    jobs = compose_jobs([f"{group}={choice}"])
    config = jobs[0].config
    if group == "arch":
        assert arch.enabled(config.arch) == (() if choice == "none" else (choice,))
    elif group == "hw":
        assert hw.enabled(config.hw) == (() if choice == "none" else (choice,))
    elif group in ("model", "engine", "scenario", "data", "protocol"):
        assert getattr(config, group).name == choice


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64])
def test_a_batch_preset_is_the_batch_size_and_nothing_else(size):
    (preset,), (plain,) = compose_jobs([f"batch=b{size}"]), compose_jobs([f"batch_size={size}"])
    assert preset.config == plain.config  # so both have the same keys
    chosen = profile(preset.config.hw.dynamic_batching, preset.config)
    assert (chosen.min_size, chosen.opt_size, chosen.max_size) == (1, size, 2 * size)


def test_batch_presets_sweep_and_an_explicit_batch_size_wins_over_one():
    assert [job.config.batch_size for job in compose_jobs(["batch=b16,b32"])] == [16, 32]
    (job,) = compose_jobs(["batch=b16", "batch_size=3"])
    assert job.config.batch_size == 3


def test_an_experiment_preset_brings_its_own_grid_and_a_word_on_the_command_line_wins():
    jobs = compose_jobs(["experiment=demo"])
    assert [stacks(job) for job in jobs] == [("pruned", "fusion", 1), ("reduced_growth", "fusion", 1)]
    (job,) = compose_jobs(["experiment=demo", "arch=low_rank"])
    assert stacks(job) == ("low_rank", "fusion", 1)


def test_help_says_what_each_option_means_with_its_unit():
    lines = help_text([]).splitlines()
    (budget,) = [number for number, line in enumerate(lines) if line.startswith("protocol.budget_s=240.0 ")]
    assert "[s]" in " ".join(lines[budget : budget + 3])  # behind what it means, however many lines that takes
    assert [line for line in lines if line.startswith("arch.grouped.groups=4 ")]
    options = [line for line in lines if re.match(r"[a-z]+[.][\w.]+=", line)]
    assert len(options) > 100


def test_an_option_is_explained_before_its_default_is():
    found = {option.name: option.meaning for option in described_options(composed_options([]))}
    resize = found["data.resize"]
    assert "None: as the model's weights were trained" in resize and resize.index("scaled") < resize.index("None")
    assert [name for name, meaning in found.items() if meaning.startswith("None")] == []


def test_help_of_a_group_says_of_each_choice_what_it_is():
    lines = help_text(["hw"], width=200).splitlines()
    entry = next(line for line in lines if line.startswith("hw=fp16 "))
    assert entry == "hw=fp16".ljust(44) + (
        "half-precision weights and compute (Micikevicius et al. 2018, arXiv:1710.03740), in the graph itself"
    )
    for group, names in group_choices().items():
        files = {file.stem for file in (config_dir() / group).glob("*.yaml")}  # not those of other packages
        says = {name: choice_meaning(group, name) for name in names if name in files}
        if group != "batch":  # b16 says it all
            assert all(len(phrase) > 10 for phrase in says.values()), says
            assert len(set(says.values())) == len(says)


def test_help_of_a_misspelt_group_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean protocol\?"):
        help_text(["protocoll"])


def test_help_of_a_group_is_that_group_alone_with_the_defaults_that_are_asked_for():
    text = help_text(["hw", "hw.fp16.io=fp16"])
    assert "hw.fp16.io=fp16 " in text and text.startswith("hw=bf16 ")
    assert not re.search(r"^(arch|engine)[.:]", text, re.MULTILINE)
    with pytest.raises(UserError, match="--help hv: there is no such group; choose one of model, arch, hw"):
        help_text(["hv"])
