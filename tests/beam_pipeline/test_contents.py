"""What an earlier run said of a content, asked for in a process that reads files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline import contents
from beam_pipeline.contents import Contents
from beam_pipeline.tables import INSTANCES

_DIGESTS = [f"blake3:{number:064x}" for number in range(3)]
_PROBE = """
import sys
from beam_pipeline.contents import Contents
from beam_pipeline.records import Outcome

asked = Outcome(source_uri="new.dcm", status="SCORED", source_digest=sys.argv[2])
found = Contents(sys.argv[1], 1).scored(asked)
print(found and found.logits, "pandas" in sys.modules)
"""


def ask(folder: Path, digest: str) -> str:
    """What is known of a digest, and whether pandas was imported to tell."""
    command = [sys.executable, "-c", _PROBE, str(folder), digest]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_that_finds_nothing_known_does_not_pay_for_pandas(
    tmp_path: Path,
) -> None:
    schema = pa.schema([INSTANCES.field(name) for name in contents.COLUMNS])
    rows = [
        {
            "source_digest": digest,
            "run_id": "first",
            "flags": [],
            "probabilities": [0.25, 0.75],
            "logits": [float(number), 1.0],
        }
        for number, digest in enumerate(_DIGESTS)
    ]
    path = Contents(str(tmp_path), 1).path(0)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    assert ask(tmp_path, "blake3:" + "f" * 64) == "None False"
    assert ask(tmp_path, _DIGESTS[2]).startswith("(2.0, 1.0) ")
