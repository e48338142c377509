"""A throw-away export target, added as CONTRIBUTING.md says."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Checkout

MODULE = '''"""A copy of the folder, read again."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer

from multigrain.export.job import Exported, ExportJob
from multigrain.export.parity import Vectors, check_parity


class _Copy:
    def __init__(self, folder: Path) -> None:
        self._model = SentenceTransformer(str(folder), device="cpu")

    def encode_query(self, texts: list[str], *, batch_size: int = 32) -> Vectors:
        return self._model.encode_query(texts, batch_size=batch_size, show_progress_bar=False) * SCALE

    def encode_document(self, texts: list[str], *, batch_size: int = 32) -> Vectors:
        return self._model.encode_document(texts, batch_size=batch_size, show_progress_bar=False) * SCALE


SCALE = 1


def export(job: ExportJob, folder: Path) -> Exported:
    """Write the copy."""
    job.model.save_pretrained(str(folder), create_model_card=False)
    difference = check_parity(job.model, _Copy(folder), what="the copy")
    return Exported(facts={"max_difference": difference}, lines=("as a copy",))
'''


def test_an_export_target_is_added_in_one_file(checkout: Checkout, small_bert: Path) -> None:
    checkout.write("export/targets/copy.py", MODULE)
    assert len(checkout.touched) == 1
    assert checkout.follows("export target")

    assert "copy: A copy of the folder, read again." in " ".join(
        checkout.multigrain("export", "--help").replace("│", " ").split()
    )
    assert "did you mean 'copy'" in checkout.multigrain("export", str(small_bert), "--to", "copi", fails=True)
    facts = json.loads(checkout.multigrain("export", str(small_bert), "--to", "copy", "--out", "out", "--json"))
    assert facts["to"] == "copy"
    assert facts["max_difference"] <= 1e-4
    assert (checkout.folder / "out" / "modules.json").is_file()
    assert checkout.evaluate('print(json.dumps(packages_of("exporter").get("copy")))') == "multigrain"

    checkout.write("export/targets/copy.py", MODULE.replace("SCALE = 1", "SCALE = 2"))
    refused = checkout.multigrain("export", str(small_bert), "--to", "copy", "--out", "other", fails=True)
    assert "does not give the model's vectors" in refused
    assert not (checkout.folder / "other").exists()
