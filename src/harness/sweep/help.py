"""`python -m harness --help`: groups, their choices, and every option with its default.

Hydra's own help copies the whole composed config once a group and walks into the studies' result folders; this one
lists the same choices in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.sweep.command_line import compose_first, config_dir

TEXT = """\
harness measures whether an architecture change and a hardware acceleration multiply,
amplify or conflict: baseline, arch, hw and combined cells, measured as one quartet.

  python -m harness -m arch=early_exit,grouped hw=fp16,fusion
  python -m harness 'arch=[grouped,low_rank]' hw=fusion batch_size=4 protocol=quick

Groups (choose with group=option)
{groups}

Options (override with key=value)
{options}
Stacks: 'arch=[grouped,low_rank]'. Options ride along: arch.grouped.groups=8.
Studies: experiment=NAME. A fleet: hydra/launcher={launchers}.
Results: make ui, or harness.load() in Python.
Other commands: python -m harness.NAME --help, NAME one of capacity, doctor, report, train, ui"""


def help_text(overrides: Sequence[str]) -> str:
    """Return the help, its defaults as these overrides leave them; raise UserError for what can't be composed."""
    from omegaconf import OmegaConf

    config = compose_first(overrides)
    options = OmegaConf.to_yaml(OmegaConf.masked_copy(config, [name for name in config if name != "hydra"]))
    groups = "\n".join(f"{group}: {', '.join(choices)}" for group, choices in group_choices().items())
    launchers = ",".join(sorted(path.stem for path in (config_dir() / "hydra" / "launcher").glob("*.yaml")))
    return TEXT.format(groups=groups, options=options, launchers=launchers)


def group_choices() -> dict[str, list[str]]:
    """Return the choices of every group: our files, and what other packages have registered."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.object_type import ObjectType

    store = ConfigStore.instance()
    found = {}
    for folder in sorted(path for path in config_dir().iterdir() if path.is_dir() and path.name != "hydra"):
        ours = {path.stem for path in folder.glob("*.yaml")}
        kind = store.get_type(folder.name)
        registered = (
            {name.removesuffix(".yaml") for name in store.list(folder.name)} if kind is ObjectType.GROUP else set()
        )
        found[folder.name] = sorted(ours | registered)
    return found
