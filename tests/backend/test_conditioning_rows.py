"""Which parts of a prompt are one per picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.mark.usefixtures("comfyui")
def test_values_per_picture_are_cut_and_constants_are_not() -> None:
    import comfy.conds

    from pxpo_core.backends.comfy.conditioning import entry_rows

    value = torch.arange(3.0)[:, None]
    conds: dict[str, Any] = {
        "prompt": comfy.conds.CONDRegular(value),
        "one_for_all": comfy.conds.CONDRegular(value[:1]),
        "constant": comfy.conds.CONDConstant(value),
        "several": comfy.conds.CONDList([value, value + 10.0]),
    }
    (cut,) = entry_rows([{"model_conds": conds, "strength": 1.0}], [2, 4])
    found = {name: cond.cond for name, cond in cut["model_conds"].items()}
    assert found["prompt"].tolist() == [[2.0], [1.0]]
    assert found["one_for_all"].tolist() == [[0.0]]
    assert found["constant"].tolist() == value.tolist()
    assert [part.tolist() for part in found["several"]] == [[[2.0], [1.0]], [[12.0], [11.0]]]
    assert cut["strength"] == 1.0
