"""The job, as one straight line. This module wires; the others compute."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam import CombineGlobally
from apache_beam.ml.inference.base import RunInference

from beam_pipeline import calibration as calibrations
from beam_pipeline import decide, manifest, staging
from beam_pipeline.carry import Carry
from beam_pipeline.contents import Contents
from beam_pipeline.images import rules
from beam_pipeline.images.eligibility import Rules
from beam_pipeline.index import IndexContents, contents_of
from beam_pipeline.infer import SavedModelHandler
from beam_pipeline.known import KnownFile, whole
from beam_pipeline.limits import Limits
from beam_pipeline.match import Match
from beam_pipeline.pseudonyms import Pseudonyms
from beam_pipeline.publish import Publish
from beam_pipeline.read import Reading
from beam_pipeline.read_ahead import ReadAhead
from beam_pipeline.records import Outcome, Source
from beam_pipeline.runs import Run
from beam_pipeline.storage import Settings
from beam_pipeline.write import WriteSegments

_LIMITS = Limits()


@dataclass
class ScoreRadiographs(beam.PTransform):
    """`Source`s → one final `Outcome` each, in any pipeline.

    Example:
        outcomes = (
            pipeline
            | beam.Create([Source("gs://pacs-export/chest.dcm")])
            | ScoreRadiographs("models/pneumonia", operating_point="screening")
        )

    Attributes:
        model_dir: the model directory, or the URI of one.
        operating_point: which of the model's; `default` where None.
        threshold: in [0, 1], instead of an operating point.
        calibration: a file with the site's own, or its URI; see `calibration`.
        allow_unblessed: whether the model may be one that its manifest does not bless.
        batch_size: images that the model sees at once; None for what suits the device.
        read_workers: processes that read and decode; None for one a core.
        run_id: goes into every row.
        rules: which files may be scored; the model's by default.
        limits: what one file may cost.
        pseudonyms: what replaces identifiers; None for nothing.
        settle_seconds: how long a file must not have changed.
        storage: how the places are reached where files are; what the pipeline's options
            say by default.

    Raises:
        ManifestError: on construction, where the model must not be used, or is not
            blessed.
        CalibrationError: on construction, for a calibration of another model.
        ValueError: on construction, for an operating point that the model has not.
    """

    model_dir: str
    operating_point: str | None = None
    threshold: float | None = None
    calibration: str | None = None
    allow_unblessed: bool = False
    batch_size: int | None = None
    read_workers: int | None = None
    run_id: str | None = None
    rules: Rules | None = None
    limits: Limits = _LIMITS
    pseudonyms: Pseudonyms | None = None
    settle_seconds: float = 0.0
    storage: Settings | None = None

    def __post_init__(self) -> None:
        reached = self.storage or Settings()
        model_dir = staging.model(self.model_dir, reached)
        model = manifest.load(model_dir)
        if not self.allow_unblessed:
            model.require_blessing()
        accepted = rules.compiled(model) if self.rules is None else self.rules
        site = self.calibration and staging.file(self.calibration, reached)
        self.policy = decide.policy(
            model,
            manifest.verify(model, model_dir),
            self.run_id,
            operating_point=self.operating_point,
            threshold=self.threshold,
            rules=accepted,
            pseudonyms=self.pseudonyms,
            calibration=calibrations.load(site) if site else None,
            calibration_digest=calibrations.digest(site) if site else None,
        )
        self.reading = Reading(
            preparation=model.preparation,
            rules=accepted,
            limits=self.limits,
            pseudonyms=self.pseudonyms,
            settle_seconds=self.settle_seconds,
        )

    def knowing(self, contents: Contents | None) -> ScoreRadiographs:
        """The same, which does not decode what it finds in `contents`."""
        knowing = copy.copy(self)
        knowing.reading = replace(self.reading, contents=contents)
        return knowing

    def expand(self, sources: beam.PCollection[Source]) -> beam.PCollection[Outcome]:
        reached = self.storage or Settings.of(
            sources.pipeline.options.get_all_options(drop_default=True)
        )
        reading = replace(self.reading, storage=reached)
        handler = SavedModelHandler(
            self.model_dir,
            self.batch_size,
            reached,
            digest=self.policy.model_digest,
            run_id=self.run_id,
        )
        # The model is loaded while the first files are decoded, and not after them.
        read_ahead = ReadAhead(reading, self.read_workers, handler.expect)
        return (
            sources
            # header → eligible? → pixels → model input; or a final outcome at once
            | "ReadAhead" >> beam.ParDo(read_ahead)
            # model inputs → probabilities, in fixed batches; the final pass through
            | "RunInference" >> RunInference(handler)
            # probabilities → score, label, positive
            | "Decide" >> beam.Map(decide.decide, self.policy)
        )


def build(
    pipeline: beam.Pipeline,
    match: Match,
    score: ScoreRadiographs,
    run: Run,
    known_files: tuple[KnownFile, ...] = (),
) -> None:
    """Everything that happens to a file, from its listing to its published row."""
    known = (
        pipeline
        | "Known" >> beam.Create(known_files)
        # Each is read by whoever is free.
        | "SpreadKnown" >> beam.Reshuffle()
        | "Whole" >> beam.FlatMap(whole)
    )
    contents = _contents(known_files, score, run)
    looked_up = known
    if contents is not None:
        # Who reads must find all of them: nothing is listed before they are there.
        indexed = known | "Index" >> IndexContents(contents)
        looked_up = known | "Indexed" >> beam.WaitOn(indexed)
    sources, carried = looked_up | "Match" >> match
    outcomes = sources | "Score" >> score.knowing(contents)
    # Outcomes go to the journal in the stage that made them; from here on only
    # descriptors of segments, and what rows must know of each other, travel.
    written = outcomes | "WriteSegments" >> beam.ParDo(WriteSegments(run))
    taken_over = carried | "Carry" >> Carry(run, score.policy)
    segments = (written, taken_over) | "Segments" >> beam.Flatten()
    listed = [
        files | f"Count{name}" >> beam.combiners.Count.Globally()
        for name, files in [("Sources", sources), ("Carried", carried)]
    ]
    total = listed | "Counts" >> beam.Flatten() | "CountListed" >> CombineGlobally(sum)
    publish = Publish(run, score.policy)
    _ = (segments, total, known) | "Publish" >> publish


def _contents(
    known_files: tuple[KnownFile, ...], score: ScoreRadiographs, run: Run
) -> Contents | None:
    """Where contents are known by their digests; None where rows must not have any."""
    pseudonyms = score.pseudonyms
    if pseudonyms is not None and pseudonyms.deidentify:
        return None
    return contents_of(known_files, run.journal())
