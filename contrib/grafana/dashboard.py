"""Write the Grafana dashboard: `python contrib/grafana/dashboard.py > contrib/grafana/semtrace.json`.

Needs the package grafana-foundation-sdk. The JSON next to this file is what people import.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
SERVER = 'instance=~"$instance",server=~"$server"'
LOCK = f'{SERVER},lock=~"$lock"'
RATE = "[$__rate_interval]"

Query = tuple[str, str]  # the expression and its legend
Panel = stat.Panel | table.Panel | timeseries.Panel


def main() -> None:
    print(JSONEncoder(sort_keys=True, indent=2).encode(dashboard().build()))


def dashboard() -> Dashboard:
    built = Dashboard("semtrace").uid("semtrace").tags(["semtrace", "locks"]).refresh("10s").time("now-1h", "now")
    built = built.description("Locks of pre-forked Python servers: who waits, who is stuck. Data: semtrace metrics.")
    for variable in (
        DatasourceVariable("datasource").type("prometheus").label("Data source"),
        _variable("instance", "Host", "label_values(semtrace_info, instance)"),
        _variable("server", "Server", 'label_values(semtrace_verdict{instance=~"$instance"}, server)'),
        _variable("lock", "Lock", f"label_values(semtrace_lock_waiters{{{SERVER}}}, lock)"),
    ):
        built = built.with_variable(variable)
    numbers = count(1)
    for title, panels in (("Fleet", fleet()), ("Server", server()), ("Lock", lock())):
        built = built.with_row(Row(title).id(next(numbers)))
        for panel in panels:
            built = built.with_panel(panel.id(next(numbers)))
    return built


def fleet() -> Iterable[Panel]:
    yield (
        stat.Panel()
        .title("Servers by verdict")
        .datasource(SOURCE)
        .span(6)
        .height(8)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target("count by (verdict) (semtrace_verdict == 1)", "{{verdict}}", instant=True))
    )
    yield _table(
        "Servers", "Each server and its verdict now", 'semtrace_verdict{instance=~"$instance"} == 1', ("verdict",)
    )
    yield _table(
        "Findings",
        "What semtrace doctor reports now",
        'sum by (instance, server, severity, code) (semtrace_findings{instance=~"$instance"})',
        ("severity", "code"),
    )
    blocked = 'semtrace_workers{state=~"waiting|stuck|stopped"}'
    yield _graph(
        "Workers kept from work",
        "percentunit",
        (
            f"sum by (instance, server) ({blocked}) / sum by (instance, server) (semtrace_workers)",
            "{{instance}} {{server}}",
        ),
    )
    yield _graph(
        "Age of the last sample", "s", ("time() - semtrace_last_sample_timestamp_seconds", "{{instance}} {{server}}")
    )


def server() -> Iterable[Panel]:
    yield _graph(
        "Workers by state", "short", (f"sum by (state) (semtrace_workers{{{SERVER}}})", "{{state}}"), stacked=True
    )
    yield _graph(
        "Blocked threads by what they wait for",
        "short",
        (f"sum by (kind) (semtrace_waiting_threads{{{SERVER}}})", "{{kind}}"),
        stacked=True,
    )
    yield _graph(
        "Stuck threads, unreadable processes",
        "short",
        (f"sum(semtrace_stuck_threads{{{SERVER}}})", "stuck threads"),
        (f"sum(semtrace_unreadable_processes{{{SERVER}}})", "unreadable processes"),
    )
    for title, name, unit in (
        ("Locks by longest wait", "longest_wait_seconds", "s"),
        ("Locks by waiters", "waiters", "short"),
        ("Locks by longest hold", "held_seconds", "s"),
    ):
        yield _graph(title, unit, (f"topk(10, semtrace_lock_{name}{{{SERVER}}})", "{{lock}}"))
    yield _graph(
        "Worker deaths",
        "short",
        (f"sum by (cause) (increase(semtrace_worker_deaths_total{{{SERVER}}}{RATE}))", "{{cause}}"),
    )
    yield _graph("CPU time of a sample", "s", (f"semtrace_sample_cpu_seconds{{{SERVER}}}", "{{server}}"))


def lock() -> Iterable[Panel]:
    yield _graph(
        "Waiters and holders",
        "short",
        (f"semtrace_lock_waiters{{{LOCK}}}", "{{lock}} waiters"),
        (f"semtrace_lock_holders{{{LOCK}}}", "{{lock}} holders"),
    )
    yield _graph(
        "Longest wait and hold",
        "s",
        (f"semtrace_lock_longest_wait_seconds{{{LOCK}}}", "{{lock}} wait"),
        (f"semtrace_lock_held_seconds{{{LOCK}}}", "{{lock}} hold"),
    )
    yield _graph(
        "Orphaned, unknown, holders that died",
        "short",
        (f"semtrace_lock_orphaned{{{LOCK}}}", "{{lock}} orphaned"),
        (f"semtrace_lock_unknown{{{LOCK}}}", "{{lock}} unknown"),
        (f"increase(semtrace_lock_holder_deaths_total{{{LOCK}}}{RATE})", "{{lock}} holder died"),
    )
    yield _graph(
        "Acquires of traced locks",
        "ops",
        (f"sum by (lock) (rate(semtrace_lock_acquired_total{{{LOCK}}}{RATE}))", "{{lock}}"),
        (f"sum by (lock) (rate(semtrace_lock_failed_total{{{LOCK}}}{RATE}))", "{{lock}} gave up"),
    )
    yield _graph(
        "Share of acquires that had to wait",
        "percentunit",
        (
            f"sum by (lock) (rate(semtrace_lock_contended_total{{{LOCK}}}{RATE}))"
            f" / sum by (lock) (rate(semtrace_lock_acquired_total{{{LOCK}}}{RATE}))",
            "{{lock}}",
        ),
    )
    for title, name in (("Waits", "wait"), ("Holds", "hold")):
        yield _graph(f"{title} of traced locks", "s", *(_quantile(name, share) for share in (0.5, 0.99)))


def _quantile(name: str, share: float) -> Query:
    buckets = f"sum by (lock, le) (rate(semtrace_lock_{name}_seconds_bucket{{{LOCK}}}{RATE}))"
    return f"histogram_quantile({share}, {buckets})", f"{{{{lock}}}} p{round(share * 100)}"


def _variable(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _target(expression: str, legend: str, instant: bool = False, letter: str = "A") -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)
    return query.instant() if instant else query


def _graph(title: str, unit: str, *queries: Query, stacked: bool = False) -> timeseries.Panel:
    panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).min(0).span(8).height(8)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    for letter, (expression, legend) in zip("ABCD", queries, strict=False):
        panel = panel.with_target(_target(expression, legend, letter=letter))
    return panel


def _table(title: str, description: str, expression: str, columns: tuple[str, ...]) -> table.Panel:
    target = _target(expression, "", instant=True).format(PromQueryFormat.TABLE)
    panel = table.Panel().title(title).description(description).datasource(SOURCE).span(9).height(8)
    order = {name: place for place, name in enumerate(("instance", "server", *columns))}
    hidden = dict.fromkeys(("Time", "Value", "__name__", "job"), True)
    organized = DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "indexByName": order})
    return panel.with_target(target).with_transformation(organized)


if __name__ == "__main__":
    main()
