"""`Workers` over the processes that `accelerate launch` has started."""

import accelerate
import torch
import torch.distributed
from accelerate.utils import parse_flag_from_env
from torch import Tensor


class AccelerateWorkers:
    """Every process makes one; sums go through Accelerate's own process group."""

    def __init__(self) -> None:
        # Left to itself, Accelerate makes no process group on a machine without a GPU.
        wants_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
        self._state = accelerate.PartialState(cpu=wants_cpu or not torch.cuda.is_available())
        self.messages = 0
        self.bytes = 0

    @property
    def rank(self) -> int:
        return int(self._state.process_index)

    @property
    def count(self) -> int:
        return int(self._state.num_processes)

    @property
    def device(self) -> torch.device:
        """This process's own."""
        return torch.device(self._state.device)

    def sum(self, values: Tensor) -> Tensor:
        """bytes and messages count what was summed, for measurements."""
        if self.count == 1:
            return values
        total = values.detach().to(self.device, copy=True)
        self.messages += 1
        self.bytes += total.numel() * total.element_size()
        torch.distributed.all_reduce(total)
        return total.to(values.device)
