"""Tiles by Apache Beam: its workers write the parts, each whole, that shards would write."""

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tvt_jax.data.prepare import Preparation, PrepareConfig


class WritePart(beam.DoFn):
    """Write the part of a number; what to prepare is listed once a worker."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def setup(self) -> None:
        """List what to prepare."""
        self._preparation = Preparation(PrepareConfig(**self._config))

    def process(self, number: int) -> Iterator[int]:
        """Write the part, and give its number."""
        self._preparation.write(number)
        yield number


def write_parts(config: Mapping[str, Any], parts: int, options: list[str]) -> None:
    """Write all parts by the workers that the pipeline options ask for, and wait for them.

    `config` holds the fields of a PrepareConfig.
    """
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        numbers = pipeline | "parts" >> beam.Create(range(parts)) | "share out" >> beam.Reshuffle()
        numbers | "write" >> beam.ParDo(WritePart(config))
