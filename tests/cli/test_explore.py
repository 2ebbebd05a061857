from dataclasses import replace

from cli.test_main import outcome
from resnext.deploy.explore import grid, page


def test_explore_writes_a_page_and_replaces_none(capsys, tmp_path, monkeypatch):
    few = [
        replace(
            kind, depths=kind.depths[:1], templates=kind.templates[:2], classes=kind.classes[:1]
        )
        for kind in grid.kinds()
    ]
    monkeypatch.setattr(page, "kinds", lambda: tuple(few))
    file = tmp_path / "explore.html"
    status, out, _ = outcome(capsys, "explore", "--out", str(file))
    assert status == 0
    assert str(file) in out
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "default-src &#39;none&#39;" in text
    assert "://" not in text, "nothing is fetched"
    status, _, err = outcome(capsys, "explore", "--out", str(file))
    assert status == 2
    assert "expected a new file for --out" in err
    assert [path.name for path in tmp_path.iterdir()] == ["explore.html"]
