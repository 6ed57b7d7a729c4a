"""What can be wrong with a LoRA file."""


class LoRAFileError(ValueError):
    """The file cannot be read or written; the message is a sentence a person can act on."""
