"""What the three heads promise: losses worked by hand, and probabilities that are probabilities for any weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pertinent.teacher.calibration import Calibration
from pertinent.teacher.config import HeadKind
from pertinent.teacher.heads import GradeHead, OrderedThresholds, cross_entropy

KINDS: tuple[HeadKind, ...] = ("softmax", "coral", "corn")


def one_hot(grades: list[int], n_grades: int) -> Tensor:
    return torch.eye(n_grades)[grades]


def random_head(kind: HeadKind, n_grades: int, seed: int, scale: float) -> GradeHead:
    """Every parameter, the thresholds' too, drawn anew."""
    head = GradeHead(8, n_grades, kind)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=drawn))
    return head


def test_the_losses_are_those_worked_by_hand() -> None:
    # Logits of equal odds: softmax over 3 grades gives log 3; each threshold a factor of 1/2.
    zeros3, zeros2 = torch.zeros(1, 3), torch.zeros(1, 2)
    grades = {grade: one_hot([grade], 3) for grade in range(3)}
    assert cross_entropy("softmax", zeros3, grades[1]).item() == pytest.approx(math.log(3))
    # coral: two binary questions, whatever the grade.
    assert cross_entropy("coral", zeros2, grades[0]).item() == pytest.approx(2 * math.log(2))
    # corn: grade 0 is asked the first question alone, grades 1 and 2 both.
    assert cross_entropy("corn", zeros2, grades[0]).item() == pytest.approx(math.log(2))
    assert cross_entropy("corn", zeros2, grades[2]).item() == pytest.approx(2 * math.log(2))
    # P(>= 1) = 3/4 and P(>= 2) = 1/4 (coral), P(>= 2 | >= 1) = 1/4 (corn), for a pair of grade 1.
    logits = torch.tensor([[math.log(3), -math.log(3)]])
    assert cross_entropy("coral", logits, grades[1]).item() == pytest.approx(-math.log(3 / 4) - math.log(3 / 4))
    assert cross_entropy("corn", logits, grades[1]).item() == pytest.approx(-math.log(3 / 4) - math.log(3 / 4))
    assert cross_entropy("corn", logits, grades[2]).item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 4))


def test_corn_shares_a_soft_target_between_the_questions_it_reaches() -> None:
    # Grades 0, 1, 2 of weight 1/2, 1/4, 1/4: half answers no to the first question, half yes; of that half, half each.
    logits = torch.tensor([[math.log(3), -math.log(3)]])
    expected = -0.5 * math.log(1 / 4) - 0.5 * math.log(3 / 4) - 0.25 * math.log(3 / 4) - 0.25 * math.log(1 / 4)
    assert cross_entropy("corn", logits, torch.tensor([[0.5, 0.25, 0.25]])).item() == pytest.approx(expected)


def test_the_softmax_loss_is_torchs_own_cross_entropy() -> None:
    drawn = torch.Generator().manual_seed(0)
    logits, targets = 3 * torch.randn(20, 5, generator=drawn), torch.rand(20, 5, generator=drawn)
    targets /= targets.sum(dim=1, keepdim=True)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    assert cross_entropy("softmax", logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "corn"])
@pytest.mark.parametrize("n_grades", [2, 3, 5])
def test_the_loss_is_the_cross_entropy_of_the_probabilities(kind: HeadKind, n_grades: int) -> None:
    """NumPy's probabilities and torch's loss know nothing of each other."""
    drawn = torch.Generator().manual_seed(n_grades)
    logits = 2 * torch.randn(40, n_grades if kind == "softmax" else n_grades - 1, generator=drawn)
    grades = torch.randint(n_grades, (40,), generator=drawn).tolist()
    probs = Calibration.none(kind, n_grades).probabilities(logits.numpy())
    hard = -np.log(probs[np.arange(40), grades]).mean()
    assert cross_entropy(kind, logits, one_hot(grades, n_grades)).item() == pytest.approx(hard, rel=1e-5)
    soft = torch.rand(40, n_grades, generator=drawn)
    soft /= soft.sum(dim=1, keepdim=True)
    expected = -(soft.numpy() * np.log(probs)).sum(axis=1).mean()
    assert cross_entropy(kind, logits, soft).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_grades", [2, 4])
def test_corals_loss_is_the_sum_of_binary_cross_entropies(n_grades: int) -> None:
    drawn = torch.Generator().manual_seed(1)
    logits = torch.randn(30, n_grades - 1, generator=drawn)
    grades = torch.randint(n_grades, (30,), generator=drawn)
    expected = torch.zeros(30)
    for k in range(1, n_grades):
        chance = torch.sigmoid(logits[:, k - 1])
        expected -= torch.where(grades >= k, chance, 1 - chance).log()
    found = cross_entropy("coral", logits, one_hot(grades.tolist(), n_grades))
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_weights_make_the_mean_a_weighted_one() -> None:
    logits, targets = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), one_hot([0, 1], 2)
    losses = [math.log(2), math.log(4 / 3)]
    found = cross_entropy("softmax", logits, targets, torch.tensor([1.5, 0.5]))
    assert found.item() == pytest.approx((1.5 * losses[0] + 0.5 * losses[1]) / 2)
    even = cross_entropy("softmax", logits, targets, torch.tensor([1.0, 1.0]))
    assert even.item() == pytest.approx(cross_entropy("softmax", logits, targets).item())


@pytest.mark.parametrize("kind", KINDS)
def test_a_weighted_loss_is_the_same_in_however_many_parts_a_batch_is_computed(kind: HeadKind) -> None:
    logits = torch.randn(4, 3 if kind == "softmax" else 2, generator=torch.Generator().manual_seed(0))
    targets, weights = one_hot([0, 1, 2, 1], 3), torch.tensor([4.0, 0.5, 0.5, 0.5])
    whole = cross_entropy(kind, logits, targets, weights)
    parts = [cross_entropy(kind, logits[k : k + 1], targets[k : k + 1], weights[k : k + 1]) for k in range(4)]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_extreme_logits_is_finite_and_so_are_its_gradients(kind: HeadKind) -> None:
    logits = torch.tensor([[200.0, -200.0, 150.0], [-200.0, 200.0, -150.0]], requires_grad=True)
    loss = cross_entropy(kind, logits, one_hot([0, 2], 3 if kind == "softmax" else 4))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(2, 6), st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 10.0]))
def test_every_heads_probabilities_are_none_negative_and_sum_to_one(
    kind: HeadKind, n_grades: int, seed: int, scale: float
) -> None:
    head = random_head(kind, n_grades, seed, scale)
    states = scale * torch.randn(16, 8, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        logits = head(states).numpy()
    assert logits.shape == (16, n_grades if kind == "softmax" else n_grades - 1)
    probs = Calibration.none(kind, n_grades).probabilities(logits)
    assert probs.shape == (16, n_grades)
    assert probs.min() >= 0
    assert probs.sum(axis=1) == pytest.approx(np.ones(16), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8), st.floats(-50, 50, width=32))
def test_coral_thresholds_stay_in_order_whatever_the_parameters(steps: list[float], first: float) -> None:
    thresholds = OrderedThresholds(len(steps) + 1)
    with torch.no_grad():
        thresholds.first.fill_(first)
        thresholds.steps.copy_(torch.tensor(steps))
    logits = thresholds(torch.tensor([[0.0], [3.0]]))
    assert (logits[:, 1:] <= logits[:, :-1]).all()


def test_a_new_coral_head_has_its_thresholds_evenly_around_zero() -> None:
    thresholds = OrderedThresholds(4)
    thresholds.reset()
    # P(grade >= k) at a score of 0: thresholds at -1.5, -0.5, 0.5, 1.5.
    assert thresholds(torch.zeros(1, 1))[0].tolist() == pytest.approx([1.5, 0.5, -0.5, -1.5], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_learns_an_ordered_rule(kind: HeadKind) -> None:
    torch.manual_seed(0)
    head = GradeHead(8, 4, kind)
    states = torch.randn(256, 8)
    grades = torch.bucketize(states[:, 0].contiguous(), torch.tensor([-0.7, 0.0, 0.7]))
    targets = one_hot(grades.tolist(), 4)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(kind, head(states), targets).backward()
        optimizer.step()
    probs = Calibration.none(kind, 4).probabilities(head(states).detach().numpy())
    assert (probs.argmax(axis=1) == grades.numpy()).mean() > 0.9
