"""Published training runs as experiments.

A row must give the architecture (or a model's name), the layout, the precision, the system and a
measurement. What else is missing is taken from its recipe, else assumed as its framework does it;
both are flagged.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from scaleout.errors import MeasurementError, PlanError, ScaleoutError
from scaleout.io.catalogue import known_models, list_names, load, plain_name
from scaleout.io.table import Row
from scaleout.models import training_flops
from scaleout.specs import Batch, Experts, Layout, Model, Stack, System, TrainingExperiment
from scaleout.validation.agreement import Skipped
from scaleout.validation.frameworks import Framework, framework_of
from scaleout.validation.recipes import Recipe, recipe_of

__all__ = ["Known", "experiment_of", "iteration_seconds", "named_model", "source_of"]

_UNTRAINED = re.compile(r"lora", re.IGNORECASE)
_SEQUENCE = 2048
_VOCABULARY = 51200
"""GPT-2's 50,257 tokens padded as Megatron-LM pads them."""
_HEAD = 128
"""Usual size of a head."""
_REMATERIALISED = {
    "minimal": ("norm", "mlp_product", "core_attention"),
    "qkv_proj_offloaded": ("norm", "core_attention", "mlp"),
}
"""MaxText's remat_policy (configs/base.yml): products of the projections are kept; or those to
queries, keys and values alone (their way to the host and back is left out)."""


class Known:
    """Specs by the names that rows use, each loaded once."""

    def __init__(self) -> None:
        self._names = {kind: list_names(kind) for kind in ("system", "stack")}
        self._loaded: dict[tuple[str, str], System | Stack] = {}

    @cached_property
    def models(self) -> dict[str, Model]:
        """Every model by plain name."""
        return known_models()

    def system(self, name: str) -> System | None:
        """A system, or None where there is none of the name."""
        return self._load("system", name)  # type: ignore[return-value]

    def stack(self, name: str) -> Stack | None:
        """A stack, or None where there is none of the name."""
        return self._load("stack", name)  # type: ignore[return-value]

    def _load(self, kind: str, name: str) -> System | Stack | None:
        if name not in self._names[kind]:
            return None
        if (kind, name) not in self._loaded:
            self._loaded[kind, name] = load(kind, name)
        return self._loaded[kind, name]


def named_model(name: str, models: Mapping[str, Model]) -> Model | None:
    """The model that a name in a table means, whatever its case, separators and words about the run."""
    plain = _plain(name)
    found = models.get(plain) or models.get(plain.removeprefix("maxtext"))
    if found is not None and "w/o MTP" in name:
        found = replace(found, predictions=0)
    return found


def _plain(name: str) -> str:
    """A model's plain name without words about precision and kind of training."""
    return plain_name(re.sub(r"\(.*?\)|\b(bf16|fp8|h100|finetuning|sft)\b", "", name.lower()))


def source_of(row: Row) -> str:
    """Who published a row: the first word of its name, or its source."""
    return re.sub(r"[_-].*", "", row.optional("id")) or row.optional("source")


@dataclass
class _Cells:
    """A row, what is put in for its empty cells, and the words that say so."""

    row: Row
    flags: list[str] = field(default_factory=list)

    def given(self, column: str, recipe: int | None, default: int, low: int = 0) -> int:
        """A whole number: of the recipe, else of the row, else the default.

        Tables of several sizes print the layout of the largest, so the recipe goes first.
        """
        value = self.row.optional_whole(column, low=low)
        if recipe is not None:
            if value != recipe:
                self.flags.append(f"{column} of the recipe")
            return recipe
        if value is None:
            self.flags.append(f"{column} assumed")
            return default
        return value


def experiment_of(row: Row, known: Known) -> tuple[TrainingExperiment, list[str]] | Skipped:
    """The experiment of a row and what was assumed for it, or why it cannot be one."""
    name, words = row.optional("model"), row.optional("framework") or row.optional("source")
    for column in ("gpus", "system"):
        if not row.optional(column):
            return Skipped(row.line, f"no {column}")
    if _UNTRAINED.search(name + words):
        return Skipped(row.line, "only a part of the weights is trained (LoRA)")
    framework = framework_of(f"{words} {name}", row.optional("system"))
    if framework is None:
        return Skipped(row.line, f"unknown framework {row.optional('framework')!r:.60}")
    for column in () if framework.sliced else ("tp", "pp"):
        if not row.optional(column):
            return Skipped(row.line, f"no {column}")
    cells = _Cells(row)
    precision = _precision(row, framework, cells.flags)
    if not precision:
        return Skipped(row.line, "no precision")
    system = known.system(framework.systems.get(row.text("system"), row.text("system")))
    if system is None:
        return Skipped(row.line, f"unknown system {row.text('system')!r:.60}")
    system = _used(system, row.whole("gpus"), cells.flags)
    recipe = recipe_of(words, _plain(name), row.text("system"), precision, row.whole("gpus"))
    recipe = recipe or Recipe(framework="", model="")
    model = _model(row, known, cells.flags)
    if isinstance(model, str):
        return Skipped(row.line, model)
    if recipe.layers is not None and recipe.layers != model.layers:
        cells.flags.append("layers of a proxy")
        model = replace(model, layers=recipe.layers)
    stack = known.stack(framework.stack)
    if stack is None:
        return Skipped(row.line, f"no stack {framework.stack!r}")
    try:
        if framework.sliced:
            system, layout = _slices(cells, system, recipe)
        else:
            layout = _ranks(cells, model, recipe, framework)
        batch = _batch(cells, layout, recipe, framework.sliced)
        if batch is None:
            return Skipped(row.line, "no seq or no gbs")
        if layout.pp > 1:
            per_rank = batch.global_ // (layout.dp * batch.micro)
            vpp = cells.given("vpp", recipe.vpp, framework.chunks(model.layers, layout.pp, per_rank)) or 1
            layout = replace(layout, vpp=vpp)
            cut = (layout.pp * vpp, model.layers + model.predictions)
            chunks = next((chunks for chunks in recipe.chunks if (len(chunks), sum(chunks)) == cut), None)
            layout = replace(layout, chunks=chunks)
        experiment = TrainingExperiment(
            system=system,
            chips=row.whole("gpus"),
            model=model,
            layout=layout,
            batch=batch,
            precision=precision,  # type: ignore[arg-type]
            gradients=framework.gradients[precision != "fp16"],  # type: ignore[arg-type]
            reduction=_reduction(row),  # type: ignore[arg-type]
            recompute=_recompute(cells, recipe, framework),
            stack=_settled(stack, system, recipe, framework),
        )
    except MeasurementError:
        raise
    except PlanError:
        return Skipped(row.line, "the layout does not multiply out to the chips and the batch of the row")
    except ScaleoutError as error:
        return Skipped(row.line, f"no experiment: {str(error).splitlines()[0]:.120}")
    return experiment, cells.flags


def _used(system: System, chips: int, flags: list[str]) -> System:
    """A machine of whose larger nodes (racks) a job takes as many chips each as divide it."""
    node = system.chips_per_node
    if chips <= node or chips % node == 0:
        return system
    part = max(size for size in range(1, node + 1) if chips % size == 0 and size % system.chips_per_port == 0)
    flags.append("chips used of a node assumed")
    return replace(system, chips_per_node=part)


def _precision(row: Row, framework: Framework, flags: list[str]) -> str:
    """The recipe that a row names: its own words, those of its source, or ""."""
    words = row.optional("precision").lower()
    if not words:
        words = next((kind for kind in ("fp16", "bf16") if re.search(rf"\b{kind}\b", row.optional("source"))), "")
    if not words and re.search(r"Megatron-Bridge 25\.09", row.optional("framework")):
        # performance-summary-archive.md: a table of FP8 by tensors, with other granularities in parentheses
        flags.append("precision assumed")
        words = "fp8-cs"
    # the first of two recipes is the one whose result is given
    words = words.split("(")[0].strip()
    for pattern, recipe in (
        ("nvfp4", "nvfp4"), ("mx", "mxfp8"), ("fp8.*cs", "fp8_current"), ("fp8.*(sc|block)", "fp8_block"),
        ("fp8", framework.fp8),
    ):  # fmt: skip
        if re.search(pattern, words):
            return recipe
    return words


def _ranks(cells: _Cells, model: Model, recipe: Recipe, framework: Framework) -> Layout:
    """tp x cp x pp x dp, and experts over the ranks of a stage."""
    row = cells.row
    tp = cells.given("tp", recipe.tp, 1, low=1)
    pp = cells.given("pp", recipe.pp, 1, low=1)
    cp = max(1, recipe.cp or row.optional_whole("cp", low=0) or 1)
    dp = max(1, row.whole("gpus") // (tp * cp * pp))
    ep = max(1, row.optional_whole("ep", low=0) or 1) if model.experts is not None else 1
    etp = recipe.etp or (tp if framework.expert_tensor else 1) if model.experts is not None else 1
    if (tp * cp * dp) % (ep * etp):
        etp = 1
    return Layout(
        tp=tp,
        cp=cp,
        pp=pp,
        dp=dp,
        ep=ep,
        etp=etp,
        sequence_parallel=bool(cells.given("sp", None, framework.sequence_parallel)) and tp > 1,
        zero=cells.given("zero_stage", None, framework.zero),  # type: ignore[arg-type]
    )


def _slices(cells: _Cells, system: System, recipe: Recipe) -> tuple[System, Layout]:
    """Weights sharded over each slice of a machine, and gradients summed over slices."""
    row = cells.row
    chips, tp, slices = row.whole("gpus"), row.optional_whole("tp") or 1, row.optional_whole("dp") or 1
    if not row.optional("dp"):
        cells.flags.append("layout assumed")
    if system.scale_up.kind == "torus":
        system = replace(system, chips_per_node=chips // slices)
    replicas = chips // tp
    shard = recipe.shard or replicas // slices
    return system, Layout(
        tp=tp, dp=replicas, sequence_parallel=tp > 1, zero=3, shard=shard if shard != replicas else None
    )


def _batch(cells: _Cells, layout: Layout, recipe: Recipe, sliced: bool) -> Batch | None:
    """Sequences and tokens of a step; None where the row does not say them."""
    row, flags = cells.row, cells.flags
    sequence = row.optional_whole("seq") or recipe.sequence
    micro = row.optional_whole("mbs") or recipe.micro
    batch = row.optional_whole("gbs") or recipe.batch
    tokens = _tokens(row)
    if tokens and batch and not sequence:
        flags.append("seq from tokens")
        sequence = round(tokens / batch)
    elif tokens and sequence and (not batch or batch % layout.dp):
        flags.append("gbs from tokens")
        batch = round(tokens / sequence)
    elif micro and sequence and not batch and sliced:
        flags.append("gbs of the recipe")
        batch = micro * row.whole("gpus")
    if not sequence or not batch:
        return None
    if sliced:
        # a step is one pass: what such rows call a micro-batch is that of a chip, whatever tp
        return Batch(global_=batch, micro=max(1, batch // layout.dp), sequence=sequence)
    return Batch(global_=batch, micro=cells.given("mbs", recipe.micro, 1, low=1), sequence=sequence)


def _tokens(row: Row) -> float | None:
    """Tokens of an iteration, from its time and the tokens a second."""
    seconds = row.optional_number("iter_s")
    rate = row.optional_number("tokens_s") or (row.optional_number("tokens_s_gpu") or 0) * row.whole("gpus")
    return seconds * rate if seconds and rate else None


def _recompute(cells: _Cells, recipe: Recipe, framework: Framework) -> tuple[str, ...]:
    words = cells.row.optional("recompute")
    if words:
        return _REMATERIALISED.get(words, (words,))
    if recipe.recompute is not None:
        cells.flags.append("recompute of the recipe")
        return recipe.recompute
    cells.flags.append("recompute assumed")
    return (framework.recompute,)


def _settled(stack: Stack, system: System, recipe: Recipe, framework: Framework) -> Stack:
    """A stack with what carries tokens to experts on the system and what is in graphs; its recipe goes first."""
    kernels = next((name for name in framework.exchange if name in system.moe_kernels), stack.experts_exchange)
    return replace(stack, experts_exchange=recipe.exchange or kernels, graphs=recipe.graphs or stack.graphs)


def _reduction(row: Row) -> str | None:
    """Dtype of reductions: llm-foundry's mixed_precision PURE sums in 16 bits, DEFAULT in 32."""
    found = re.search(r"MP mode (PURE|DEFAULT)", row.optional("notes"))
    return {"PURE": "bf16", "DEFAULT": "fp32"}[found[1]] if found else None


def _model(row: Row, known: Known, flags: list[str]) -> Model | str:
    """A model of the row's shape, or else of its name; or why there is none."""
    name = row.optional("model")
    experts = row.optional_whole("experts", low=0) or 0
    if not all(row.optional(column) for column in ("layers", "hidden")):
        model = named_model(name, known.models)
        return model or f"no architecture (layers, hidden), and unknown model {name!r:.60}"
    hidden = row.whole("hidden")
    if not row.optional("heads"):
        flags.append("heads assumed")
    heads = row.optional_whole("heads") or _heads(hidden, row.optional_whole("tp") or 1)
    if not row.optional("vocab"):
        flags.append("vocab assumed")
    if hidden % heads:
        return "the heads do not divide the hidden size"
    ffn = row.optional_whole("ffn") or 4 * hidden
    if experts and not row.optional("topk"):
        return "experts without the number that a token takes (topk)"
    return Model(
        name=name or "of the row",
        layers=row.whole("layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=row.optional_whole("kv_heads") or heads,
        head_size=hidden // heads,
        ffn=ffn,
        vocabulary=row.optional_whole("vocab") or _VOCABULARY,
        gated=False,
        norm="layer",
        bias=True,
        positions="learned",
        tied_embeddings=True,
        max_sequence=row.optional_whole("seq") or _SEQUENCE,
        experts=Experts(count=experts, top_k=row.whole("topk"), ffn=ffn) if experts else None,
        source=row.optional("source") or "the row",
    )


def _heads(hidden: int, tp: int) -> int:
    """Heads of about 128 that tp divides, where a row gives no number; it hardly matters to the time."""
    fits = [heads for heads in range(tp, hidden + 1, tp) if hidden % heads == 0] or [1]
    return min(fits, key=lambda heads: (abs(hidden / heads - _HEAD), heads))


def iteration_seconds(row: Row, experiment: TrainingExperiment) -> float | None:
    """Measured time of an iteration [s]: given, from tokens a second, or from the source's FLOP/s."""
    seconds = row.optional_number("iter_s")
    if seconds is not None:
        return seconds
    for column, chips in (("tokens_s", 1), ("tokens_s_gpu", experiment.chips)):
        rate = row.optional_number(column)
        if rate is not None:
            return experiment.batch.tokens / (rate * chips)
    rate = row.optional_number("tflops_gpu")
    if rate is None:
        return None
    model, batch = experiment.model, experiment.batch
    flops = training_flops(model, batch.global_, batch.sequence)
    if row.optional("flops_counted") == "hardware":
        # the formula of arXiv 2104.04473: layers are computed once more, the head is not
        flops += training_flops(replace(model, vocabulary=1), batch.global_, batch.sequence) / 3
    framework = framework_of(row.optional("framework"), row.optional("system"))
    if framework is not None and framework.causal:
        # attention alone grows with the square of the sequence
        flops -= (flops - training_flops(model, batch.tokens, 1)) / 2
    return flops / experiment.chips / (rate * 1e12)
