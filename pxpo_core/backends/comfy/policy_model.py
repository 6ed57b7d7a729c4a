"""A policy inside an ordinary MODEL: normal weight patches plus an immutable attachment."""

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.lora

from ...lora import Policy

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_ATTACHMENT = "pxpo_policy"


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Where a policy stands: run name, the run's uuid (None before its first round), round."""

    name: str
    uuid: str | None
    round: int


@dataclass(frozen=True, eq=False)
class PolicyAttachment:
    """What a MODEL with a policy carries. Clones share it, so it never changes."""

    run: RunIdentity
    policy: Policy
    base: str
    patches: tuple[Any, ...]
    uuid_without: uuid.UUID
    uuid_with: uuid.UUID


def attach_policy(
    model: "ModelPatcher", policy: Policy, run: RunIdentity, base: str
) -> "ModelPatcher":
    """A clone of `model` with the policy as weight patches: it works in every stock node.

    base: the base model's fingerprint.
    """
    clone = model.clone()
    uuid_without = clone.patches_uuid
    patches: dict[Any, Any] = {}
    if any(bool(t.any()) for name, t in policy.tensors.items() if name.endswith("up.weight")):
        keys = comfy.lora.model_lora_keys_unet(clone.model, {})
        patches = comfy.lora.load_lora(policy.state_dict(), keys)
        clone.add_patches(patches)
    clone.attachments[_ATTACHMENT] = PolicyAttachment(
        run, policy, base, tuple(patches.values()), uuid_without, clone.patches_uuid
    )
    return clone


def policy_of(model: "ModelPatcher") -> PolicyAttachment | None:
    """The policy a MODEL carries, if any."""
    attachment = model.attachments.get(_ATTACHMENT)
    return attachment if isinstance(attachment, PolicyAttachment) else None


def detach_policy(model: "ModelPatcher") -> "ModelPatcher":
    """A clone of `model` without the policy's patches; other LoRAs stay."""
    clone = model.clone()
    attachment = clone.attachments.pop(_ATTACHMENT, None)
    if not isinstance(attachment, PolicyAttachment):
        return clone
    ours = {id(patch) for patch in attachment.patches}
    clone.patches = {
        key: kept
        for key, patches in clone.patches.items()
        if (kept := [patch for patch in patches if id(patch[1]) not in ours])
    }
    # The host reloads a model's weights whenever this id differs from the loaded one.
    if clone.patches_uuid == attachment.uuid_with:
        clone.patches_uuid = attachment.uuid_without
    else:
        clone.patches_uuid = uuid.uuid4()
    return clone


def without_patches(model: "ModelPatcher") -> "ModelPatcher":
    """A clone of `model` without any LoRA."""
    clone = model.clone()
    clone.patches = {}
    clone.patches_uuid = uuid.uuid4()
    return clone
