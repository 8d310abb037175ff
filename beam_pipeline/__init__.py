"""Batch scoring of radiographs: match, read ahead, infer, decide, write, publish."""

import logging

# At level DEBUG Beam logs every element, and the path of a file may hold a name. Here,
# because every process of a job imports this package before it sees an element.
logging.getLogger("apache_beam.runners.worker.operations").setLevel(logging.INFO)
