"""Load Toy Faces: the small portrait model this pack carries, for trying things without a GPU."""

from comfy_api.latest import io


class LoadToyFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_LoadToyFaces",
            display_name="Load Toy Faces (demo)",
            category="PXPO/demo",
            description="A tiny latent diffusion model of cartoon portraits (256x256) that comes "
            "with PXPO. Try a whole training run on it in minutes, even without a GPU.",
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..demo.toy_faces.loader import load_toy_faces

        return io.NodeOutput(*load_toy_faces())
