"""Every registered quantizer keeps the contract."""

import pytest

import quantizers
from quantizers.checks import conformance


@pytest.mark.parametrize("check", conformance.CHECKS)
@pytest.mark.parametrize("name", quantizers.available())
def test_conformance(name: str, check: str) -> None:
    try:
        conformance.CHECKS[check](conformance.builder(name))
    except conformance.Skip as skip:
        pytest.skip(str(skip))
