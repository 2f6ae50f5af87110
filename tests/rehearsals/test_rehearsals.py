import pytest

from genus.testing import check_model
from rehearsals import EVERY


@pytest.mark.parametrize("name", EVERY)
def test_it_passes_the_contract_suite(name: str) -> None:
    results = check_model(EVERY[name].model, EVERY[name].subjects or None)
    assert len(results) > 10
    assert [result for result in results if not result.passed] == []
