"""Measurement of all bars: a choice of the best contestants, then rounds that measure everything once, so that a slow
minute of the machine affects all of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from benchmarks.bars.bar import SCOUTING, Bar, BarOutcome, Cast, Quantity, Samples, outcome
from benchmarks.bars.contestants import Contestant
from benchmarks.bars.measuring import Measuring
from benchmarks.bars.plan import RoundStep, StepKind, steps_for
from benchmarks.bars.serving import Serving, serving
from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import PerformanceError, ProcessError, ServerError
from deployment_toolkit.progress import progress_bar

logger = logging.getLogger("bars")

_SCOUTED = {  # the quantity that decides, and True if more is better
    "offline": (Quantity.OFFLINE, True),
    "single": (Quantity.OFFLINE_P99, False),
    "online": (Quantity.ONLINE, True),
}


class BarSession:
    """Session of measurements; ``samples`` and ``failures`` (by step) grow while it runs."""

    def __init__(self, measuring: Measuring, bars: Sequence[Bar], batches: Sequence[int]) -> None:
        self._measuring = measuring
        self._bars = bars
        self._batches = tuple(sorted(batches))
        self.samples = Samples()
        self.failures: dict[RoundStep, str] = {}
        self._deployed: set[str] = set()

    def measure(self, rounds: int) -> tuple[Cast, list[BarOutcome]]:
        """Measures everything ``rounds`` times. A step that fails is skipped in later rounds, and the bars that need it
        fail. Raises ServerError or ProcessError if the models can't be served, PerformanceError if no best contestant
        can be chosen."""
        with contextlib.ExitStack() as stack:
            served = stack.enter_context(serving(self._measuring.config, self._measuring.folder / "served"))
            cast = self._choose(served)
            steps = steps_for([bar.key for bar in self._bars], cast)
            self._deploy(served, [step.subject for step in steps])
            together = [step for step in steps if step.kind is not StepKind.MEMORY]
            alone = [step for step in steps if step.kind is StepKind.MEMORY]
            with progress_bar("bars", rounds * len(steps), " measurements") as progress:
                self._rounds(together, rounds, served, progress)
                stack.close()  # pages shared by two servers would count half for each
                self._rounds(alone, rounds, None, progress)
        return cast, [outcome(bar, self.samples, cast, self._failure(bar, cast)) for bar in self._bars]

    def _deploy(self, served: Serving, titles: Iterable[str]) -> None:
        """Deploys the contestants that aren't deployed yet."""
        for title in dict.fromkeys(titles):
            if title not in self._deployed:
                served.deploy(self._measuring.contestants[title])
                self._deployed.add(title)

    def _rounds(self, steps: Sequence[RoundStep], rounds: int, served: Serving | None, progress: tqdm) -> None:
        for number in range(1, rounds + 1):
            for step in steps:
                progress.set_postfix_str(str(step), refresh=False)
                if step not in self.failures:
                    self._take(step, number, served)
                progress.update()

    def _take(self, step: RoundStep, number: int, served: Serving | None) -> None:
        try:
            found = self._measuring.samples(step, number, served)
        except (PerformanceError, ProcessError, ServerError) as error:
            logger.warning("%s, round %d: %s", step, number, error)
            self.failures[step] = str(error)
            return
        self.samples.all += found

    def _choose(self, served: Serving) -> Cast:
        """Chooses the contestant of each role; with several in addition to the baseline, each is measured once."""
        measuring = self._measuring
        (baseline,) = (item.title for item in measuring.contestants.values() if item.is_baseline)
        others = [title for title, item in measuring.contestants.items() if title != baseline and not item.variant]
        batches = {"offline": self._batches[-1], "single": 1, "online": measuring.online_batch}
        best = dict.fromkeys(_SCOUTED, others[0])
        if len(others) > 1:
            self._scout(others, served)
            best = {part: self._best(others, part, batch) for part, batch in batches.items()}
        return Cast(
            baseline=baseline,
            offline=best["offline"],
            single=best["single"],
            online=best["online"],
            bf16=next((title for title in others if _is_bf16(measuring.contestants[title])), None),
            onnx=next((title for title in others if _is_onnx(measuring.contestants[title])), None),
            int8=next((title for title in others if _is_int8(measuring.contestants[title])), best["online"]),
            batches=self._batches,
            online_batch=measuring.online_batch,
            concurrency=measuring.concurrency,
        )

    def _scout(self, titles: Sequence[str], served: Serving) -> None:
        self._deploy(served, titles)
        steps = [RoundStep(StepKind.OFFLINE, title, (1, self._batches[-1])) for title in titles]
        steps += [RoundStep(StepKind.ONLINE, title) for title in titles]
        with progress_bar("who is best", len(steps), " measurements") as progress:
            for step in steps:
                self._take(step, SCOUTING, served)
                progress.update()

    def _best(self, titles: Sequence[str], part: str, batch: int) -> str:
        quantity, more = _SCOUTED[part]
        values: dict[str, float] = {}
        for title in titles:
            try:
                values[title] = self.samples.scouted(quantity, title, batch)
            except PerformanceError:
                continue
        if not values:
            raise PerformanceError(f"{quantity} could be measured of none: {next(iter(self.failures.values()))}")
        return (max if more else min)(values, key=values.__getitem__)

    def _failure(self, bar: Bar, cast: Cast) -> str:
        """Reason why a bar has no value, empty if no step that it needs failed."""
        needed = {(step.kind, step.subject) for step in steps_for([bar.key], cast)}
        messages = (text for step, text in self.failures.items() if (step.kind, step.subject) in needed)
        return next(messages, "")


def _is_onnx(contestant: Contestant) -> bool:
    return contestant.parameters.precision is Precision.FP32 and contestant.parameters.format is Format.ONNX


def _is_int8(contestant: Contestant) -> bool:
    return contestant.parameters.precision is Precision.INT8


def _is_bf16(contestant: Contestant) -> bool:
    return contestant.parameters.precision is Precision.BF16 and contestant.parameters.format is Format.OPENVINO
