"""ComfyUI nodes for tests: values that no honest node would make."""


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


class BadVAE:
    """A VAE that fails, or during which the person presses Cancel."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"cancels": ("BOOLEAN", {"default": False})}}

    def make(self, cancels):
        self.cancels = cancels
        return (self,)

    def decode(self, latent):
        if self.cancels:
            from comfy.model_management import InterruptProcessingException

            raise InterruptProcessingException
        raise RuntimeError("wrong kind of latent")


NODE_CLASS_MAPPINGS = {"PXPOTest_NaNMask": NaNMask, "PXPOTest_BadVAE": BadVAE}
