import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaleout import read_huggingface
from scaleout.errors import SpecError
from scaleout.io.catalogue import load, read
from scaleout.io.experiments import experiment
from scaleout.specs import Model
from scaleout.training import build

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
    "rope_scaling": {"factor": 32.0, "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": True,
    "vocab_size": 128256,
}  # fmt: skip
MPT: dict[str, Any] = {
    "architectures": ["MPTForCausalLM"],
    "attn_config": {
        "alibi": True, "alibi_bias_max": 8, "attn_type": "multihead_attention", "clip_qkv": None, "qk_ln": False,
    },
    "d_model": 4096, "embedding_fraction": 1.0, "expansion_ratio": 4, "learned_pos_emb": True, "max_seq_len": 2048,
    "model_type": "mpt", "n_heads": 32, "n_layers": 32, "no_bias": True, "norm_type": "low_precision_layernorm",
    "vocab_size": 50432,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_ctx": 1024,
    "n_embd": 1600, "n_head": 25, "n_inner": None, "n_layer": 48, "n_positions": 1024, "vocab_size": 50257,
}  # fmt: skip
MISTRAL: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
    "num_hidden_layers": 24, "num_key_value_heads": 2, "sliding_window": 32768, "tie_word_embeddings": True,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
MIXTRAL: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "sliding_window": None,
    "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
DEEPSEEK: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "first_k_dense_replace": 3,
    "hidden_size": 7168, "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "model_type": "deepseek_v3", "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_attention_heads": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "tie_word_embeddings": False, "topk_group": 4,
    "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip
QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 128,
    "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960, "mlp_only_layers": [],
    "model_type": "qwen3_moe", "moe_intermediate_size": 768, "num_attention_heads": 32, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "tie_word_embeddings": False,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
NEXT: dict[str, Any] = {
    **QWEN3, "architectures": ["Qwen3NextForCausalLM"], "full_attention_interval": 4, "head_dim": 256,
    "intermediate_size": 5120, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_value_head_dim": 128, "max_position_embeddings": 262144,
    "moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 512, "num_experts_per_tok": 10,
    "num_key_value_heads": 2, "shared_expert_intermediate_size": 512,
}  # fmt: skip
GPT_OSS: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"], "attention_bias": True, "experts_per_token": 4, "head_dim": 64,
    "hidden_size": 2880, "intermediate_size": 2880, "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4,
    "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32, "sliding_window": 128,
    "tie_word_embeddings": False, "vocab_size": 201088,
}  # fmt: skip
LLAMA4: dict[str, Any] = {
    "architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
    "text_config": {
        "attention_bias": False, "attention_chunk_size": 8192, "head_dim": 128, "hidden_size": 5120,
        "interleave_moe_layer_step": 1, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "max_position_embeddings": 10485760, "model_type": "llama4_text", "no_rope_layers": [],
        "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48, "num_key_value_heads": 8,
        "num_local_experts": 16, "use_qk_norm": True, "vocab_size": 202048,
    },
}  # fmt: skip
GEMMA2: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "head_dim": 256, "hidden_size": 2304,
    "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
    "num_hidden_layers": 26, "num_key_value_heads": 4, "sliding_window": 4096, "vocab_size": 256000,
}  # fmt: skip
OLMO3: dict[str, Any] = {
    "architectures": ["Olmo3ForCausalLM"], "attention_bias": False, "hidden_size": 5120, "intermediate_size": 27648,
    "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 16, "max_position_embeddings": 65536,
    "model_type": "olmo3", "num_attention_heads": 40, "num_hidden_layers": 64, "num_key_value_heads": 8,
    "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 100278,
}  # fmt: skip
T5: dict[str, Any] = {
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 65536, "d_kv": 128, "d_model": 1024,
    "feed_forward_proj": "relu", "model_type": "t5", "n_positions": 512, "num_heads": 128, "num_layers": 24,
    "vocab_size": 32128,
}  # fmt: skip
SHIPPED: dict[str, dict[str, Any]] = {
    # typed in from the published files, without the keys that nothing depends on
    "llama-3.2-1b": LLAMA,
    "llama-2-7b": {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000,
    },
    "mistral-7b-v0.1": MISTRAL,
    "mistral-7b-v0.3": {**MISTRAL, "sliding_window": None, "vocab_size": 32768},
    "qwen2.5-0.5b": QWEN,
    "qwen2.5-7b": {
        **QWEN, "hidden_size": 3584, "intermediate_size": 18944, "max_position_embeddings": 131072,
        "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
        "max_window_layers": 28, "vocab_size": 152064,
    },
    "gemma-7b": {
        "architectures": ["GemmaForCausalLM"], "attention_bias": False, "head_dim": 256, "hidden_act": "gelu",
        "hidden_size": 3072, "intermediate_size": 24576, "max_position_embeddings": 8192, "model_type": "gemma",
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 16, "vocab_size": 256000,
    },
    "mixtral-8x7b": MIXTRAL,
    "deepseek-v3": DEEPSEEK,
    "deepseek-v2": {
        **DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "first_k_dense_replace": 1, "hidden_size": 5120,
        "intermediate_size": 12288, "moe_intermediate_size": 1536, "n_routed_experts": 160, "n_shared_experts": 2,
        "num_experts_per_tok": 6, "num_hidden_layers": 60, "num_nextn_predict_layers": None, "topk_group": 3,
        "vocab_size": 102400,
    },
    "deepseek-v2-lite": {
        **DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "first_k_dense_replace": 1, "hidden_size": 2048,
        "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 64,
        "n_shared_experts": 2, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
        "num_key_value_heads": 16, "num_nextn_predict_layers": None, "q_lora_rank": None, "topk_group": 1,
        "vocab_size": 102400,
    },
    "kimi-k2": {
        **DEEPSEEK, "first_k_dense_replace": 1, "max_position_embeddings": 131072, "model_type": "kimi_k2",
        "n_group": 1, "n_routed_experts": 384, "num_attention_heads": 64, "num_key_value_heads": 64,
        "num_nextn_predict_layers": 0, "topk_group": 1, "vocab_size": 163840,
    },
    "qwen3-30b-a3b": QWEN3,
    "qwen3-8b": {
        **QWEN3, "architectures": ["Qwen3ForCausalLM"], "hidden_size": 4096, "intermediate_size": 12288,
        "num_experts": None, "num_hidden_layers": 36, "num_key_value_heads": 8,
    },
    "qwen3-next-80b-a3b": NEXT,
    "gpt-oss-20b": GPT_OSS,
    "llama-4-scout": LLAMA4,
    "llama-4-maverick": {
        **LLAMA4,
        "text_config": {
            **LLAMA4["text_config"], "interleave_moe_layer_step": 2, "max_position_embeddings": 1048576,
            "num_local_experts": 128, "use_qk_norm": False, "no_rope_layers": [1, 1, 1, 0] * 12,
        },
    },
    "gemma2-2b": GEMMA2,
    "gemma3-4b": {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "sliding_window": 1024,
        },
    },
    "gemma3-1b": {
        "architectures": ["Gemma3ForCausalLM"], "head_dim": 256, "hidden_size": 1152, "intermediate_size": 6912,
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "sliding_window": 512, "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    "olmo3-32b": OLMO3,
    "t5-11b": T5,
    "grok-1": {
        "architectures": ["Grok1ModelForCausalLM"], "hidden_size": 6144, "intermediate_size": 32768,
        "max_position_embeddings": 8192, "num_attention_heads": 48, "num_experts": 8, "num_experts_per_tok": 2,
        "num_hidden_layers": 64, "num_key_value_heads": 8, "vocab_size": 131072,
    },
    "nemotron4-340b": {
        "architectures": ["NemotronForCausalLM"], "attention_bias": False, "head_dim": 192, "hidden_act": "relu2",
        "hidden_size": 18432, "intermediate_size": 73728, "max_position_embeddings": 4096, "mlp_bias": False,
        "model_type": "nemotron", "num_attention_heads": 96, "num_hidden_layers": 96, "num_key_value_heads": 8,
        "tie_word_embeddings": False, "vocab_size": 256000,
    },
    "gpt2-xl": GPT2,
    "gpt2": {**GPT2, "n_embd": 768, "n_head": 12, "n_layer": 12, "architectures": None},
    "bloom-176b": {
        "architectures": ["BloomForCausalLM"], "hidden_size": 14336, "model_type": "bloom", "n_head": 112,
        "n_layer": 70, "seq_length": 2048, "vocab_size": 250880,
    },
    "bloom-560m": {
        "architectures": ["BloomForCausalLM"], "n_embed": 1024, "model_type": "bloom", "num_attention_heads": 16,
        "n_layer": 24, "vocab_size": 250880,
    },
    "mpt-7b": MPT,
    "mpt-30b": {**MPT, "d_model": 7168, "n_heads": 64, "n_layers": 48, "max_seq_len": 8192},
    "mpt-7b-foundry": {
        **MPT, "attn_config": {"alibi": False}, "no_bias": False, "vocab_size": 50368,
        "architectures": ["MptForCausalLM"],
    },
}  # fmt: skip


def write(folder: Path, config: Any, name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_published_config_is_the_shipped_model(tmp_path: Path, name: str) -> None:
    shipped: Model = load("model", name)
    model = read_huggingface(write(tmp_path, SHIPPED[name]))
    assert model == replace(shipped, name=model.name, aliases=(), source=model.source)
    assert model.name == tmp_path.name
    assert str(tmp_path) in model.source
    assert load("model", str(tmp_path / "config.json")) == model


def test_what_decides_no_size_is_left_out_and_noted(tmp_path: Path) -> None:
    assert "left out, as no size depends on it: rope_scaling" in read_huggingface(write(tmp_path, LLAMA)).source
    assert "left out" not in read_huggingface(write(tmp_path, MPT)).source


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        ({**LLAMA, "head_dim": None}, "head_size", 64),
        ({**LLAMA, "attention_bias": True, "mlp_bias": True}, "bias", True),
        ({**LLAMA, "num_key_value_heads": None}, "kv_heads", 32),
        ({**QWEN, "use_sliding_window": True, "max_window_layers": 12}, "window", 32768),
        ({**QWEN, "use_sliding_window": True}, "window", None),
        ({key: value for key, value in MISTRAL.items() if key != "sliding_window"}, "window", 4096),
        ({**MPT, "attn_config": {"alibi": False, "rope": True}}, "positions", "rope"),
        ({**MPT, "attn_config": {"alibi": False}, "learned_pos_emb": False}, "positions", "none"),
        ({**MPT, "attn_config": None, "alibi": True}, "positions", "alibi"),
        ({**MPT, "attn_config": {"alibi": True, "attn_type": "multiquery_attention"}}, "kv_heads", 1),
        (
            {**MPT, "attn_config": {"alibi": True, "attn_type": "grouped_query_attention", "kv_n_heads": 8}},
            "kv_heads", 8,
        ),
        ({**MPT, "ffn_config": {"ffn_type": "mptglu", "ffn_hidden_size": 9000}}, "ffn", 9000),
        ({**GPT2, "n_inner": 6000}, "ffn", 6000),
        ({**QWEN3, "architectures": None}, "query_norm", True),
        ({**GPT_OSS, "layer_types": ["sliding_attention"] * 24}, "global_every", None),
        ({**GPT_OSS, "layer_types": None}, "global_every", 2),
        ({**OLMO3, "layer_types": ["full_attention"] * 64}, "window", None),
        ({**T5, "num_decoder_layers": 6}, "layers", 6),
        ({**T5, "feed_forward_proj": "gated-gelu"}, "gated", True),
        ({**GPT2, "tie_word_embeddings": False}, "tied_embeddings", False),
    ],
)  # fmt: skip
def test_keys_become_fields(tmp_path: Path, config: dict[str, Any], field: str, value: object) -> None:
    assert getattr(read_huggingface(write(tmp_path, config)), field) == value


BAD: dict[str, tuple[Any, str]] = {
    "unknown architecture": ({**LLAMA, "architectures": ["LamaForCausalLM"]}, "did you mean 'LlamaForCausalLM'"),
    "another architecture": ({**LLAMA, "architectures": ["T5ForGeneration"]}, "is not read; did you mean"),
    "two architectures": ({**LLAMA, "architectures": ["A", "B"]}, "expected a list of one name"),
    "no architecture": ({"a": 1}, "not a Hugging Face config"),
    "experts": ({**LLAMA, "num_local_experts": 8}, "num_local_experts: 8: a mixture of experts is not read"),
    "many experts": ({**LLAMA, "n_routed_experts": 256}, "a mixture of experts"),
    "nothing near": ({**LLAMA, "architectures": ["X"]}, "known: .*Bloom, DeepseekV2"),
    "latent attention": ({**LLAMA, "kv_lora_rank": 512}, "kv_lora_rank: 512: attention with compressed keys"),
    "experts between": ({**DEEPSEEK, "moe_layer_freq": 2}, "layers of experts between others"),
    "dense layers between": ({**QWEN3, "mlp_only_layers": [5]}, r"mlp_only_layers: \[5\] is not read"),
    "kinds in no order": ({**OLMO3, "layer_types": ["full_attention", *["sliding_attention"] * 63]}, "layer_types: "),
    "kinds too few": ({**OLMO3, "layer_types": ["full_attention"]}, "expected 64 words, each so-many-th"),
    "kinds of others": ({**GPT_OSS, "layer_types": ["linear_attention", "full_attention"] * 12}, "layer_types: "),
    "ropes in no order": (
        {**LLAMA4, "text_config": {**LLAMA4["text_config"], "no_rope_layers": [0, 1, 1, 1] * 12}}, "no_rope_layers: ",
    ),
    "no experts": ({**MIXTRAL, "num_local_experts": None}, "num_local_experts or num_experts: missing"),
    "too few experts": ({**MIXTRAL, "num_experts_per_tok": 9}, "9 of 8 experts"),
    "a window in some": ({**QWEN3, "architectures": ["Qwen3ForCausalLM"], "num_experts": 0, "use_sliding_window": True},
                         "a window in a Qwen3"),
    "missing key": ({key: v for key, v in LLAMA.items() if key != "hidden_size"}, "hidden_size: missing"),
    "missing keys": ({"architectures": ["GPT2LMHeadModel"]}, "n_embd or hidden_size: missing"),
    "text": ({**LLAMA, "num_hidden_layers": "many"}, "num_hidden_layers: 'many' is not a whole number"),
    "a bool": ({**LLAMA, "num_hidden_layers": True}, "num_hidden_layers: True is not a whole number"),
    "a fraction": ({**LLAMA, "vocab_size": 3.5}, "vocab_size: 3.5 is not a whole number"),
    "zero": ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads: 0 is not a whole number"),
    "no flag": ({**LLAMA, "tie_word_embeddings": 3}, "tie_word_embeddings: 3 is not accepted; expected true or false"),
    "some biases": ({**LLAMA, "attention_bias": True}, "attention_bias true with mlp_bias false is not read"),
    "heads": ({**LLAMA, "head_dim": None, "num_attention_heads": 30}, "30 heads do not divide the width of 2048"),
    "key heads": ({**LLAMA, "num_key_value_heads": 7}, "kv_heads: 7 does not divide the 32 query heads"),
    "no window": ({**MISTRAL, "sliding_window": 0}, "window: 0 is not a whole number at least 1"),
    "norms of queries": ({**MPT, "attn_config": {"alibi": True, "qk_ln": True}}, "norms on queries and keys"),
    "attention": ({**MPT, "attn_config": {"alibi": True, "attn_type": "linear"}}, "attn_type: 'linear' is not read"),
    "attention list": ({**MPT, "attn_config": [1]}, "attn_config: .* expected a mapping"),
    "no alibi": ({**MPT, "attn_config": {}}, "alibi: missing; expected true or false"),
    "an encoder": ({**GPT2, "add_cross_attention": True}, "a model with an encoder"),
    "not JSON": ("{", "not readable as JSON"),
    "a list": ("[1]", "is a list; expected one object"),
    "a key twice": ('{"a": 1, "a": 2}', "key 'a' is given twice"),
    "no number": ('{"a": NaN}', "NaN is no number"),
    "deep": ("[" * 100_000, "not readable as JSON"),
    "digits": ('{"a": ' + "9" * 5000 + "}", "not readable as JSON"),
    "large": ('{"a": "' + "x" * 1_048_576 + '"}', "larger than 1,048,576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_configs_are_refused_with_file_and_key(tmp_path: Path, name: str) -> None:
    config, says = BAD[name]
    path = write(tmp_path, config)
    with pytest.raises(SpecError, match=says) as caught:
        read_huggingface(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 600
    with pytest.raises(SpecError, match=says):
        load("model", str(path))


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    for name, says in (("b.json", "UTF-8"), ("x.json", "cannot be read"), ("", "cannot be read")):
        with pytest.raises(SpecError, match=says):
            read_huggingface(tmp_path / name)
    with pytest.raises(SpecError, match="no such file"):
        load("model", str(tmp_path / "x.json"))
    with pytest.raises(SpecError, match=r"unknown system|no such file"):
        load("system", str(write(tmp_path, LLAMA)))


EXPERIMENT = """system: dgx-h100
chips: 8
model: {model}
layout: {{dp: 8}}
batch: {{global: 8, sequence: 2048}}
"""


def test_an_experiment_takes_a_config_beside_it_or_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    write(tmp_path / "tiny", LLAMA)
    (tmp_path / "x.yaml").write_text(EXPERIMENT.format(model="tiny/config.json"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert experiment("../x.yaml").model.name == "tiny"
    assert experiment("../x.yaml", ("model.layers=4",)).model.layers == 4
    monkeypatch.chdir(tmp_path)
    spec = experiment("llama-3.1-8b-1k", ("model=tiny/config.json", "model.layers=4"))
    assert (spec.model.name, spec.model.layers) == ("tiny", 4)
    with pytest.raises(SpecError, match=r"x\.yaml.*: model: tiny/confg\.json: no such file"):
        (tmp_path / "x.yaml").write_text(EXPERIMENT.format(model="tiny/confg.json"))
        experiment("x.yaml")


def test_a_config_can_be_kept_as_a_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = read("model", str(write(tmp_path, QWEN)))
    (tmp_path / "mine.yaml").write_text(text)
    assert load("model", "mine.yaml") == read_huggingface(tmp_path / "config.json")


def test_a_window_changes_nothing_up_to_it_and_saves_time_beyond(tmp_path: Path) -> None:
    document = {
        "system": "dgx-h100", "chips": 8, "model": "mistral-7b-v0.1", "layout": {"tp": 8, "sequence_parallel": True},
        "batch": {"global": 1, "sequence": 4096}, "stack": "nemo",
    }  # fmt: skip
    assert experiment(document).model.window == 4096

    def attention(*settings: str) -> float:
        labels = build(experiment(document, settings)).labels
        return sum(value for label in labels for part, value in label.parts if part == "attention")

    assert attention() == attention("model.window=null")
    # of 16,384 tokens squared a band of 4,096 to either side is 7/16
    far = "batch.sequence=16384"
    assert attention(far) == pytest.approx(7 / 16 * attention(far, "model.window=null"), rel=0.15)
