"""How to start what a plan of serving found: one command for each kind of replica, and the proxy of pools apart.

Flags were checked against the documentation that ``docs/planning_serving.md`` names, with versions.
"""

from scaleout.specs import Pool, ServingExperiment

__all__ = ["launch_serve"]

_QUANTISED = {
    "vllm": {"fp8": "--quantization fp8"},
    "sglang": {"fp8": "--quantization fp8"},
    "tensorrt-llm": {},
}
"""Flags that bring a checkpoint of 16 bits to few; other precisions are those of the checkpoint."""
_TAKEN = "the checkpoint must hold weights in {}; the engine reads from it how"
_CHECKPOINT = {"bf16", "fp16"}


def launch_serve(experiment: ServingExperiment, longest: int) -> dict[str, str]:
    """Commands by kind of engine.

    Parameters
    ----------
    longest
        Prompt and reply together of the requests, at most [token].
    """
    name = experiment.engine.name.lower()
    kinds = {"vllm": _vllm, "sglang": _sglang, "tensorrt-llm": _tensorrt}
    known = next((kind for kind in kinds if name.startswith(kind)), None)
    if known is None:
        return {}
    lines = [
        f"# {experiment.model.name} on {experiment.system.name}: {experiment.chips:,} {experiment.system.chip.name}, "
        f"{experiment.engine.name} {experiment.engine.version}",
        "# MODEL: the Hugging Face repository or the folder of the checkpoint",
        "MODEL=...",
    ]
    for pool in experiment.pools:
        lines += ["", *_head(pool, experiment), *kinds[known](experiment, pool, longest)]
    apart = len(experiment.pools) > 1
    lines += [
        "",
        f"# a router in front sends each request to the replica with the fewest tokens to do{_APART if apart else ''}",
    ]
    return {known: "\n".join(lines) + "\n"}


_APART = ": the prompt to a prefill replica,\n# then its cache to a decode replica"


def _head(pool: Pool, experiment: ServingExperiment) -> list[str]:
    role = "" if pool.role == "both" else f" that {pool.role}"
    chips = pool.chips_each
    lines = [
        f"# {pool.replicas} replica{'s' * (pool.replicas > 1)}{role}, {chips} chip{'s' * (chips > 1)} each; for each:"
    ]
    nodes = -(-chips // experiment.system.chips_per_node)
    if nodes > 1:
        lines.append(f"# over {nodes} nodes: start the engine on each of them as its documentation says")
    return lines


def _joined(words: list[str]) -> list[str]:
    """A command, a flag a line."""
    return [f"{word} \\" if at + 1 < len(words) else word for at, word in enumerate(_indented(words))]


def _indented(words: list[str]) -> list[str]:
    return [words[0], *(f"  {word}" for word in words[1:])]


def _precision(experiment: ServingExperiment, engine: str) -> tuple[list[str], list[str]]:
    """Flags, and what has none."""
    precision = experiment.precision
    if precision in _CHECKPOINT:
        return ([f"--dtype {'bfloat16' if precision == 'bf16' else 'float16'}"] if engine != "tensorrt-llm" else []), []
    flag = _QUANTISED[engine].get(precision)
    return ([flag] if flag else []), [] if flag else [f"# {_TAKEN.format(precision)}"]


def _vllm(experiment: ServingExperiment, pool: Pool, longest: int) -> list[str]:
    flags, notes = _precision(experiment, "vllm")
    words = ['vllm serve "$MODEL"', f"--tensor-parallel-size {pool.tp}"]
    if pool.pp > 1:
        words.append(f"--pipeline-parallel-size {pool.pp}")
    if pool.dp > 1:
        words.append(f"--data-parallel-size {pool.dp}")
    if pool.ep > 1:
        words.append("--enable-expert-parallel")
    elif pool.dp > 1:
        notes.append("# experts are cut by tensor parallelism over all ranks, as without --enable-expert-parallel")
    words += [
        f"--max-model-len {longest}",
        f"--max-num-seqs {experiment.max_sequences}",
        f"--max-num-batched-tokens {experiment.max_batched_tokens}",
        f"--gpu-memory-utilization {experiment.engine.memory_share:g}",
        *flags,
    ]
    if experiment.cache.dtype == "fp8":
        words.append("--kv-cache-dtype fp8")
    elif experiment.cache.dtype not in ("bf16", "fp16"):
        notes.append(f"# keys and values in {experiment.cache.dtype}: no flag is known")
    if not experiment.cache.prefix:
        words.append("--no-enable-prefix-caching")
    if pool.role != "both":
        words.append(
            """--kv-transfer-config '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'"""
        )  # fmt: skip
        notes.append(
            "# on one host each replica needs a VLLM_NIXL_SIDE_CHANNEL_PORT of its own; the proxy says who does what"
        )
    return [*notes, *_joined(words)]


def _sglang(experiment: ServingExperiment, pool: Pool, longest: int) -> list[str]:
    flags, notes = _precision(experiment, "sglang")
    words = ['python -m sglang.launch_server --model-path "$MODEL"', f"--tp-size {pool.tp * pool.dp}"]
    if pool.pp > 1:
        words.append(f"--pp-size {pool.pp}")
    if pool.dp > 1:
        words += [f"--dp-size {pool.dp}", "--enable-dp-attention"]
    if pool.ep > 1:
        words.append(f"--ep-size {pool.ep}")
    words += [
        f"--context-length {longest}",
        f"--max-running-requests {experiment.max_sequences * pool.dp}",
        f"--chunked-prefill-size {experiment.max_batched_tokens}",
        *flags,
    ]
    notes.append("# its share of HBM (--mem-fraction-static) counts weights and cache alone; its own choice is left")
    if experiment.cache.dtype == "fp8":
        words.append("--kv-cache-dtype fp8_e4m3")
    if not experiment.cache.prefix:
        words.append("--disable-radix-cache")
    if pool.role != "both":
        words.append(f"--disaggregation-mode {pool.role}")
    return [*notes, *_joined(words)]


def _tensorrt(experiment: ServingExperiment, pool: Pool, longest: int) -> list[str]:
    flags, notes = _precision(experiment, "tensorrt-llm")
    words = ['trtllm-serve "$MODEL"', f"--tp_size {pool.tp * pool.dp}"]
    if pool.pp > 1:
        words.append(f"--pp_size {pool.pp}")
    if pool.ep > 1:
        words.append(f"--ep_size {pool.ep}")
    words += [
        f"--max_batch_size {experiment.max_sequences}",
        f"--max_num_tokens {experiment.max_batched_tokens}",
        f"--max_seq_len {longest}",
        f"--kv_cache_free_gpu_memory_fraction {experiment.engine.memory_share:g}",
        *flags,
    ]
    if pool.dp > 1:
        notes.append("# attention ranks of their own: enable_attention_dp: true in the file of extra options")
    if experiment.cache.dtype != "bf16":
        notes.append(
            f"# keys and values in {experiment.cache.dtype}: kv_cache_config.dtype in the file of extra options"
        )
    if pool.role != "both":
        notes.append("# pools apart: trtllm-serve disaggregated, with a file that lists servers of both kinds")
    return [*notes, *_joined(words)]
