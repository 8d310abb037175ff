"""Run by Airflow's own Python: what it makes of a folder of DAGs, as JSON."""

from __future__ import annotations

import json
import sys

import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

# 03:30 in Berlin.
NIGHT = pendulum.datetime(2026, 11, 21, 2, 30)

bag = DagBag(sys.argv[1])
found = {"errors": list(bag.import_errors.values()), "dags": {}}
for name, dag in bag.dags.items():
    # As the scheduler knows it.
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    interval = stored.timetable.infer_manual_data_interval(run_after=NIGHT)
    score = dag.get_task("score")
    given = {"data_interval_start": interval.start, "dag": dag}
    found["dags"][name] = {
        "command": score.render_template(score.bash_command, given),
        "retries": {task.task_id: task.retries for task in dag.tasks},
        "after": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "alarmed": [bool(task.on_failure_callback) for task in dag.tasks],
    }
print(json.dumps(found))
