"""The typed configuration of a training, read from a TOML file.

Every table of the file is a frozen dataclass; paths are relative to the file's folder.
"""

import math
import sys
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..lora import LoRAConfig
from ..reward import CHANNELS, DIRECTIONS, NORMALISE, Direction, Normalise, parse_colour
from ..run import validate_run_name
from ..update_config import UpdateConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Rule = Literal["channel level", "colour distance", "function"]
Schedule = Literal["karras", "normal"]
Precision = Literal["float32", "bfloat16", "float16"]

LARGEST_SIDE = 16384

T = TypeVar("T")
_LORA = LoRAConfig()


class ConfigError(ValueError):
    """A field of the configuration is wrong; the message names it and its value."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """[model] path: a pipeline's folder, or a single file with `config`, a folder of its kind."""

    path: Path
    config: Path | None = None
    precision: Precision = "float32"
    gradient_checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class RunConfig:
    """[run] rounds: how many the run has in the end. export: folder for the finished LoRA file."""

    name: str
    folder: Path = Path("runs")
    rounds: int = 20
    seed: int = 0
    export: Path | None = None

    def __post_init__(self) -> None:
        validate_run_name(self.name)
        _check_range("rounds", self.rounds, 1, 9999)
        _check_range("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, slots=True)
class LoRASettings:
    """[lora] PEFT's fields. use_rslora: scale by lora_alpha / sqrt(r) instead of / r."""

    r: int = _LORA.r
    lora_alpha: float = _LORA.lora_alpha
    target_modules: str = _LORA.target_modules
    use_rslora: bool = False

    def __post_init__(self) -> None:
        self.core()

    def core(self) -> LoRAConfig:
        """The same LoRA with the plain scale lora_alpha / r, which every loader knows."""
        LoRAConfig(self.r, self.lora_alpha, self.target_modules)
        alpha = self.lora_alpha * (math.sqrt(self.r) if self.use_rslora else 1.0)
        return LoRAConfig(self.r, alpha, self.target_modules)


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """[sampling] Every round makes images_per_prompt new pictures of every prompt."""

    prompts: tuple[str, ...]
    negative_prompt: str = ""
    images_per_prompt: int = 8
    width: int = 512
    height: int = 512
    steps: int = 16
    cfg: float = 3.5
    eta: float = 1.0
    schedule: Schedule = "karras"

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("prompts must hold at least one prompt, got [].")
        _check_range("images_per_prompt", self.images_per_prompt, 1, 4096)
        for name in ("width", "height"):
            _check_range(name, getattr(self, name), 8, LARGEST_SIDE)
        _check_range("steps", self.steps, 2, 1000)
        _check_range("cfg", self.cfg, 0.0, 100.0)
        if not 0.0 < self.eta <= 1.0:
            raise ValueError(f"eta must be above 0 and at most 1, got {self.eta}.")

    @property
    def images(self) -> int:
        """Pictures per round."""
        return len(self.prompts) * self.images_per_prompt


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """[reward] rule: as in ComfyUI's Pixel Reward node, or "function".

    masks: a picture or a folder of pictures, one for all prompts or one for each in the order of
    their names; white = 1. function: "module:function", called with (images [B, H, W, 3] in 0..1,
    prompts: list of B texts), returns [B, H, W]. It runs code of the person who wrote the file.
    judge_predictions: score what the pictures were going to be on the way, too; worth its time
    where a pixel's reward cannot be told from its surroundings, as with a segmenter.
    """

    rule: Rule
    channel: str = "blue"
    colour: str = "#3060ff"
    direction: Direction = "less"
    masks: Path | None = None
    inside: float = 1.0
    outside: float = 0.0
    normalise: Normalise = "none"
    function: str = ""
    judge_predictions: bool = False

    def __post_init__(self) -> None:
        _check_choice("channel", self.channel, CHANNELS)
        _check_choice("direction", self.direction, DIRECTIONS)
        _check_choice("normalise", self.normalise, NORMALISE)
        parse_colour(self.colour)
        for name in ("inside", "outside"):
            _check_range(name, getattr(self, name), -100.0, 100.0)
        module, _, function = self.function.partition(":")
        if (self.rule == "function" or self.function) and not (
            function.isidentifier() and all(part.isidentifier() for part in module.split("."))
        ):
            raise ValueError(f'function must be written "module:function", got {self.function!r}.')
        if self.judge_predictions and self.normalise != "none":
            raise ValueError(
                f'judge_predictions needs normalise "none", got {self.normalise!r}: predictions '
                "and pictures must be scored alike."
            )
        if self.function and self.rule != "function":
            raise ValueError(f'function is given, so rule must be "function", got {self.rule!r}.')


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All of a training's configuration."""

    model: ModelConfig
    run: RunConfig
    sampling: SamplingConfig
    reward: RewardConfig
    lora: LoRASettings = field(default_factory=LoRASettings)
    update: UpdateConfig = field(default_factory=UpdateConfig)

    def __post_init__(self) -> None:
        if self.reward.judge_predictions and self.update.objective != "path":
            raise ConfigError(
                "[reward] judge_predictions credits the steps of the sampling path: it needs "
                f'[update] objective "path", got {self.update.objective!r}.'
            )
        if self.reward.judge_predictions and not self.update.stepwise:
            raise ConfigError(
                "[reward] judge_predictions needs [update] stepwise = true: without it the "
                "predictions are not used."
            )


def read_config(path: Path) -> TrainConfig:
    """Read a TOML file; raises ConfigError naming the bad field and its value."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.") from None
    return parse_config(data, path.resolve().parent)


def parse_config(data: dict[str, Any], folder: Path) -> TrainConfig:
    """The configuration in a parsed file. folder: where relative paths start."""
    tables = get_type_hints(TrainConfig)
    _check_names("", data, set(tables))
    parts: dict[str, Any] = {}
    for spec in fields(TrainConfig):
        table = data.get(spec.name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{spec.name} must be a table, [{spec.name}]; got {table!r:.80}.")
        if spec.name not in data and spec.default_factory is MISSING:
            raise ConfigError(f"The table [{spec.name}] is missing.")
        parts[spec.name] = _table(tables[spec.name], table, spec.name, folder)
    return TrainConfig(**parts)


def _table(kind: type[T], values: dict[str, Any], name: str, folder: Path) -> T:
    hints = get_type_hints(kind)
    specs = fields(kind)  # type: ignore[arg-type]
    _check_names(f"[{name}] ", values, set(hints))
    for spec in specs:
        required = spec.default is MISSING and spec.default_factory is MISSING
        if required and spec.name not in values:
            raise ConfigError(f"[{name}] {spec.name} is missing.")
    parsed = {
        key: _value(hints[key], value, f"[{name}] {key}", folder) for key, value in values.items()
    }
    try:
        return kind(**parsed)
    except ValueError as error:
        raise ConfigError(f"[{name}] {error}") from None


def _value(hint: Any, value: Any, where: str, folder: Path) -> Any:
    """`value` as the type a field has; TOML has no None, so an optional field is just left out."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if type(None) in get_args(hint):
        hint = options[0]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ConfigError(
                f"{where} must be one of {', '.join(map(str, get_args(hint)))}; got {value!r:.80}."
            )
        return value
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], part, where, folder) for part in value)
    wanted, word = _KINDS.get(hint, (list, "a list"))
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be {word}; got {value!r:.80}.")
    if hint is Path:
        return folder / Path(value).expanduser()
    return float(value) if hint is float else value


_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    str: (str, "a text"),
    Path: (str, "a path"),
}


def _check_names(where: str, values: dict[str, Any], known: set[str]) -> None:
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(sorted(known))}."
            raise ConfigError(f"{where}{name!r:.80} is not a known field.{hint}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low} and {high}, got {value}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
