"""A Trainer whose optimizer and schedule come from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer

from ftl_config.optimizers import OWN_OPTIMIZERS
from ftl_runner.trainer.optimizers import grouped_choice, own_choice
from ftl_runner.trainer.parameter_groups import has_own_rates
from ftl_runner.trainer.schedules import is_own_schedule, make_scheduler

if TYPE_CHECKING:
    from ftl_config import Config


class OptimizerFromConfig(Trainer):  # type: ignore[misc]
    """Beside Trainer or one of its kin: ``class SftTrainer(OptimizerFromConfig, Trainer)``.

    Subclassing is the way that transformers offers: an optimizer made before the Trainer wraps the model would hold
    the wrong parameters under FSDP. What transformers makes by itself is left to it.
    """

    lr_scheduler: Any

    def __init__(self, *args: Any, config: Config, **kwargs: Any) -> None:
        self._config = config
        super().__init__(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> Any:
        config, trained = self._config, self.model if model is None else model
        if self.optimizer is None:
            decayed = frozenset(self.get_decay_parameter_names(trained))
            if config.training.optimizer in OWN_OPTIMIZERS:
                self.optimizer_cls_and_kwargs = own_choice(config, trained, decayed)
            elif has_own_rates(config):
                choice = self.get_optimizer_cls_and_kwargs(self.args, trained)
                self.optimizer_cls_and_kwargs = grouped_choice(config, choice, trained, decayed)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None and is_own_schedule(self._config):
            chosen = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = make_scheduler(self._config, chosen, num_training_steps)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)
