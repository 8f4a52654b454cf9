"""Config -> plan: which cells a quartet has, and what each one is made of. Decides everything, does nothing."""

from harness.sweep.plan.config_limits import check_boundary, check_config
from harness.sweep.plan.quartet import plan_quartet
from harness.sweep.plan.request import build_plan

__all__ = ["build_plan", "check_boundary", "check_config", "plan_quartet"]
