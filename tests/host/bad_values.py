"""A ComfyUI node for tests: masks that no honest node would make."""


class NaNMask:
    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("MASK",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"size": ("INT", {"default": 64})}}

    def make(self, size):
        import torch

        mask = torch.zeros(1, size, size)
        mask[0, 0, :3] = float("nan")
        return (mask,)


NODE_CLASS_MAPPINGS = {"PXPOTest_NaNMask": NaNMask}
