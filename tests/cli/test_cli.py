"""The command line as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.io.catalogue import load
from scaleout.result import Result

NAME = "llama-3.1-8b-1k"
SMALL = ["run", "llama-3.1-8b-1k", "--set", "chips=64", "--set", "layout.dp=32", "--set", "batch.global=64"]


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_run_prints_tables_and_writes_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SMALL) == 0
    out = capsys.readouterr().out
    for words in ("step time", "tokens/s", "MFU", "bound by", "HBM at its peak", "capacity", "! ", "ui.perfetto.dev"):
        assert words in out
    folder = tmp_path / "results" / "llama-3.1-8b-1k"
    assert sorted(p.name for p in folder.iterdir()) == [
        "breakdown.png",
        "breakdown.svg",
        "result.json",
        "timeline.json",
    ]
    assert Result.from_json((folder / "result.json").read_text()).chips == 64


def test_run_draws_its_pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert call(monkeypatch, *SMALL, "--json", "--pipeline", "pipeline.svg") == 0
    assert b"forward" in (tmp_path / "pipeline.svg").read_bytes()
    assert call(monkeypatch, *SMALL, "--pipeline", "pipeline.svg", "--evaluator", "analytic") == 2


def test_run_draws_its_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert call(monkeypatch, *SMALL, "--json", "--links", "links.png") == 0
    assert (tmp_path / "links.png").read_bytes().startswith(b"\x89PNG")
    assert call(monkeypatch, *SMALL, "--links", "links.png", "--evaluator", "analytic") == 2
    assert call(monkeypatch, *SMALL, "--links", "links.gif") == 2


def test_run_json_is_one_object_in_si_units_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SMALL, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert {
        "step_time", "step_time_ps", "tokens_per_second", "model_flops_per_chip", "mfu", "breakdown", "breakdown_ps",
        "memory", "bound_by", "evaluator", "classes", "assumptions", "run",
    } <= set(data)  # fmt: skip
    assert {"wall_time", "events"} <= set(data["run"])
    assert data["error_band"]["relative"] > 0.05
    assert sum(part**2 for part in data["error_band"]["parts"].values()) ** 0.5 == pytest.approx(
        data["error_band"]["relative"]
    )
    assert sum(data["breakdown_ps"].values()) == data["step_time_ps"]
    assert list(tmp_path.iterdir()) == []


def test_shapes_beyond_what_was_calibrated_are_warned_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    far = ["--set", "system.chip.gemm.bf16.range={m: [1, 16]}"]
    words = "matrix multiplication in bf16 on h100-sxm-80gb: m = 8,192"
    assert call(monkeypatch, *SMALL, *far, "--json") == 0
    captured = capsys.readouterr()
    warnings = json.loads(captured.out)["warnings"]
    assert any(line.startswith(words) for line in warnings)
    assert captured.err == "".join(f"warning: {line}\n" for line in warnings)
    assert call(monkeypatch, *SMALL, *far) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Beyond what was calibrated" in out
    assert "s +- " in out
    assert call(monkeypatch, *SMALL, *far, "--chips", "32,64") == 0
    assert "beyond what was calibrated, on 32, 64 chips" in " ".join(capsys.readouterr().out.split())
    assert call(monkeypatch, *SMALL, *far, "--chips", "32,64", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["error_band"]["relative"] > 0.05 and row["warnings"] for row in rows)


def test_folded_or_not_prints_the_same_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for option in ([], ["--no-fold"]):
        assert call(monkeypatch, *SMALL, "--json", *option) == 0
        data = json.loads(capsys.readouterr().out)
        results.append((data["step_time_ps"], data["breakdown_ps"], data["memory"]))
    assert results[0] == results[1]


def test_the_analytic_evaluator_gives_the_same_tables_and_writes_a_result_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SMALL, "--evaluator", "analytic") == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "step time",
        "bound by",
        "a lower bound",
        "first stage",
        "HBM at its peak",
        "no figure and no timeline",
    ):
        assert words in out
    (folder,) = (tmp_path / "results").iterdir()
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    mine = Result.from_json((folder / "result.json").read_text())
    assert call(monkeypatch, *SMALL, "--json") == 0
    event = Result.from_json(capsys.readouterr().out)
    assert mine.evaluator == "analytic"
    assert 0.9 * event.step_time < mine.step_time <= event.step_time
    assert mine.memory == event.memory


def test_compare_and_chips_take_the_evaluator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    analytic = ["--evaluator", "analytic", "--json"]
    assert call(monkeypatch, *SMALL, "--json") == 0
    Path("event.json").write_text(capsys.readouterr().out)
    assert call(monkeypatch, "compare", "event.json", NAME, *analytic) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["evaluator"] == {"a": "event", "b": "analytic"}
    assert call(monkeypatch, *SMALL, "--chips", "64,128", *analytic) == 0
    times = [row["step_time"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert call(monkeypatch, *SMALL, "--chips", "64,128", "--json") == 0
    simulated = [row["step_time"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert all(0.9 * b < a <= b for a, b in zip(times, simulated, strict=True))


BAD = {
    "unfolded analytic": ([*SMALL, "--evaluator", "analytic", "--no-fold"], "take --evaluator event"),
    "slow analytic": ([*SMALL, "--evaluator", "analytic", "--set", "slow.chips={3: 0.5}"], "slow.chips: the analytic"),
    "unknown experiment": (["run", "lama-3.1-8b-1k"], "did you mean 'llama-3.1-8b-1k'"),
    "no such file": (["run", "x.yaml"], "x.yaml: no such file"),
    "unknown key": ([*SMALL, "--set", "layout.ppp=2"], "layout.ppp: unknown key"),
    "no value": ([*SMALL, "--set", "layout.pp"], "expected key=value"),
    "degrees": ([*SMALL, "--set", "layout.pp=3"], "but chips is 64"),
    "unit": ([*SMALL, "--set", "system.chip.hbm_bandwidth=3"], "has no unit"),
    "hbm": ([*SMALL, "--set", "model=llama-3.1-405b"], "does not fit in HBM: stage 0 of 1"),
    "radix": (["run", "--set", "system.network.radix=4"], "radix"),
    "attention": ([*SMALL, "--set", "stack.attention=none"], "attention kernel 'none'"),
    "library": ([*SMALL, "--set", "system.library.protocols.LL.algorithms=[rign]"], "did you mean 'ring'"),
    "too long": ([*SMALL, "--set", "system.scale_up.latency=1e9 s"], "longer than 106 days"),
    "exponent": ([*SMALL, "--set", "system.chip.gemm.bf16.norm=0.001"], "norm: 0.001 is not a number at least 1"),
    "mapping": ([*SMALL, "--set", "layout=null"], "expected a mapping with the keys tp, pp"),
    "list": ([*SMALL, "--set", "recompute=3"], "recompute: 3 is not accepted; expected a list"),
    "verb": (["rnu"], "did you mean 'run'"),
    "option": (["run", "--jsn"], "--json"),
    "name": (["show", "dgx-h10"], "did you mean 'dgx-h100'"),
    "kind": (["schema", "chips"], "'chip'"),
    "folder": ([*SMALL, "--out", "/proc/nowhere"], "cannot be written to"),
    "chips: none": ([*SMALL, "--chips", ""], "--chips: '' is not a number of chips"),
    "chips: a word": ([*SMALL, "--chips", "64,many"], "--chips: 'many' is not a number of chips from 1 to 1,048,576"),
    "chips: zero": ([*SMALL, "--chips", "0"], "--chips: '0' is not"),
    "chips: negative": ([*SMALL, "--chips=-64"], "--chips: '-64' is not"),
    "chips: a fraction": ([*SMALL, "--chips", "1.5k"], "--chips: '1.5k' is not"),
    "chips: a unit": ([*SMALL, "--chips", "1M"], "k is 1,024"),
    "chips: a gap": ([*SMALL, "--chips", "64,,128"], "--chips: '' is not"),
    "chips: too large": ([*SMALL, "--chips", "1025k"], "--chips: '1025k' is not"),
    "chips: huge": ([*SMALL, "--chips", "9" * 5000], "--chips: '9999"),
    "chips: too many": ([*SMALL, "--chips", ",".join(["64"] * 65)], "65 numbers; expected at most 64"),
    "chips: none works": ([*SMALL, "--chips", "7,9"], "9 chips: not a multiple of the 2 chips"),
    "chips: weak alone": ([*SMALL, "--weak"], "--weak: goes with --chips"),
    "chips: folder": ([*SMALL, "--chips", "64", "--out", "/proc/nowhere"], "cannot be written to"),
    "compare one": (["compare", NAME], "Missing argument 'B'"),
    "compare three": (["compare", NAME, NAME, NAME], "unexpected extra argument"),
    "compare unknown": (["compare", NAME, "lama-3.1-8b-1k"], "did you mean 'llama-3.1-8b-1k'"),
    "compare no file": (["compare", "x.yaml", NAME], "x.yaml: no such file"),
    "compare no result": (["compare", "x.json", NAME], "x.json: cannot be read: No such file"),
    "compare a folder": (["compare", "/tmp", NAME], "unknown experiment '/tmp'"),
    "compare key": (["compare", NAME, NAME, "--set-b", "layout.ppp=2"], "layout.ppp: unknown key"),
    "compare no value": (["compare", NAME, NAME, "--set-a", "layout.pp"], "expected key=value"),
    "compare layout": (["compare", NAME, NAME, "--set", "layout.pp=3"], "but chips is"),
    "compare hbm": (["compare", NAME, NAME, "--set-b", "model=llama-3.1-405b"], "does not fit in HBM"),
    "compare plot kind": (["compare", NAME, NAME, "--plot", "x.pdf"], "x.pdf: a figure ends in .png or .svg"),
    "compare plot folder": (["compare", NAME, NAME, "--plot", "no/x.png"], "there is no folder no"),
    "compare option": (["compare", NAME, NAME, "--sets", "a=1"], "--set"),
    "show nothing": (["show"], "Missing argument 'WHAT'"),
    "show two": (["show", "models", "chips"], "goes with scaleout show topology"),
    "show kind": (["show", "model"], "did you mean 'models'"),
    "show empty": (["show", ""], "nothing is called ''"),
    "show path": (["show", "../x"], "nothing is called '../x'"),
    "show long": (["show", "x" * 5000], "nothing is called 'xxx"),
    "show config": (["show", "x.json"], "x.json: no such file"),
    "show option": (["show", "models", "--jsn"], "--json"),
    "show yaml": (["show", "x.yaml"], "nothing is called 'x.yaml'"),
    "show case": (["show", "DGX-H100"], "nothing is called 'DGX-H100'"),
    "model config": ([*SMALL, "--set", "model=x.json"], "model: x.json: no such file"),
}
CONTENTS = {
    "nothing": ("", "not a scaleout result"),
    "no object": ("[1]", "not a scaleout result"),
    "no format": ('{"a": 1}', "format None is not readable"),
    "earlier format": ('{"format": 1}', "format 1 is not readable; expected 5"),
    "later format": ('{"format": 6}', "format 6 is not readable; expected 5"),
    "no fields": ('{"format": 5}', "not a scaleout result"),
    "no band": ({"error_band": {"relative": 0.0, "parts": {}}}, "error band: 0 is no error band"),
    "band": ({"error_band": {"relative": "wide", "parts": {}}}, "error band: relative: 'wide' is not a number"),
    "parts of the band": ({"error_band": {"relative": 0.5, "parts": {"a": 0.1}}}, "parts do not make up 0.5"),
    "warnings": ({"warnings": [3]}, "warnings: not text"),
    "links": ({"links": 3}, "not a scaleout result"),
    "a link": ({"links": [{"kind": "port"}]}, "not a scaleout result"),
    "link of another kind": ({"links": [{"kind": 3, "count": 1, "over_time": []}]}, "links: kind, busiest: not text"),
    "busy link": ({"links": [{"kind": "p", "count": 1, "over_time": [2]}]}, "over_time.0: 2 is not a number from 0"),
    "deep": ("[" * 100_000, "not a scaleout result"),
    "time": ({"step_time": "long"}, "result: step_time: 'long' is not a number"),
    "no time": ({"step_time": 0.0}, "result: step_time: 0 is not a number above 0"),
    "part": ({"breakdown": {"compute": None}}, "result: breakdown.compute: None is not a number"),
    "parts": ({"breakdown": 3}, "not a scaleout result"),
    "memory": ({"memory": {"stage": 0, "peak": {}, "capacity": -1, "stages": []}}, "memory.capacity: -1 is not"),
    "settings": ({"experiment": [1]}, "not a scaleout result"),
    "experiment": ({"experiment": {"chips": {"a": [1]}}}, ""),
}


def test_an_interrupt_ends_with_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scaleout.cli.show.command.callback", interrupt)
    assert call(monkeypatch, "show", "models") == 130
    assert capsys.readouterr().err == "Interrupted\n"


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_one_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    args, says = BAD[name]
    assert call(monkeypatch, *args) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CONTENTS)
def test_a_result_with_something_else_in_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    content, says = CONTENTS[name]
    if isinstance(content, dict):
        assert call(monkeypatch, *SMALL, "--json") == 0
        content = json.dumps({**json.loads(capsys.readouterr().out), **content})
    (tmp_path / "r.json").write_text(content)
    status = call(monkeypatch, "compare", "r.json", NAME)
    captured = capsys.readouterr()
    assert status == (2 if says else 0), captured.err
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_compare_prints_both_sides_and_draws_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    override = ["--set-b", "stack=megatron-lm"]
    assert call(monkeypatch, "compare", NAME, NAME, *override, "--plot", "x.svg") == 0
    out = capsys.readouterr().out
    for words in (
        "stack",
        "megatron-lm",
        "step time",
        "tokens/s",
        "MFU",
        "HBM at its peak",
        "bound by",
        "share",
        "B is",
    ):
        assert words in out
    assert [path.name for path in tmp_path.iterdir()] == ["x.svg"]
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


def test_a_kept_result_compares_as_the_experiment_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "run", NAME, "--out", "kept") == 0
    capsys.readouterr()
    seen = []
    for a in (NAME, "kept/result.json"):
        assert call(monkeypatch, "compare", a, NAME, "--set-b", "recompute=[full]", "--json") == 0
        data = json.loads(capsys.readouterr().out)
        seen.append((data["a"], data["b"], data["parts"], data["words"]))
    assert seen[0] == seen[1]
    assert call(monkeypatch, "compare", "kept/result.json", NAME, "--set-a", "chips=1") == 2
    assert "kept/result.json is a result, in which nothing can be overridden" in capsys.readouterr().err


def test_chips_print_a_table_and_write_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SMALL, "--chips", "32,64,9", "--weak") == 0
    out = capsys.readouterr().out
    for words in ("speed-up", "efficiency", "100.0%", "9 chips: not a multiple", "wrote"):
        assert words in out
    folder = tmp_path / "results" / NAME
    assert sorted(path.name for path in folder.iterdir()) == ["scaling.json", "scaling.png", "scaling.svg"]
    kept = json.loads((folder / "scaling.json").read_text())
    assert call(monkeypatch, *SMALL, "--chips", "32,64,9", "--weak", "--json") == 0
    assert json.loads(capsys.readouterr().out) == kept


def test_k_is_1024(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "run", NAME, "--chips", "1k, 2K,1024", "--json") == 0
    assert [row["chips"] for row in json.loads(capsys.readouterr().out)["rows"]] == [1024, 2048]


def test_show_prints_a_config_as_a_model_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    assert call(monkeypatch, "show", "tiny.json") == 0
    out = capsys.readouterr().out
    assert "# parameters: 124439808" in out
    (tmp_path / "mine.yaml").write_text(out)
    assert load("model", "mine.yaml") == load("model", "tiny.json")
    assert call(monkeypatch, "show", "tiny.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 124_439_808


@pytest.mark.parametrize("verb", [[], ["run"], ["compare"], ["show"], ["schema"]])
def test_help_has_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert call(monkeypatch, *verb, "--help") == 0
    assert "Examples:\n" in capsys.readouterr().out


def test_systems_are_listed_with_what_joins_their_chips(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "show", "systems") == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "not a valid file" not in " ".join(lines.values())
    for name, words in (
        ("dgx-h100", "8 x h100-sxm-80gb a node (NVSwitch), 8 x 400 Gb/s on a rail fat tree"),
        ("mi300x-8", "8 x mi300x a node (fully connected), 8 x 400 Gb/s on a rail fat tree"),
        ("tpu-v5e", "up to 256 x tpu-v5e on a torus of 16 x 16, 32 x 200 Gb/s on leaves and spines"),
        ("l40s-8", "8 x l40s a node (PCIe switches), alone"),
        ("meta-roce-24k", "8 x h100-sxm-80gb a node (NVSwitch), 8 x 400 Gb/s on leaves, spines and cores"),
    ):
        assert lines[name] == words


@pytest.mark.parametrize(
    "what", ["chips", "systems", "models", "stacks", "experiments", "dgx-a100", "gpt3-175b", "pytorch"]
)
def test_show_lists_and_details(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert call(monkeypatch, "show", what) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert call(monkeypatch, "show", what, "--json") == 0
    assert json.loads(capsys.readouterr().out)


def test_schema_prints_json_schema(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "schema", "training") == 0
    assert "global" in json.loads(capsys.readouterr().out)["$defs"]["Batch"]["properties"]


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m scaleout show models | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
