"""Means over the parts of a batch."""

import pytest
import torch

from amodal2.utils.batch_mean import PartMeans, mean_over_batch, only_counting


def test_mean_over_batch_without_parts_is_the_number_itself() -> None:
    number = torch.tensor(3.0, requires_grad=True)
    found = mean_over_batch(number)
    assert found == 3.0
    assert not found.requires_grad


def test_part_means_are_given_in_the_order_of_the_counting() -> None:
    means = PartMeans()
    for part in ((1.0, 10.0), (2.0, 30.0)):
        with means.counting():
            assert only_counting()
            assert [float(mean_over_batch(torch.tensor(x))) for x in part] == list(part)
    assert not only_counting()
    means.close()
    for _ in range(2):
        with means.given():
            assert not only_counting()
            assert [float(mean_over_batch(torch.tensor(7.0))) for _ in range(2)] == [1.5, 20.0]
    assert mean_over_batch(torch.tensor(7.0)) == 7.0


def test_part_means_more_demands_than_counted_raise() -> None:
    means = PartMeans()
    with means.counting():
        pass
    means.close()
    with pytest.raises(RuntimeError, match="got a demand for more"), means.given():
        mean_over_batch(torch.tensor(1.0))
