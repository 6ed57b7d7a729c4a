"""What a user wires: one small file per node. No mathematics here; that is `pxpo_core`."""
