import subprocess
import sys

import pytest

from resnext.runs import provenance


def test_the_commit_is_that_of_the_code_or_none(tmp_path, monkeypatch):
    module = tmp_path / "code.py"
    module.write_text("one")
    monkeypatch.setattr(provenance, "__file__", str(module))

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.source_commit() is None
    git("init")
    git("commit", "--allow-empty", "-m", "a repository that holds other things")
    assert provenance.source_commit() is None
    git("add", "code.py")
    git("commit", "-m", "the code")
    clean = provenance.source_commit()
    assert len(clean) == 40
    module.write_text("two")
    assert provenance.source_commit() == f"{clean}-dirty"


@pytest.mark.skipif(sys.platform == "win32", reason="PATH alone does not hide git there")
def test_a_machine_without_git_is_no_obstacle(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.source_commit() is None
