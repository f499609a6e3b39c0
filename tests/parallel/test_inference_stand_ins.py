"""What takes the place of kernels that nobody measured is told."""

import pytest

from scaleout.io.catalogue import load
from scaleout.io.experiments import serving_experiment
from scaleout.io.serving import serve
from scaleout.parallel.inference import stand_ins

DENSE, EXPERTS, LATENT = (load("model", name) for name in ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3"))


@pytest.mark.parametrize(
    ("model", "chip", "precision", "words"),
    [
        (DENSE, "h100-sxm-80gb", "bf16", []),
        (DENSE, "h100-sxm-80gb", "fp8", []),
        (EXPERTS, "h100-sxm-80gb", "bf16", []),
        (DENSE, "h100-sxm-80gb", "w4a16", ["products in w4a16"]),
        (EXPERTS, "a100-pcie-80gb", "bf16", ["fused experts in bf16"]),
        (LATENT, "h100-sxm-80gb", "fp8_block", ["attention to compressed keys"]),
    ],
)
def test_stand_ins(model, chip, precision, words):
    found = stand_ins(model, load("chip", chip), precision)
    assert [one.partition(":")[0] for one in found] == words


def test_a_result_marks_them():
    spec = serving_experiment("llama3-70b-poisson", ("precision=w4a16", "requests.count=3"))
    rows = {row["name"]: row["verified"] for row in serve(spec).assumptions}
    assert rows["h100-sxm-80gb: not measured"] is False
    assert rows["h100-sxm-80gb: matrix multiplication"] is False
