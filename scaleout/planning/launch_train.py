"""How to start a layout with Megatron-LM: flags of its training script under torchrun, ready to be pasted."""

from itertools import chain

import numpy as np

from scaleout.specs import Model, TrainingExperiment
from scaleout.training.stages import layers_of

__all__ = ["MEGATRON", "torchrun"]

MEGATRON = "NVIDIA/Megatron-LM, megatron/training/arguments.py at 000c4ac"
"""Where the names of flags are from."""
_MODULES = {
    "norm": "layernorm",
    "core_attention": "core_attn",
    "mlp": "mlp",
    "moe_act": "moe_act",
    "shared_experts": "shared_experts",
    "moe": "moe",
    "mla_up_proj": "mla_up_proj",
}
_FP8 = {"fp8": "delayed", "fp8_current": "tensorwise", "fp8_block": "blockwise", "mxfp8": "mxfp8"}
_CONTEXT = {"ring": "p2p", "all_gather": "allgather", "all_to_all": "a2a"}
_SHARDED = {2: "optim_grads", 3: "optim_grads_params"}

Flag = tuple[str, ...]


def torchrun(spec: TrainingExperiment, tokens: float) -> str:
    """A script that starts a training; what has no flag is said in comments.

    Parameters
    ----------
    tokens
        To be trained on.
    """
    nodes = max(1, spec.chips // spec.system.chips_per_node)
    each = min(spec.chips, spec.system.chips_per_node)
    groups = {
        "layout": _layout(spec),
        "batch": _batch(spec, tokens),
        "precision": _precision(spec),
        "recomputation": _recompute(spec),
        "model": _model(spec.model),
    }
    flags = [f"  {' '.join(flag)}" for flag in chain.from_iterable(groups.values())]
    missing = _missing(spec)
    lines = [
        "#!/bin/sh",
        f"# {spec.model.name} on {spec.chips:,} {spec.system.chip.name} ({spec.system.name}).",
        f"# Flags: {MEGATRON}.",
        "# Yours to add: --data-path, --tokenizer-type and --tokenizer-model, --lr, --save; see its examples.",
        *(f"# No flag: {words}" for words in missing),
        "",
        " \\\n".join(
            [
                f"torchrun --nnodes {nodes} --nproc-per-node {each} "
                '--rdzv-backend c10d --rdzv-endpoint "$MASTER_ADDR:29500"',
                "  pretrain_gpt.py",
                *flags,
            ]
        ),
    ]
    return "\n".join(lines) + "\n"


def _layout(spec: TrainingExperiment) -> list[Flag]:
    layout = spec.layout
    found: list[Flag] = [
        ("--tensor-model-parallel-size", str(layout.tp)),
        ("--pipeline-model-parallel-size", str(layout.pp)),
        ("--context-parallel-size", str(layout.cp)),
    ]
    if layout.cp > 1:
        found.append(("--cp-comm-type", _CONTEXT[layout.context]))
    if spec.model.experts is not None:
        found.append(("--expert-model-parallel-size", str(layout.ep)))
        found.append(("--expert-tensor-parallel-size", str(layout.etp)))
    found += _chunks(spec)
    if layout.sequence_parallel and layout.tp > 1:
        found.append(("--sequence-parallel",))
    found += _sharded(spec)
    if spec.stack.overlap_gradient_reduction and layout.replicas > 1:
        found.append(("--overlap-grad-reduce",))
    if spec.stack.overlap_parameter_gather and layout.zero:
        found.append(("--overlap-param-gather",))
    if spec.stack.overlap_tensor_parallel and layout.tp > 1 and layout.sequence_parallel:
        found.append(("--tp-comm-overlap",))
    return found


def _chunks(spec: TrainingExperiment) -> list[Flag]:
    """How layers are dealt out to chunks."""
    layout, layers = spec.layout, spec.model.layers
    chunks = layout.pp * layout.vpp
    if layout.pp == 1:
        return []
    counts = layers_of(layers, chunks, float(spec.stack.stages == "balanced")).astype(np.int64).tolist()
    ends: list[Flag] = []
    if (layers + 2) % chunks == 0 and layers % chunks:
        ends = [("--account-for-embedding-in-pipeline-split",), ("--account-for-loss-in-pipeline-split",)]
    elif (layers + 1) % chunks == 0 and layers % chunks:
        ends = [("--account-for-loss-in-pipeline-split",)]
    elif layers % chunks:
        # embedding, layers of each chunk, loss
        words = "|".join("t" * count for count in counts)
        return [("--pipeline-model-parallel-layout", f"'E{words}L'")]
    if layout.vpp == 1:
        return ends
    return [("--num-layers-per-virtual-pipeline-stage", str((layers + len(ends)) // chunks)), *ends]


def _sharded(spec: TrainingExperiment) -> list[Flag]:
    zero = spec.layout.zero
    if zero == 0:
        return []
    if zero in _SHARDED and spec.layout.pp == 1:
        return [
            ("--use-distributed-optimizer",),
            ("--use-megatron-fsdp",),
            ("--data-parallel-sharding-strategy", _SHARDED[zero]),
            ("--no-gradient-accumulation-fusion",),
            ("--ckpt-format", "fsdp_dtensor"),
        ]
    return [("--use-distributed-optimizer",)]


def _batch(spec: TrainingExperiment, tokens: float) -> list[Flag]:
    batch = spec.batch
    samples = -(-int(tokens) // batch.sequence)
    return [
        ("--micro-batch-size", str(batch.micro)),
        ("--global-batch-size", str(batch.global_)),
        ("--seq-length", str(batch.sequence)),
        ("--max-position-embeddings", str(max(batch.sequence, spec.model.max_sequence))),
        ("--train-samples", str(samples)),
    ]


def _precision(spec: TrainingExperiment) -> list[Flag]:
    found: list[Flag] = [("--fp16",) if spec.precision == "fp16" else ("--bf16",)]
    if spec.precision in _FP8:
        found += [("--fp8-format", "hybrid"), ("--fp8-recipe", _FP8[spec.precision])]
    if spec.gradients == "fp32":
        found.append(("--accumulate-allreduce-grads-in-fp32",))
    elif spec.layout.zero:
        found.append(("--grad-reduce-in-bf16",))
    return found


def _recompute(spec: TrainingExperiment) -> list[Flag]:
    if "full" in spec.recompute:
        return [
            ("--recompute-granularity", "full"), ("--recompute-method", "uniform"), ("--recompute-num-layers", "1"),
        ]  # fmt: skip
    modules = [_MODULES[name] for name in spec.recompute if name in _MODULES]
    if not modules:
        return []
    return [("--recompute-granularity", "selective"), ("--recompute-modules", *modules)]


def _model(model: Model) -> list[Flag]:
    found: list[Flag] = [
        ("--num-layers", str(model.layers)),
        ("--hidden-size", str(model.hidden)),
        ("--ffn-hidden-size", str(model.ffn)),
        ("--num-attention-heads", str(model.heads)),
        ("--kv-channels", str(model.head_size)),
    ]
    if model.kv_heads < model.heads and model.latent is None:
        found += [("--group-query-attention",), ("--num-query-groups", str(model.kv_heads))]
    found.append(("--normalization", "RMSNorm" if model.norm == "rms" else "LayerNorm"))
    if model.positions in ("rope", "none"):
        found.append(("--position-embedding-type", model.positions))
    elif model.positions == "learned":
        found.append(("--position-embedding-type", "learned_absolute"))
    if model.gated:
        found.append(("--swiglu",))
    if model.bias is not True:
        found.append(("--disable-bias-linear",))
    if model.bias == "qkv":
        found.append(("--add-qkv-bias",))
    if model.query_norm:
        found.append(("--qk-layernorm",))
    if not model.tied_embeddings:
        found.append(("--untie-embeddings-and-output-weights",))
    return [*found, *_experts(model), *_latent(model)]


def _experts(model: Model) -> list[Flag]:
    experts = model.experts
    if experts is None:
        return []
    found: list[Flag] = [
        ("--num-experts", str(experts.count)),
        ("--moe-router-topk", str(experts.top_k)),
        ("--moe-ffn-hidden-size", str(experts.ffn)),
        ("--moe-grouped-gemm",),
        ("--moe-token-dispatcher-type", "alltoall"),
    ]
    if experts.shared_ffn:
        found.append(("--moe-shared-expert-intermediate-size", str(experts.shared_ffn)))
    if experts.first or experts.every > 1:
        which = [
            int(at >= experts.first and (at - experts.first) % experts.every == experts.every - 1)
            for at in range(model.layers)
        ]
        found.append(("--moe-layer-freq", f"'{which}'"))
    return found


def _latent(model: Model) -> list[Flag]:
    latent = model.latent
    found: list[Flag] = []
    if latent is not None:
        found += [
            ("--multi-latent-attention",),
            ("--kv-lora-rank", str(latent.key_rank)),
            ("--qk-head-dim", str(latent.nope)),
            ("--qk-pos-emb-head-dim", str(latent.rope)),
            ("--v-head-dim", str(latent.value)),
        ]
        if latent.query_rank:
            found.append(("--q-lora-rank", str(latent.query_rank)))
    if model.predictions:
        found.append(("--mtp-num-layers", str(model.predictions)))
    return found


def _missing(spec: TrainingExperiment) -> list[str]:
    """What these flags do not say."""
    layout, model = spec.layout, spec.model
    found = {
        f"ZeRO-{layout.zero} with a pipeline; flags are those of ZeRO-1": layout.zero > 1 and layout.pp > 1,
        f"schedule {layout.schedule}": layout.schedule is not None,
        "recomputation of the product of a gated feed-forward block (mlp_product) alone": "mlp_product"
        in spec.recompute,
        "recomputation of all of attention (attention)": "attention" in spec.recompute,
        f"precision {spec.precision}": spec.precision not in ("bf16", "fp16", *_FP8),
        "positions by ALiBi": model.positions == "alibi",
        f"a window of {model.window} tokens": model.window is not None,
        "linear attention": model.linear is not None,
        "an encoder beside the decoder": model.encoder > 0,
        "norms after attention and feed-forward block": model.post_norms,
        f"stack {spec.stack.name}: it was simulated, and is no Megatron-LM": not spec.stack.name.startswith(
            ("megatron", "nemo")
        ),
    }
    return [words for words, true in found.items() if true]
