"""Plan -> artifacts: networks assembled, stages exported, engines built or fetched, references made."""

from harness.prepare.build import prepare
from harness.prepare.networks import Network, network
from harness.prepare.prepared import PreparedCell
from harness.prepare.references import reference
from harness.prepare.tasks import tasks

__all__ = ["Network", "PreparedCell", "network", "prepare", "reference", "tasks"]
