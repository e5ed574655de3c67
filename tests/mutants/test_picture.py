"""A campaign as a picture: it is drawn where there is something to draw, and says what is lacking elsewhere."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from gdn_verify.mutants.operators import OPERATORS
from gdn_verify.mutants.picture import PictureError, draw
from gdn_verify.mutants.record import Row
from gdn_verify.mutants.systematic import mutants
from gdn_verify.mutants.trial import Fate, Verdict


def _rows() -> list[Row]:
    """One of each fate, and a second kill."""
    chosen = zip(mutants(["tables.py"]), [*Fate, Fate.KILLED], strict=False)
    return [Row.of(mutant, Verdict(fate, seconds=2.0)) for mutant, fate in chosen]


def test_a_campaign_is_drawn(tmp_path: File) -> None:
    """Two axes, a line for each class that was tried."""
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    draw(_rows(), tuple(OPERATORS), tmp_path / "mutants.svg")
    text = (tmp_path / "mutants.svg").read_text()
    assert text.count('id="axes_') == 2
    assert text.count('id="ytick_') >= len({row.operator for row in _rows()})


def test_what_is_lacking_is_said(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rows there is nothing to draw; without matplotlib the message has the line that installs it."""
    with pytest.raises(PictureError, match="no mutant was tried"):
        draw([], tuple(OPERATORS), tmp_path / "mutants.svg")
    monkeypatch.setattr("gdn_verify.mutants.picture.find_spec", lambda name: None)
    with pytest.raises(PictureError, match=r"pip install 'gdn-verify\[bench\]'"):
        draw(_rows(), tuple(OPERATORS), tmp_path / "mutants.svg")
