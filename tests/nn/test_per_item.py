"""Rows for training items: as many as there are, by number, never for other data; codes of those by descent."""

import pytest
import torch
from torch import Tensor, nn

from genus.data import open_source
from genus.nn.per_item import PerItem, allocate, descend


def test_rows_come_with_the_number_of_items_and_are_a_function_of_the_seed() -> None:
    model = nn.ModuleDict({"inner": nn.ModuleDict({"codes": PerItem(2, 3, std=0.5)})})
    tables = []
    for _ in range(2):
        torch.manual_seed(0)
        allocate(model, 4000)
        tables.append(model["inner"]["codes"].rows.detach())  # type: ignore[index]
    assert tables[0].shape == (4000, 2, 3) and torch.equal(*tables)
    assert abs(float(tables[0].std()) - 0.5) < 0.01


def test_data_that_are_no_training_items_have_no_rows() -> None:
    table = PerItem(2)
    table.allocate(5)
    assert table(torch.tensor([4, 0])).shape == (2, 2)
    with pytest.raises(ValueError, match="no training items"):
        table(None)


def test_batches_of_held_out_splits_carry_no_item_numbers() -> None:
    source, index = open_source("digits"), torch.arange(3)
    assert torch.equal(source.train.batch(index).index, index)  # type: ignore[arg-type]
    for split in (source.validation, source.test, source.validation.first(5)):
        assert split.batch(index).index is None


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_descent_finds_the_minimum_of_each_datum_in_any_mode(mode: type) -> None:
    target = torch.tensor([[1.0, -2.0], [300.0, 0.0]])

    def loss(codes: Tensor) -> Tensor:
        return (codes - target).square().sum(1)

    with mode():
        together = descend(loss, torch.zeros(2, 2), steps=400, rate=0.05)
    assert torch.allclose(together[0], target[0], atol=1e-3)
    alone = descend(lambda codes: (codes - target[:1]).square().sum(1), torch.zeros(1, 2), steps=400, rate=0.05)
    assert torch.equal(together[:1], alone), "a far datum in the batch moved the code of a near one"
