"""The tables of methods told goals: what is compared is alike, what was published is there, chance is the yardstick."""

from __future__ import annotations

import pytest

from fermo.cli.reproductions import beso_block_push, beso_kitchen
from fermo.cli.reproductions.goal_tables import METHODS, GoalTable
from fermo.envs.registry import make_task
from fermo.envs.tasks.block_push import GOAL_SIGNALS
from fermo.errors import FermoError
from fermo.policies.registry import make_policy
from fermo.policies.windowed.config import PerceptronConfig, TransformerConfig
from fermo.training.bench.goal_methods import Method
from fermo.training.reproduce.registry import Budget, Number

TABLES = (beso_block_push.TABLE, beso_kitchen.TABLE)
each_table = pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])


def size(method: Method, table: GoalTable) -> TransformerConfig | PerceptronConfig:
    """Of the network of the kind that the table's small budget has."""
    if isinstance(table.network, PerceptronConfig):
        return method.policy.perceptron
    return method.policy.network if method.family == "beso" else method.policy.transformer


@each_table
def test_all_methods_share_window_goals_and_scalings_and_below_the_published_budget_the_size(table: GoalTable) -> None:
    spec = make_task(table.task).spec
    for budget in Budget:
        methods = {name: table.method(name, budget) for name in METHODS if name != "faithful"}
        policies = [method.policy for method in methods.values()]
        for shared in ("context", "chunk", "observation_scaling", "action_scaling"):
            assert len({getattr(policy, shared) for policy in policies}) == 1
        assert len({(p.goal.kind, p.goal.frames, p.goal.signals, p.goal.dropout) for p in policies}) == 1
        assert len({policy.relations for policy in policies}) == 1
        sizes = {size(method, table) for method in methods.values()}
        assert len(sizes) == 1 and (sizes == {table.network}) == (budget is not Budget.PAPER)
        assert len({method.loop for method in methods.values()}) == 1
    for name in METHODS:
        method = table.method(name, Budget.SMALL)
        made = make_policy(method.family, spec, method.policy)
        assert made.window is not None and made.window.past == method.policy.context


def test_goals_are_the_benchmarks_own() -> None:
    blocks, kitchen = (table.method("gcbc", Budget.PAPER).policy.goal for table in TABLES)
    assert (blocks.signals, blocks.frames) == (GOAL_SIGNALS, 1)
    assert (kitchen.signals, kitchen.frames) == ((), 2)


def results(table: GoalTable, **changed: float) -> dict[str, dict[str, Number]]:
    """Of a whole training that learned something."""
    data = {"demonstrations": float(table.demonstrations[0]), "random result": 0.1, "random remaining": 1.0}
    cell = {"first loss": 1.0, "last loss": 0.5, "result": 0.5, "remaining": 0.8} | changed
    return {"data": {name: Number(value=value) for name, value in data.items()},
            "beso/seed=0": {name: Number(value=value) for name, value in cell.items()}}  # fmt: skip


@each_table
def test_a_table_is_refused_where_nothing_was_learned(table: GoalTable) -> None:
    table.check(results(table))
    for name, value, told in (("last loss", 1.0, "loss did not fall in beso/seed=0"), ("remaining", 1.0, "no nearer"),
                              ("result", 0.1, "no better than random actions")):  # fmt: skip
        with pytest.raises(FermoError, match=told):
            table.check(results(table, **{name: value}))
    few = results(table, result=0.1)
    few["data"]["demonstrations"] = Number(value=12.0)  # from which nobody learns to achieve something
    table.check(few)
