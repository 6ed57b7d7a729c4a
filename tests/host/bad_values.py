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


class LittleMemory:
    """A model that runs out of memory when more rows than `rows` are trained at once."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",), "rows": ("INT", {"default": 1})}}

    def make(self, model, rows):
        import torch

        def limited(apply, arguments):
            if torch.is_grad_enabled() and len(arguments["input"]) > rows:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
            return apply(arguments["input"], arguments["timestep"], **arguments["c"])

        model = model.clone()
        model.set_model_unet_function_wrapper(limited)
        return (model,)


NODE_CLASS_MAPPINGS = {
    "PXPOTest_NaNMask": NaNMask,
    "PXPOTest_BadVAE": BadVAE,
    "PXPOTest_LittleMemory": LittleMemory,
}
