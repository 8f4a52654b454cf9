"""Config -> plan: which cells a quartet has, and what each one is made of. Decides everything, does nothing."""

from harness.plan.cells import CellPlan, QuartetPlan
from harness.plan.check import check_boundary, check_config
from harness.plan.quartet import plan_quartet
from harness.plan.request import build_plan

__all__ = ["CellPlan", "QuartetPlan", "build_plan", "check_boundary", "check_config", "plan_quartet"]
