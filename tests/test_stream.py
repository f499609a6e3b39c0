"""Streams from a file to a result: what adds up, what is promised, what is refused."""

import json
from dataclasses import replace

import pytest

import scaleout
from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.nets import net_seconds
from scaleout.io.catalogue import load
from scaleout.io.experiments import any_experiment, stream_experiment
from scaleout.report.stream import draw_stream, stream_picture
from scaleout.specs import StreamExperiment, StreamSource, StreamStage
from scaleout.stream import record_stream, run_stream
from scaleout.streamed import StreamResult

SHORT = ("duration=1 s",)


@pytest.fixture(scope="module", name="driving")
def _driving() -> tuple[StreamExperiment, StreamResult]:
    spec = stream_experiment("driving-stack", SHORT)
    return spec, run_stream(spec)


@pytest.fixture(scope="module", name="assistant")
def _assistant() -> tuple[StreamExperiment, StreamResult]:
    spec = stream_experiment("voice-assistant", ("duration=60 s",))
    return spec, run_stream(spec)


def parts_add_up(result: StreamResult) -> None:
    for source in result.sources:
        assert sum(source.parts.values()) == pytest.approx(source.latency.mean, rel=1e-9)
        one = source.latency
        assert one.p50 <= one.p90 <= one.p99 <= one.max
        assert source.came == source.done + source.dropped + source.left
    assert sum(stage.chip_share for stage in result.stages) == pytest.approx(sum(chip.busy for chip in result.chips))


def test_the_driving_stack_keeps_its_deadline_with_what_its_nets_take(
    driving: tuple[StreamExperiment, StreamResult],
) -> None:
    spec, result = driving
    parts_add_up(result)
    cameras = result.sources[0]
    assert (cameras.came, cameras.done) == (240, 240)
    assert cameras.kept
    assert result.kept
    alone = 0.0
    for stage, batch in zip(spec.stages, (8, 1), strict=True):
        assert stage.net is not None
        assert stage.engine is not None
        alone += net_seconds(stage.net, spec.system.chip, stage.engine, stage.precision, batch).latency
    hosts = sum(stage.pre + stage.post for stage in spec.stages)
    # jitter of a millisecond, and nothing waits for the chip
    assert alone + hosts <= cameras.latency.p50 <= cameras.latency.max <= alone + hosts + 1e-3 + 1e-9


def test_the_assistant_answers_in_time_and_its_first_words_come_before_the_reply_ends(
    assistant: tuple[StreamExperiment, StreamResult],
) -> None:
    spec, result = assistant
    parts_add_up(result)
    requests = result.sources[1]
    assert requests.kept
    assert requests.bound_by == "language: work"
    language = result.stages[2]
    # the chip works on for longer than the next stage waits
    assert language.chip_share * result.span > 2 * language.jobs * language.work.mean
    assert spec.stages[2].reply is not None


def test_weights_of_a_net_are_in_memory_once(assistant: tuple[StreamExperiment, StreamResult]) -> None:
    memory = assistant[1].chips[0].memory
    assert sum("whisper" in name for name in memory) == 1
    chip = assistant[0].system.chip
    assert sum(memory.values()) == pytest.approx(0.9 * chip.hbm_bytes)


def test_energy_is_rest_and_jobs_and_a_battery_lasts_its_share(driving: tuple[StreamExperiment, StreamResult]) -> None:
    result = driving[1]
    energy = result.energy
    assert energy is not None
    chips = energy.parts["compute"] + energy.parts["vector"] + energy.parts["hbm"]
    assert chips == pytest.approx(result.sources[0].joules * result.sources[0].came)
    assert energy.power <= 1.3 * driving[0].system.chip.power
    mean = sum(energy.over_time) / len(energy.over_time)
    assert mean == pytest.approx(energy.node_power, rel=1e-6)
    facility = driving[0].facility
    assert facility is not None
    assert facility.battery is not None
    assert result.battery == pytest.approx(facility.battery / energy.power)
    alone = run_stream(replace(driving[0], facility=None))
    assert alone.battery is None
    assert alone.energy is not None
    assert energy.power == pytest.approx(alone.energy.power * facility.pue)


def test_a_result_is_the_same_each_time_and_comes_back_from_json(
    driving: tuple[StreamExperiment, StreamResult],
) -> None:
    spec, result = driving
    again = run_stream(spec)
    assert again.to_json() == result.to_json()
    assert StreamResult.from_dict(json.loads(result.to_json())) == result


def test_more_cameras_than_the_chip_can_do_drop_frames_and_are_told_of() -> None:
    result = run_stream(stream_experiment("driving-stack", (*SHORT, "sources.0.count=16")))
    cameras = result.sources[0]
    assert cameras.kept is False
    assert cameras.dropped > 0
    assert cameras.missed >= cameras.dropped
    assert any("deadline" in line for line in result.warnings)
    assert any("busy" in line for line in result.warnings)


def test_a_chip_that_sits_apart_takes_a_message_and_shares_nothing() -> None:
    spec = stream_experiment("driving-stack", (*SHORT, "chips=2", "stages.1.chip=1", "stages.0.output=1 MB"))
    result = run_stream(spec)
    link = spec.system.scale_up
    moved = link.latency + 1e6 / (link.bandwidth * link.efficiency)
    together = run_stream(stream_experiment("driving-stack", SHORT))
    assert result.sources[0].latency.mean - together.sources[0].latency.mean == pytest.approx(moved, rel=1e-6)
    assert result.chips[1].busy < result.chips[0].busy < together.chips[0].busy


def test_the_figure_shows_what_the_chips_did() -> None:
    result, streams = record_stream(stream_experiment("driving-stack", ("duration=0.3 s",)))
    picture = stream_picture(result, streams)
    assert [row[0] for row in picture.rows] == ["detection", "fusion"]
    # six periods in 200 ms
    assert [len(works) for _, _, _, works in picture.rows] == [6, 6]
    assert len(picture.comings[0][1]) == 8 * 6
    assert len(picture.curves[0].latencies) == picture.curves[0].came == 72
    assert draw_stream(picture).axes


BAD = {
    "stages.0.gather=0": "gather",
    "stages.0.precision=int3": "precision",
    "stages.0.time=3 ms": "exactly one of net, model and time; found net and time",
    "stages.1.after=[detektion]": "did you mean 'detection'",
    "stages.1.after=[]": "no source goes into it",
    "stages.0.after=[fusion]": "wait for each other",
    "stages.0.chip=1": "is not one of the 1",
    "stages.0.prompt={kind: constant, mean: 3}": "for a model",
    "stages.1.timeout=1 ms": "for a stage that gathers",
    "sources.0.period=3 ms": "one of rate and period",
    "sources.0.into=[fusion]": "a source goes into it, but it waits",
    "sources.0.into=[nowhere]": "is no stage",
    "sources.0.share=1.5": "share",
    "sources.0.phases=odd": "phases",
    "sources.0.deadline=0 s": "deadline",
    "duration=0 s": "duration",
    "duration=80000 s": "items would come",
    "stages.0.net=retinanet": "did you mean 'retinanet-800'",
    "stages.0.engine=null": "engine: missing",
    "stages.1.name=detection": "there twice",
}


@pytest.mark.parametrize("setting", BAD)
def test_bad_input_is_told_where_and_what_is_accepted(setting: str) -> None:
    with pytest.raises(SpecError) as caught:
        stream_experiment("driving-stack", (setting,))
    assert BAD[setting] in str(caught.value)


def test_stages_that_do_not_fit_and_lengths_that_a_model_does_not_take_are_refused() -> None:
    with pytest.raises(PlanError, match=r"chip 0: its stages need .*weights of llama-3.1-8b in bf16 16.06 GB"):
        run_stream(stream_experiment("voice-assistant", ("system=jetson-orin-nano", "stages.2.precision=bf16")))
    with pytest.raises(PlanError, match=r"stage 'speaking': prompt of 2,000 and reply of 20 tokens; .* 1,080 at most"):
        run_stream(stream_experiment("voice-assistant", ("stages.3.prompt={kind: constant, mean: 2000}",)))
    with pytest.raises(SpecError, match="no experiment with streams"):
        run_stream(any_experiment("resnet-50-h200"))  # type: ignore[arg-type]


def test_python_has_what_the_command_line_has() -> None:
    spec = scaleout.stream_experiment("driving-stack", SHORT)
    assert isinstance(any_experiment("driving-stack"), StreamExperiment)
    assert isinstance(scaleout.run_stream(spec), scaleout.StreamResult)


def test_a_stage_whose_time_is_told_keeps_a_deadline_to_the_picosecond() -> None:
    stage = StreamStage(name="work", time=4e-3, pre=1e-3, weights=1e9)
    spec = StreamExperiment(
        system=load("system", "jetson-thor"), stages=(stage,), duration=1.0,
        sources=(StreamSource(name="camera", into=("work",), rate=30.0, deadline=5e-3, share=1.0),),
    )  # fmt: skip
    result = run_stream(spec)
    assert (result.sources[0].kept, result.sources[0].missed, result.sources[0].came) == (True, 0, 30)
    assert result.chips[0].busy == pytest.approx(0.12)
    assert result.chips[0].memory["weights of work"] == 1e9
    late = run_stream(replace(spec, sources=(replace(spec.sources[0], deadline=4.999e-3),)))
    assert (late.kept, late.sources[0].missed) == (False, 30)
    assert late.battery is None
    assert late.cost is None
