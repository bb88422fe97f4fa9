"""Proximal policy optimisation for language models, one update at a time.

The definition is TRL 1.12's PPOTrainer, which follows openai/lm-human-preferences (Ziegler et al.
2019) and "The N implementation details of RLHF with PPO" (Huang et al. 2024). A completion is an
episode, a token an action; the score comes at its last token, the KL penalty at each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor, nn

from .errors import BadSetting, LabError, TrainingStopped
from .formulas import (
    adapted_kl_coef,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    kl_per_token,
    masked_mean,
    masked_var,
    token_rewards,
    variance_explained,
    whiten,
)
from .policy import Policy
from .runs import Run
from .sampling import Samples, logprobs, sample
from .settings import LIVE, PPOSettings

ScoreFunction = Callable[[list[str], Samples], Sequence[float]]
"""Scores of completions: (prompts, samples) -> one number a row."""


CHECKPOINT_EVERY = 5  # updates; a checkpoint is weights and two Adam moments, 0.3 GB for SmolLM2
SAMPLES_KEPT = 4  # completions of each update that go into the history


class PPO:
    """Trains a copy of a reference policy against a score.

    Args:
        reference: what the run starts from and is held close to. It is not changed.
        score: any function of prompts and samples; the lab gives a pinned reward model.
        prompts: what to answer; each pass over them has an order of its own.
        settings: see PPOSettings.
        run: where history and checkpoints go; an existing run is continued. None: memory only.

    Everything random follows from (seed, update), so the same seed gives the same run.
    """

    def __init__(
        self,
        reference: Policy,
        score: ScoreFunction,
        prompts: Sequence[str],
        settings: PPOSettings | None = None,
        run: Run | None = None,
    ) -> None:
        if not prompts:
            raise LabError("PPO needs at least one prompt to answer.")
        self.reference, self.score, self.prompts = reference, score, list(prompts)
        self.settings = settings or PPOSettings()
        self._now = self.settings  # those of the update under way: changes wait for the next
        self.run = run
        self.policy = reference.copy()
        self.value_head = nn.Linear(reference.trunk.hidden_size, 1).to(reference.trunk.device)
        nn.init.zeros_(self.value_head.weight)  # so that training starts from advantages alone
        nn.init.zeros_(self.value_head.bias)
        self.parameters = [p for p in self.policy.parameters() if p.requires_grad]
        self.parameters += self.value_head.parameters()
        self.optimizer = torch.optim.Adam(self.parameters, lr=self.settings.learning_rate, eps=1e-5)
        self.update = 0
        self.samples: Samples | None = None
        self.last_samples: list[dict] = []
        self._history: list[dict] = []
        if run is not None and (saved := run.load()) is not None:
            self.restore(*saved)
            self.last_samples = [row for row in run.samples if row["update"] == self.update]

    @property
    def history(self) -> list[dict]:
        """The metrics of every update so far."""
        return self.run.history if self.run else self._history

    def change(self, **settings: float) -> None:
        """Change settings named in LIVE from the next update on."""
        if unknown := set(settings) - set(LIVE):
            raise BadSetting(
                f"{', '.join(sorted(unknown))} can't be changed during a run. "
                f"These can: {', '.join(LIVE)}."
            )
        self.settings = replace(self.settings, **settings)

    def step(self) -> dict[str, float]:
        """One update: rollout, scoring, epochs of training. Returns the metrics, TRL's names.

        An update is all or nothing: where it fails, everything is as it was before.

        Raises:
            TrainingStopped: a score, loss or gradient was not finite.
        """
        start, before = time.perf_counter(), self.snapshot()
        self.update, self._now = self.update + 1, self.settings
        try:
            prompts, samples = self._rollout()
            sampled = time.perf_counter()
            scores = self._scores(prompts, samples)
            scored = time.perf_counter()
            metrics = self._learn(samples, scores)
        except BaseException as error:
            settings = self.settings  # a person may have changed them meanwhile
            self.restore(*before)
            self.settings = settings
            if not isinstance(error, TrainingStopped):
                raise
            raise TrainingStopped(
                f"Update {self.update + 1} stopped: {error} The weights are those before it. "
                "Try a smaller learning_rate or a larger kl_coef."
            ) from None
        end = time.perf_counter()
        metrics |= {
            "seconds": end - start,
            "seconds_sampling": sampled - start,
            "seconds_scoring": scored - sampled,
            "seconds_training": end - scored,
            "eps": len(samples) / (end - start),
        }
        self._record(metrics, prompts, samples, scores)
        return metrics

    def _learn(self, samples: Samples, scores: Tensor) -> dict[str, float]:
        """The algorithm: KL to the reference, rewards, advantages, epochs of training."""
        s, mask = self._now, samples.completion_mask
        old, values = samples.logprobs, samples.values
        with torch.no_grad():
            reference, _ = logprobs(self.reference, samples, s.temperature)

        kl = kl_per_token(old, reference, s.kl_estimator)
        mean_kl, kl_coef = kl.sum(1).mean().item(), s.kl_coef
        if s.kl_target is not None:
            kl_coef = adapted_kl_coef(kl_coef, mean_kl, s.kl_target)
        rewards = token_rewards(scores, kl, samples.lengths, kl_coef)
        if s.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, returns = gae(rewards, values, mask, s.gamma, s.lam)
        stats = self._train(samples, old, values, whiten(advantages, mask), returns)

        mean_score = scores.mean().item()
        return {
            "update": self.update,
            "episode": self.update * s.batch_size,
            "objective/kl": mean_kl,
            "objective/entropy": (-old).sum(1).mean().item(),
            "objective/scores": mean_score,
            "objective/scores_std": scores.std(correction=0).item(),
            "objective/non_score_reward": -kl_coef * mean_kl,
            "objective/rlhf_reward": mean_score - kl_coef * mean_kl,
            "objective/kl_coef": kl_coef,
            **stats,
            "val/var_explained": variance_explained(values, returns, mask),
            "val/num_eos_tokens": int(samples.finished.sum()),
            "val/length": samples.lengths.float().mean().item(),
            **{name: getattr(s, name) for name in ("learning_rate", "cliprange", "temperature")},
        }

    def _scores(self, prompts: list[str], samples: Samples) -> Tensor:
        """One score [B] for each completion, less the penalty for those without an end."""
        scores = torch.as_tensor(self.score(prompts, samples), dtype=torch.float32)
        if scores.shape != (len(samples),):
            raise LabError(
                f"The score gave {scores.numel()} numbers for {len(samples)} completions: "
                "it must give one for each."
            )
        if not scores.isfinite().all():
            raise TrainingStopped("The score of a completion is not a finite number.")
        scores = scores.to(samples.ids.device)
        if self._now.missing_eos_penalty is not None:
            scores = scores - self._now.missing_eos_penalty * ~samples.finished
        return scores

    def _rollout(self) -> tuple[list[str], Samples]:
        s = self._now
        prompts = [self.prompts[i] for i in self._order()]
        room = s.max_new_tokens
        ids = [self.policy.trunk.encode(p, room) for p in prompts]
        seed = int(np.random.SeedSequence([s.seed, self.update]).generate_state(1)[0])
        samples = sample(
            self.policy,
            ids,
            max_new_tokens=room,
            temperature=s.temperature,
            seed=seed,
            value_head=self.value_head,
        )
        if not samples.logprobs.isfinite().all():
            raise TrainingStopped("the policy's log-probs are not finite.")
        return prompts, samples

    def _order(self) -> list[int]:
        """Which prompts this update answers: shuffled passes, one after the other."""
        n, size = len(self.prompts), self._now.batch_size
        first = (self.update - 1) * size
        orders = {
            k: np.random.default_rng([self._now.seed, k]).permutation(n)
            for k in range(first // n, (first + size - 1) // n + 1)
        }
        return [int(orders[i // n][i % n]) for i in range(first, first + size)]

    def _train(self, samples: Samples, old, values, advantages, returns) -> dict[str, float]:
        """Epochs of clipped updates on one rollout. The log-probs and values from sampling are
        the old ones, so the first epoch needs no forward pass of its own to get them."""
        s, stats = self._now, []
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate
        for epoch in range(s.num_ppo_epochs):
            rng = np.random.default_rng([s.seed, self.update, epoch])
            order = torch.from_numpy(rng.permutation(len(samples)))
            for rows in order.chunk(s.num_mini_batches):
                batch = samples.rows(rows)
                mask = batch.completion_mask
                new, hidden = logprobs(self.policy, batch, s.temperature)
                new_values = self.value_head(hidden).squeeze(-1)
                policy_loss, clipped = clipped_policy_loss(
                    new, old[rows], advantages[rows], mask, s.cliprange
                )
                value_loss, value_clipped = clipped_value_loss(
                    new_values, values[rows], returns[rows], mask, s.cliprange_value
                )
                loss = policy_loss + s.vf_coef * value_loss
                self._descend(loss)
                difference = torch.where(mask, new - old[rows], 0.0).detach()
                ratio = difference.exp()
                stats.append(
                    {
                        "policy/approxkl_avg": masked_mean(0.5 * difference**2, mask),
                        "policy/clipfrac_avg": clipped,
                        "loss/policy_avg": policy_loss.detach(),
                        "loss/value_avg": value_loss.detach(),
                        "val/clipfrac_avg": value_clipped,
                        "val/ratio": masked_mean(ratio, mask),
                        "val/ratio_var": masked_var(ratio, mask),
                    }
                )
        return {name: float(sum(row[name] for row in stats) / len(stats)) for name in stats[0]}

    def _descend(self, loss: Tensor) -> None:
        """One step of the optimizer, if loss and gradient are finite."""
        if not loss.isfinite():
            raise TrainingStopped("the loss is not a finite number.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self._now.max_grad_norm)
        if not norm.isfinite():
            raise TrainingStopped("the gradient is not finite.")
        self.optimizer.step()

    def _record(self, metrics: dict, prompts: list[str], samples: Samples, scores: Tensor) -> None:
        self.samples = samples
        texts = [self.policy.trunk.decode(ids) for ids in samples.token_lists()]
        rows = zip(prompts, texts, scores.tolist(), strict=True)
        self.last_samples = [{"prompt": p, "completion": c, "score": x} for p, c, x in rows]
        if self.run is None:
            self._history.append(metrics)
            return
        self.run.append(metrics, self.last_samples[:SAMPLES_KEPT])
        if self.update % CHECKPOINT_EVERY == 0:
            self.save()

    def train(self, updates: int, on_update: Callable[[dict], None] | None = None) -> list[dict]:
        """`step()` so many times, then save. Returns the metrics of these updates."""
        rows = []
        for _ in range(updates):
            rows.append(self.step())
            if on_update:
                on_update(rows[-1])
        self.save()
        return rows

    def save(self) -> None:
        """Write the checkpoint; without a run there is nowhere to write to, and nothing is."""
        if self.run is not None and self.run.checkpoint_update != self.update:
            self.run.save(*self.snapshot())

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """All that the next update depends on: tensors and a JSON state."""
        tensors = {f"policy.{k}": v for k, v in self.policy.trainable_state().items()}
        tensors |= {f"value_head.{k}": v for k, v in self.value_head.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in moments.items()}
        tensors = {k: v.clone() for k, v in tensors.items()}
        return tensors, {"update": self.update, "settings": asdict(self.settings)}

    def restore(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Go back to what `snapshot` gave."""

        def under(prefix: str) -> dict[str, Tensor]:
            length = len(prefix) + 1
            return {k[length:]: v for k, v in tensors.items() if k.startswith(prefix + ".")}

        self.policy.load_trainable_state(under("policy"))
        self.value_head.load_state_dict(under("value_head"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in under("optimizer").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.settings = PPOSettings.of(state["settings"])
        self.update = state["update"]
