"""Score yesterday's export: an Airflow 3 DAG.

Each day has a run of its own, also one that Airflow was down on. A run that failed is
tried again and goes on from its journal; what no second try changes is judged once, in
a task of its own, so that what reads the results may wait for it or not.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.smtp.notifications.smtp import send_smtp_notification
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, task
from airflow.sdk.exceptions import AirflowFailException

TIME_ZONE = "Europe/Berlin"

# $? of `score` goes to the next task where another try would give the same.
SCORE = """
/opt/radiograph-scorer/.venv/bin/beam-pipeline score \
    --input '/srv/pacs-export/{date}' \
    --date {{ data_interval_start.astimezone(dag.timezone).date() }} \
    --output /srv/radiograph-results \
    --min_inputs 20 --settle_seconds 60 --keep_runs 30
code=$?
case $code in
  0 | 2 | 3 | 4) echo $code ;;
  *) exit $code ;;
esac
"""

MEANING = {
    2: "refused before the first file was read",
    3: "complete, and a limit was broken: look at the results before they are used",
    4: "the export has no file",
}

with DAG(
    "score_yesterday",
    description="Score yesterday's radiographs",
    # Its interval begins at this hour of the day to be scored. Not between 2 and 3: one
    # night a year that hour is missing.
    schedule=CronDataIntervalTimetable("30 3 * * *", timezone=TIME_ZONE),
    start_date=pendulum.datetime(2026, 11, 1, tz=TIME_ZONE),
    # Every day has an export of its own.
    catchup=True,
    # Two runs must not share an output; the second would refuse.
    max_active_runs=1,
    default_args={
        "on_failure_callback": send_smtp_notification(
            to="radiology-it@example.org",
            subject="{{ dag.dag_id }} {{ ds }}: {{ ti.task_id }} failed",
            html_content="{{ exception }}<br>{{ ti.log_url }}",
        )
    },
) as dag:
    score = BashOperator(
        task_id="score",
        bash_command=SCORE,
        retries=2,
        retry_delay=timedelta(minutes=15),
        # One that hangs must not meet the next night.
        execution_timeout=timedelta(hours=20),
    )

    @task(retries=0)
    def judge(code: str) -> None:
        """Fail where somebody has to look: `code` is the exit code of `score`."""
        if code != "0":
            raise AirflowFailException(f"{MEANING[int(code)]} (exit code {code})")

    judge(score.output)
